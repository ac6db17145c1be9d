//! The loop itself.

use crate::{
    blocking::Pool,
    budget, clock,
    local::{LOCAL, Local},
    remote::{self, Remote},
    sleep, timer,
    word::{ROOT, Word},
};
use moonrest_sys::{
    epoll::{Alarm, Epoll, Events, Interest},
    time::monotonic_coarse_ms,
};
use std::{
    cell::{Cell, RefCell},
    io,
    marker::PhantomData,
    os::fd::AsFd as _,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

/// How many tasks run before descriptors and deadlines are looked at again.
const BATCH: usize = 128;
/// The bell's token; no descriptor has it.
const BELL: u64 = u64::MAX;
/// The alarm's.
const ALARM: u64 = u64::MAX - 1;
/// Deadlines that are so many milliseconds away are left to the alarm. It is set rarely, while a limit to the wait itself
/// is a timer that the kernel starts and stops at each.
const FAR: u64 = 100;
/// The alarm is not set.
const OFF: u64 = u64::MAX;

/// What a loop may differ in.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many events are taken from the kernel at once.
    pub events: usize,
    /// How many threads do what blocks, at most.
    pub blocking_threads: usize,
    /// Counts: odd while the loop is awake, even while it sleeps.
    pub turns: Option<Arc<AtomicU64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: 512, blocking_threads: 32, turns: None }
    }
}

/// This thread's event loop, with its tasks. One at a time.
pub struct Runtime {
    epoll: Rc<Epoll>,
    events: RefCell<Events>,
    remote: Arc<Remote>,
    alarm: Alarm,
    /// When it goes off, in monotonic milliseconds: never later than the first deadline that was left to it.
    alarm_at: Cell<u64>,
    turns: Option<Arc<AtomicU64>>,
    id: u16,
    /// It belongs to its thread.
    _local: PhantomData<*const ()>,
}

/// Runs a future to its end, on a loop of its own.
///
/// # Panics
/// Where no loop can be made.
pub fn block_on<F: Future>(future: F) -> F::Output {
    match Runtime::new(&Options::default()) {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("no event loop: {error}"),
    }
}

impl Runtime {
    /// A loop without tasks.
    ///
    /// # Errors
    /// Those of `epoll_create1`, `eventfd` and `timerfd_create`.
    ///
    /// # Panics
    /// Where there is a loop already.
    pub fn new(options: &Options) -> io::Result<Self> {
        LOCAL.with(|local| assert!(local.id.get() == 0, "a thread has one event loop"));
        let epoll = Rc::new(Epoll::new()?);
        let alarm = Alarm::new()?;
        epoll.add(alarm.as_fd(), ALARM, Interest::READ)?;
        let (id, remote) = remote::enter()?;
        if let Err(error) = epoll.add(remote.bell().as_fd(), BELL, Interest::READ) {
            remote::leave(id);
            return Err(error);
        }
        LOCAL.with(|local| {
            local.id.set(id);
            clock::turn();
            local.sources.set_epoll(Some(epoll.clone()));
            *local.pool.borrow_mut() = Some(Pool::new(options.blocking_threads));
        });
        let events = RefCell::new(Events::new(options.events));
        let alarm_at = Cell::new(OFF);
        Ok(Self {
            epoll,
            events,
            remote,
            alarm,
            alarm_at,
            turns: options.turns.clone(),
            id,
            _local: PhantomData,
        })
    }

    /// Runs until `future` has its result; what it has spawned goes on only while this runs.
    ///
    /// # Panics
    /// When `future` does, or when the kernel refuses to wait.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let waker = Word::new(self.id, ROOT, 0).waker();
        let mut cx = Context::from_waker(&waker);
        LOCAL.with(|local| {
            local.root_woken.set(true);
            let mut fired = false;
            loop {
                for _ in 0..BATCH {
                    if local.root_woken.replace(false) {
                        budget::renew();
                        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                            return output;
                        }
                    }
                    if !local.tasks.run_one(self.id) {
                        break;
                    }
                }
                let now = monotonic_coarse_ms();
                // Whom a deadline has woken runs at once, but not for ever.
                let due = timer::fire(now) | sleep::fire(now);
                if due && !std::mem::replace(&mut fired, true) {
                    continue;
                }
                fired = false;
                if let Err(error) = self.wait(local, now) {
                    panic!("epoll_wait() failed: {error}");
                }
            }
        })
    }

    /// Looks at the descriptors; waits for them if there is nothing else to do.
    fn wait(&self, local: &Local, now: u64) -> io::Result<()> {
        let busy = local.root_woken.get() || local.tasks.is_busy() || !local.deferred.borrow().is_empty();
        let timeout = if busy { Some(0) } else { self.limit(now)? };
        let events = &mut *self.events.borrow_mut();
        match &self.turns {
            // Written by this thread alone.
            Some(turns) if timeout != Some(0) => {
                turns.store((turns.load(Relaxed) | 1) + 1, Relaxed);
                let waited = self.epoll.wait(events, timeout);
                turns.store(turns.load(Relaxed) | 1, Relaxed);
                waited?;
            }
            _ => self.epoll.wait(events, timeout)?,
        }
        clock::turn();
        if !events.is_full() {
            local.looks.set(local.looks.get() + 1);
        }
        for (token, what) in events.iter() {
            match token {
                BELL => {
                    for word in self.remote.take() {
                        local.wake(word);
                    }
                }
                ALARM => self.alarm_at.set(OFF),
                _ => local.sources.happened(token, what),
            }
        }
        if busy {
            let deferred = local.deferred.take();
            for waker in deferred {
                waker.wake();
            }
        }
        Ok(())
    }

    /// How long to wait at most, in milliseconds; for ever where the alarm ends the wait.
    fn limit(&self, now: u64) -> io::Result<Option<u64>> {
        match earlier(timer::wait(now), sleep::wait()) {
            Some(far) if far >= FAR => {
                let due = now.saturating_add(far);
                if due < self.alarm_at.get() {
                    self.alarm.set(due)?;
                    self.alarm_at.set(due);
                }
                Ok(None)
            }
            near => Ok(near),
        }
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A thread that ends has dropped the rest.
        let _ = LOCAL.try_with(|local| {
            local.ending.set(true);
            local.tasks.clear();
            let deferred = local.deferred.take();
            drop(deferred);
            let pool = local.pool.take();
            if let Some(pool) = pool {
                pool.close();
            }
            local.sources.set_epoll(None);
            clock::stop();
            local.id.set(0);
            local.ending.set(false);
        });
        remote::leave(self.id);
    }
}
