//! Upstream's interface for other C code, as far as it makes sense here: reading shared dictionaries.
//! <https://github.com/openresty/lua-nginx-module#c-api>

use super::{DECLINED, ERROR, OK, WideStr, buffer};
use crate::{host::Host, vm};
use moonrest_core::zone::dict::{Dict, Found, Kind};
use moonrest_luajit::{ffi_entry, raw};
use std::{ptr, sync::Arc};

/// `ngx_http_lua_value_t`.
#[repr(C)]
pub(crate) struct CValue {
    kind: u8,
    value: CUnion,
}

/// Its value, by kind.
#[repr(C)]
pub(crate) union CUnion {
    boolean: i32,
    number: f64,
    /// A buffer and its size.
    text: std::mem::ManuallyDrop<WideStr>,
}

ffi_entry! {
    /// The dictionary of that name, or NULL. It stays while the worker runs.
    fn ngx_http_lua_find_zone(name: *const u8, size: usize) -> usize, on_panic = 0 {
        // SAFETY: callers pass a string.
        let name = unsafe { raw::bytes(name, size) };
        let running = raw::any_host(Host::vm).flatten();
        let Some(vm) = running.or_else(vm::present) else { return 0 };
        let found = vm.dicts().iter().find(|dict| dict.name().as_bytes() == name);
        found.map_or(0, |dict| Arc::as_ptr(dict).addr())
    }

    /// Reads a value into `value`; text into the buffer that is there, as much as fits.
    fn ngx_http_lua_shared_dict_get(zone: *const Dict, key: *const u8, size: usize, value: *mut CValue) -> isize,
        on_panic = -1
    {
        // SAFETY: callers pass what `find_zone` answered, and a string.
        let (dict, key) = unsafe { (zone.as_ref(), raw::bytes(key, size)) };
        let Some(dict) = dict.filter(|_| !value.is_null()) else { return -1 };
        // SAFETY: callers pass a place for a value.
        let code = dict.get(key, false, |found| unsafe { put(&found, value) });
        code.unwrap_or(DECLINED) as isize
    }
}

/// # Safety
/// `value` may be read and written; for a text it has a buffer and its size.
unsafe fn put(found: &Found<'_>, value: *mut CValue) -> i32 {
    // SAFETY: the caller's promise; nothing is assumed about alignment.
    unsafe {
        let text = (&raw mut (*value).value.text).cast::<WideStr>();
        match found.kind() {
            Kind::Number => raw::store(&raw mut (*value).value.number, found.number()),
            Kind::Boolean => raw::store(&raw mut (*value).value.boolean, i32::from(found.boolean())),
            Kind::Text => {
                let WideStr { len, data } = ptr::read_unaligned(text);
                if data.is_null() || len == 0 {
                    raw::any_host(|host: &Host| {
                        host.log(moonrest_core::Level::Error, format_args!("no string buffer initialized"));
                    });
                    return ERROR;
                }
                let mut at = 0;
                found.text(|part| {
                    let room = buffer(data, len).get_mut(at..).unwrap_or_default();
                    let count = part.len().min(room.len());
                    at += raw::fill(room.as_mut_ptr(), count, part);
                });
                raw::store(text, WideStr { len: at, data });
            }
            Kind::List | Kind::Nothing => return ERROR,
        }
        raw::store(&raw mut (*value).kind, found.kind() as u8);
    }
    OK
}
