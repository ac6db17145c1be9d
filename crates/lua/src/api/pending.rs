//! `coroutine._yield`: what lua-resty-core calls when an FFI entry has left something to wait for.

use super::define;
use crate::host::Host;
use moonrest_luajit::{Call, LuaResult, Return, Stack, Value, With};

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(coroutine) = stack.globals()?.raw_get(stack, "coroutine")? else { return Ok(()) };
    // Upstream keeps LuaJIT's functions and its own beside each other; here they are the same.
    for name in ["create", "yield", "resume", "status", "wrap"] {
        let function = coroutine.raw_get(stack, name)?;
        coroutine.raw_set(stack, format!("_{name}"), function)?;
        coroutine.raw_set(stack, format!("__{name}"), function)?;
    }
    define(stack, coroutine, &[("_yield", yield_pending)])
}

fn yield_pending(call: &mut Call<'_>) -> LuaResult<Return> {
    match call.host(|host: &Host| host.pending.take()).flatten() {
        Some(operation) => call.suspend(operation, ()),
        None => {
            let count = call.args_len();
            let values = With(|stack: &Stack<'_>| (1..=count).try_for_each(|n| stack.push(stack.value(n))));
            call.yield_values(values)
        }
    }
}
