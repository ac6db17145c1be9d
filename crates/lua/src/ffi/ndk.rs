//! `ndk.set_var`: functions of one value that other modules have.
//! <https://github.com/openresty/lua-nginx-module#ndkset_vardirective>

use super::{ERROR, OK, Str, Token, lend};
use crate::{host::Host, vm};
use moonrest_http::module::ValueFunction;
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_int, c_void};

/// All functions of all modules, in a fixed order.
fn functions() -> impl Iterator<Item = &'static ValueFunction> {
    vm::registry().iter().flat_map(|module| module.value_functions())
}

ffi_entry! {
    /// Finds a function. What is stored is its number, counted from 1; it points nowhere.
    fn ngx_http_lua_ffi_ndk_lookup_directive(name: *const u8, size: usize, function: *mut *const c_void) -> c_int,
        on_panic = -1
    {
        // SAFETY: Lua passes a string.
        let name = unsafe { raw::bytes(name, size) };
        let Some(number) = functions().position(|function| function.name.as_bytes() == name) else {
            return ERROR;
        };
        // SAFETY: Lua passes a place for a pointer.
        unsafe { raw::store(function, std::ptr::without_provenance(number + 1)) };
        OK
    }

    /// Calls a function that was found.
    fn ngx_http_lua_ffi_ndk_set_var_get(
        r: Token, function: *const c_void, arg: *const u8, size: usize, value: *mut Str
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let arg = unsafe { raw::bytes(arg, size) };
        let function = function.addr().checked_sub(1).and_then(|number| functions().nth(number));
        let Some(function) = function else { return ERROR };
        let mut found = false;
        let called = raw::host(r, |host: &Host| {
            lend(
                |out| found = (function.call)(host.request(), arg, out),
                // SAFETY: Lua passes a place for a text, and copies the bytes at once.
                |bytes| unsafe { raw::store(value, Str::new(bytes)) },
            );
        });
        if called.is_some() && found { OK } else { ERROR }
    }
}
