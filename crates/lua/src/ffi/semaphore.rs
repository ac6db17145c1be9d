//! `ngx.semaphore`.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/semaphore.md>

use super::{AGAIN, DECLINED, ERROR, OK, Token, fail_into};
use crate::{host::Host, scheduler::Operation, semaphore::Semaphore};
use moonrest_luajit::{ffi_entry, raw};
use std::{
    ffi::{c_char, c_int},
    rc::Rc,
};

/// Calls `use_it` with the semaphore that Lua holds.
fn with<R>(semaphore: *const Semaphore, missing: R, use_it: impl FnOnce(&Rc<Semaphore>) -> R) -> R {
    if semaphore.is_null() {
        return missing;
    }
    // SAFETY: `sema_new` made the pointer of an `Rc`, and Lua keeps it until it calls `sema_gc`, once.
    let held = unsafe {
        Rc::increment_strong_count(semaphore);
        Rc::from_raw(semaphore)
    };
    use_it(&held)
}

ffi_entry! {
    /// A new semaphore with `n` resources.
    fn ngx_http_lua_ffi_sema_new(place: *mut *const Semaphore, n: c_int, _err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        // SAFETY: Lua passes a place for a pointer; a null one would lose the semaphore.
        if place.is_null() {
            return ERROR;
        }
        // SAFETY: as above.
        unsafe { raw::store(place, Rc::into_raw(Semaphore::new(n.into()))) };
        OK
    }

    /// Adds `n` resources.
    fn ngx_http_lua_ffi_sema_post(semaphore: *const Semaphore, n: c_int) -> c_int, on_panic = -1 {
        with(semaphore, ERROR, |semaphore| {
            semaphore.post(n.into());
            OK
        })
    }

    /// Resources, less those that wait.
    fn ngx_http_lua_ffi_sema_count(semaphore: *const Semaphore) -> c_int, on_panic = 0 {
        with(semaphore, 0, |semaphore| {
            c_int::try_from(semaphore.count()).unwrap_or(c_int::MAX)
        })
    }

    /// Takes a resource, or says that there is none; or the caller is to wait with `coroutine._yield`.
    fn ngx_http_lua_ffi_sema_wait(
        r: Token, semaphore: *const Semaphore, ms: c_int, err: *mut u8, errlen: *mut usize
    ) -> c_int, on_panic = -1 {
        let waits = raw::host(r, |host: &Host| with(semaphore, ERROR, |semaphore| {
            if semaphore.take() {
                return OK;
            }
            if ms <= 0 {
                return DECLINED;
            }
            let wait = semaphore.wait(u64::try_from(ms).unwrap_or(0));
            let before = host.pending.replace(Some(Operation::Wait(Box::pin(wait))));
            drop(before);
            AGAIN
        }));
        waits.unwrap_or_else(|| fail_into(err, errlen, b"no request ctx found"))
    }

    /// Lua forgets the semaphore.
    fn ngx_http_lua_ffi_sema_gc(semaphore: *const Semaphore) -> c_int, on_panic = 0 {
        if !semaphore.is_null() {
            // SAFETY: as in `with`; Lua does not use it any more.
            drop(unsafe { Rc::from_raw(semaphore) });
        }
        OK
    }
}
