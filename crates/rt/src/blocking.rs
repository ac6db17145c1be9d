//! Work that would block the loop: files, passwords. A few threads of the loop's own do it.

use crate::{join::Lost, local::LOCAL};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

/// How long a thread waits for work before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of a loop.
pub(crate) struct Pool {
    most: usize,
    state: Mutex<State>,
    /// There is work, or no more to come.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
        })
    }

    fn add(self: &Arc<Self>, job: Job) {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            return drop(job);
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= self.most {
            drop(state);
            return self.work.notify_one();
        }
        state.threads += 1;
        drop(state);
        let pool = self.clone();
        let spawned = thread::Builder::new().name("blocking".into()).spawn(move || pool.run());
        if spawned.is_err() {
            let mut state = lock(&self.state);
            state.threads -= 1;
            if state.threads == 0 {
                // Nobody is left to do it.
                let jobs = std::mem::take(&mut state.jobs);
                drop(state);
                drop(jobs);
            }
        }
    }

    fn run(self: Arc<Self>) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A panic has been reported; it costs only this piece of work.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = lock(&self.state);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, waited) =
                self.work.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Drops what has not begun and waits for what has.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
        self.work.notify_all();
        let mut state = lock(&self.state);
        while state.threads > 0 {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a piece of work comes to. Dropped, the work goes on.
#[derive(Debug)]
pub struct Blocking<T>(Arc<Mutex<Progress<T>>>);

#[derive(Debug)]
enum Progress<T> {
    Running(Option<Waker>),
    Ended(Result<T, Lost>),
    Taken,
}

/// Tells the result, or that there is none.
struct Teller<T>(Option<Arc<Mutex<Progress<T>>>>);

impl<T> Teller<T> {
    fn tell(&mut self, result: Result<T, Lost>) {
        if let Some(progress) = self.0.take() {
            let before = std::mem::replace(&mut *lock(&progress), Progress::Ended(result));
            if let Progress::Running(Some(waker)) = before {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        self.tell(Err(Lost));
    }
}

/// Has a thread do what would block this one.
///
/// # Panics
/// Where no loop is.
#[track_caller]
pub fn spawn_blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let progress = Arc::new(Mutex::new(Progress::Running(None)));
    let mut teller = Teller(Some(progress.clone()));
    let pool = LOCAL.with(|local| local.pool.borrow().clone());
    let Some(pool) = pool else { panic!("no threads where no event loop is") };
    pool.add(Box::new(move || teller.tell(Ok(f()))));
    Blocking(progress)
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, Lost>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        let mut progress = lock(&self.0);
        if let Progress::Running(waker) = &mut *progress {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Ended(result) => Poll::Ready(result),
            Progress::Running(_) | Progress::Taken => Poll::Ready(Err(Lost)),
        }
    }
}
