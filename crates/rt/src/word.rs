//! What a waker is: the numbers of a loop and of a task, and which of the tasks with that number.
//!
//! A number may come to mean another task when all generations have been used. Who is woken then without a reason looks
//! at what it waits for and waits on.

use crate::{local, remote};
use moonrest_sys::waker::{Wake, Wakers};
use std::task::Waker;

/// `loop (16 bits) | generation (22 bits) | slot (26 bits)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(u64);

const SLOT_BITS: u32 = 26;
const GENERATION_BITS: u32 = 22;
const LOOP_SHIFT: u32 = SLOT_BITS + GENERATION_BITS;
/// The slot that means the future of `block_on`.
pub(crate) const ROOT: u32 = (1 << SLOT_BITS) - 1;

impl Word {
    #[inline]
    pub(crate) fn new(of_loop: u16, slot: u32, generation: u32) -> Self {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        Self(u64::from(of_loop) << LOOP_SHIFT | generation << SLOT_BITS | u64::from(slot))
    }

    #[inline]
    pub(crate) fn of_loop(self) -> u16 {
        (self.0 >> LOOP_SHIFT) as u16
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.0 as u32 & ROOT
    }

    /// Whether it means this generation of its slot.
    #[inline]
    pub(crate) fn is_of(self, generation: u32) -> bool {
        let mask = (1 << GENERATION_BITS) - 1;
        (self.0 >> SLOT_BITS) & mask == u64::from(generation) & mask
    }

    #[inline]
    pub(crate) fn waker(self) -> Waker {
        const { assert!(usize::BITS >= 64) };
        TABLE.waker(self.0 as usize)
    }
}

static TABLE: Wakers = Wakers::of::<Tasks>();

struct Tasks;

impl Wake for Tasks {
    fn table() -> &'static Wakers {
        &TABLE
    }

    #[inline]
    fn wake(word: usize) {
        let word = Word(word as u64);
        if !local::wake(word) {
            remote::wake(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_its_parts() {
        for of_loop in [1, 77, u16::MAX] {
            for slot in [0, 5, ROOT] {
                for generation in [0, 9, u32::MAX] {
                    let word = Word::new(of_loop, slot, generation);
                    assert_eq!((word.of_loop(), word.slot()), (of_loop, slot));
                    assert!(word.is_of(generation) && !word.is_of(generation.wrapping_add(1)));
                }
            }
        }
    }
}
