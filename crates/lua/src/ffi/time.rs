//! `ngx.now`, `ngx.time`, `ngx.today` and the rest of the clock.
//! <https://github.com/openresty/lua-nginx-module#ngxnow>

use super::{Token, with_request_or};
use crate::clock;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_proto::date;
use moonrest_sys::time;
use std::ffi::{c_int, c_long};

ffi_entry! {
    /// Seconds with milliseconds.
    fn ngx_http_lua_ffi_now() -> f64, on_panic = 0.0 {
        clock::seconds()
    }

    /// Seconds.
    fn ngx_http_lua_ffi_time() -> c_long, on_panic = 0 {
        clock::wall().secs
    }

    /// Milliseconds since some moment.
    fn ngx_http_lua_ffi_monotonic_msec() -> c_long, on_panic = 0 {
        c_long::try_from(clock::monotonic_ms()).unwrap_or(c_long::MAX)
    }

    /// Has the time taken anew.
    fn ngx_http_lua_ffi_update_time() -> c_int, on_panic = 0 {
        clock::forget();
        0
    }

    /// When the request began.
    fn ngx_http_lua_ffi_req_start_time(r: Token) -> f64, on_panic = 0.0 {
        let began = with_request_or(r, clock::monotonic_ms(), |r| r.started_ms.get());
        let age = time::monotonic_ms().saturating_sub(began);
        let now = time::wall();
        let ms = (now.secs * 1000 + i64::from(now.millis())).saturating_sub_unsigned(age);
        ms as f64 / 1000.0
    }

    /// `2010-11-19`.
    fn ngx_http_lua_ffi_today(buffer: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: Lua passes a buffer of ten bytes.
        unsafe { raw::fill(buffer, 10, &local()) };
        0
    }

    /// `2010-11-19 20:56:31`.
    fn ngx_http_lua_ffi_localtime(buffer: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: Lua passes a buffer of 19 bytes.
        unsafe { raw::fill(buffer, 19, &local()) };
        0
    }

    /// The same in UTC.
    fn ngx_http_lua_ffi_utctime(buffer: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: as above.
        unsafe { raw::fill(buffer, 19, &dashed(clock::wall().secs, 0)) };
        0
    }

    /// `Mon, 28-Sep-38 06:00:00 GMT`; gives the length.
    fn ngx_http_lua_ffi_cookie_time(buffer: *mut u8, seconds: c_long) -> c_int, on_panic = 0 {
        let mut text = Vec::with_capacity(32);
        date::cookie(seconds, &mut text);
        // SAFETY: Lua passes a buffer of 29 bytes.
        let len = unsafe { raw::fill(buffer, 29, &text) };
        c_int::try_from(len).unwrap_or(0)
    }

    /// `Mon, 28 Sep 1970 06:00:00 GMT`.
    fn ngx_http_lua_ffi_http_time(buffer: *mut u8, seconds: c_long) -> c_int, on_panic = 0 {
        // SAFETY: as above.
        unsafe { raw::fill(buffer, 29, &date::http(seconds)) };
        0
    }

    /// The way back; -1 for what is no time.
    fn ngx_http_lua_ffi_parse_http_time(text: *const u8, size: usize, seconds: *mut c_long) -> c_int, on_panic = 0 {
        // SAFETY: Lua passes a string and a place for the number.
        unsafe { raw::store(seconds, date::parse_http(raw::bytes(text, size)).unwrap_or(-1)) };
        0
    }
}

fn local() -> [u8; 19] {
    let now = clock::wall().secs;
    dashed(now, time::local_offset(now))
}

/// The error log's form of a time, with dashes in its date.
fn dashed(seconds: i64, offset: i32) -> [u8; 19] {
    let mut text = date::error_log(seconds, offset);
    text[4] = b'-';
    text[7] = b'-';
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_dashes() {
        assert_eq!(&dashed(1_290_200_191, 0), b"2010-11-19 20:56:31");
    }
}
