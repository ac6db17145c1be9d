//! The FFI entries that resty.core and Lua libraries call: a file per family, with upstream's names and signatures.
//!
//! Conventions:
//!
//! - An entry is written with [`ffi_entry!`](moonrest_luajit::ffi_entry): what panics in it becomes the code given. It
//!   never raises, never waits, and does not touch the VM.
//! - `r` is what `thread.exdata()` shows: a token that stays the same for the whole request. It is never followed.
//!   [`with_request`] finds the request it was lent with, or answers [`NO_REQ_CTX`] or [`BAD_CONTEXT`].
//! - Bytes come in as pointer and length ([`raw::bytes`]) and go out into a buffer of Lua's ([`raw::fill`]) or as a pointer
//!   that is good until the next entry is called ([`lend`]).
//! - A failure is a code, with a text where the signature has a place for it: [`fail`], [`fail_into`].
//!
//! <https://github.com/openresty/lua-resty-core>
#![allow(unsafe_code, reason = "the signatures have raw pointers")]
#![allow(clippy::not_unsafe_ptr_arg_deref, reason = "entries are called by the FFI, which knows no `unsafe`")]

mod balancer;
mod base64;
mod c_api;
mod control;
pub(crate) mod ctx;
mod errlog;
mod hash;
mod ndk;
mod param;
mod phase;
pub(crate) mod pipe;
pub(crate) mod process;
mod proxy_ssl;
mod random;
pub(crate) mod regex;
mod request;
mod response;
mod semaphore;
pub(crate) mod shdict;
mod socket;
mod ssl;
mod ssl_hello;
mod ssl_ocsp;
mod ssl_session;
mod status;
mod time;
mod uri;
mod var;
pub(crate) mod websocket;
pub(crate) mod worker;

use crate::host::Host;
use moonrest_http::RequestRef;
use moonrest_luajit::raw;
use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_int, c_void},
};

pub(crate) const OK: c_int = 0;
pub(crate) const ERROR: c_int = -1;
pub(crate) const AGAIN: c_int = -2;
pub(crate) const BUSY: c_int = -3;
pub(crate) const DECLINED: c_int = -5;
/// No Lua code runs for a request.
pub(crate) const NO_REQ_CTX: c_int = -100;
/// The function makes no sense here: there is no client.
pub(crate) const BAD_CONTEXT: c_int = -101;

/// `ngx_http_request_t *`: a token, see above.
pub(crate) type Token = *const c_void;

/// `ngx_http_lua_ffi_str_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Str {
    pub len: c_int,
    pub data: *const u8,
}

impl Str {
    /// Text that outlives the call.
    pub(crate) fn new(text: &[u8]) -> Self {
        Self { len: c_int::try_from(text.len()).unwrap_or(c_int::MAX), data: text.as_ptr() }
    }
}

/// nginx's own `ngx_str_t`.
#[repr(C)]
pub(crate) struct WideStr {
    pub len: usize,
    pub data: *mut u8,
}

/// A buffer that an entry writes into.
///
/// # Safety
/// `data` is null or may be written for `size` bytes, by nobody else while the answer is used.
pub(crate) unsafe fn buffer<'a>(data: *mut u8, size: usize) -> &'a mut [u8] {
    if data.is_null() || size > isize::MAX as usize {
        return &mut [];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(data, size) }
}

/// Calls `f` with the request that Lua code runs for.
pub(crate) fn with_request(token: Token, f: impl FnOnce(&RequestRef, &Host) -> c_int) -> c_int {
    let answer = raw::host(token, |host: &Host| match &host.request {
        Some(r) if !host.phase.is_handshake() => f(r, host),
        _ => BAD_CONTEXT,
    });
    answer.unwrap_or(NO_REQ_CTX)
}

/// What `f` makes of the request, or `none` where there is none.
pub(crate) fn with_request_or<R: Copy>(token: Token, none: R, f: impl FnOnce(&RequestRef) -> R) -> R {
    raw::host(token, |host: &Host| host.request.as_ref().map_or(none, f)).unwrap_or(none)
}

/// Fails with a text, as `char **err` takes it.
pub(crate) fn fail(place: *mut *const c_char, message: &'static CStr) -> c_int {
    // SAFETY: Lua passes null or a place for a pointer.
    unsafe { raw::store(place, message.as_ptr()) };
    ERROR
}

/// Fails with a text written into Lua's buffer, whose size `size` holds and whose length it takes.
pub(crate) fn fail_into(buffer: *mut u8, size: *mut usize, message: &[u8]) -> c_int {
    // SAFETY: Lua passes a buffer of that size, and the place where the size is.
    unsafe {
        let room = if size.is_null() { 0 } else { size.read_unaligned() };
        let written = raw::fill(buffer, room, message);
        raw::store(size, written);
    }
    ERROR
}

thread_local! {
    static LENT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Memory larger than this is given back.
const LENT_MAX: usize = 64 * 1024;

/// Lets `fill` make bytes that stay where they are until the next call, and answers what `use_them` makes of them.
pub(crate) fn lend<R>(fill: impl FnOnce(&mut Vec<u8>), use_them: impl FnOnce(&[u8]) -> R) -> R {
    // Taken out while it is filled: a variable's getter may come here again.
    let mut bytes = LENT.take();
    bytes.clear();
    if bytes.capacity() > LENT_MAX {
        bytes.shrink_to(LENT_MAX);
    }
    fill(&mut bytes);
    let answer = use_them(&bytes);
    LENT.set(bytes);
    answer
}
