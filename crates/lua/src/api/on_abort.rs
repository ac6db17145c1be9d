//! `ngx.on_abort`: what runs when the client leaves early.
//! <https://github.com/openresty/lua-nginx-module#ngxon_abort>

use super::{define, no_request, only_in, request};
use crate::{
    host::{Host, LuaPhase, OnAbort},
    scheduler::Parent,
    settings::Loc,
};
use moonrest_luajit::{Call, Function, LuaError, LuaResult, Nil, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("on_abort", on_abort)])
}

/// `ngx.on_abort(f) -> ok, err`.
fn on_abort(call: &mut Call<'_>) -> LuaResult<Return> {
    only_in(call, LuaPhase::has_request)?;
    let checks = request(call, |r, _| Ok(Loc::of(r).is_some_and(Loc::check_client_abort)))?;
    if call.host(|host: &Host| host.on_abort.borrow().is_some()) == Some(true) {
        return call.ret((Nil, "duplicate call"));
    }
    if !checks {
        return call.ret((Nil, "lua_check_client_abort is off"));
    }
    let function: Function<'_> = call.arg(1).map_err(|_| LuaError::argument(1, "Lua function expected"))?;
    let function = call.keep(function)?;
    let (thread, own) = call.host(|host: &Host| host.running.get()).ok_or_else(|| no_request(call))?;
    let Some(caller) = call.current_thread()? else { return Err(no_request(call)) };
    let coroutine = caller.id(call);
    let user = if coroutine == own { None } else { Some(call.coroutine(caller)?) };
    let parent = Parent { coroutine, user, thread };
    call.host(|host: &Host| *host.on_abort.borrow_mut() = Some(OnAbort::Waits(function, parent)));
    call.ret(1)
}
