//! `ngx.escape_uri`, `ngx.unescape_uri`.
//! <https://github.com/openresty/lua-nginx-module#ngxescape_uri>

use super::buffer;
use crate::escape;
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

ffi_entry! {
    /// How long the text is when escaped.
    fn ngx_http_lua_ffi_uri_escaped_length(src: *const u8, size: usize, kind: c_int) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a string.
        let text = unsafe { raw::bytes(src, size) };
        size + 2 * escape::of_type(kind).count(text)
    }

    /// Escapes into a buffer of that length.
    fn ngx_http_lua_ffi_escape_uri(src: *const u8, size: usize, dst: *mut u8, kind: c_int) -> c_int, on_panic = 0 {
        // SAFETY: Lua passes a string, and a buffer for what becomes of it.
        let text = unsafe { raw::bytes(src, size) };
        let set = escape::of_type(kind);
        // SAFETY: as above.
        let room = unsafe { buffer(dst, size + 2 * set.count(text)) };
        for (place, byte) in room.iter_mut().zip(set.bytes(text)) {
            *place = byte;
        }
        0
    }

    /// Decodes into a buffer as long as the text; gives the length.
    fn ngx_http_lua_ffi_unescape_uri(src: *const u8, size: usize, dst: *mut u8) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a string, and a buffer of its length.
        unsafe {
            let copied = raw::fill(dst, size, raw::bytes(src, size));
            escape::unescape_in_place(buffer(dst, copied))
        }
    }
}
