//! `ndk.set_var`: functions of other modules' `set_*` directives. There are none here, so every name is unknown.
//! <https://github.com/openresty/lua-nginx-module#ndkset_vardirective>

use super::{DECLINED, ERROR, Str, Token};
use moonrest_luajit::ffi_entry;
use std::ffi::{c_int, c_void};

ffi_entry! {
    /// Finds the function of a directive.
    fn ngx_http_lua_ffi_ndk_lookup_directive(_name: *const u8, _size: usize, _function: *mut *mut c_void) -> c_int,
        on_panic = -1
    {
        DECLINED
    }

    /// Calls it.
    fn ngx_http_lua_ffi_ndk_set_var_get(
        _r: Token, _function: *mut c_void, _argument: *const u8, _size: usize, _value: *mut Str,
    ) -> c_int, on_panic = -1 {
        ERROR
    }
}
