//! The names under which libraries find the functions of coroutines, LuaJIT's and upstream's: they are the same here.
//! `_yield`, which waits for what an FFI entry has asked for, is LuaJIT's side's own.

use moonrest_luajit::{LuaResult, Stack, Value};

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(coroutine) = stack.globals()?.raw_get(stack, "coroutine")? else { return Ok(()) };
    for name in ["create", "yield", "resume", "status", "wrap"] {
        let function = coroutine.raw_get(stack, name)?;
        coroutine.raw_set(stack, format!("__{name}"), function)?;
        if name != "yield" {
            coroutine.raw_set(stack, format!("_{name}"), function)?;
        }
    }
    Ok(())
}
