//! What OpenResty's branch of LuaJIT adds to LuaJIT: `table.isempty`, `isarray`, `nkeys`, `clone`, and the modules
//! `thread.exdata` and `thread.exdata2`; and its bounds for the compiler.
//! <https://github.com/openresty/luajit2#new-lua-apis>
//!
//! They are written in Lua (`lua/extras.lua`), so that they are compiled into the traces that use them.
//! `thread.exdata` reads, through the FFI, a cell that belongs to the VM: two instructions in a trace. Upstream keeps
//! the pointer in each coroutine; here the cell is set for each run, so that all coroutines of one run see the same.
use crate::chunk::Form;
use crate::error::LuaResult;
use crate::stack::Stack;

pub(crate) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let chunk = stack.load(include_bytes!("lua/extras.lua"), "=moonrest.extras", Form::Text)?;
    let cells = &stack.shared.cells;
    let address = |cell: &std::cell::Cell<usize>| (&raw const *cell).addr();
    stack.call(chunk, (address(&cells.exdata), address(&cells.exdata2)))?;
    Ok(())
}
