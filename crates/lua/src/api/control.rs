//! `ngx.exit`, `ngx.redirect`, `ngx.exec`, `ngx.get_phase` and the constants they take.
//! <https://github.com/openresty/lua-nginx-module#ngxexit>

use super::{define, request};
use crate::{
    host::Host,
    scheduler::{Ending, Operation},
};
use moonrest_luajit::{Call, Light, LuaError, LuaResult, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("exit", exit), ("redirect", redirect), ("exec", exec), ("get_phase", get_phase)])?;
    for (name, value) in [("OK", 0), ("ERROR", -1), ("AGAIN", -2), ("DONE", -4), ("DECLINED", -5)] {
        ngx.set(stack, name, value)?;
    }
    for (name, status) in STATUSES {
        ngx.set(stack, *name, *status)?;
    }
    ngx.set(stack, "null", Light(0))
}

const STATUSES: &[(&str, i32)] = &[
    ("HTTP_CONTINUE", 100),
    ("HTTP_SWITCHING_PROTOCOLS", 101),
    ("HTTP_OK", 200),
    ("HTTP_CREATED", 201),
    ("HTTP_ACCEPTED", 202),
    ("HTTP_NO_CONTENT", 204),
    ("HTTP_PARTIAL_CONTENT", 206),
    ("HTTP_SPECIAL_RESPONSE", 300),
    ("HTTP_MOVED_PERMANENTLY", 301),
    ("HTTP_MOVED_TEMPORARILY", 302),
    ("HTTP_SEE_OTHER", 303),
    ("HTTP_NOT_MODIFIED", 304),
    ("HTTP_TEMPORARY_REDIRECT", 307),
    ("HTTP_PERMANENT_REDIRECT", 308),
    ("HTTP_BAD_REQUEST", 400),
    ("HTTP_UNAUTHORIZED", 401),
    ("HTTP_PAYMENT_REQUIRED", 402),
    ("HTTP_FORBIDDEN", 403),
    ("HTTP_NOT_FOUND", 404),
    ("HTTP_NOT_ALLOWED", 405),
    ("HTTP_NOT_ACCEPTABLE", 406),
    ("HTTP_REQUEST_TIMEOUT", 408),
    ("HTTP_CONFLICT", 409),
    ("HTTP_GONE", 410),
    ("HTTP_UPGRADE_REQUIRED", 426),
    ("HTTP_TOO_MANY_REQUESTS", 429),
    ("HTTP_ILLEGAL", 451),
    ("HTTP_CLOSE", 444),
    ("HTTP_INTERNAL_SERVER_ERROR", 500),
    ("HTTP_METHOD_NOT_IMPLEMENTED", 501),
    ("HTTP_BAD_GATEWAY", 502),
    ("HTTP_SERVICE_UNAVAILABLE", 503),
    ("HTTP_GATEWAY_TIMEOUT", 504),
    ("HTTP_VERSION_NOT_SUPPORTED", 505),
    ("HTTP_INSUFFICIENT_STORAGE", 507),
];

fn end(call: &Call<'_>, ending: Ending) -> LuaResult<Return> {
    call.suspend(Operation::End(ending), ())
}

fn exit(call: &mut Call<'_>) -> LuaResult<Return> {
    let status: f64 = call.arg(1)?;
    let ending = request(call, |_, host| Ok(ending_of(host, status as i32)))?;
    end(call, ending)
}

/// How a handler ends by `ngx.exit(status)`.
pub(crate) fn ending_of(host: &Host, status: i32) -> Ending {
    let ending = match status {
        0 => Ending::Ok,
        -5 => Ending::Declined,
        i32::MIN..=-1 => Ending::Error,
        status => Ending::Status(u16::try_from(status).ok().filter(|status| *status <= 999).unwrap_or(500)),
    };
    if let (Ending::Status(status), Some(r)) = (ending, &host.request) {
        {
            if r.header_sent.get() {
                if status >= 300 {
                    moonrest_http::error!(
                        r,
                        "attempt to set status {status} via ngx.exit after sending out the response status {}",
                        r.out().status
                    );
                }
            } else if r.out().status == 0 || status >= 300 {
                r.out_mut().status = status;
            }
        }
    }
    ending
}

/// `ngx.redirect(uri, status?)`.
fn redirect(call: &mut Call<'_>) -> LuaResult<Return> {
    let (uri, status): (&[u8], Option<f64>) = call.args()?;
    let status = status.map_or(302, |status| status as u16);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(LuaError::new(
            "only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, \
             ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed",
        ));
    }
    if uri.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(LuaError::new("unsafe byte in redirect uri"));
    }
    let uri = uri.to_vec();
    request(call, |r, _| {
        if r.header_sent.get() {
            return Err(LuaError::new("attempt to call ngx.redirect after sending out the headers"));
        }
        r.out_mut().location = Some(uri.into());
        Ok(())
    })?;
    end(call, Ending::Status(status))
}

/// `ngx.exec(uri, args?)` or `ngx.exec("@name")`; `args` is a string.
fn exec(call: &mut Call<'_>) -> LuaResult<Return> {
    let (uri, args): (&[u8], Option<&[u8]>) = call.args()?;
    if uri.is_empty() {
        return Err(LuaError::new("The uri argument is empty"));
    }
    let (uri, args) = (uri.to_vec(), args.unwrap_or_default().to_vec());
    request(call, |r, _| {
        if r.header_sent.get() {
            return Err(LuaError::new("attempt to call ngx.exec after sending out response headers"));
        }
        if uri.starts_with(b"@") {
            r.redirect_to_named(&uri);
            return Ok(());
        }
        let (path, query) = match uri.iter().position(|byte| *byte == b'?') {
            Some(at) => (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default()),
            None => (uri.as_slice(), &[][..]),
        };
        let args = match (query.is_empty(), args.is_empty()) {
            (true, _) => args,
            (false, true) => query.to_vec(),
            (false, false) => [query, b"&", &args].concat(),
        };
        r.redirect_internally(path, &args);
        Ok(())
    })?;
    end(call, Ending::Redirected)
}

fn get_phase(call: &mut Call<'_>) -> LuaResult<Return> {
    match call.host(|host: &Host| host.phase.name()) {
        Some(name) => call.ret(name),
        None => Err(LuaError::new("no phase")),
    }
}
