//! `ngx.balancer`: what code of `balancer_by_lua*` says of the present attempt.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/balancer.md>

use super::{ERROR, OK, Token, fail, fail_into};
use crate::{host::Host, phase_io::PhaseIo};
use moonrest_core::upstream::Url;
use moonrest_http::upstream::{Choosing, LastFailure, States};
use moonrest_luajit::{ffi_entry, raw};
use std::{
    ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong},
    net::{IpAddr, SocketAddr},
};

/// Calls `f` with what the balancer says.
///
/// # Errors
/// Why there is no such thing, in upstream's words.
fn with<R>(r: Token, f: impl FnOnce(&Choosing, &Host) -> R) -> Result<R, &'static CStr> {
    let answer = raw::host(r, |host: &Host| match &*host.io.borrow() {
        PhaseIo::Balancer { choosing, .. } => Ok(f(choosing, host)),
        _ => match &host.request {
            Some(r) if r.find_ctx::<States>().is_some() => Err(c"API disabled in the current context"),
            _ => Err(c"no upstream found"),
        },
    });
    answer.unwrap_or(Err(c"no request found"))
}

/// The same, with the failure where Lua wants it.
fn told(r: Token, err: *mut *const c_char, f: impl FnOnce(&Choosing, &Host) -> c_int) -> c_int {
    with(r, f).unwrap_or_else(|problem| fail(err, problem))
}

/// Nothing went wrong, and nothing is to be said.
fn clear(err: *mut *const c_char) {
    // SAFETY: Lua passes null or a place for a pointer.
    unsafe { raw::store(err, std::ptr::null()) };
}

/// A time that was given.
fn millis(time: c_long) -> Option<u64> {
    u64::try_from(time).ok().filter(|time| *time > 0)
}

ffi_entry! {
    /// Names the peer of this attempt, an address with or without its port, and the host that it is asked for.
    fn ngx_http_lua_ffi_balancer_set_current_peer(
        r: Token, addr: *const u8, addr_len: usize, port: c_int, host: *const u8, host_len: isize,
        err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings, or null for no host.
        let (addr, name) = unsafe {
            (raw::bytes(addr, addr_len), raw::bytes(host, usize::try_from(host_len).unwrap_or(0)))
        };
        told(r, err, |choosing, _| {
            // nginx: a port is cut to its sixteen bits.
            let url = match Url::parse(addr, port as u16, false) {
                Ok(url) => url,
                Err(problem) => return fail(err, as_c(problem)),
            };
            let Some(addr) = url.addr else { return fail(err, c"no host allowed") };
            let mut choice = choosing.choice.borrow_mut();
            choice.peer = Some(addr);
            choice.host = name.into();
            OK
        })
    }

    /// Keeps the connection, unless the attempt fails. The time in milliseconds.
    fn ngx_http_lua_ffi_balancer_enable_keepalive(
        r: Token, timeout: c_ulong, max_requests: c_uint, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        told(r, err, |choosing, _| {
            let mut choice = choosing.choice.borrow_mut();
            if choice.peer.is_none() {
                return fail(err, c"no current peer set");
            }
            choice.keepalive = Some((timeout, max_requests.into()));
            OK
        })
    }

    /// Allows more attempts; says when they are fewer than asked for.
    fn ngx_http_lua_ffi_balancer_set_more_tries(r: Token, count: c_int, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        told(r, err, |choosing, _| {
            clear(err);
            if choosing.add_tries(count.into()) {
                fail(err, c"reduced tries due to limit");
            }
            OK
        })
    }

    /// How the last attempt ended, as a number, and the status that it came to.
    fn ngx_http_lua_ffi_balancer_get_last_failure(r: Token, status: *mut c_int, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        told(r, err, |choosing, host| {
            let states = host.request.as_ref().and_then(|r| r.find_ctx::<States>());
            let known = states.and_then(|states| {
                let attempts = states.attempts.borrow();
                // The present one is the last.
                attempts.len().checked_sub(2).and_then(|at| attempts.get(at)).map(|attempt| attempt.status)
            });
            // SAFETY: Lua passes null or a place for a number.
            unsafe { raw::store(status, known.unwrap_or(0).into()) };
            match choosing.last_failure() {
                LastFailure::None => 0,
                LastFailure::Next => 2,
                LastFailure::Failed => 4,
            }
        })
    }

    /// The times that this request waits, in milliseconds; what is not positive stays as it is.
    fn ngx_http_lua_ffi_balancer_set_timeouts(
        r: Token, connect: c_long, send: c_long, read: c_long, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        told(r, err, |choosing, _| {
            let mut lasting = choosing.lasting.borrow_mut();
            lasting.connect_timeout = millis(connect).or(lasting.connect_timeout);
            lasting.send_timeout = millis(send).or(lasting.send_timeout);
            lasting.read_timeout = millis(read).or(lasting.read_timeout);
            OK
        })
    }

    /// Has the request made anew of what the client's has become.
    fn ngx_http_lua_ffi_balancer_recreate_request(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        told(r, err, |choosing, _| {
            clear(err);
            choosing.lasting.borrow_mut().recreate = true;
            OK
        })
    }

    /// Whether the connection is encrypted.
    fn ngx_http_lua_ffi_balancer_set_upstream_tls(r: Token, on: c_int, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        told(r, err, |choosing, _| {
            choosing.lasting.borrow_mut().tls = Some(on != 0);
            OK
        })
    }

    /// The address that the connection is made from.
    fn ngx_http_lua_ffi_balancer_bind_to_local_addr(
        r: Token, addr: *const u8, addr_len: usize, errbuf: *mut u8, errbuf_size: *mut usize
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let text = unsafe { raw::bytes(addr, addr_len) };
        let answer = with(r, |choosing, _| {
            let Some(local) = address(text) else { return false };
            choosing.lasting.borrow_mut().local = Some(local);
            true
        });
        match answer {
            Ok(true) => OK,
            Ok(false) => fail_into(errbuf, errbuf_size, &[b"invalid addr ", text].concat()),
            Err(problem) => fail_into(errbuf, errbuf_size, problem.to_bytes()),
        }
    }
}

const _: () = assert!(ERROR < OK);

/// An IP address, with a port or without.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let alone = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    alone.or_else(|| text.parse().ok())
}

/// What [`Url::parse`] says, for C.
fn as_c(problem: &'static str) -> &'static CStr {
    match problem {
        "invalid host" => c"invalid host",
        "invalid port" => c"invalid port",
        "no host" => c"no host",
        "invalid IPv6 address" => c"invalid IPv6 address",
        "no path in the unix domain socket" => c"no path in the unix domain socket",
        "too long path in the unix domain socket" => c"too long path in the unix domain socket",
        _ => c"invalid address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_and_without_ports() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(address(text.as_bytes()).map(|addr| addr.to_string()).as_deref(), expect, "{text}");
        };
        check("127.0.0.1", Some("127.0.0.1:0"));
        check("127.0.0.1:80", Some("127.0.0.1:80"));
        check("[::1]:80", Some("[::1]:80"));
        check("localhost", None);
    }
}
