//! Options of cosockets, and their descriptors. <https://github.com/openresty/lua-nginx-module#tcpsocksetoption>
//!
//! `u` is the userdata that `connect` puts into the socket's table.

use super::{OK, Token, fail, fail_into};
use crate::api::socket::Handle;
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

/// The stream in a userdata that Lua passes.
fn of<'a>(u: *const c_void) -> Option<&'a Handle> {
    // SAFETY: Lua passes null or the userdata of a socket, which it keeps meanwhile.
    unsafe { raw::userdata::<Handle>(u) }
}

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
