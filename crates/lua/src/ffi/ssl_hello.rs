//! `ngx.ssl.clienthello`: what a client asks for, before anything is decided.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl/clienthello.md>

use super::{
    DECLINED, OK, Token, fail,
    ssl::{give, with_handshake},
};
use moonrest_luajit::{ffi_entry, raw};
use std::{
    cell::RefCell,
    ffi::{c_char, c_int, c_uchar, c_ushort},
};

ffi_entry! {
    /// The name in the client's first message.
    fn ngx_http_lua_ffi_ssl_get_client_hello_server_name(
        r: Token, name: *mut *const c_uchar, len: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, _| {
            let hello = handshake.hello.borrow();
            let Some(hello) = hello.as_ref() else { return fail(err, c"bad ssl conn") };
            match (hello.server_name(), hello.extension(SERVER_NAME)) {
                (Some(found), _) => {
                    give(found, name, len);
                    OK
                }
                (None, Some(_)) => fail(err, c"Bad SSL Client Hello Extension"),
                (None, None) => DECLINED,
            }
        })
    }

    /// An extension of the client's first message, as it is encoded.
    fn ngx_http_lua_ffi_ssl_get_client_hello_ext(
        r: Token, kind: u32, data: *mut *const c_uchar, len: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, _| {
            let hello = handshake.hello.borrow();
            let Some(hello) = hello.as_ref() else { return fail(err, c"bad ssl conn") };
            match u16::try_from(kind).ok().and_then(|kind| hello.extension(kind)) {
                Some(found) => {
                    give(found, data, len);
                    OK
                }
                None => DECLINED,
            }
        })
    }

    /// The numbers of its extensions that mean something.
    fn ngx_http_lua_ffi_ssl_get_client_hello_ext_present(
        r: Token, extensions: *mut *const c_int, len: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, _| {
            let hello = handshake.hello.borrow();
            let Some(hello) = hello.as_ref() else { return fail(err, c"bad ssl conn") };
            let found: Vec<c_int> = hello
                .extension_types()
                .filter(|kind| KNOWN_EXTENSIONS.contains(kind))
                .map(c_int::from)
                .collect();
            if found.is_empty() {
                fail(err, c"failed SSL_client_hello_get1_extensions_present()");
                return DECLINED;
            }
            let count = found.len();
            let place = EXTENSIONS.with_borrow_mut(|kept| {
                *kept = found;
                kept.as_ptr()
            });
            // SAFETY: Lua passes places for a pointer and a length, and copies the numbers at once.
            unsafe {
                raw::store(extensions, place);
                raw::store(len, count);
            }
            OK
        })
    }

    /// The ciphers that it offers; their number.
    fn ngx_http_lua_ffi_ssl_get_client_hello_ciphers(
        r: Token, ciphers: *mut c_ushort, room: usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, _| {
            let hello = handshake.hello.borrow();
            let Some(hello) = hello.as_ref() else { return fail(err, c"bad ssl conn") };
            let mut count = 0;
            for cipher in hello.numbers(hello.ciphers).take(room) {
                // SAFETY: Lua passes places for that many numbers.
                unsafe { raw::store(ciphers.wrapping_add(count), cipher) };
                count += 1;
            }
            if count == 0 {
                fail(err, c"failed SSL_client_hello_get0_ciphers()");
                return DECLINED;
            }
            c_int::try_from(count).unwrap_or(c_int::MAX)
        })
    }

    /// The versions that may be agreed on, in nginx's bits.
    fn ngx_http_lua_ffi_ssl_set_protocols(r: Token, protocols: c_int, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        with_handshake(r, err, |handshake, _| {
            handshake.versions.set(Some((protocols & 0x20 != 0, protocols & 0x40 != 0)));
            OK
        })
    }
}

const SERVER_NAME: u16 = 0;

/// The extensions that OpenSSL knows: it does not tell of others.
const KNOWN_EXTENSIONS: &[u16] = &[
    0, 1, 5, 10, 11, 13, 14, 16, 18, 19, 20, 21, 22, 23, 27, 35, 41, 42, 43, 44, 45, 47, 49, 50, 51, 13172,
    65281,
];

thread_local! {
    static EXTENSIONS: RefCell<Vec<c_int>> = const { RefCell::new(Vec::new()) };
}
