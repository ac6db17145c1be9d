//! `ngx.header`.
//! <https://github.com/openresty/lua-nginx-module#ngxheaderheader>

use super::{DECLINED, OK, Str, Token, fail, lend, request::values, with_request};
use crate::{
    escape::{HEADER_NAME, HEADER_VALUE},
    host::Host,
    response_fields as fields,
};
use moonrest_http::RequestRef;
use moonrest_luajit::{ffi_entry, raw};
use std::{
    borrow::Cow,
    ffi::{c_char, c_int},
};

ffi_entry! {
    /// Sets a field to one value or several, replacing those there are, or adding to them; none removes it.
    fn ngx_http_lua_ffi_set_resp_header(
        r: Token, key: *const u8, key_size: usize, is_nil: c_int, value: *const u8, value_size: usize,
        many: *const Str, many_size: usize, replace: c_int, err: *mut *const c_char,
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings, and an array of strings of that length.
        let (key, values) = unsafe {
            let values = if is_nil != 0 { Default::default() } else { values(value, value_size, many, many_size) };
            (raw::bytes(key, key_size), values)
        };
        with_request(r, |r, host| {
            if r.header_sent.get() {
                moonrest_http::error!(r, "attempt to set ngx.header.HEADER after sending out response headers");
                return DECLINED;
            }
            match set(r, host, key, &values, replace != 0) {
                Ok(()) => OK,
                Err(fields::Invalid) => fail(err, c"failed to set header"),
            }
        })
    }

    /// The values of a field; gives their number. They stay until the next call.
    fn ngx_http_lua_ffi_get_resp_header(
        r: Token, key: *const u8, key_size: usize, _buffer: *mut u8, places: *mut Str, max: c_int,
        _err: *mut *const c_char,
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let key = unsafe { raw::bytes(key, key_size) };
        with_request(r, |r, host| {
            let out = r.out();
            let name = dashed(host, key);
            let max = usize::try_from(max).unwrap_or(0);
            let mut made = 0;
            lend(
                |text| fields::computed(&out, &name, text),
                |text| {
                    for (n, value) in fields::get(&out, &name, text).into_iter().take(max).enumerate() {
                        // SAFETY: Lua passes places for `max` strings, maybe not aligned: they lie behind the name.
                        unsafe { raw::store(places.wrapping_add(n), Str::new(value)) };
                        made = n + 1;
                    }
                },
            );
            c_int::try_from(made).unwrap_or(0)
        })
    }

    /// Upstream: what was decided by `if` before counts no more. Conditions here are asked when they are met.
    fn ngx_http_lua_ffi_bypass_if_checks(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| {
            r.disable_not_modified.set(true);
            OK
        })
    }
}

/// Underscores stand for dashes, if the location says so.
pub(crate) fn dashed<'k>(host: &Host, key: &'k [u8]) -> Cow<'k, [u8]> {
    if !key.contains(&b'_') || !host.dashes_in_response_fields() {
        return Cow::Borrowed(key);
    }
    key.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()
}

/// Sets a field as Lua names it.
fn set(
    r: &RequestRef,
    host: &Host,
    key: &[u8],
    values: &[&[u8]],
    replace: bool,
) -> Result<(), fields::Invalid> {
    let key = dashed(host, key);
    let name = HEADER_NAME.escaped(&key);
    if name.eq_ignore_ascii_case(b"content-type") {
        host.state().type_set.set(true);
    }
    let mut replace = replace;
    let mut out = r.out_mut();
    for value in values.iter().copied().chain(values.is_empty().then_some(&b""[..])) {
        fields::set(&mut out, &name, &HEADER_VALUE.escaped(value), replace)?;
        replace = false;
    }
    Ok(())
}
