//! `ngx.arg` as lua-resty-core reads it.
//! <https://github.com/openresty/lua-nginx-module#ngxarg>

use super::{ERROR, OK, Token, lend};
use crate::{host::Host, phase_io::PhaseIo};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

/// Lets Lua see these bytes until the next call.
fn show(bytes: &[u8], data: *mut *const u8, size: *mut usize) {
    lend(
        |out| out.extend_from_slice(bytes),
        |bytes| {
            // SAFETY: Lua passes places for a pointer and a length.
            unsafe {
                raw::store(data, bytes.as_ptr());
                raw::store(size, bytes.len());
            }
        },
    );
}

ffi_entry! {
    /// An argument of `set_by_lua*`, from 1; empty when there is none.
    fn ngx_http_lua_ffi_get_setby_param(r: Token, n: c_int, data: *mut *const u8, size: *mut usize) -> c_int,
        on_panic = -1
    {
        let shown = raw::host(r, |host: &Host| match &*host.io.borrow() {
            PhaseIo::Set { args, .. } => {
                let arg = usize::try_from(n - 1).ok().and_then(|n| args.get(n));
                show(arg.map_or(&[][..], Vec::as_slice), data, size);
            }
            _ => show(&[], data, size),
        });
        if shown.is_some() { OK } else { ERROR }
    }

    /// Whether the present part of the body is the last.
    fn ngx_http_lua_ffi_get_body_filter_param_eof(r: Token) -> c_int, on_panic = 0 {
        let last = raw::host(r, |host: &Host| matches!(&*host.io.borrow(), PhaseIo::Body(arg) if arg.eof));
        c_int::from(last == Some(true))
    }

    /// The present part of the body, in one piece.
    fn ngx_http_lua_ffi_get_body_filter_param_body(r: Token, data: *mut *const u8, size: *mut usize) -> c_int,
        on_panic = -1
    {
        let shown = raw::host(r, |host: &Host| match &*host.io.borrow() {
            PhaseIo::Body(arg) => show(&arg.data, data, size),
            _ => show(&[], data, size),
        });
        if shown.is_some() { OK } else { ERROR }
    }

    /// The same copied into a buffer of its length.
    fn ngx_http_lua_ffi_copy_body_filter_param_body(r: Token, buffer: *mut u8) -> c_int, on_panic = -1 {
        let copied = raw::host(r, |host: &Host| match &*host.io.borrow() {
            PhaseIo::Body(arg) => {
                // SAFETY: Lua passes a buffer of the length that it asked for before.
                unsafe { raw::fill(buffer, arg.data.len(), &arg.data) };
                true
            }
            _ => false,
        });
        if copied == Some(true) { OK } else { ERROR }
    }
}
