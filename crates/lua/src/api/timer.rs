//! `ngx.timer`.
//! <https://github.com/openresty/lua-nginx-module#ngxtimerat>

use super::{define, subtable};
use crate::{
    host::{Host, LuaPhase},
    timers::{self, Timer, Timers},
};
use moonrest_luajit::{Call, Function, LuaError, LuaResult, Nil, Ref, Return, Stack, Table};
use std::rc::Rc;

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let timer = subtable(stack, ngx, "timer")?;
    define(
        stack,
        timer,
        &[
            ("at", |call| add(call, false)),
            ("every", |call| add(call, true)),
            ("running_count", |call| count(call, Timers::running)),
            ("pending_count", |call| count(call, Timers::pending)),
        ],
    )
}

fn timers() -> LuaResult<Rc<Timers>> {
    timers::present().ok_or_else(|| LuaError::new("no request"))
}

fn count(call: &Call<'_>, of: fn(&Timers) -> u64) -> LuaResult<Return> {
    if call.host(|host: &Host| host.phase != LuaPhase::Init) != Some(true) {
        return Err(LuaError::new("no request"));
    }
    call.ret(of(&*timers()?))
}

/// `ngx.timer.at(delay, f, ...) -> ok, err`, and `every`.
fn add(call: &mut Call<'_>, every: bool) -> LuaResult<Return> {
    let given = call.args_len();
    if given < 2 {
        return Err(LuaError::new(format!("expecting at least 2 arguments but got {given}")));
    }
    let seconds: f64 = call.arg(1)?;
    let delay_ms = if seconds > 0.0 { (seconds * 1000.0) as u64 } else { 0 };
    if every && delay_ms == 0 {
        return Err(LuaError::new("delay cannot be zero"));
    }
    let wrong = || LuaError::argument(2, "Lua function expected");
    let function: Function<'_> = call.arg(2).map_err(|_| wrong())?;
    let definition = function.origin(call)?;
    if definition.is_c {
        return Err(wrong());
    }
    let host = call.host(|host: &Host| (host.phase, host.vm(), host.origin()));
    let (phase, vm, origin) = match host {
        Some((phase, Some(vm), origin)) if phase != LuaPhase::Init => (phase, vm, origin),
        _ => return Err(LuaError::new("no request")),
    };
    if phase == LuaPhase::ExitWorker {
        return Err(LuaError::new("API disabled in the context of exit_worker_by_lua*"));
    }
    let args: LuaResult<Vec<Ref>> = (3..=given).map(|n| call.keep(call.value(n))).collect();
    let function = call.keep(function)?;
    let timer = Timer { vm, delay_ms, every, function, args: args?, definition, origin };
    match timers()?.add(timer) {
        Ok(()) => call.ret(1),
        Err(problem) => call.ret((Nil, problem)),
    }
}
