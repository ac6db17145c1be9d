//! What is put off to the end of a turn: the loop has run everything that was ready, and is about to look for more.

use crate::local::LOCAL;
use std::rc::Rc;

/// Does `job` when this turn ends, once; at the latest when the loop does. Jobs that are wanted at the end of every
/// turn in which something happened are made once and handed over each time.
pub fn at_end(job: Rc<dyn Fn()>) {
    LOCAL.with(|local| local.jobs.borrow_mut().push(job));
}

/// The turn ends.
#[inline]
pub(crate) fn end() {
    LOCAL.with(|local| {
        if local.jobs.borrow().is_empty() {
            return;
        }
        let mut jobs = local.jobs.take();
        for job in jobs.drain(..) {
            job();
        }
        // Its memory serves the next turn.
        if local.jobs.borrow().is_empty() {
            local.jobs.replace(jobs);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block_on, spawn, yield_now};
    use std::cell::RefCell;

    #[test]
    fn a_turn_ends_when_all_that_was_ready_has_run() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = seen.clone();
            move || seen.borrow_mut().push(what)
        };
        let (first, second) = (note("first"), note("second"));
        let (end, last) = (Rc::new(note("end")), Rc::new(note("last")));
        block_on(async {
            spawn(async move {
                at_end(end);
                first();
            });
            spawn(async move { second() });
            yield_now().await;
            at_end(last);
        });
        assert_eq!(*seen.borrow(), ["first", "second", "end", "last"]);
    }
}
