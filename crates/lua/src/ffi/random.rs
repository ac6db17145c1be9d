//! Numbers that nobody can tell beforehand: masks of WebSocket frames, ids of DNS queries.

use moonrest_luajit::ffi_entry;
use std::{cell::RefCell, ffi::c_uint};

ffi_entry! {
    /// 32 random bits.
    fn moonrest_ffi_random_u32() -> c_uint, on_panic = 0 {
        u32::from_ne_bytes(key())
    }
}

thread_local! {
    /// Random bytes that were fetched ahead, and how many of them are used.
    static AHEAD: RefCell<([u8; 1024], usize)> = const { RefCell::new(([0; 1024], 1024)) };
}

/// Four bytes from the kernel.
pub(super) fn key() -> [u8; 4] {
    AHEAD.with_borrow_mut(|(bytes, used)| {
        if *used + 4 > bytes.len() {
            if moonrest_sys::random::fill(bytes).is_err() {
                return [0; 4];
            }
            *used = 0;
        }
        let key = bytes.get(*used..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
        *used += 4;
        key
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let some: std::collections::HashSet<[u8; 4]> = (0..1000).map(|_| key()).collect();
        assert!(some.len() > 990);
    }
}
