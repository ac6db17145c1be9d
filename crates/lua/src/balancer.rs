//! `balancer_by_lua*`: Lua code chooses the server of each attempt. Code that waits is waited for.
//! <https://github.com/openresty/lua-nginx-module#balancer_by_lua_block>

use crate::{
    code::Code,
    directives,
    handler::note,
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
    scheduler::{self, Outcome},
    settings::{Loc, Main},
    vm,
};
use moonrest_http::{
    prelude::*,
    upstream::{Asked, Balancer, Choosing, Main as Upstreams, Verdict},
};
use std::rc::Rc;

struct LuaBalancer {
    code: Arc<Code>,
}

/// Sets `balancer_by_lua_block`, `balancer_by_lua_file`.
pub(crate) fn balancer_by_lua(main: &mut Main, args: &Args<'_>) -> ConfResult {
    main.used = true;
    let balancer = Arc::new(LuaBalancer { code: directives::code(args)? });
    in_block(args, |upstreams| upstreams.current()?.balance_by(balancer, args))
}

/// Sets `balancer_keepalive`.
pub(crate) fn balancer_keepalive(_main: &mut Main, args: &Args<'_>) -> ConfResult {
    let most = args.uint(0).ok().filter(|most| *most > 0).ok_or_else(|| {
        Fault::message(format!("invalid value \"{}\" in \"{}\" directive", args.lossy(0), args.name()))
    })?;
    in_block(args, |upstreams| set_once(&mut upstreams.current()?.balancer_keepalive, most))
}

fn in_block(args: &Args<'_>, set: impl FnOnce(&mut Upstreams) -> ConfResult) -> ConfResult {
    args.compiler.with_main(set).unwrap_or_else(|| Err(Fault::message("no upstream block is open")))
}

/// What `ngx.exit` takes besides statuses.
const BUSY: i64 = -3;
const DECLINED: i64 = -5;

impl Balancer for LuaBalancer {
    fn choose(&self, r: &RequestRef, choosing: &Rc<Choosing>) -> Asked {
        let cached = Loc::of(r).is_none_or(Loc::code_cache);
        let vm = match vm::of(r, cached) {
            Ok(vm) => vm,
            Err(error) => {
                moonrest_http::error!(r, "{error}");
                return Asked::Now(Verdict::Failed);
            }
        };
        let function = match vm.function(&self.code, Some(r)) {
            Ok(function) => function,
            Err(error) => {
                r.log_lines_at(Level::Error, format_args!("{}", error.message()));
                return Asked::Now(Verdict::Failed);
            }
        };
        let io = PhaseIo::Balancer { choosing: choosing.clone(), exit: None };
        let host = Rc::new(Host::with(r, LuaPhase::Balancer, io));
        match scheduler::run(&vm, &host, &function) {
            Outcome::Waits(running) => {
                let r = r.clone();
                Asked::Wait(Box::pin(async move {
                    let outcome = running.await;
                    verdict(&r, &host, &outcome)
                }))
            }
            settled => Asked::Now(verdict(r, &host, &settled)),
        }
    }
}

fn verdict(r: &RequestRef, host: &Host, outcome: &Outcome) -> Verdict {
    note(r, LuaPhase::Balancer, outcome);
    if let Outcome::Failed(_) = outcome {
        return Verdict::Failed;
    }
    let exit = match &*host.io.borrow() {
        PhaseIo::Balancer { exit, .. } => exit.unwrap_or(0),
        _ => 0,
    };
    match exit {
        0 => Verdict::Go,
        BUSY => Verdict::Busy,
        DECLINED => Verdict::Declined,
        300..=999 => Verdict::Finish(u16::try_from(exit).unwrap_or(500)),
        _ => Verdict::Failed,
    }
}
