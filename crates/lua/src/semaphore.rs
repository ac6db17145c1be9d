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

impl State {
    fn place(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
    }
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

    /// Adds resources. Those who have waited longest take them, when they run next: until then nobody else does.
    pub(crate) fn post(&self, count: i64) {
        {
            let state = &mut *self.0.borrow_mut();
            state.resources = state.resources.saturating_add(count);
        }
        self.wake();
    }

    /// Wakes those for whom there is a resource.
    fn wake(&self) {
        let woken: Vec<Waker> = {
            let state = &*self.0.borrow();
            let count = usize::try_from(state.resources).unwrap_or(0);
            state.waiting.iter().take(count).filter_map(|waiting| waiting.waker.clone()).collect()
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

/// The wait for a resource: `true`, or `nil, "timeout"`. Dropping it gives up the place.
pub(crate) struct Wait {
    semaphore: Rc<Semaphore>,
    ticket: u64,
    over: bool,
    timeout: Sleep,
}

impl Wait {
    /// Takes the resource if there is one for this place in the queue, otherwise notes who is to be woken.
    fn take(&self, waker: &Waker) -> bool {
        let state = &mut *self.semaphore.0.borrow_mut();
        let Some(at) = state.place(self.ticket) else { return true };
        if i64::try_from(at).is_ok_and(|at| at < state.resources) {
            state.waiting.remove(at);
            state.resources -= 1;
            return true;
        }
        if let Some(place) = state.waiting.get_mut(at) {
            place.waker = Some(waker.clone());
        }
        false
    }

    /// Gives the place up, which may be another's luck.
    fn leave(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        {
            let state = &mut *self.semaphore.0.borrow_mut();
            if let Some(at) = state.place(self.ticket) {
                state.waiting.remove(at);
            }
        }
        self.semaphore.wake();
    }
}

impl Future for Wait {
    type Output = Values;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Values> {
        if self.take(cx.waker()) {
            self.over = true;
            return Poll::Ready(Values::one(Item::Bool(true)));
        }
        std::task::ready!(Pin::new(&mut self.timeout).poll(cx));
        self.leave();
        Poll::Ready(Values::error("timeout"))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(wait: &mut Wait) -> bool {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn on_a_worker(test: impl FnOnce()) {
        moonrest_rt::block_on(async { test() });
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
            // Nobody overtakes who waits.
            assert!(!semaphore.take() && poll(&mut second) && semaphore.take());
        });
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        on_a_worker(|| {
            let semaphore = Semaphore::new(0);
            let (first, mut second) = (semaphore.wait(60_000), semaphore.wait(60_000));
            semaphore.post(1);
            // The first could have it, and goes.
            drop(first);
            assert!(poll(&mut second));
            drop(semaphore.wait(60_000));
            assert_eq!(semaphore.count(), 0);
        });
    }
}
