//! The table of all modules: nginx's, then OpenResty's. Within a phase they run in this order, so Lua code comes last.

use moonrest_http::{
    compile::Registry,
    module::{ErasedModule, Module},
};
use moonrest_http_modules::MODULES;
use std::sync::LazyLock;

static ALL: LazyLock<Vec<&'static dyn ErasedModule>> = LazyLock::new(|| {
    let lua: &'static dyn ErasedModule = &Module::<moonrest_lua::HttpLua>::NEW;
    MODULES.iter().copied().chain([lua]).collect()
});

/// Every HTTP module.
pub(crate) fn registry() -> Registry {
    &ALL
}
