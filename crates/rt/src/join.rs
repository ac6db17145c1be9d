//! Tasks whose end somebody waits for.

use crate::{local::LOCAL, tasks::spawn_boxed, word::Word};
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// There is no result: the task was aborted, it panicked, or its loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the task has no result")
    }
}

impl std::error::Error for Lost {}

/// A task's end. Dropped, the task goes on.
#[derive(Debug)]
pub struct JoinHandle<T> {
    end: Rc<End<T>>,
    word: Word,
}

#[derive(Debug)]
struct End<T>(RefCell<Progress<T>>);

#[derive(Debug)]
enum Progress<T> {
    Running(Option<Waker>),
    Ended(Result<T, Lost>),
    Taken,
}

impl<T> End<T> {
    fn set(&self, result: Result<T, Lost>) {
        let before = self.0.replace(Progress::Ended(result));
        if let Progress::Running(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// The task: its future, and whom it tells.
struct Joined<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    end: Option<Rc<End<T>>>,
}

impl<T> Future for Joined<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let value = std::task::ready!(self.future.as_mut().poll(cx));
        if let Some(end) = self.end.take() {
            end.set(Ok(value));
        }
        Poll::Ready(())
    }
}

impl<T> Drop for Joined<T> {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.set(Err(Lost));
        }
    }
}

/// As [`spawn`](crate::spawn), for a task whose result somebody waits for, or that may be aborted.
///
/// # Panics
/// Where no loop is.
#[track_caller]
pub fn spawn_joined<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let end = Rc::new(End(RefCell::new(Progress::Running(None))));
    let word = spawn_boxed(Box::pin(Joined { future: Box::pin(future), end: Some(end.clone()) }));
    JoinHandle { end, word }
}

impl<T> JoinHandle<T> {
    /// Ends the task where it stands.
    pub fn abort(&self) {
        // Without a loop there is no task either.
        let _ = LOCAL.try_with(|local| {
            if local.id.get() == self.word.of_loop() {
                local.tasks.abort(self.word);
            }
        });
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.end.0.borrow(), Progress::Running(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Lost>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        let mut progress = self.end.0.borrow_mut();
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
