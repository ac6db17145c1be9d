//! `ngx.escape_uri`, `ngx.unescape_uri`, `ngx.quote_sql_str`.
//! <https://github.com/openresty/lua-nginx-module#ngxescape_uri>

use super::define;
use moonrest_luajit::{Call, LuaResult, Return, Stack, Table};
use moonrest_proto::escape::{self, Kind, Unescape};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(
        stack,
        ngx,
        &[("escape_uri", escape_uri), ("unescape_uri", unescape_uri), ("quote_sql_str", quote_sql_str)],
    )
}

fn escape_uri(call: &mut Call<'_>) -> LuaResult<Return> {
    let (text, kind): (&[u8], Option<f64>) = call.args()?;
    let kind = if kind == Some(0.0) { Kind::Uri } else { Kind::UriComponent };
    let mut out = Vec::with_capacity(text.len() + 16);
    escape::escape(kind, text, &mut out);
    call.ret(out.as_slice())
}

fn unescape_uri(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    call.ret(decode(text).as_slice())
}

/// Decodes `%xx`, and `+` as a space.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let mut out = Vec::with_capacity(spaced.len());
    escape::unescape(Unescape::All, &spaced, &mut out);
    out
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
