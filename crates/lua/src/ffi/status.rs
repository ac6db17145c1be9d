//! `ngx.status`, `ngx.headers_sent`, `ngx.is_subrequest` and what else is one question.
//! <https://github.com/openresty/lua-nginx-module#ngxstatus>

use super::{DECLINED, OK, Token, with_request};
use bytes::Bytes;
use moonrest_http::Request;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_proto::http1::Version;
use std::ffi::c_int;

ffi_entry! {
    /// The status of the response; 0 when none was set.
    fn ngx_http_lua_ffi_get_resp_status(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| match (r.error_status.get(), r.out().status) {
            (0, 0) if r.version.get() == Version::Http09 => 9,
            (0, status) | (status, _) => c_int::from(status),
        })
    }

    /// Sets it.
    fn ngx_http_lua_ffi_set_resp_status(r: Token, status: c_int) -> c_int, on_panic = -1 {
        with_request(r, |r, _| set_status(r, status, &[]))
    }

    /// Sets it with a reason of one's own.
    fn ngx_http_lua_ffi_set_resp_status_and_reason(
        r: Token, status: c_int, reason: *const u8, size: usize
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let reason = unsafe { raw::bytes(reason, size) };
        with_request(r, |r, _| set_status(r, status, reason))
    }

    /// Whether the head was sent.
    fn ngx_http_lua_ffi_headers_sent(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| c_int::from(r.header_sent.get()))
    }

    /// Whether it is a subrequest.
    fn ngx_http_lua_ffi_is_subrequest(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| c_int::from(r.is_subrequest()))
    }

    /// Whether the request was redirected internally, or is a subrequest.
    fn ngx_http_lua_ffi_req_is_internal(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| c_int::from(r.internal.get()))
    }

    /// A variable that `env` sets in the configuration. The environment has them all before Lua code runs.
    fn ngx_http_lua_ffi_get_conf_env(_name: *const u8, _value: *mut *mut u8, _name_size: *mut usize) -> c_int,
        on_panic = -1
    {
        DECLINED
    }

    /// Replaces a byte by another in a buffer.
    fn ngx_http_lua_ffi_str_replace_char(buffer: *mut u8, size: usize, find: u8, replace: u8) -> c_int,
        on_panic = 0
    {
        // SAFETY: Lua passes a buffer of that size, which nobody else uses meanwhile.
        let bytes = unsafe { super::buffer(buffer, size) };
        bytes.iter_mut().filter(|byte| **byte == find).for_each(|byte| *byte = replace);
        OK
    }
}

/// Upstream's rules for `ngx.status = …`.
fn set_status(r: &Request, status: c_int, reason: &[u8]) -> c_int {
    if r.header_sent.get() {
        moonrest_http::error!(r, "attempt to set ngx.status after sending out response headers");
        return DECLINED;
    }
    let Some(status) = u16::try_from(status).ok().filter(|status| (100..=999).contains(status)) else {
        moonrest_http::error!(r, "invalid HTTP status code {status}");
        return DECLINED;
    };
    let mut out = r.out_mut();
    out.status = status;
    out.status_line = match (status, reason) {
        (101, _) => Some(Bytes::from_static(b"101 Switching Protocols")),
        (_, []) => None,
        (_, reason) => Some([format!("{status} ").as_bytes(), reason].concat().into()),
    };
    r.error_status.set(0);
    OK
}
