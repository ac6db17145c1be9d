//! `ngx.quote_sql_str`.
//! <https://github.com/openresty/lua-nginx-module#ngxquote_sql_str>

use super::define;
use moonrest_luajit::{Call, LuaResult, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("quote_sql_str", quote_sql_str)])
}

fn quote_sql_str(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    let mut out = Vec::with_capacity(text.len() + 2);
    moonrest_proto::escape::sql(text, &mut out);
    call.ret(out.as_slice())
}
