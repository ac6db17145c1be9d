//! `ngx.shared`: dictionaries that all workers share.
//! <https://github.com/openresty/lua-nginx-module#ngxshareddict>

use super::{DECLINED, ERROR, OK, buffer, fail};
use moonrest_core::zone::dict::{Dict, Found, Kind, Refusal, Store, Stored, Value, When};
use moonrest_luajit::{ffi_entry, raw};
use std::{
    ffi::{CStr, c_char, c_int, c_long, c_void},
    ptr,
    sync::Arc,
};

const ADD: c_int = 1;
const REPLACE: c_int = 2;
const SAFE: c_int = 4;

/// What `value_type` says of a nil; the others are [`Kind`]'s.
const NIL: c_int = 0;
const BOOLEAN: c_int = Kind::Boolean as c_int;
const NUMBER: c_int = Kind::Number as c_int;
const TEXT: c_int = Kind::Text as c_int;

/// Keys are no longer than this.
const MAX_KEY: usize = 65_535;

/// `void *zone`: what `shdict_udata_to_zone` answered.
type Zone = *const Dict;

/// # Safety
/// `zone` is null, or what `udata_to_zone` answered for a userdata that is still alive.
unsafe fn dict<'a>(zone: Zone) -> Option<&'a Dict> {
    // SAFETY: the caller's promise.
    unsafe { zone.as_ref() }
}

const fn text(refusal: Refusal) -> &'static CStr {
    match refusal {
        Refusal::Exists => c"exists",
        Refusal::NotFound => c"not found",
        Refusal::NotNumber => c"not a number",
        Refusal::NotList => c"value not a list",
        Refusal::NoMemory => c"no memory",
    }
}

/// A time to live as Lua passes it; for ever if there is none.
fn ttl(ms: c_long) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

ffi_entry! {
    /// Reads a value: text into the buffer if it is large enough, otherwise into memory that Lua frees.
    fn ngx_http_lua_ffi_shdict_get(
        zone: Zone, key: *const u8, key_len: usize, value_type: *mut c_int, text: *mut *mut u8, text_len: *mut usize,
        number: *mut f64, flags: *mut c_int, get_stale: c_int, is_stale: *mut c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a zone, a key, and places for what comes of it.
        unsafe {
            raw::store(err, ptr::null());
            let Some(dict) = dict(zone) else { return ERROR };
            let found = dict.get(raw::bytes(key, key_len), get_stale != 0, |found| {
                raw::store(flags, found.flags().cast_signed());
                raw::store(is_stale, c_int::from(found.stale));
                raw::store(value_type, found.kind() as c_int);
                match found.kind() {
                    Kind::Number => raw::store(number, found.number()),
                    Kind::Boolean => {
                        raw::fill(text.read_unaligned(), text_len.read_unaligned(), &[found.boolean().into()]);
                    }
                    Kind::Text => return copy_text(&found, text, text_len),
                    Kind::List | Kind::Nothing => return fail(err, c"value is a list"),
                }
                OK
            });
            found.unwrap_or_else(|| {
                raw::store(value_type, NIL);
                OK
            })
        }
    }

    /// Stores a value, or removes the key.
    fn ngx_http_lua_ffi_shdict_store(
        zone: Zone, op: c_int, key: *const u8, key_len: usize, value_type: c_int, text: *const u8, text_len: usize,
        number: f64, exptime: c_long, flags: c_int, err: *mut *const c_char, forcible: *mut c_int
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a zone, a key, a value, and places for what comes of it.
        let (dict, key, text) = unsafe {
            raw::store(forcible, 0);
            (dict(zone), raw::bytes(key, key_len), raw::bytes(text, text_len))
        };
        let Some(dict) = dict else { return ERROR };
        if key.len() > MAX_KEY {
            return fail(err, c"key too long");
        }
        let value = match value_type {
            TEXT => Value::Text(text),
            NUMBER => Value::Number(number),
            BOOLEAN => Value::Boolean(number != 0.0),
            NIL if op & (ADD | REPLACE) != 0 => return fail(err, c"attempt to add or replace nil values"),
            NIL => {
                dict.remove(key);
                return OK;
            }
            _ => return fail(err, c"unsupported value type"),
        };
        let when = match op & (ADD | REPLACE) {
            0 => When::Always,
            ADD => When::Absent,
            _ => When::Present,
        };
        let how = Store { when, safe: op & SAFE != 0, ttl: ttl(exptime), flags: flags.cast_unsigned() };
        answer(dict.store(key, value, how), err, forcible, |()| ())
    }

    /// Adds to a number.
    fn ngx_http_lua_ffi_shdict_incr(
        zone: Zone, key: *const u8, key_len: usize, value: *mut f64, err: *mut *const c_char, has_init: c_int,
        init: f64, init_ttl: c_long, forcible: *mut c_int
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a zone, a key, a number, and places for what comes of it.
        let (dict, key, by) = unsafe {
            raw::store(forcible, 0);
            if value.is_null() {
                return ERROR;
            }
            (dict(zone), raw::bytes(key, key_len), value.read_unaligned())
        };
        let Some(dict) = dict else { return ERROR };
        if key.len() > MAX_KEY {
            return fail(err, c"key too long");
        }
        let init = (has_init != 0).then(|| (init, ttl(init_ttl)));
        let done = dict.increment(key, by, init);
        // SAFETY: as above.
        let code = answer(done, err, forcible, |sum| unsafe { raw::store(value, sum) });
        if code == OK { OK } else { ERROR }
    }

    /// Lets everything expire.
    fn ngx_http_lua_ffi_shdict_flush_all(zone: Zone) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a zone.
        let Some(dict) = (unsafe { dict(zone) }) else { return ERROR };
        dict.flush_all();
        OK
    }

    /// Milliseconds that a key lives on: 0 for ever.
    fn ngx_http_lua_ffi_shdict_get_ttl(zone: Zone, key: *const u8, key_len: usize) -> c_long, on_panic = -5 {
        // SAFETY: Lua passes a zone and a key.
        let ttl = unsafe { dict(zone).and_then(|dict| dict.ttl(raw::bytes(key, key_len))) };
        ttl.unwrap_or(DECLINED.into())
    }

    /// Gives a key a time to live.
    fn ngx_http_lua_ffi_shdict_set_expire(zone: Zone, key: *const u8, key_len: usize, exptime: c_long) -> c_int,
        on_panic = -5
    {
        // SAFETY: Lua passes a zone and a key.
        let found = unsafe { dict(zone).is_some_and(|dict| dict.expire(raw::bytes(key, key_len), ttl(exptime))) };
        if found { OK } else { DECLINED }
    }

    /// Bytes as declared.
    fn ngx_http_lua_ffi_shdict_capacity(zone: Zone) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a zone.
        unsafe { dict(zone) }.map_or(0, |dict| usize::try_from(dict.capacity()).unwrap_or(usize::MAX))
    }

    /// Bytes in pages that nothing uses.
    fn ngx_http_lua_ffi_shdict_free_space(zone: Zone) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a zone.
        unsafe { dict(zone) }.map_or(0, |dict| usize::try_from(dict.free_space()).unwrap_or(usize::MAX))
    }
}

/// The zone of a dictionary's userdata; null if it is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_shdict_udata_to_zone(userdata: *const c_void) -> Zone {
    // SAFETY: Lua passes a userdata, which the dictionary's table keeps alive.
    unsafe { raw::userdata::<Arc<Dict>>(userdata) }.map_or(ptr::null(), Arc::as_ptr)
}

/// Copies a text to where Lua wants it, or into memory that Lua frees.
///
/// # Safety
/// `text` is the place of a buffer of as many bytes as `text_len` says.
unsafe fn copy_text(found: &Found<'_>, text: *mut *mut u8, text_len: *mut usize) -> c_int {
    let len = found.text_len();
    // SAFETY: the caller's promise. Lua frees what it did not make with C's `free`.
    unsafe {
        if text_len.read_unaligned() < len {
            let memory = libc::malloc(len).cast::<u8>();
            if memory.is_null() {
                return ERROR;
            }
            text.write_unaligned(memory);
        }
        text_len.write_unaligned(len);
        let mut room = buffer(text.read_unaligned(), len);
        found.text(|piece| {
            let (now, later) = std::mem::take(&mut room).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            room = later;
        });
    }
    OK
}

/// Tells Lua what came of a change.
fn answer<T>(
    stored: Stored<T>,
    err: *mut *const c_char,
    forcible: *mut c_int,
    done: impl FnOnce(T),
) -> c_int {
    // SAFETY: Lua passes a place for it.
    unsafe { raw::store(forcible, c_int::from(stored.forcible)) };
    match stored.result {
        Ok(value) => {
            done(value);
            OK
        }
        Err(refusal) => {
            let code = fail(err, text(refusal));
            if matches!(refusal, Refusal::Exists | Refusal::NotFound) { DECLINED } else { code }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dict: &Dict, value: &[u8], op: c_int) -> (c_int, Option<&'static CStr>) {
        let (mut err, mut forcible) = (ptr::null(), -1);
        let code = ngx_http_lua_ffi_shdict_store(
            dict,
            op,
            b"key".as_ptr(),
            3,
            TEXT,
            value.as_ptr(),
            value.len(),
            0.0,
            0,
            7,
            &raw mut err,
            &raw mut forcible,
        );
        assert_eq!(forcible, 0);
        // SAFETY: null or one of our texts.
        (code, (!err.is_null()).then(|| unsafe { CStr::from_ptr(err) }))
    }

    #[test]
    fn texts_go_into_the_buffer_or_into_memory_of_their_own() {
        let dict = Dict::new("test", 1 << 20);
        for len in [0, 8, 9, 20_000] {
            let value = vec![b'v'; len];
            assert_eq!(store(&dict, &value, 0), (OK, None));
            let mut buffer = [0_u8; 8];
            let (mut kind, mut text, mut text_len) = (-1, buffer.as_mut_ptr(), buffer.len());
            let (mut number, mut flags, mut stale, mut err) = (0.0, 0, 0, c"unset".as_ptr());
            let code = ngx_http_lua_ffi_shdict_get(
                &raw const dict,
                b"key".as_ptr(),
                3,
                &raw mut kind,
                &raw mut text,
                &raw mut text_len,
                &raw mut number,
                &raw mut flags,
                0,
                &raw mut stale,
                &raw mut err,
            );
            assert_eq!((code, kind, flags, stale, text_len, err.is_null()), (OK, TEXT, 7, 0, len, true));
            assert_eq!(text == buffer.as_mut_ptr(), len <= 8);
            // SAFETY: the entry wrote as many bytes there; what it allocated is freed once.
            unsafe {
                assert_eq!(raw::bytes(text, text_len), value);
                if len > 8 {
                    libc::free(text.cast());
                }
            }
        }
    }

    #[test]
    fn refusals_have_upstreams_codes_and_words() {
        let dict = Dict::new("test", 100 << 10);
        assert_eq!(store(&dict, b"x", REPLACE), (DECLINED, Some(c"not found")));
        assert_eq!(store(&dict, b"x", ADD), (OK, None));
        assert_eq!(store(&dict, b"x", ADD | SAFE), (DECLINED, Some(c"exists")));
        assert_eq!(store(&dict, &[0; 200_000], SAFE), (ERROR, Some(c"no memory")));
        assert_eq!(ngx_http_lua_ffi_shdict_get_ttl(&raw const dict, b"none".as_ptr(), 4), -5);
        assert_eq!(ngx_http_lua_ffi_shdict_set_expire(&raw const dict, b"none".as_ptr(), 4, 1), DECLINED);
        assert_eq!(ngx_http_lua_ffi_shdict_flush_all(ptr::null()), ERROR);
        assert!(ngx_http_lua_ffi_shdict_udata_to_zone(ptr::null()).is_null());
    }
}
