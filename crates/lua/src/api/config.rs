//! `ngx.config`.
//! <https://github.com/openresty/lua-nginx-module#ngxconfigsubsystem>

use super::subtable;
use crate::library;
use moonrest_luajit::{LuaResult, Stack, Table};

/// The version of nginx that this server behaves as.
const NGINX_VERSION: u32 = 1_031_003;

pub(super) fn install(stack: &Stack<'_>, ngx: Table<'_>, prefix: &[u8]) -> LuaResult<()> {
    let config = subtable(stack, ngx, "config")?;
    config.set(stack, "debug", false)?;
    config.set(stack, "subsystem", "http")?;
    config.set(stack, "nginx_version", NGINX_VERSION)?;
    config.set(stack, "ngx_lua_version", library::VERSION)?;
    let prefix = if prefix.ends_with(b"/") { prefix.to_vec() } else { [prefix, b"/"].concat() };
    let prefix = stack.function_with(prefix, |call, prefix: &Vec<u8>| call.ret(prefix))?;
    config.set(stack, "prefix", prefix)?;
    let configure = stack.function(|call| call.ret(moonrest_core::build::arguments()))?;
    config.set(stack, "nginx_configure", configure)
}
