//! Semaphores: what `ngx.semaphore` waits on. Light threads of all requests of a worker may share one.

use crate::scheduler::{Item, Values};
use moonrest_net::sleep::{Sleep, sleep};
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A counter of resources, with those who wait for one in the order they came.
pub(crate) struct Semaphore(RefCell<State>);

struct State {
    resources: i64,
    waiting: VecDeque<Waiting>,
    next: u64,
}

struct Waiting {
    ticket: u64,
    waker: Option<Waker>,
}

impl Semaphore {
    pub(crate) fn new(resources: i64) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State { resources, waiting: VecDeque::new(), next: 0 })))
    }

    /// Resources there are, less those that wait for one.
    pub(crate) fn count(&self) -> i64 {
        let state = self.0.borrow();
        let waiting = i64::try_from(state.waiting.len()).unwrap_or(i64::MAX);
        state.resources.saturating_sub(waiting)
    }

    /// Adds resources. Who has waited longest gets one first.
    pub(crate) fn post(&self, count: i64) {
        let woken: Vec<Waker> = {
            let state = &mut *self.0.borrow_mut();
            state.resources = state.resources.saturating_add(count);
            let served = usize::try_from(state.resources).unwrap_or(0).min(state.waiting.len());
            state.resources -= i64::try_from(served).unwrap_or(0);
            state.waiting.drain(..served).filter_map(|waiting| waiting.waker).collect()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Takes a resource if there is one.
    pub(crate) fn take(&self) -> bool {
        let state = &mut *self.0.borrow_mut();
        let there = state.waiting.is_empty() && state.resources > 0;
        state.resources -= i64::from(there);
        there
    }

    /// Waits for a resource, from now on.
    pub(crate) fn wait(self: &Rc<Self>, ms: u64) -> Wait {
        let state = &mut *self.0.borrow_mut();
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(Waiting { ticket, waker: None });
        Wait { semaphore: self.clone(), ticket, over: false, timeout: sleep(ms) }
    }
}

/// The wait for a resource: `true`, or `nil, "timeout"`. Dropping it gives up the place, or the resource.
pub(crate) struct Wait {
    semaphore: Rc<Semaphore>,
    ticket: u64,
    over: bool,
    timeout: Sleep,
}

impl Wait {
    /// Calls `work` with the place in the queue; none when the resource is there.
    fn with_place<R>(&self, work: impl FnOnce(&mut State, usize) -> R) -> Option<R> {
        let state = &mut *self.semaphore.0.borrow_mut();
        let at = state.waiting.binary_search_by_key(&self.ticket, |waiting| waiting.ticket).ok()?;
        Some(work(state, at))
    }

    fn leave(&self) -> bool {
        self.with_place(|state, at| drop(state.waiting.remove(at))).is_some()
    }
}

impl Future for Wait {
    type Output = Values;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Values> {
        let waker = cx.waker();
        let waits = self.with_place(|state, at| {
            if let Some(place) = state.waiting.get_mut(at) {
                place.waker = Some(waker.clone());
            }
        });
        if waits.is_none() {
            self.over = true;
            return Poll::Ready(Values::one(Item::Bool(true)));
        }
        std::task::ready!(Pin::new(&mut self.timeout).poll(cx));
        self.leave();
        self.over = true;
        Poll::Ready(Values::error("timeout"))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.over && !self.leave() {
            // It got a resource that nobody is there to use any more.
            self.semaphore.post(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(wait: &mut Wait) -> bool {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn on_a_worker(test: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async { test() });
    }

    #[test]
    fn resources_go_to_those_who_wait_in_their_order() {
        on_a_worker(|| {
            let semaphore = Semaphore::new(1);
            assert!(semaphore.take() && !semaphore.take());
            let (mut first, mut second) = (semaphore.wait(60_000), semaphore.wait(60_000));
            assert!(!poll(&mut first) && !poll(&mut second));
            assert_eq!(semaphore.count(), -2);
            semaphore.post(1);
            assert!(!poll(&mut second) && poll(&mut first));
            assert_eq!(semaphore.count(), -1);
            semaphore.post(2);
            assert_eq!(semaphore.count(), 1);
            assert!(poll(&mut second) && semaphore.take());
        });
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        on_a_worker(|| {
            let semaphore = Semaphore::new(0);
            let (first, mut second) = (semaphore.wait(60_000), semaphore.wait(60_000));
            semaphore.post(1);
            // The first has got it, and goes without using it.
            drop(first);
            assert!(poll(&mut second));
            drop(semaphore.wait(60_000));
            assert_eq!(semaphore.count(), 0);
        });
    }
}
