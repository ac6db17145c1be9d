//! `rewrite`: changes paths, answers, assigns variables, and chooses settings by conditions.
//! <https://nginx.org/en/docs/http/ngx_http_rewrite_module.html>

mod answer;
mod condition;
mod file_test;
mod rule;
mod value;

use moonrest_core::{Subject, var::DynGet};
use moonrest_http::{
    compile::BlockId,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use value::Value;

/// The module.
pub struct Rewrite;

type D = Directive<Rewrite>;

/// Where steps of the script may stand.
const PLACES: Contexts = Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::SERVER_IF).or(Contexts::IF);
const FLAG_PLACES: Contexts = Contexts::HTTP.or(PLACES);

impl HttpModule for Rewrite {
    const NAME: &'static str = "ngx_http_rewrite_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("rewrite", PLACES, Arity::between(2, 3), Set::Main(rule::rewrite)),
        D::new("return", PLACES, Arity::between(1, 2), Set::Main(answer::answer)),
        D::new("break", PLACES, Arity::exactly(0), Set::Main(set_break)),
        D::new(
            "if",
            Contexts::SERVER.or(Contexts::LOCATION),
            Arity::Block { min: 1, max: u8::MAX },
            Set::Block(condition::set_if),
        ),
        D::new("set", PLACES, Arity::exactly(2), Set::Main(set)),
        D::flag("rewrite_log", |loc| &mut loc.log).within(FLAG_PLACES),
        D::flag("uninitialized_variable_warn", |loc| &mut loc.warn).within(FLAG_PLACES),
    ];
    type Main = Main;
    type Loc = Loc;

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(switch) = main.logs.get(&to.block) {
            switch.0.store(loc.log.unwrap_or(false), Relaxed);
        }
        Ok(())
    }
}

/// Settings of one block.
#[derive(Clone, Default)]
pub struct Loc {
    log: Option<bool>,
    warn: Option<bool>,
}
inherit!(Loc { log, warn });

/// What all blocks share while they are compiled.
#[derive(Default)]
pub struct Main {
    logs: HashMap<BlockId, LogSwitch>,
}

impl Main {
    /// The `rewrite_log` of a block, known to its steps before it is settled.
    fn log_of(&mut self, block: BlockId) -> LogSwitch {
        self.logs.entry(block).or_default().clone()
    }
}

/// Whether matches and results are logged (`rewrite_log`). Settled when the block's settings are.
#[derive(Clone, Default)]
struct LogSwitch(Arc<AtomicBool>);

impl LogSwitch {
    fn is_on(&self, r: &Request) -> bool {
        let log = r.log();
        log.enabled(Level::Notice) && (self.0.load(Relaxed) || log.enabled(Level::Debug))
    }
}

const GO_ON: Result<ScriptStep, RequestError> = Ok(ScriptStep::Now(ScriptFlow::Next));

/// `break`.
fn set_break(_: &mut Main, args: &Args<'_>) -> ConfResult {
    args.push_script(Break);
    Ok(())
}

struct Break;

impl ScriptOp for Break {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        if r.uri_changed.replace(false) {
            r.valid_location.set(false);
        }
        Ok(ScriptStep::Now(ScriptFlow::Stop))
    }
}

/// `set $variable value`.
fn set(_: &mut Main, args: &Args<'_>) -> ConfResult {
    let name = args.variable_name(0)?;
    let variable = args.vars.define_assigned(name, unset(name))?;
    args.push_script(Assign { variable, value: Value::compile(args, 1)? });
    Ok(())
}

/// A variable that is read before any `set` has run is empty, and that is worth a warning.
fn unset(name: &str) -> DynGet<Request> {
    let name = name.to_ascii_lowercase();
    Arc::new(move |r: &Request, _: &mut Vec<u8>| {
        if r.loc().conf::<Loc>().is_none_or(|loc| loc.warn.unwrap_or(true)) {
            moonrest_http::warn!(r, "using uninitialized \"{name}\" variable");
        }
        true
    })
}

struct Assign {
    variable: VarId,
    value: Value,
}

impl ScriptOp for Assign {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        r.vars().assign(&**r, self.variable, Some(&self.value.eval(r)));
        GO_ON
    }
}
