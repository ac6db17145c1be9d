//! Timeouts of connections: one coarse wheel per worker instead of a timer per read.
//!
//! Arming is a store. Only when the wheel comes by is an entry looked at, and either fired or moved to the slot of its
//! present deadline.

use moonrest_sys::time::monotonic_coarse_ms;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

/// The wheel's step, in milliseconds.
const STEP: u64 = 32;
const SLOTS: usize = 2048;
/// No deadline.
const OFF: u64 = u64::MAX;
/// A deadline that the wheel has found passed: nobody else has to read a clock for that.
const PASSED: u64 = 0;

/// A deadline that can be moved at the cost of a store. Cancelled by dropping it.
pub struct Timeout {
    entry: Rc<Entry>,
}

struct Entry {
    /// Monotonic milliseconds.
    deadline: Cell<u64>,
    /// The step of the wheel in which it will be looked at, or `OFF` when it stands in no slot.
    queued: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

struct Wheel {
    slots: Box<[RefCell<Vec<Weak<Entry>>>]>,
    /// The last step that was swept.
    swept: Cell<u64>,
    queued: Cell<usize>,
    /// About how many of these are of timeouts that are gone.
    dead: Cell<usize>,
}

thread_local! {
    static WHEEL: Rc<Wheel> = Rc::new(Wheel {
        slots: (0..SLOTS).map(|_| RefCell::default()).collect(),
        swept: Cell::new(monotonic_coarse_ms() / STEP),
        queued: Cell::new(0),
        dead: Cell::new(0),
    });
    /// The first step whose slot has to be looked at; `OFF` while nothing is queued.
    static NEXT: Cell<u64> = const { Cell::new(OFF) };
}

impl Default for Timeout {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        if self.entry.queued.get() != OFF {
            // The thread may be ending, its wheel gone.
            let _ = WHEEL.try_with(|wheel| wheel.abandon());
        }
    }
}

impl Timeout {
    /// A timeout that is not armed.
    pub fn new() -> Self {
        Self {
            entry: Rc::new(Entry {
                deadline: Cell::new(OFF),
                queued: Cell::new(OFF),
                waker: RefCell::new(None),
            }),
        }
    }

    /// Fires `ms` milliseconds from now (up to one step of the wheel later), instead of any earlier arrangement.
    pub fn set(&self, ms: u64) {
        self.set_from(monotonic_coarse_ms(), ms);
    }

    /// The same from `now` on.
    #[inline]
    pub fn set_from(&self, now: u64, ms: u64) {
        let deadline = if ms == 0 { PASSED } else { now.saturating_add(ms) };
        self.entry.deadline.set(deadline);
        if self.entry.queued.get() > deadline / STEP + 1 {
            WHEEL.with(|wheel| enqueue(wheel, &self.entry));
        }
    }

    /// Never fires.
    pub fn clear(&self) {
        self.entry.deadline.set(OFF);
    }

    /// Whether a deadline is set, passed or not.
    pub fn is_armed(&self) -> bool {
        self.entry.deadline.get() != OFF
    }

    /// Whether the deadline has passed, as far as the wheel has noticed.
    pub fn expired(&self) -> bool {
        self.entry.deadline.get() == PASSED
    }

    /// Ready once the deadline has passed; otherwise wakes `cx` then.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.expired() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Below this many milliseconds a timer is exact.
const COARSE: u64 = 128;

/// A deadline as programs set it: exact to the millisecond where it is short, on the wheel where that makes no odds.
#[derive(Default)]
pub struct Timer {
    wheel: Timeout,
    exact: RefCell<Option<crate::sleep::Sleep>>,
}

impl Timer {
    /// A timer that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that fires `ms` milliseconds from now.
    pub fn of(ms: u64) -> Self {
        let timer = Self::new();
        timer.set(ms);
        timer
    }

    /// Fires `ms` milliseconds from now, instead of any earlier arrangement.
    pub fn set(&self, ms: u64) {
        self.clear();
        if ms < COARSE {
            *self.exact.borrow_mut() = Some(crate::sleep::sleep(ms));
        } else {
            self.wheel.set(ms);
        }
    }

    /// Never fires.
    pub fn clear(&self) {
        if self.wheel.is_armed() {
            self.wheel.clear();
        }
        let exact = self.exact.take();
        drop(exact);
    }

    /// Whether a deadline is set, passed or not.
    pub fn is_armed(&self) -> bool {
        self.wheel.is_armed() || self.exact.borrow().is_some()
    }

    /// Ready once the deadline has passed; otherwise wakes `cx` then.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.exact.borrow_mut() {
            Some(sleep) => std::pin::Pin::new(sleep).poll(cx),
            None => self.wheel.poll(cx),
        }
    }
}

/// Wakes everything of this thread that waits with a [`Timeout`], expired or not, so that it looks at the world anew
/// (a worker that begins to drain, or has too many connections); roughly in the order of the deadlines.
pub fn wake_all() {
    WHEEL.with(|wheel| {
        let (past, coming) = wheel.slots.split_at(usize::try_from(wheel.swept.get()).unwrap_or(0) % SLOTS);
        for slot in coming.iter().chain(past) {
            for entry in slot.borrow().iter().filter_map(Weak::upgrade) {
                if let Some(waker) = entry.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    });
}

/// Waits for `future` no longer than `ms` milliseconds; `None` when the time is up.
pub async fn within<F: Future>(ms: u64, future: F) -> Option<F::Output> {
    let timeout = Timeout::new();
    timeout.set(ms);
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timeout.poll(cx).map(|()| None),
    })
    .await
}

/// As [`within`], exact where the time is short.
pub async fn exactly_within<F: Future>(ms: u64, future: F) -> Option<F::Output> {
    let timer = Timer::of(ms);
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll(cx).map(|()| None),
    })
    .await
}

fn enqueue(wheel: &Rc<Wheel>, entry: &Rc<Entry>) {
    if wheel.queued.get() == 0 {
        wheel.swept.set(wheel.swept.get().max(monotonic_coarse_ms() / STEP));
    }
    let now = wheel.swept.get();
    let step = (entry.deadline.get() / STEP + 1).clamp(now + 1, now + SLOTS as u64 - 1);
    entry.queued.set(step);
    let slot = usize::try_from(step).unwrap_or(0) % SLOTS;
    wheel.slots[slot].borrow_mut().push(Rc::downgrade(entry));
    wheel.queued.set(wheel.queued.get() + 1);
    NEXT.set(NEXT.get().min(step));
}

/// Fewer dead entries than this are left for the wheel to come by.
const FEW: usize = 1024;

impl Wheel {
    /// An entry in some slot is of no use any more. When most are, they are taken out: short-lived connections would
    /// leave theirs for as long as their timeouts are.
    fn abandon(&self) {
        let dead = self.dead.get() + 1;
        self.dead.set(dead);
        if dead < FEW || dead < self.queued.get() / 2 {
            return;
        }
        self.dead.set(0);
        let mut left = 0;
        for slot in &self.slots {
            let Ok(mut entries) = slot.try_borrow_mut() else { continue };
            if entries.is_empty() {
                continue;
            }
            let before = entries.len();
            entries.retain(|entry| entry.strong_count() > 0);
            left += before - entries.len();
            if entries.capacity() / 4 > entries.len() {
                entries.shrink_to_fit();
            }
        }
        self.queued.set(self.queued.get().saturating_sub(left));
    }

    /// The first step behind the last one swept in whose slot something stands.
    fn next_step(&self) -> Option<u64> {
        if self.queued.get() == 0 {
            return None;
        }
        let from = self.swept.get() + 1;
        (from..from + SLOTS as u64).find(|step| {
            let slot = usize::try_from(*step).unwrap_or(0) % SLOTS;
            self.slots.get(slot).is_some_and(|slot| !slot.borrow().is_empty())
        })
    }
}

/// Wakes whose time has come; whether the wheel moved. `now` are milliseconds on the coarse clock.
#[inline]
pub(crate) fn fire(now: u64) -> bool {
    let due = now / STEP >= NEXT.get();
    if due {
        WHEEL.with(|wheel| turn(wheel, now / STEP));
    }
    due
}

/// How many milliseconds there is to wait at `now`; `None` when nothing is queued.
#[inline]
pub(crate) fn wait(now: u64) -> Option<u64> {
    let next = NEXT.get();
    (next != OFF).then(|| (next * STEP).saturating_sub(now))
}

#[cold]
fn turn(wheel: &Rc<Wheel>, now: u64) {
    // Entries that move on say anew where they stand.
    NEXT.set(OFF);
    while wheel.swept.get() < now {
        let step = wheel.swept.get() + 1;
        wheel.swept.set(step);
        sweep(wheel, step, now);
        if wheel.queued.get() == 0 {
            wheel.swept.set(now);
        }
    }
    NEXT.set(wheel.next_step().unwrap_or(OFF));
}

fn sweep(wheel: &Rc<Wheel>, step: u64, now: u64) {
    let slot = usize::try_from(step).unwrap_or(0) % SLOTS;
    let entries = std::mem::take(&mut *wheel.slots[slot].borrow_mut());
    wheel.queued.set(wheel.queued.get() - entries.len());
    for entry in &entries {
        let Some(entry) = entry.upgrade() else {
            wheel.dead.set(wheel.dead.get().saturating_sub(1));
            continue;
        };
        if entry.queued.get() != step {
            continue; // moved to an earlier slot meanwhile; that one speaks for it
        }
        entry.queued.set(OFF);
        let deadline = entry.deadline.get();
        if deadline == OFF {
            continue;
        }
        if deadline / STEP < now {
            entry.deadline.set(PASSED);
            if let Some(waker) = entry.waker.borrow_mut().take() {
                waker.wake();
            }
        } else {
            enqueue(wheel, &entry);
        }
    }
    let mut kept = wheel.slots[slot].borrow_mut();
    if kept.is_empty() {
        // The slot's memory is used again.
        let mut entries = entries;
        entries.clear();
        *kept = entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on as run;

    #[test]
    fn a_timeout_fires_after_its_deadline_and_not_before() {
        run(async {
            let started = std::time::Instant::now();
            assert!(within(100, std::future::pending::<()>()).await.is_none());
            let took = started.elapsed().as_millis();
            assert!((90..20_000).contains(&took), "{took}");
        });
    }

    #[test]
    fn short_timers_are_exact_and_long_ones_need_no_clock() {
        run(async {
            let started = std::time::Instant::now();
            let timer = Timer::of(5);
            poll_fn(|cx| timer.poll(cx)).await;
            let took = started.elapsed().as_millis();
            assert!((5..2_000).contains(&took), "{took}");
            timer.set(COARSE);
            assert!(timer.is_armed() && timer.exact.borrow().is_none());
            timer.clear();
            assert!(!timer.is_armed());
        });
    }

    #[test]
    fn timeouts_that_are_gone_leave_nothing_in_the_wheel() {
        run(async {
            let kept = Timeout::new();
            kept.set(60_000);
            for _ in 0..10 * FEW {
                Timeout::new().set(60_000);
            }
            let queued = WHEEL.with(|wheel| wheel.queued.get());
            assert!((1..=2 * FEW).contains(&queued), "{queued}");
            let standing =
                WHEEL.with(|wheel| wheel.slots.iter().map(|slot| slot.borrow().len()).sum::<usize>());
            assert_eq!(standing, queued);
            assert!(kept.is_armed());
        });
    }

    #[test]
    fn a_moved_deadline_counts_and_a_cleared_one_does_not() {
        run(async {
            let timeout = Timeout::new();
            timeout.set(60_000);
            timeout.set(50);
            poll_fn(|cx| timeout.poll(cx)).await;
            timeout.clear();
            assert!(!timeout.expired());
            timeout.set(0);
            assert!(timeout.expired());
            timeout.set(60_000);
            assert!(!timeout.expired());
            assert_eq!(within(1_000, async { 7 }).await, Some(7));
        });
    }
}
