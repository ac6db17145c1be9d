//! Fairness: a task that never runs dry gives way to the others after a while.

use crate::local::LOCAL;
use std::{
    cell::Cell,
    future::poll_fn,
    task::{Context, Poll},
};

/// How often a task finds a descriptor ready before it has to give way.
const BUDGET: u32 = 128;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(BUDGET) };
}

/// A task begins to run.
#[inline]
pub(crate) fn renew() {
    LEFT.set(BUDGET);
}

/// `Pending` when the task has had its share: it goes on when descriptors and deadlines were looked at.
#[inline]
pub(crate) fn spend(cx: &Context<'_>) -> Poll<()> {
    let left = LEFT.get();
    if left == 0 {
        defer(cx);
        return Poll::Pending;
    }
    LEFT.set(left - 1);
    Poll::Ready(())
}

#[cold]
fn defer(cx: &Context<'_>) {
    let deferred = LOCAL.try_with(|local| {
        if local.id.get() != 0 {
            local.deferred.borrow_mut().push(cx.waker().clone());
        }
        local.id.get() != 0
    });
    if !deferred.unwrap_or(false) {
        cx.waker().wake_by_ref();
    }
}

/// Gives way once: all others run, descriptors and deadlines are looked at.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        defer(cx);
        Poll::Pending
    })
    .await;
}
