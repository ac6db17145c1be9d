//! The time that Lua code sees: taken when first asked for, and the same until the code waits or asks for a new one
//! (`ngx.update_time`), as nginx's cached time is.

use moonrest_sys::time::{self, WallTime};
use std::cell::Cell;

thread_local! {
    static WALL: Cell<Option<WallTime>> = const { Cell::new(None) };
    static MONOTONIC_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Forgets the time that was taken: code begins, or goes on after waiting.
#[inline]
pub(crate) fn forget() {
    WALL.set(None);
    MONOTONIC_MS.set(None);
}

/// The wall clock.
pub(crate) fn wall() -> WallTime {
    WALL.get().unwrap_or_else(|| {
        let now = time::wall();
        WALL.set(Some(now));
        now
    })
}

/// Seconds since 1970, to the millisecond.
pub(crate) fn seconds() -> f64 {
    let now = wall();
    now.secs as f64 + f64::from(now.millis()) / 1000.0
}

/// Milliseconds of a clock that nobody sets.
pub(crate) fn monotonic_ms() -> u64 {
    MONOTONIC_MS.get().unwrap_or_else(|| {
        let now = time::monotonic_ms();
        MONOTONIC_MS.set(Some(now));
        now
    })
}
