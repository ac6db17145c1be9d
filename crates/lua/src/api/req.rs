//! `ngx.req`: the client's request as Lua sees it.
//! <https://github.com/openresty/lua-nginx-module#ngxreqget_headers>

use super::{args, define_native, request, subtable};
use crate::{
    host::LuaPhase,
    scheduler::{Ending, Operation},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Return, Stack, Table, Value};
use moonrest_proto::http1::{Method, Version};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    for method in Method::NAMED.into_iter().filter(|method| *method != Method::Connect) {
        ngx.set(stack, format!("HTTP_{}", method.name()), method.bit())?;
    }
    let req = subtable(stack, ngx, "req")?;
    define_native(
        stack,
        req,
        &[
            ("http_version", Native::new(http_version)),
            ("set_uri_args", Native::new(set_uri_args)),
            ("socket", Native::new(super::socket::req_socket)),
            ("set_uri", Native::new(set_uri)),
            ("raw_header", Native::new(raw_header)),
        ],
    )?;
    super::req_fields::install(stack, req)?;
    super::req_body::install(stack, req)
}

fn http_version(call: &mut Call<'_>) -> LuaResult<Return> {
    let version = request(call, |r, _| {
        Ok(match r.version.get() {
            Version::Http09 => 0.9,
            Version::Http10 => 1.0,
            Version::Http11 => 1.1,
            Version::Http2 => 2.0,
        })
    })?;
    call.ret(version)
}

/// `ngx.req.set_uri_args(args)`
fn set_uri_args(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 1, 1, "1 argument")?;
    let args = match call.value(1) {
        Value::Number(number) => super::output::number_text(number).into_bytes(),
        Value::String(text) => {
            // What would end a request line is escaped.
            let mut args = Vec::with_capacity(text.len());
            for &byte in text {
                if byte <= b' ' || byte == 0x7f {
                    args.extend(format!("%{byte:02X}").bytes());
                } else {
                    args.push(byte);
                }
            }
            args
        }
        Value::Table(table) => args::encode(call, table)?,
        other => {
            let message = format!("string, number, or table expected, but got {}", other.type_name());
            return Err(LuaError::argument(1, message));
        }
    };
    request(call, |r, _| {
        *r.args.borrow_mut() = args;
        r.valid_unparsed_uri.set(false);
        Ok(())
    })?;
    call.ret(())
}

/// `ngx.req.set_uri(uri, jump?, binary?)`
fn set_uri(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 1, 3, "1, 2 or 3 arguments")?;
    let uri = call.arg::<&[u8]>(1)?.to_vec();
    if uri.is_empty() {
        return Err(LuaError::new("attempt to use zero-length uri"));
    }
    let (jump, binary) = (flag(call, 2)?, flag(call, 3)?);
    if !binary && let Some(byte) = uri.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t') {
        return Err(LuaError::new(format!(
            "unsafe byte \"0x{byte:02x}\" in uri \"{}\" (maybe you want to set the 'binary' argument?)",
            escape_for_log(&uri)
        )));
    }
    if jump {
        super::only_in(call, |phase| matches!(phase, LuaPhase::Rewrite | LuaPhase::ServerRewrite))?;
    }
    request(call, |r, host| {
        if jump {
            super::control::check_abortable(host)?;
            // What comes next begins anew.
            host.state().forget_ctx();
        }
        *r.uri.borrow_mut() = uri;
        r.internal.set(true);
        r.valid_unparsed_uri.set(false);
        r.uri_changed.set(jump);
        if !jump {
            r.valid_location.set(false);
        }
        Ok(())
    })?;
    if jump {
        // The rewrite phase finds the changed path.
        return call.suspend(Operation::End(Ending::Declined), ());
    }
    call.ret(())
}

/// A text with what a log line cannot show as `\xHH`.
fn escape_for_log(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' if !matches!(byte, b'"' | b'\\') => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02X}")),
        }
    }
    out
}

/// `ngx.req.raw_header(no_request_line?)`
fn raw_header(call: &mut Call<'_>) -> LuaResult<Return> {
    let bare: Option<bool> = call.arg(1)?;
    let head = request(call, |r, _| Ok(r.raw_head(bare != Some(true))))?;
    call.ret(head)
}

/// Refuses another number of arguments.
pub(super) fn count(call: &Call<'_>, min: usize, max: usize, expected: &str) -> LuaResult<()> {
    let given = call.args_len();
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(LuaError::new(format!("expecting {expected} but seen {given}")))
}

/// An argument that is a boolean if it is there.
pub(super) fn flag(call: &Call<'_>, n: u32) -> LuaResult<bool> {
    if call.args_len() < n as usize {
        return Ok(false);
    }
    match call.value(n as usize) {
        Value::Boolean(flag) => Ok(flag),
        other => Err(LuaError::argument(n, format!("boolean expected, got {}", other.type_name()))),
    }
}
