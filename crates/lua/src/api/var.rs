//! Reading `ngx.var`, as a C function: where code is not compiled (a handler's own chunk never is), the FFI costs ten
//! times as much.
//! <https://github.com/openresty/lua-nginx-module#ngxvarvariable>

use super::request;
use crate::{ffi::lend, host::Host};
use moonrest_core::Subject;
use moonrest_http::Request;
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Value};
use std::cell::Cell;

/// Where `resty.core.var` finds the function.
const MODULE: &str = "moonrest.var_get";

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(package) = stack.globals()?.raw_get(stack, "package")? else { return Ok(()) };
    let Value::Table(loaded) = package.raw_get(stack, "loaded")? else { return Ok(()) };
    loaded.raw_set(stack, MODULE, stack.function(get)?)
}

/// `ngx.var[name]`; a number is a capture's.
fn get(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.host(|host: &Host| host.request.is_none() && host.detached.is_some()) == Some(true) {
        return Err(LuaError::new("API disabled in the current context"));
    }
    match call.value(2) {
        Value::Number(n) if n >= 1.0 => answer(call, |r, out| r.capture(n as usize, out)),
        Value::Number(_) => call.ret(Nil),
        Value::String(name) => {
            let mut lowered: smallvec::SmallVec<[u8; 48]> = name.into();
            lowered.make_ascii_lowercase();
            match std::str::from_utf8(&lowered) {
                Ok(name) => answer(call, |r, out| r.vars().append_by_name(r, name, out)),
                Err(_) => call.ret(Nil),
            }
        }
        _ => Err(LuaError::new("bad variable name")),
    }
}

fn answer(call: &Call<'_>, value_of: impl FnOnce(&Request, &mut Vec<u8>) -> bool) -> LuaResult<Return> {
    request(call, |r, _| {
        let found = Cell::new(false);
        lend(
            |out| found.set(value_of(r, out)),
            |bytes| if found.get() { call.ret(bytes) } else { call.ret(Nil) },
        )
    })
}
