//! The memory of a dictionary: pages of 4096 bytes, handed to shards as they need them and taken back when empty.
//!
//! A shard cuts a page into blocks of one size, or strings pages together for what is larger than half a page. They need
//! not lie side by side, so free pages are never useless, whatever was between them.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Words of a page.
const WORDS: usize = PAGE / 8;
/// Blocks begin at multiples of 32 bytes.
const UNIT_WORDS: usize = 4;
const UNITS: u32 = (WORDS / UNIT_WORDS) as u32;
/// Blocks of 2^5 to 2^11 bytes; what needs more gets pages of its own.
const SMALLEST: u32 = 5;
const LARGEST: u32 = 11;
/// The class of pages that are not cut.
const WHOLE: u8 = 12;
/// No block and no page.
pub(super) const NONE: u32 = 0;
/// The word of a block that says in its lowest byte what it holds: 0 when it is free.
pub(super) const META: usize = 1;

type Page = Box<[u64; WORDS]>;

/// Pages that no shard has.
pub(super) struct Pool {
    /// How many may still be taken.
    free: AtomicU32,
    /// Pages that came back.
    spare: Mutex<Vec<Page>>,
}

impl Pool {
    pub(super) fn new(pages: u32) -> Self {
        Self { free: AtomicU32::new(pages), spare: Mutex::default() }
    }

    pub(super) fn free(&self) -> u32 {
        self.free.load(Relaxed)
    }

    /// Reserves `count` pages, or none.
    fn reserve(&self, count: u32) -> bool {
        self.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(count)).is_ok()
    }

    /// A page that was reserved; its contents are whatever they are.
    fn take(&self) -> Page {
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| Box::new([0; WORDS]))
    }

    fn give(&self, page: Page) {
        self.spare.lock().push(page);
        self.free.fetch_add(1, Relaxed);
    }
}

/// A page that a shard has.
struct Slot {
    page: Option<Page>,
    /// The next page with free blocks of this size, or of this string of pages, or the next unused slot.
    next: u32,
    /// The previous page with free blocks of this size.
    previous: u32,
    /// Blocks that are not free.
    used: u16,
    /// The first free block: its unit and 1, or 0.
    free: u16,
    class: u8,
}

/// The pages of one shard. Blocks are named by page and unit.
pub(super) struct Pages {
    slots: Vec<Slot>,
    /// Unused slots.
    vacant: u32,
    /// The first page with free blocks of each size.
    partial: [u32; LARGEST as usize + 1],
}

/// How many pages `bytes` bytes need, if they need pages of their own.
pub(super) fn pages_for(bytes: usize) -> usize {
    if bytes <= 1 << LARGEST { 1 } else { bytes.div_ceil(PAGE) }
}

/// The class of blocks for so many bytes; above `LARGEST` it tells apart counts of pages.
pub(super) fn class_of(bytes: usize) -> usize {
    if bytes <= 1 << LARGEST {
        bytes.next_power_of_two().trailing_zeros().max(SMALLEST) as usize
    } else {
        WHOLE as usize + bytes.div_ceil(PAGE)
    }
}

fn place(block: u32) -> (usize, usize) {
    ((block / UNITS) as usize, (block % UNITS) as usize * UNIT_WORDS)
}

impl Pages {
    pub(super) fn new() -> Self {
        let nothing = Slot { page: None, next: NONE, previous: NONE, used: 0, free: 0, class: 0 };
        // Slot 0 stays empty, so that no block is named 0.
        Self { slots: vec![nothing], vacant: NONE, partial: [NONE; LARGEST as usize + 1] }
    }

    /// A block for `bytes` bytes, its contents being whatever they are, except that `META` says nothing.
    pub(super) fn allocate(&mut self, bytes: usize, pool: &Pool) -> Option<u32> {
        if bytes > 1 << LARGEST {
            return self.allocate_whole(u32::try_from(bytes.div_ceil(PAGE)).ok()?, pool);
        }
        let class = class_of(bytes);
        if self.partial[class] == NONE {
            if !pool.reserve(1) {
                return None;
            }
            self.cut(class, pool);
        }
        let at = self.partial[class];
        let slot = &mut self.slots[at as usize];
        let unit = u32::from(slot.free) - 1;
        let words = slot.page.as_mut()?;
        slot.free = words[unit as usize * UNIT_WORDS] as u16;
        slot.used += 1;
        if slot.free == 0 {
            let next = std::mem::replace(&mut slot.next, NONE);
            self.partial[class] = next;
            self.slots[next as usize].previous = NONE;
        }
        Some(at * UNITS + unit)
    }

    /// Makes a reserved page blocks of one size.
    fn cut(&mut self, class: usize, pool: &Pool) {
        let mut page = pool.take();
        let step = (1_usize << class) / 8;
        for first in (0..WORDS).step_by(step) {
            let next = first + step;
            page[first] = if next == WORDS { 0 } else { (next / UNIT_WORDS + 1) as u64 };
            page[first + META] = 0;
        }
        let at = self.slot(page, class as u8);
        self.slots[at as usize].free = 1;
        self.link(at, class);
    }

    fn allocate_whole(&mut self, count: u32, pool: &Pool) -> Option<u32> {
        if !pool.reserve(count) {
            return None;
        }
        let mut first = NONE;
        for _ in 0..count {
            let mut page = pool.take();
            page[META] = 0;
            let at = self.slot(page, WHOLE);
            self.slots[at as usize].next = first;
            first = at;
        }
        Some(first * UNITS)
    }

    /// A slot for a page.
    fn slot(&mut self, page: Page, class: u8) -> u32 {
        let slot = Slot { page: Some(page), next: NONE, previous: NONE, used: 0, free: 0, class };
        let at = self.vacant;
        if at == NONE {
            self.slots.push(slot);
            return self.slots.len() as u32 - 1;
        }
        self.vacant = std::mem::replace(&mut self.slots[at as usize], slot).next;
        at
    }

    fn vacate(&mut self, at: u32, pool: &Pool) {
        let slot = &mut self.slots[at as usize];
        slot.next = self.vacant;
        self.vacant = at;
        if let Some(page) = slot.page.take() {
            pool.give(page);
        }
    }

    /// Puts a page in front of those with free blocks.
    fn link(&mut self, at: u32, class: usize) {
        let next = std::mem::replace(&mut self.partial[class], at);
        self.slots[at as usize].next = next;
        self.slots[at as usize].previous = NONE;
        if next != NONE {
            self.slots[next as usize].previous = at;
        }
    }

    /// Takes a block back.
    pub(super) fn release(&mut self, block: u32, pool: &Pool) {
        let (at, first) = place(block);
        let slot = &mut self.slots[at];
        if slot.class == WHOLE {
            let mut at = at as u32;
            while at != NONE {
                let next = self.slots[at as usize].next;
                self.vacate(at, pool);
                at = next;
            }
            return;
        }
        let Some(page) = slot.page.as_mut() else { return };
        page[first] = u64::from(slot.free);
        page[first + META] = 0;
        let was_full = slot.free == 0;
        slot.free = (first / UNIT_WORDS + 1) as u16;
        slot.used -= 1;
        let (empty, class) = (slot.used == 0, usize::from(slot.class));
        match (empty, was_full) {
            (true, true) => self.vacate(at as u32, pool),
            (true, false) => {
                self.unlink(at as u32, class);
                self.vacate(at as u32, pool);
            }
            (false, true) => self.link(at as u32, class),
            (false, false) => {}
        }
    }

    /// Takes a page out of those with free blocks.
    fn unlink(&mut self, at: u32, class: usize) {
        let Slot { next, previous, .. } = self.slots[at as usize];
        if previous == NONE {
            self.partial[class] = next;
        } else {
            self.slots[previous as usize].next = next;
        }
        if next != NONE {
            self.slots[next as usize].previous = previous;
        }
    }

    /// The words of a block, and what follows it in its page.
    pub(super) fn words(&self, block: u32) -> &[u64] {
        let (at, first) = place(block);
        self.slots[at].page.as_ref().map_or(&[], |page| &page[first..])
    }

    /// The same to be changed. The lowest byte of `META` must not be 0 in a block that is used.
    pub(super) fn words_mut(&mut self, block: u32) -> &mut [u64] {
        let (at, first) = place(block);
        self.slots[at].page.as_mut().map_or(&mut [], |page| &mut page[first..])
    }

    /// Calls `see` with the pieces of `len` bytes of a block, from `offset`.
    pub(super) fn read(&self, block: u32, offset: usize, len: usize, mut see: impl FnMut(&[u8])) {
        let (mut at, first) = place(block);
        let (mut offset, mut rest) = (first * 8 + offset, len);
        loop {
            let slot = &self.slots[at];
            if offset < PAGE {
                let Some(page) = slot.page.as_ref() else { return };
                let piece = rest.min(PAGE - offset);
                see(&bytemuck::cast_slice(&page[..])[offset..offset + piece]);
                rest -= piece;
                if rest == 0 {
                    return;
                }
            }
            offset = offset.saturating_sub(PAGE);
            at = slot.next as usize;
        }
    }

    /// Writes bytes into a block, from `offset`.
    pub(super) fn write(&mut self, block: u32, offset: usize, mut bytes: &[u8]) {
        let (mut at, first) = place(block);
        let mut offset = first * 8 + offset;
        loop {
            let slot = &mut self.slots[at];
            if offset < PAGE {
                let Some(page) = slot.page.as_mut() else { return };
                let (piece, rest) = bytes.split_at(bytes.len().min(PAGE - offset));
                bytemuck::cast_slice_mut(&mut page[..])[offset..offset + piece.len()].copy_from_slice(piece);
                bytes = rest;
                if bytes.is_empty() {
                    return;
                }
            }
            offset = offset.saturating_sub(PAGE);
            at = slot.next as usize;
        }
    }

    /// Whether a block has these bytes at `offset`.
    pub(super) fn equals(&self, block: u32, offset: usize, bytes: &[u8]) -> bool {
        let (at, first) = place(block);
        let from = first * 8 + offset;
        let Some(page) = self.slots[at].page.as_ref() else { return false };
        if let Some(found) = bytemuck::cast_slice::<u64, u8>(&page[..]).get(from..from + bytes.len()) {
            return found == bytes;
        }
        let (mut equal, mut rest) = (true, bytes);
        self.read(block, offset, bytes.len(), |piece| {
            let (expected, after) = rest.split_at(piece.len());
            equal &= expected == piece;
            rest = after;
        });
        equal
    }

    /// The blocks that lie in the same page and are used, this one included.
    pub(super) fn neighbours(&self, block: u32) -> Vec<u32> {
        let (at, _) = place(block);
        let slot = &self.slots[at];
        let Some(page) = slot.page.as_ref().filter(|_| slot.class != WHOLE) else { return vec![block] };
        (0..UNITS)
            .step_by((1 << slot.class) / (UNIT_WORDS * 8))
            .filter(|unit| page[*unit as usize * UNIT_WORDS + META] & 0xff != 0)
            .map(|unit| at as u32 * UNITS + unit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_come_and_go() {
        let pool = Pool::new(64);
        let mut pages = Pages::new();
        let sizes = [32, 100, 2048, 40, 5000, 128, 4096, 33, 2049, 1000, 12_288];
        let mut blocks = Vec::new();
        for (n, size) in sizes.into_iter().cycle().take(60).enumerate() {
            let Some(block) = pages.allocate(size, &pool) else { continue };
            pages.words_mut(block)[META] = 1;
            let fill = vec![n as u8; size - 16];
            pages.write(block, 16, &fill);
            blocks.push((block, fill));
        }
        assert!(blocks.len() > 30);
        for (block, fill) in &blocks {
            assert!(pages.equals(*block, 16, fill), "overwritten");
            let mut read = Vec::new();
            pages.read(*block, 16, fill.len(), |piece| read.extend_from_slice(piece));
            assert_eq!(&read, fill);
            assert!(pages.neighbours(*block).contains(block));
        }
        blocks.sort_by_key(|(block, _)| block.reverse_bits());
        blocks.iter().for_each(|(block, _)| pages.release(*block, &pool));
        assert_eq!(pool.free(), 64);
        let whole = pages.allocate(64 * PAGE, &pool).unwrap();
        assert_eq!((pool.free(), pages.allocate(32, &pool)), (0, None));
        pages.release(whole, &pool);
        assert_eq!(pool.free(), 64);
    }

    #[test]
    fn classes_are_powers_of_two_and_then_pages() {
        let check = |bytes, class| assert_eq!(class_of(bytes), class, "{bytes}");
        check(1, 5);
        check(32, 5);
        check(33, 6);
        check(2048, 11);
        check(2049, 13);
        check(4097, 14);
        assert_eq!((pages_for(2048), pages_for(4096), pages_for(4097)), (1, 1, 2));
    }
}
