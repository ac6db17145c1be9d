//! `ngx.exit` as lua-resty-core calls it: the entry notes how the handler ends, and `coroutine._yield` ends it.
//! <https://github.com/openresty/lua-nginx-module#ngxexit>

use super::{OK, Token, fail_into};
use crate::{host::Host, scheduler::Operation};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

ffi_entry! {
    /// Ends the handler at the next yield.
    fn ngx_http_lua_ffi_exit(r: Token, status: c_int, err: *mut u8, err_size: *mut usize) -> c_int, on_panic = -1 {
        if matches!(status, -2 | -4) {
            let problem = b"bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE";
            return fail_into(err, err_size, problem);
        }
        let noted = raw::host(r, |host: &Host| {
            let ending = crate::api::ending_of(host, status);
            *host.pending.borrow_mut() = Some(Operation::End(ending));
        });
        match noted {
            Some(()) => OK,
            None => fail_into(err, err_size, b"no request ctx found"),
        }
    }
}
