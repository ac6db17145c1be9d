//! What a thread's loop consists of, where wakers and descriptors find it.

use crate::{
    blocking::Pool,
    source::Sources,
    tasks::Tasks,
    word::{ROOT, Word},
};
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    task::Waker,
};

/// A thread's loop.
pub(crate) struct Local {
    /// Its number; 0 while there is none.
    pub(crate) id: Cell<u16>,
    /// It ends: its tasks are being dropped.
    pub(crate) ending: Cell<bool>,
    pub(crate) tasks: Tasks,
    pub(crate) sources: Sources,
    /// How many times the kernel has told all that it knew of the descriptors.
    pub(crate) looks: Cell<u64>,
    /// The future of `block_on` was woken.
    pub(crate) root_woken: Cell<bool>,
    /// To be woken after the next look at the descriptors.
    pub(crate) deferred: RefCell<Vec<Waker>>,
    pub(crate) pool: RefCell<Option<Arc<Pool>>>,
}

thread_local! {
    pub(crate) static LOCAL: Local = const {
        Local {
            id: Cell::new(0),
            ending: Cell::new(false),
            tasks: Tasks::new(),
            sources: Sources::new(),
            looks: Cell::new(0),
            root_woken: Cell::new(false),
            deferred: RefCell::new(Vec::new()),
            pool: RefCell::new(None),
        }
    };
}

/// Whether this thread has a loop that goes on, so that it makes sense to spawn, sleep and watch.
pub fn is_running() -> bool {
    LOCAL.try_with(|local| local.id.get() != 0 && !local.ending.get()).unwrap_or(false)
}

/// How many times this thread's loop was told all that there was to know of its descriptors. Who has emptied one and sees
/// this number grow knows from the loop whether something came meanwhile ([`crate::Watched::is_known_empty`]).
#[inline]
pub fn looks() -> u64 {
    LOCAL.with(|local| local.looks.get())
}

/// Wakes a task of this thread's loop; `false` when it is one of another's.
#[inline]
pub(crate) fn wake(word: Word) -> bool {
    LOCAL.try_with(|local| local.wake(word)).unwrap_or(false)
}

impl Local {
    #[inline]
    pub(crate) fn wake(&self, word: Word) -> bool {
        if word.of_loop() != self.id.get() {
            return false;
        }
        if word.slot() == ROOT {
            self.root_woken.set(true);
        } else {
            self.tasks.wake(word);
        }
        true
    }
}
