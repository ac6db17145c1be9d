//! `set_by_lua*`: a step of the rewrite script that assigns what Lua code returns.
//! <https://github.com/openresty/lua-nginx-module#set_by_lua_block>

use crate::{
    code::Code,
    directives::code_in,
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
    scheduler::{self, Outcome},
    settings::{Loc, Main},
    vm,
};
use moonrest_core::var::DynGet;
use moonrest_http::{
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use std::rc::Rc;

struct SetByLua {
    variable: VarId,
    code: Arc<Code>,
    args: Box<[Template]>,
}

/// Sets `set_by_lua $variable code [argument …]`, `set_by_lua_block`, `set_by_lua_file`.
pub(crate) fn set_by_lua(main: &mut Main, args: &Args<'_>) -> ConfResult {
    main.used = true;
    let name = args.variable_name(0)?;
    let variable = args.vars.define_assigned(name, unset(name))?;
    let (code, first) = match args.lua() {
        Some(block) => (code_in(args, &block.text, block.span)?, 1),
        None => {
            let word = args.word(1)?;
            (code_in(args, &word.text, word.span)?, 2)
        }
    };
    let args_of_code = (first..args.len()).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
    args.push_script(SetByLua { variable, code, args: args_of_code });
    Ok(())
}

/// A variable that is read before it is assigned is empty, and that is worth a warning.
fn unset(name: &str) -> DynGet<Request> {
    let name = name.to_ascii_lowercase();
    Arc::new(move |r: &Request, _: &mut Vec<u8>| {
        moonrest_http::warn!(r, "using uninitialized \"{name}\" variable");
        true
    })
}

impl ScriptOp for SetByLua {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let cached = Loc::of(r).is_none_or(Loc::code_cache);
        let (vm, function) = match vm::of(r, cached).map(|vm| (vm.function(&self.code, Some(r)), vm)) {
            Ok((Ok(function), vm)) => (vm, function),
            Ok((Err(error), _)) => {
                r.log_lines_at(Level::Error, format_args!("{}", error.message()));
                return Err(RequestError::internal(""));
            }
            Err(error) => return Err(RequestError::internal(error.to_string())),
        };
        let args = self.args.iter().map(|arg| arg.eval(&**r).into_owned()).collect();
        let host = Rc::new(Host::with(r, LuaPhase::Set, PhaseIo::Set { args, answer: None }));
        match scheduler::run(&vm, &host, &function) {
            Outcome::Waits(running) => {
                let (r, variable) = (r.clone(), self.variable);
                Ok(ScriptStep::Wait(Box::pin(async move {
                    let outcome = running.await;
                    assign(&r, variable, &host, &outcome)
                })))
            }
            settled => assign(r, self.variable, &host, &settled).map(ScriptStep::Now),
        }
    }
}

/// Assigns what the code returned; nothing when that is neither string nor number.
fn assign(
    r: &RequestRef,
    variable: VarId,
    host: &Host,
    outcome: &Outcome,
) -> Result<ScriptFlow, RequestError> {
    if let Outcome::Failed(error) = outcome {
        let error = scheduler::describe_call(error);
        r.log_lines_at(Level::Error, format_args!("failed to run set_by_lua*: {error}"));
        return Err(RequestError::internal(""));
    }
    if let PhaseIo::Set { answer, .. } = &mut *host.io.borrow_mut() {
        let value = answer.take().unwrap_or_default();
        r.vars().assign(&**r, variable, Some(&value));
    }
    Ok(ScriptFlow::Next)
}
