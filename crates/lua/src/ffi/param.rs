//! `ngx.arg`.
//! <https://github.com/openresty/lua-nginx-module#ngxarg>

use super::{OK, Token, lend};
use crate::{host::Host, phase_io::PhaseIo};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

/// Calls `f` with the present part of the body.
fn with_body(r: Token, f: impl FnOnce(&[u8], bool) -> c_int) -> c_int {
    let answer = raw::host(r, |host: &Host| match &*host.io.borrow() {
        PhaseIo::Body(arg) => f(&arg.data, arg.eof),
        _ => super::BAD_CONTEXT,
    });
    answer.unwrap_or(super::NO_REQ_CTX)
}

ffi_entry! {
    /// An argument of `set_by_lua*`, counted from 1; empty for none. Upstream's answers nothing.
    fn ngx_http_lua_ffi_get_setby_param(r: Token, index: c_int, data: *mut *const u8, size: *mut usize) -> c_int,
        on_panic = -1
    {
        let index = usize::try_from(index - 1).ok();
        raw::host(r, |host: &Host| {
            let io = host.io.borrow();
            let arg = match (&*io, index) {
                (PhaseIo::Set { args, .. }, Some(index)) => args.get(index).map_or(&[][..], Vec::as_slice),
                _ => &[],
            };
            lend(
                |out| out.extend_from_slice(arg),
                // SAFETY: Lua passes places for a pointer and a length, and copies the bytes at once.
                |bytes| unsafe {
                    raw::store(data, bytes.as_ptr());
                    raw::store(size, bytes.len());
                },
            );
        });
        OK
    }

    /// Whether the present part of the body is the last.
    fn ngx_http_lua_ffi_get_body_filter_param_eof(r: Token) -> c_int, on_panic = 0 {
        with_body(r, |_, eof| c_int::from(eof))
    }

    /// The present part of the body.
    fn ngx_http_lua_ffi_get_body_filter_param_body(r: Token, data: *mut *const u8, size: *mut usize) -> c_int,
        on_panic = -1
    {
        with_body(r, |body, _| {
            lend(
                |out| out.extend_from_slice(body),
                // SAFETY: as above.
                |bytes| unsafe {
                    raw::store(data, bytes.as_ptr());
                    raw::store(size, bytes.len());
                },
            );
            OK
        })
    }

    /// The same into a buffer that is large enough for it.
    fn ngx_http_lua_ffi_copy_body_filter_param_body(r: Token, buffer: *mut u8) -> c_int, on_panic = -1 {
        with_body(r, |body, _| {
            // SAFETY: Lua passes a buffer of the size that it was told.
            unsafe { raw::fill(buffer, body.len(), body) };
            OK
        })
    }
}
