//! The names under which lua-resty-core finds the functions of coroutines, LuaJIT's and upstream's: they are the same
//! here. `_yield` waits for what an FFI entry has asked for; where none has, it is a plain yield.

use crate::host::Host;
use moonrest_luajit::{Form, LuaResult, Stack, Value};

const YIELD: &[u8] = b"local asked, wait, yield = ...
return function(...)
    if asked() then
        return wait()
    end
    return yield(...)
end";

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(coroutine) = stack.globals()?.raw_get(stack, "coroutine")? else { return Ok(()) };
    let wait = coroutine.raw_get(stack, "_yield")?;
    for name in ["create", "yield", "resume", "status", "wrap"] {
        let function = coroutine.raw_get(stack, name)?;
        coroutine.raw_set(stack, format!("_{name}"), function)?;
        coroutine.raw_set(stack, format!("__{name}"), function)?;
    }
    let asked = stack.function(|call| {
        let asked = call.host(|host: &Host| host.pending.borrow().is_some());
        call.ret(asked == Some(true))
    })?;
    let plain = coroutine.raw_get(stack, "yield")?;
    let chunk = stack.load(YIELD, "=coroutine._yield", Form::Text)?;
    let made = stack.call(chunk, (asked, wait, plain))?;
    coroutine.raw_set(stack, "_yield", made.value(stack, 0))
}
