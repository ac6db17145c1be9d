//! `ngx.exit`, `ngx.redirect`, `ngx.exec`, `ngx.get_phase` and the constants they take.
//! <https://github.com/openresty/lua-nginx-module#ngxexit>

use super::{define_native, number_text, only_in, request};
use crate::{
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
    scheduler::{self, Ending, Operation},
};
use moonrest_http::Request;
use moonrest_luajit::{Call, Light, LuaError, LuaResult, Native, Return, Stack, Table, Value};
use moonrest_proto::escape::{Unescape, unescape};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define_native(
        stack,
        ngx,
        &[
            ("exit", Native::new(exit)),
            ("redirect", Native::new(redirect)),
            ("exec", Native::new(exec)),
            ("get_phase", Native::new(get_phase)),
        ],
    )?;
    for (name, value) in [("OK", 0), ("ERROR", -1), ("AGAIN", -2), ("DONE", -4), ("DECLINED", -5)] {
        ngx.set(stack, name, value)?;
    }
    for (name, status) in STATUSES {
        ngx.set(stack, *name, *status)?;
    }
    for (bit, name) in METHODS.iter().enumerate() {
        ngx.set(stack, *name, 1 << (bit + 1))?;
    }
    ngx.set(stack, "null", Light(0))
}

/// In the order of nginx's bits, which begin with 2.
const METHODS: &[&str] = &[
    "HTTP_GET",
    "HTTP_HEAD",
    "HTTP_POST",
    "HTTP_PUT",
    "HTTP_DELETE",
    "HTTP_MKCOL",
    "HTTP_COPY",
    "HTTP_MOVE",
    "HTTP_OPTIONS",
    "HTTP_PROPFIND",
    "HTTP_PROPPATCH",
    "HTTP_LOCK",
    "HTTP_UNLOCK",
    "HTTP_PATCH",
    "HTTP_TRACE",
];

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
    ("HTTP_NOT_IMPLEMENTED", 501),
    ("HTTP_METHOD_NOT_IMPLEMENTED", 501),
    ("HTTP_BAD_GATEWAY", 502),
    ("HTTP_SERVICE_UNAVAILABLE", 503),
    ("HTTP_GATEWAY_TIMEOUT", 504),
    ("HTTP_VERSION_NOT_SUPPORTED", 505),
    ("HTTP_INSUFFICIENT_STORAGE", 507),
];

fn end(call: &Call<'_>, ending: Ending) -> LuaResult<Return> {
    scheduler::suspend(call, Operation::End(ending))
}

/// `ngx.exit(status)`.
fn exit(call: &mut Call<'_>) -> LuaResult<Return> {
    let status: f64 = call.arg(1)?;
    match call.host(|host: &Host| exit_status(host, status as i64)) {
        None => Err(LuaError::new("no request found")),
        Some(Err(problem)) => Err(LuaError::new(problem)),
        Some(Ok(None)) => call.ret(()),
        Some(Ok(Some(ending))) => end(call, ending),
    }
}

/// How a handler ends that exits with `status`; `None` where its code runs on and the status counts at its end.
///
/// # Errors
/// Why it cannot exit here and now.
pub(crate) fn exit_status(host: &Host, status: i64) -> Result<Option<Ending>, String> {
    if matches!(status, AGAIN | DONE) {
        return Err("bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE".to_owned());
    }
    let phase = host.phase;
    if phase.exits_with_code() {
        check_abortable(host)?;
        host.io.borrow_mut().exit_with(status);
        return Ok(Some(Ending::Ok));
    }
    if !phase.makes_response() && !matches!(phase, LuaPhase::HeaderFilter) && host.request.is_some() {
        return Err(format!("API disabled in the context of {}", phase.directive()));
    }
    let Some(r) = &host.request else { return outside_requests(host, status) };
    if !matches!(status, -1 | 408 | 444 | 499) {
        check_abortable(host)?;
    }
    let ending = settle_status(r, host, status);
    if let PhaseIo::Head { exit } = &mut *host.io.borrow_mut() {
        *exit = Some(ending);
        return Ok(None);
    }
    Ok(Some(ending))
}

/// `ngx.exit` in code that no request runs: a timer's ends.
fn outside_requests(host: &Host, status: i64) -> Result<Option<Ending>, String> {
    match host.phase {
        LuaPhase::Init => Err("no request found".to_owned()),
        LuaPhase::InitWorker | LuaPhase::ExitWorker => {
            Err(format!("API disabled in the context of {}", host.phase.directive()))
        }
        _ if status == -1 => Ok(Some(Ending::Error)),
        _ => Ok(Some(Ending::Ok)),
    }
}

/// Refuses to end a handler whose subrequests are under way.
pub(super) fn check_abortable(host: &Host) -> Result<(), String> {
    if host.has_subrequests() {
        return Err("attempt to abort with pending subrequests".to_owned());
    }
    Ok(())
}

const AGAIN: i64 = -2;
const DONE: i64 = -4;
const DECLINED: i64 = -5;

/// What an exit with this status comes to: a response that is under way keeps its own.
fn settle_status(r: &Request, host: &Host, status: i64) -> Ending {
    let status = match status {
        0 => return Ending::Ok,
        DECLINED => return Ending::Declined,
        i64::MIN..=-1 => return Ending::Error,
        status => u16::try_from(status).ok().filter(|status| *status <= 999).unwrap_or(500),
    };
    let sent = r.header_sent.get();
    let known = r.out().status;
    if sent && status >= 300 && !matches!(status, 408 | 444 | 499) {
        if status != known {
            moonrest_http::error!(
                r,
                "attempt to set status {status} via ngx.exit after sending out the response status {known}"
            );
        }
        return Ending::Status(200);
    }
    if !sent && known == 0 && status >= 200 && host.phase != LuaPhase::HeaderFilter {
        r.out_mut().status = status;
    }
    Ending::Status(status)
}

/// `ngx.redirect(uri, status?)`.
fn redirect(call: &mut Call<'_>) -> LuaResult<Return> {
    if !matches!(call.args_len(), 1 | 2) {
        return Err(LuaError::new("expecting one or two arguments"));
    }
    let uri = call.arg::<&[u8]>(1)?.to_vec();
    let status = if call.args_len() == 2 { call.arg::<f64>(2)? as i64 } else { 302 };
    let status = match status {
        301 | 302 | 303 | 307 | 308 => status as u16,
        _ => {
            return Err(LuaError::new(
                "only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, \
                 ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed",
            ));
        }
    };
    only_in(call, LuaPhase::makes_response)?;
    request(call, |r, host| {
        check_abortable(host).map_err(LuaError::new)?;
        if r.header_sent.get() {
            return Err(LuaError::new("attempt to call ngx.redirect after sending out the headers"));
        }
        if let Some(byte) = uri.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t') {
            let shown = escaped_for_log(&uri);
            return Err(LuaError::new(format!("unsafe byte \"0x{byte:02x}\" in redirect uri \"{shown}\"")));
        }
        let mut out = r.out_mut();
        // nginx: Lua redirects to a path as it was given, not to an absolute URL.
        if uri.starts_with(b"/") {
            out.add("Location", uri);
        } else {
            out.location = Some(uri.into());
        }
        out.status = status;
        Ok(())
    })?;
    end(call, Ending::Status(status))
}

/// Bytes that no log line should have as they are become `\xHH`.
fn escaped_for_log(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            0x20..=0x7e if !matches!(byte, b'"' | b'\\') => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02X}")),
        }
    }
    out
}

/// `ngx.exec(uri, args?)` or `ngx.exec("@name")`.
fn exec(call: &mut Call<'_>) -> LuaResult<Return> {
    if !matches!(call.args_len(), 1 | 2) {
        let given = call.args_len();
        return Err(LuaError::new(format!("expecting one or two arguments, but got {given}")));
    }
    let uri = call.arg::<&[u8]>(1)?.to_vec();
    if uri.is_empty() {
        return Err(LuaError::new("The uri argument is empty"));
    }
    only_in(call, LuaPhase::makes_response)?;
    request(call, |_, host| check_abortable(host).map_err(LuaError::new))?;
    let Some((path, query)) = exec_target(&uri) else {
        return request(call, |r, _| {
            moonrest_http::error!(r, "unsafe URI \"{}\" was detected", escaped_for_log(&uri));
            Err(LuaError::new("unsafe uri"))
        });
    };
    let more = match call.value(2) {
        Value::Nil => Vec::new(),
        Value::String(text) => text.to_vec(),
        Value::Number(number) => number_text(number).into_bytes(),
        Value::Table(table) => super::args::encode(call, table)?,
        other => {
            let given = other.type_name();
            return Err(LuaError::argument(2, format!("string, number, or table expected, but got {given}")));
        }
    };
    let args = match (query.is_empty(), more.is_empty()) {
        (true, _) => more,
        (false, true) => query,
        (false, false) => [&*query, b"&", &more].concat(),
    };
    request(call, |r, _| {
        if r.header_sent.get() {
            return Err(LuaError::new("attempt to call ngx.exec after sending out response headers"));
        }
        if path.starts_with(b"@") {
            if !args.is_empty() {
                moonrest_http::warn!(
                    r,
                    "query strings {} ignored when exec'ing named location {}",
                    String::from_utf8_lossy(&args),
                    String::from_utf8_lossy(&path)
                );
            }
            r.redirect_to_named(&path);
        } else {
            r.redirect_internally(&path, &args);
        }
        Ok(())
    })?;
    end(call, Ending::Redirected)
}

/// The path, decoded, and the query of what `ngx.exec` is given; `None` for a path that leads out of the root.
fn exec_target(uri: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (path, query) = match uri.iter().position(|byte| *byte == b'?') {
        Some(at) => (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default()),
        None => (uri, &[][..]),
    };
    let mut decoded = Vec::with_capacity(path.len());
    unescape(Unescape::All, path, &mut decoded);
    let climbs = decoded.split(|byte| *byte == b'/').any(|part| part == b"..");
    let safe = !path.is_empty() && !climbs && !decoded.contains(&0);
    safe.then(|| (decoded, query.to_vec()))
}

fn get_phase(call: &mut Call<'_>) -> LuaResult<Return> {
    match call.host(|host: &Host| host.phase.name()) {
        Some(name) => call.ret(name),
        None => Err(LuaError::new("no request ctx found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_takes_paths_with_their_query() {
        assert_eq!(exec_target(b"/a/b?c=d&e").unwrap(), (b"/a/b".to_vec(), b"c=d&e".to_vec()));
        assert_eq!(exec_target(b"@named").unwrap(), (b"@named".to_vec(), Vec::new()));
        for bad in [&b"/a/../b"[..], b"?x", b"..", b"/a\0", b"/%2e%2e/x"] {
            assert!(exec_target(bad).is_none());
        }
    }

    #[test]
    fn what_could_forge_a_log_line_is_escaped() {
        assert_eq!(escaped_for_log(b"/a\r\n\"b\\"), r"/a\x0D\x0A\x22b\x5C");
    }
}
