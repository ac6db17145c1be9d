//! Options of cosockets, and their descriptors. <https://github.com/openresty/lua-nginx-module#tcpsocksetoption>
//!
//! `u` is the userdata that `connect` puts into the socket's table.

use super::{NO_REQ_CTX, OK, Token, WideStr, fail, fail_into};
use crate::{
    api::socket::{
        Handle,
        handshake::{Begun, Session, Wish},
    },
    handshake::{Chain, Key},
    host::Host,
};
use moonrest_luajit::{ffi_entry, raw};
use moonrest_sys::socket::SocketOption;
use std::{
    ffi::{c_char, c_int, c_void},
    io,
};

ffi_entry! {
    /// Reads an option into `value`.
    fn ngx_http_lua_ffi_socket_tcp_getoption(
        u: *const c_void, option: c_int, value: *mut c_int, err: *mut u8, err_size: *mut usize
    ) -> c_int, on_panic = -1 {
        let Some(option) = known(option) else {
            return fail_into(err, err_size, format!("unsupported option {option}").as_bytes());
        };
        match of(u).and_then(|stream| stream.option(option)) {
            Some(Ok(found)) => {
                // SAFETY: Lua passes null or a place for a number.
                unsafe { raw::store(value, found) };
                OK
            }
            Some(Err(error)) => fail_into(err, err_size, text(&error).as_bytes()),
            None => fail_into(err, err_size, b"closed"),
        }
    }

    /// Sets an option.
    fn ngx_http_lua_ffi_socket_tcp_setoption(
        u: *const c_void, option: c_int, value: c_int, err: *mut u8, err_size: *mut usize
    ) -> c_int, on_panic = -1 {
        let Some(option) = known(option) else {
            return fail_into(err, err_size, format!("unsupported option: {option}").as_bytes());
        };
        match of(u).and_then(|stream| stream.set_option(option, value)) {
            Some(Ok(())) => OK,
            Some(Err(error)) => fail_into(err, err_size, text(&error).as_bytes()),
            None => fail_into(err, err_size, b"closed"),
        }
    }

    /// The descriptor's number.
    fn ngx_http_lua_ffi_socket_tcp_getfd(_r: Token, u: *const c_void, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        match of(u).and_then(Handle::raw_fd) {
            Some(fd) => fd,
            None => fail(err, c"closed"),
        }
    }
}

ffi_entry! {
    /// Begins a TLS handshake; `coroutine._yield` waits for its end.
    fn ngx_http_lua_ffi_socket_tcp_sslhandshake(
        r: Token, u: *const c_void, session: *const Session, reuse: c_int, name: *const WideStr, verify: c_int,
        _ocsp: c_int, chain: *const Chain, key: *const Key, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        let Some(handle) = of(u) else { return fail(err, c"closed") };
        // SAFETY: Lua passes null or a session, a chain and a key that entries gave it, and null or a string; it keeps all
        // of them meanwhile.
        let (session, name, certificate) = unsafe {
            let name = name.as_ref().map_or(&[][..], |name| raw::bytes(name.data, name.len));
            (session.as_ref(), name, chain.as_ref().zip(key.as_ref()))
        };
        let wish = Wish { session, reuse: reuse != 0, name, verify: verify != 0, certificate };
        match raw::host(r, |host: &Host| handle.begin_handshake(host, &wish)) {
            None => NO_REQ_CTX,
            Some(Begun::Waits) => AGAIN,
            Some(Begun::Done) => OK,
            Some(Begun::Again) => DONE,
            Some(Begun::Refused(why)) => fail(err, why),
        }
    }

    /// Sets whom the server's certificate is checked against: certificates that `ngx.ssl` has parsed, or null.
    fn ngx_http_lua_ffi_socket_tcp_settrustedstore(
        r: Token, u: *const c_void, store: *const Chain, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        let Some(handle) = of(u) else { return fail(err, c"closed") };
        if !store.is_null() && !super::ssl::is_chain(store.addr()) {
            return fail(err, c"bad store: certificates that ngx.ssl has parsed are expected");
        }
        // SAFETY: it is null, or one of the chains that Lua has and keeps meanwhile.
        let chain = unsafe { store.as_ref() };
        match raw::host(r, |host: &Host| handle.set_trusted(host, chain)) {
            None => NO_REQ_CTX,
            Some(Ok(())) => OK,
            Some(Err(problem)) => fail(err, problem),
        }
    }

    /// What the handshake came to: a session, which Lua gives back to [`ngx_http_lua_ffi_ssl_free_session`].
    fn ngx_http_lua_ffi_socket_tcp_get_sslhandshake_result(
        _r: Token, u: *const c_void, session: *mut *mut Session, err: *mut *const c_char, code: *mut c_int
    ) -> c_int, on_panic = -1 {
        let Some(handle) = of(u) else { return fail(err, c"closed") };
        handle.handshake_result(|result| match result {
            Ok(made) => {
                // SAFETY: Lua passes places for a pointer and a number.
                unsafe {
                    raw::store(session, leak(made));
                    raw::store(code, 0);
                }
                OK
            }
            Err((text, number)) => {
                // SAFETY: as above. The text stays until the next handshake of this socket.
                unsafe {
                    raw::store(err, text.as_ptr());
                    raw::store(code, *number);
                }
                -1
            }
        })
    }

    /// The session of an encrypted connection.
    fn ngx_http_lua_socket_tcp_get_ssl_session(
        _r: Token, u: *const c_void, session: *mut *mut Session, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        match of(u).and_then(Handle::session) {
            None => fail(err, c"closed"),
            Some(None) => fail(err, c"no session"),
            Some(made) => {
                // SAFETY: Lua passes a place for a pointer.
                unsafe { raw::store(session, leak(made)) };
                OK
            }
        }
    }

    /// There is no OpenSSL here.
    fn ngx_http_lua_ffi_socket_tcp_get_ssl_pointer(
        _r: Token, _u: *const c_void, _place: *mut *mut c_void, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        fail(err, c"no ssl connection")
    }

    /// As above.
    fn ngx_http_lua_ffi_socket_tcp_get_ssl_ctx(
        _r: Token, _u: *const c_void, _place: *mut *mut c_void, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        fail(err, c"no ssl context")
    }

    /// Lua has no more use for a session.
    fn ngx_http_lua_ffi_ssl_free_session(session: *mut Session) -> c_int, on_panic = -1 {
        if !session.is_null() {
            // SAFETY: it came from `leak`, and Lua gives it back once.
            drop(unsafe { Box::from_raw(session) });
        }
        OK
    }
}

/// Hands a session over to Lua.
fn leak(session: Option<Session>) -> *mut Session {
    session.map_or(std::ptr::null_mut(), |session| Box::into_raw(Box::new(session)))
}

/// The stream in a userdata that Lua passes.
fn of<'a>(u: *const c_void) -> Option<&'a Handle> {
    // SAFETY: Lua passes null or the userdata of a socket, which it keeps meanwhile.
    unsafe { raw::userdata::<Handle>(u) }
}

/// What has begun and what was there before, as resty.core numbers them.
const AGAIN: c_int = -2;
const DONE: c_int = -4;

/// As resty.core numbers them.
fn known(option: c_int) -> Option<SocketOption> {
    Some(match option {
        1 => SocketOption::Keepalive,
        2 => SocketOption::ReuseAddr,
        3 => SocketOption::NoDelay,
        4 => SocketOption::SendBuffer,
        5 => SocketOption::ReceiveBuffer,
        6 => SocketOption::KeepaliveInterval,
        7 => SocketOption::KeepaliveProbes,
        _ => return None,
    })
}

/// `95: Operation not supported`.
fn text(error: &io::Error) -> String {
    moonrest_core::env::os_error(error)
}
