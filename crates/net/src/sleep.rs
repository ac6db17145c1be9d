//! Sleeping to the millisecond, on one `timerfd` per worker.
//!
//! The event loop runs without its own timers: those would read the clock and take a lock at every turn, whether
//! anybody sleeps or not.

use moonrest_sys::time::{TimerFd, monotonic_ms};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use tokio::net::unix::pipe::Receiver;

struct Queue {
    /// By deadline in monotonic milliseconds, then by age.
    waiting: RefCell<BTreeMap<(u64, u64), Waker>>,
    ages: Cell<u64>,
    /// The deadline the descriptor is set to; `u64::MAX` when it is not.
    armed: Cell<u64>,
    timer: RefCell<Option<Rc<TimerFd>>>,
}

thread_local! {
    static QUEUE: Rc<Queue> = Rc::new(Queue {
        waiting: RefCell::default(),
        ages: Cell::new(0),
        armed: Cell::new(u64::MAX),
        timer: RefCell::new(None),
    });
}

/// Resolves `ms` milliseconds from now, never earlier.
pub fn sleep(ms: u64) -> Sleep {
    // The clock's milliseconds are cut off, so that one more is needed for never being early.
    let ms = if ms == 0 { 0 } else { ms.saturating_add(1) };
    Sleep { deadline: monotonic_ms().saturating_add(ms), key: None }
}

/// Opens this worker's timer, so that sleeping works when no descriptor is left to be opened later.
///
/// # Errors
/// Those of `timerfd_create` and of watching it.
pub fn prepare() -> io::Result<()> {
    QUEUE.with(|queue| {
        let open = queue.timer.borrow().is_some();
        if open { Ok(()) } else { queue.start().map(drop) }
    })
}

/// The future of [`sleep`]. Dropping it ends the wait.
#[derive(Debug)]
pub struct Sleep {
    deadline: u64,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if monotonic_ms() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        QUEUE.with(|queue| {
            let age = self.key.unwrap_or_else(|| {
                queue.ages.set(queue.ages.get() + 1);
                queue.ages.get()
            });
            self.key = Some(age);
            queue.waiting.borrow_mut().insert((self.deadline, age), cx.waker().clone());
            queue.arm(self.deadline);
        });
        Poll::Pending
    }
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(age) = self.key.take() {
            // The thread may be ending, its queue gone.
            let _ = QUEUE.try_with(|queue| queue.waiting.borrow_mut().remove(&(self.deadline, age)));
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Queue {
    /// Makes sure that the descriptor fires at `deadline` or earlier.
    fn arm(self: &Rc<Self>, deadline: u64) {
        if deadline >= self.armed.get() {
            return;
        }
        let timer = self.timer.borrow().clone();
        let timer = timer.or_else(|| self.start().ok());
        // Without a descriptor (none left) the deadline is tried again with the next sleep.
        let Some(timer) = timer else { return };
        if timer.set(deadline).is_ok() {
            self.armed.set(deadline);
        }
    }

    fn start(self: &Rc<Self>) -> io::Result<Rc<TimerFd>> {
        let timer = Rc::new(TimerFd::new()?);
        // A timer's descriptor is read like a pipe's end: readiness, then bytes.
        let watched = Receiver::from_file_unchecked(timer.reader()?.into())?;
        *self.timer.borrow_mut() = Some(timer.clone());
        tokio::task::spawn_local(run(self.clone(), watched));
        Ok(timer)
    }

    fn fire(self: &Rc<Self>) {
        self.armed.set(u64::MAX);
        let now = monotonic_ms();
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
        }
        let next = self.waiting.borrow().first_key_value().map(|(key, _)| key.0);
        if let Some(deadline) = next {
            self.arm(deadline);
        }
    }
}

async fn run(queue: Rc<Queue>, watched: Receiver) {
    // An error of the event loop itself: nothing is left to be woken.
    while watched.readable().await.is_ok() {
        let mut fired = [0; 8];
        // `WouldBlock`: it was set anew meanwhile.
        let _ = watched.try_read(&mut fired);
        queue.fire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::runtime::{Builder, LocalOptions};

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let started = Instant::now();
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks = [60, 20, 40, 0].map(|ms| {
                let order = order.clone();
                tokio::task::spawn_local(async move {
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
