//! The time, read at most once in a turn of the event loop, as nginx does: what is done within one turn is done at one
//! time. Where no loop runs, each call reads the system's clock.

use moonrest_sys::time;
use std::cell::Cell;

/// Not read yet in this turn.
const STALE: i64 = i64::MIN;
/// There are no turns.
const NO_LOOP: i64 = i64::MAX;

thread_local! {
    static MONOTONIC_MS: Cell<i64> = const { Cell::new(NO_LOOP) };
    static WALL_SECS: Cell<i64> = const { Cell::new(NO_LOOP) };
}

/// Monotonic milliseconds.
#[inline]
pub fn monotonic_ms() -> u64 {
    known(&MONOTONIC_MS, || i64::try_from(time::monotonic_ms()).unwrap_or(0)).cast_unsigned()
}

/// Seconds since 1970, by the kernel's coarse clock.
#[inline]
pub fn wall_secs() -> i64 {
    known(&WALL_SECS, || time::wall_coarse().secs)
}

#[inline(always)]
fn known(place: &'static std::thread::LocalKey<Cell<i64>>, read: fn() -> i64) -> i64 {
    match place.get() {
        STALE | NO_LOOP => read_into(place, read),
        time => time,
    }
}

#[cold]
fn read_into(place: &'static std::thread::LocalKey<Cell<i64>>, read: fn() -> i64) -> i64 {
    let time = read();
    if place.get() == STALE {
        place.set(time);
    }
    time
}

/// A turn begins.
pub(crate) fn turn() {
    MONOTONIC_MS.set(STALE);
    WALL_SECS.set(STALE);
}

/// The loop is gone.
pub(crate) fn stop() {
    MONOTONIC_MS.set(NO_LOOP);
    WALL_SECS.set(NO_LOOP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{thread::sleep, time::Duration};

    #[test]
    fn time_stands_still_within_a_turn() {
        let at_once = || {
            let begun = monotonic_ms();
            sleep(Duration::from_millis(3));
            begun == monotonic_ms() && wall_secs() == wall_secs()
        };
        assert!(!at_once());
        turn();
        assert!(at_once());
        let before = monotonic_ms();
        turn();
        assert!(monotonic_ms() >= before + 3);
        assert!(wall_secs().abs_diff(time::wall().secs) <= 1);
        stop();
        assert!(!at_once());
    }
}
