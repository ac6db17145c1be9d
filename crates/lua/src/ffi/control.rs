//! `ngx.exit`.
//! <https://github.com/openresty/lua-nginx-module#ngxexit>

use super::{NO_REQ_CTX, OK, Token, fail_into};
use crate::{api::exit_status, host::Host, scheduler::Operation};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

/// The code runs on; what it asked for counts at its end.
const DONE: c_int = -4;

ffi_entry! {
    /// Leaves an end for the scheduler; the caller then yields.
    fn ngx_http_lua_ffi_exit(r: Token, status: c_int, err: *mut u8, size: *mut usize) -> c_int, on_panic = -1 {
        let answer = raw::host(r, |host: &Host| match exit_status(host, i64::from(status)) {
            Ok(Some(ending)) => {
                *host.pending.borrow_mut() = Some(Operation::End(ending));
                OK
            }
            Ok(None) => DONE,
            Err(problem) => fail_into(err, size, problem.as_bytes()),
        });
        if answer == Some(NO_REQ_CTX) || answer.is_none() {
            return fail_into(err, size, b"no request ctx found");
        }
        answer.unwrap_or(NO_REQ_CTX)
    }
}
