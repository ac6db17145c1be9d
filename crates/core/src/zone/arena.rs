//! The memory of one shard, cut into blocks of 64 bytes times a power of two. Nothing is ever allocated beside it.
//!
//! A block that is given back joins its buddy (the other half of the block it was cut from) when that is free too, so
//! what was cut small for small values becomes large again.

/// The smallest block.
pub(super) type Unit = [u64; 8];
/// Its bytes.
pub(super) const UNIT: usize = size_of::<Unit>();
/// No block.
pub(super) const NONE: u32 = u32::MAX;

const CLASSES: usize = 31;
/// The word of a block that says how large it is and whether it is used; its upper half belongs to the user.
const STATE: usize = 2;
/// The word that links free blocks of one size.
const LINKS: usize = 1;
const USED: u64 = 1 << 8;

/// Blocks are named by the number of their first unit.
pub(super) struct Arena {
    units: Box<[Unit]>,
    /// The first free block of each size.
    free: [u32; CLASSES],
    /// Bit `n` is set when there is a free block of size `n`.
    available: u32,
    free_units: u32,
}

impl Arena {
    /// `units` units of memory. The system provides them when they are first used.
    pub(super) fn new(units: u32) -> Self {
        let mut arena = Self {
            units: vec![[0; 8]; units as usize].into_boxed_slice(),
            free: [NONE; CLASSES],
            available: 0,
            free_units: units,
        };
        let mut at = 0;
        while at < units {
            let fits = (units - at).ilog2();
            let class = if at == 0 { fits } else { fits.min(at.trailing_zeros()) }.min(30);
            arena.push_free(at, class);
            at += 1 << class;
        }
        arena
    }

    /// The class of blocks that hold so many bytes.
    pub(super) fn class_of(bytes: usize) -> u32 {
        let units = bytes.div_ceil(UNIT).max(1);
        units.next_power_of_two().trailing_zeros()
    }

    /// Units that are in no block of the user's.
    pub(super) fn free_units(&self) -> u32 {
        self.free_units
    }

    /// Whether a block of that class could exist at all.
    pub(super) fn can_hold(&self, class: u32) -> bool {
        class < 31 && 1_usize << class <= self.units.len()
    }

    /// A block of that class; its contents are whatever was there before.
    pub(super) fn allocate(&mut self, class: u32) -> Option<u32> {
        if class >= 31 {
            return None;
        }
        let found = class + (self.available >> class).trailing_zeros();
        if found >= 31 {
            return None;
        }
        let at = self.free[found as usize];
        self.unlink_free(at, found);
        for smaller in (class..found).rev() {
            self.push_free(at + (1 << smaller), smaller);
        }
        self.units[at as usize][STATE] = u64::from(class) | USED;
        self.free_units -= 1 << class;
        Some(at)
    }

    /// Takes a block back.
    pub(super) fn release(&mut self, at: u32) {
        let mut class = self.class(at);
        let mut at = at;
        self.free_units += 1 << class;
        loop {
            let buddy = at ^ 1 << class;
            let free =
                self.units.get(buddy as usize).is_some_and(|unit| unit[STATE] & 0xffff == u64::from(class));
            if !free {
                break;
            }
            self.unlink_free(buddy, class);
            at = at.min(buddy);
            class += 1;
        }
        self.push_free(at, class);
    }

    /// The class of a block.
    pub(super) fn class(&self, at: u32) -> u32 {
        low(self.units[at as usize][STATE] & 0xff)
    }

    /// The first unit of a block.
    pub(super) fn unit(&self, at: u32) -> &Unit {
        &self.units[at as usize]
    }

    /// The same to be changed; the lower 16 bits of word 2 are not the user's.
    pub(super) fn unit_mut(&mut self, at: u32) -> &mut Unit {
        &mut self.units[at as usize]
    }

    /// All bytes of a block.
    pub(super) fn bytes(&self, at: u32) -> &[u8] {
        let end = at as usize + (1 << self.class(at));
        bytemuck::cast_slice(self.units[at as usize..end].as_flattened())
    }

    /// All bytes of a block, to be changed.
    pub(super) fn bytes_mut(&mut self, at: u32) -> &mut [u8] {
        let end = at as usize + (1 << self.class(at));
        bytemuck::cast_slice_mut(self.units[at as usize..end].as_flattened_mut())
    }

    fn push_free(&mut self, at: u32, class: u32) {
        let first = self.free[class as usize];
        if first != NONE {
            let links = &mut self.units[first as usize][LINKS];
            *links = join(at, low(*links));
        }
        let unit = &mut self.units[at as usize];
        unit[LINKS] = join(NONE, first);
        unit[STATE] = class.into();
        self.free[class as usize] = at;
        self.available |= 1 << class;
    }

    fn unlink_free(&mut self, at: u32, class: u32) {
        let links = self.units[at as usize][LINKS];
        let (previous, next) = (high(links), low(links));
        if next != NONE {
            let links = &mut self.units[next as usize][LINKS];
            *links = join(previous, low(*links));
        }
        if previous != NONE {
            let links = &mut self.units[previous as usize][LINKS];
            *links = join(high(*links), next);
            return;
        }
        self.free[class as usize] = next;
        if next == NONE {
            self.available &= !(1 << class);
        }
    }
}

/// Two halves of a word.
pub(super) const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

pub(super) const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The lower half, which is what the cast keeps.
#[allow(clippy::cast_possible_truncation)]
pub(super) const fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_become_whole_again() {
        for units in [1, 2, 3, 7, 8, 100, 481] {
            let mut arena = Arena::new(units);
            let mut blocks = Vec::new();
            let mut used = vec![false; units as usize];
            for class in [0, 2, 1, 0, 3, 0, 1, 2, 0].into_iter().cycle().take(300) {
                let Some(at) = arena.allocate(class) else { continue };
                assert_eq!(at % (1 << class), 0, "aligned");
                for unit in &mut used[at as usize..at as usize + (1 << class)] {
                    assert!(!std::mem::replace(unit, true), "unit used twice");
                }
                blocks.push(at);
            }
            assert_eq!(arena.free_units() as usize, used.iter().filter(|used| !**used).count());
            assert_eq!(arena.allocate(0), None, "{units}");
            // Given back in an order of its own.
            blocks.sort_by_key(|at| at.reverse_bits());
            blocks.into_iter().for_each(|at| arena.release(at));
            assert_eq!(arena.free_units(), units);
            assert!(arena.allocate(units.ilog2()).is_some(), "joined");
        }
    }

    #[test]
    fn classes_hold_what_they_say() {
        let check = |bytes, class| assert_eq!(Arena::class_of(bytes), class, "{bytes}");
        check(0, 0);
        check(64, 0);
        check(65, 1);
        check(128, 1);
        check(129, 2);
        check(4096, 6);
        let arena = Arena::new(3);
        assert!(arena.can_hold(1) && !arena.can_hold(2));
        assert_eq!(Arena::new(3).allocate(40), None);
    }
}
