//! `ngx.errlog`.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/errlog.md>

use super::{DECLINED, ERROR, OK, Token, fail_into, lend};
use crate::host::Host;
use moonrest_core::{Level, log_capture};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_char, c_int};

const NOT_SET: &[u8] = b"directive \"lua_capture_error_log\" is not set";

const LEVELS: [Level; 8] = [
    Level::Emerg,
    Level::Alert,
    Level::Crit,
    Level::Error,
    Level::Warn,
    Level::Notice,
    Level::Info,
    Level::Debug,
];

ffi_entry! {
    /// Keeps only lines of this severity or more.
    fn ngx_http_lua_ffi_errlog_set_filter_level(level: c_int, err: *mut u8, err_size: *mut usize) -> c_int,
        on_panic = -1
    {
        if !log_capture::is_on() {
            return fail_into(err, err_size, NOT_SET);
        }
        match u8::try_from(level) {
            Ok(level) if level <= Level::Debug as u8 => {
                log_capture::set_filter(level);
                OK
            }
            _ => fail_into(err, err_size, format!("bad log level: {level}").as_bytes()),
        }
    }

    /// Takes the oldest line; gives its length, or that there is none. Its bytes stay until the next call.
    fn ngx_http_lua_ffi_errlog_get_msg(
        text: *mut *const c_char, level: *mut c_int, err: *mut u8, err_size: *mut usize, at: *mut f64,
    ) -> c_int, on_panic = -1 {
        if !log_capture::is_on() {
            return fail_into(err, err_size, NOT_SET);
        }
        let Some(line) = log_capture::take() else { return DECLINED };
        let bytes = |bytes: &[u8]| {
            // SAFETY: Lua passes places for a pointer and two numbers.
            unsafe {
                raw::store(text, bytes.as_ptr().cast());
                raw::store(level, c_int::from(line.level as u8));
                raw::store(at, line.at.secs as f64 + f64::from(line.at.millis()) / 1000.0);
            }
            c_int::try_from(bytes.len()).unwrap_or(ERROR)
        };
        lend(|out| out.extend_from_slice(&line.text), bytes)
    }

    /// The level of the error log in force.
    fn ngx_http_lua_ffi_errlog_get_sys_filter_level(_r: Token) -> c_int, on_panic = -1 {
        let level = raw::any_host(|host: &Host| match &host.request {
            Some(r) => r.log().max_level(),
            None => host.log_file().max_level(),
        });
        level.map_or(ERROR, |level| c_int::from(level as u8))
    }

    /// Logs a text as it stands.
    fn ngx_http_lua_ffi_raw_log(_r: Token, level: c_int, text: *const u8, size: usize) -> c_int, on_panic = -1 {
        let known = usize::try_from(level).ok().and_then(|level| LEVELS.get(level.saturating_sub(1)).copied());
        let Some(level) = known else { return ERROR };
        // SAFETY: Lua passes a string.
        let text = String::from_utf8_lossy(unsafe { raw::bytes(text, size) });
        raw::any_host(|host: &Host| match &host.request {
            Some(r) => r.log_at(level, format_args!("{text}")),
            None => host.log_file().write(level, None, format_args!("{text}")),
        });
        OK
    }
}
