//! Tasks: a box per future, a slot per task, a queue of the slots that were woken.

use crate::{
    budget,
    local::LOCAL,
    word::{ROOT, Word},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// All tasks of a loop.
pub(crate) struct Tasks(RefCell<Inner>);

struct Inner {
    slots: Vec<Slot>,
    /// The first free slot; `NONE` without one.
    free: u32,
    /// Slots that were woken, each at most once.
    woken: VecDeque<u32>,
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Slot {
    /// `None` while the task runs, and when there is none.
    task: Option<Task>,
    /// Grows when a task ends.
    generation: u32,
    /// The next free slot, if this is one.
    next: u32,
    state: State,
    /// It stands in the queue.
    queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Alive,
    /// To be dropped as soon as it stops running.
    Aborted,
}

/// Has this thread's loop run `future` beside all others. What it panics with costs only itself.
///
/// # Panics
/// Where no loop is.
#[track_caller]
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    spawn_boxed(Box::pin(future));
}

#[track_caller]
pub(crate) fn spawn_boxed(task: Task) -> Word {
    LOCAL.with(|local| {
        assert!(local.id.get() != 0, "nothing can be spawned where no event loop is");
        local.tasks.add(local.id.get(), task)
    })
}

impl Tasks {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Inner { slots: Vec::new(), free: NONE, woken: VecDeque::new() }))
    }

    fn add(&self, of_loop: u16, task: Task) -> Word {
        let inner = &mut *self.0.borrow_mut();
        let number = inner.free_slot();
        let slot = &mut inner.slots[number as usize];
        slot.task = Some(task);
        slot.state = State::Alive;
        // A task that ended may have left its place in the queue.
        if !std::mem::replace(&mut slot.queued, true) {
            inner.woken.push_back(number);
        }
        Word::new(of_loop, number, slot.generation)
    }

    /// Puts a task into the queue, if it still exists and is not there.
    #[inline]
    pub(crate) fn wake(&self, word: Word) {
        let inner = &mut *self.0.borrow_mut();
        let Some(slot) = inner.slots.get_mut(word.slot() as usize) else { return };
        if !slot.queued && word.is_of(slot.generation) && slot.state != State::Free {
            slot.queued = true;
            inner.woken.push_back(word.slot());
        }
    }

    /// Whether a task waits for its turn.
    pub(crate) fn is_busy(&self) -> bool {
        !self.0.borrow().woken.is_empty()
    }

    /// Runs the task that waits longest. `false` when none does.
    pub(crate) fn run_one(&self, of_loop: u16) -> bool {
        let Some((number, generation, mut task)) = self.0.borrow_mut().take_next() else { return false };
        let waker = Word::new(of_loop, number, generation).waker();
        budget::renew();
        // What a task has in common with others is theirs to keep whole, as with any unwinding.
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
        let rest = match polled {
            Ok(Poll::Pending) => self.0.borrow_mut().put_back(number, task),
            Ok(Poll::Ready(())) | Err(_) => {
                self.0.borrow_mut().end(number);
                Some(task)
            }
        };
        if let Some(task) = rest {
            drop_quietly(task);
        }
        true
    }

    /// Ends a task, now or as soon as it stops running.
    pub(crate) fn abort(&self, word: Word) {
        let task = {
            let inner = &mut *self.0.borrow_mut();
            match inner.slots.get_mut(word.slot() as usize) {
                Some(slot) if word.is_of(slot.generation) && slot.state == State::Alive => {
                    let task = slot.task.take();
                    match &task {
                        Some(_) => inner.end(word.slot()),
                        None => slot.state = State::Aborted,
                    }
                    task
                }
                _ => None,
            }
        };
        if let Some(task) = task {
            drop_quietly(task);
        }
    }

    /// Drops all tasks, those that are spawned meanwhile included.
    pub(crate) fn clear(&self) {
        let mut number = 0;
        let mut dropped = false;
        loop {
            let task = {
                let inner = &mut *self.0.borrow_mut();
                let Some(slot) = inner.slots.get_mut(number as usize) else {
                    if !dropped {
                        break;
                    }
                    (number, dropped) = (0, false);
                    continue;
                };
                let task = slot.task.take();
                if task.is_some() {
                    inner.end(number);
                }
                task
            };
            if let Some(task) = task {
                dropped = true;
                drop_quietly(task);
            }
            number += 1;
        }
    }
}

/// A panic of a destructor ends with the task.
fn drop_quietly(task: Task) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
}

impl Inner {
    fn free_slot(&mut self) -> u32 {
        if let Some(slot) = self.slots.get(self.free as usize) {
            return std::mem::replace(&mut self.free, slot.next);
        }
        let number = u32::try_from(self.slots.len()).unwrap_or(ROOT);
        assert!(number < ROOT, "too many tasks");
        self.slots.push(Slot { task: None, generation: 0, next: NONE, state: State::Free, queued: false });
        number
    }

    #[inline]
    fn take_next(&mut self) -> Option<(u32, u32, Task)> {
        loop {
            let number = self.woken.pop_front()?;
            let Some(slot) = self.slots.get_mut(number as usize) else { continue };
            slot.queued = false;
            if let Some(task) = slot.task.take() {
                return Some((number, slot.generation, task));
            }
        }
    }

    /// Keeps a task that waits; gives back one that was aborted while it ran.
    #[inline]
    fn put_back(&mut self, number: u32, task: Task) -> Option<Task> {
        match self.slots.get_mut(number as usize) {
            Some(slot) if slot.state == State::Alive => {
                slot.task = Some(task);
                None
            }
            _ => {
                self.end(number);
                Some(task)
            }
        }
    }

    fn end(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.state = State::Free;
            slot.next = std::mem::replace(&mut self.free, number);
        }
    }
}
