//! Being woken by other threads.

use crate::word::Word;
use moonrest_sys::epoll::Bell;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// What another thread sees of a loop.
pub(crate) struct Remote {
    woken: Mutex<Vec<Word>>,
    bell: Bell,
}

/// All loops; number 1 comes first.
static LOOPS: RwLock<Vec<Option<Arc<Remote>>>> = RwLock::new(Vec::new());

/// Enters a new loop and gives it a number.
pub(crate) fn enter() -> io::Result<(u16, Arc<Remote>)> {
    let remote = Arc::new(Remote { woken: Mutex::default(), bell: Bell::new()? });
    let mut loops = LOOPS.write().unwrap_or_else(PoisonError::into_inner);
    let free = loops.iter().position(Option::is_none);
    let at = free.unwrap_or(loops.len());
    let number = u16::try_from(at + 1).map_err(|_| io::Error::other("too many event loops"))?;
    match loops.get_mut(at) {
        Some(place) => *place = Some(remote.clone()),
        None => loops.push(Some(remote.clone())),
    }
    Ok((number, remote))
}

/// Forgets a loop.
pub(crate) fn leave(number: u16) {
    let mut loops = LOOPS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = loops.get_mut(usize::from(number).wrapping_sub(1)) {
        *place = None;
    }
}

/// Wakes a task of another thread, if its loop still exists.
#[cold]
pub(crate) fn wake(word: Word) {
    let remote = {
        let loops = LOOPS.read().unwrap_or_else(PoisonError::into_inner);
        loops.get(usize::from(word.of_loop()).wrapping_sub(1)).cloned().flatten()
    };
    if let Some(remote) = remote {
        remote.push(word);
    }
}

impl Remote {
    fn push(&self, word: Word) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = woken.is_empty();
        if woken.last() != Some(&word) {
            woken.push(word);
        }
        drop(woken);
        if first {
            self.bell.ring();
        }
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Who was woken.
    pub(crate) fn take(&self) -> Vec<Word> {
        std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
