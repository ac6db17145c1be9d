//! `ngx.exit` as lua-resty-core calls it: the entry notes how the handler ends, and `coroutine._yield` ends it.
//! <https://github.com/openresty/lua-nginx-module#ngxexit>

use super::{OK, Token, fail_into, with_request};
use crate::{api::exit_asked, scheduler::Operation};
use moonrest_luajit::ffi_entry;
use std::ffi::c_int;

ffi_entry! {
    /// Ends the handler at the next yield.
    fn ngx_http_lua_ffi_exit(r: Token, status: c_int, err: *mut u8, err_size: *mut usize) -> c_int, on_panic = -1 {
        let mut refused = "no request ctx found".to_owned();
        let code = with_request(r, |r, host| match exit_asked(r, host, status.into()) {
            Ok(ending) => {
                *host.pending.borrow_mut() = Some(Operation::End(ending));
                OK
            }
            Err(message) => {
                refused = message;
                super::ERROR
            }
        });
        if code == OK { OK } else { fail_into(err, err_size, refused.as_bytes()) }
    }
}
