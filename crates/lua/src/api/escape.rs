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
    out.push(b'\'');
    for &byte in text {
        let short = match byte {
            0 => b'0',
            b'\n' => b'n',
            b'\r' => b'r',
            0x08 => b'b',
            b'\t' => b't',
            0x1a => b'Z',
            b'\\' | b'\'' | b'"' => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend([b'\\', short]);
    }
    out.push(b'\'');
    call.ret(out.as_slice())
}
