//! Sleeping to the millisecond.

use moonrest_sys::time::monotonic_ns;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// By deadline in monotonic nanoseconds, then by age.
type Key = (u64, u64);

struct Queue {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    ages: Cell<u64>,
}

thread_local! {
    static QUEUE: Queue = const { Queue { waiting: RefCell::new(BTreeMap::new()), ages: Cell::new(0) } };
    /// The first deadline, or an earlier one that has been given up; `u64::MAX` without any.
    static NEXT: Cell<u64> = const { Cell::new(u64::MAX) };
}

const MILLISECOND: u64 = 1_000_000;
/// The coarse clock is never so far behind, in milliseconds.
const BEHIND: u64 = 20;

/// Resolves `ms` milliseconds from now, never earlier.
pub fn sleep(ms: u64) -> Sleep {
    Sleep { deadline: monotonic_ns().saturating_add(ms.saturating_mul(MILLISECOND)), age: None }
}

/// The future of [`sleep`]. Dropping it ends the wait.
#[derive(Debug)]
pub struct Sleep {
    deadline: u64,
    age: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if monotonic_ns() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        QUEUE.with(|queue| {
            let age = self.age.unwrap_or_else(|| {
                queue.ages.set(queue.ages.get() + 1);
                queue.ages.get()
            });
            self.age = Some(age);
            let before = queue.waiting.borrow_mut().insert((self.deadline, age), cx.waker().clone());
            drop(before);
        });
        NEXT.set(NEXT.get().min(self.deadline));
        Poll::Pending
    }
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(age) = self.age.take() {
            // The thread may be ending, its queue gone.
            let _ = QUEUE.try_with(|queue| {
                let waker = queue.waiting.borrow_mut().remove(&(self.deadline, age));
                drop(waker);
            });
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Wakes whose time has come; whether there were any. `now` are milliseconds on the coarse clock.
#[inline]
pub(crate) fn fire(now: u64) -> bool {
    let next = NEXT.get();
    if next == u64::MAX || next / MILLISECOND > now + BEHIND {
        return false;
    }
    let now = monotonic_ns();
    now >= next && QUEUE.with(|queue| queue.fire(now))
}

/// How many milliseconds there is to wait; `None` when nobody sleeps.
#[inline]
pub(crate) fn wait() -> Option<u64> {
    let next = NEXT.get();
    (next != u64::MAX).then(|| next.saturating_sub(monotonic_ns()).div_ceil(MILLISECOND))
}

impl Queue {
    fn fire(&self, now: u64) -> bool {
        let mut fired = false;
        loop {
            let waker = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.first_entry() {
                    Some(first) if first.key().0 <= now => Some(first.remove()),
                    _ => None,
                }
            };
            match waker {
                Some(waker) => waker.wake(),
                None => break,
            }
            fired = true;
        }
        NEXT.set(self.waiting.borrow().first_key_value().map_or(u64::MAX, |(key, _)| key.0));
        fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block_on, spawn_joined};
    use std::{rc::Rc, time::Instant};

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        block_on(async {
            let started = Instant::now();
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks = [60, 20, 40, 0].map(|ms| {
                let order = order.clone();
                spawn_joined(async move {
                    sleep(ms).await;
                    order.borrow_mut().push(ms);
                })
            });
            drop(sleep(5_000));
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.borrow(), [0, 20, 40, 60]);
            let took = started.elapsed().as_millis();
            assert!((60..20_000).contains(&took), "{took}");
        });
    }
}
