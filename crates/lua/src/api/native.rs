//! What the Lua libraries in the executable are made of: modules of Rust functions in `package.preload`, loaded when they
//! are first required.

use super::{Function, cjson, crypto, upstream};
use moonrest_luajit::{LuaResult, Stack};

/// Module names and what makes them.
const MODULES: &[(&str, Function)] = &[
    ("moonrest.cjson", cjson::open),
    ("moonrest.cjson.safe", cjson::open_safe),
    ("moonrest.crypto", crypto::open),
    ("ngx.upstream", upstream::open),
];

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Some(package) = stack.globals()?.get(stack, "package")?.as_table() else { return Ok(()) };
    let Some(preload) = package.get(stack, "preload")?.as_table() else { return Ok(()) };
    super::define(stack, preload, MODULES)
}
