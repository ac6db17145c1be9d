//! One shard of a dictionary: records found by hash and kept in the order of their last use, and the elements of lists.
//!
//! ```text
//! word of a record: 0  hash | next of the same bucket      of an element: 0  previous | next
//!                   1  length of value | of key | kind                    1  length | kind
//!                   2  newer | older                                      2… the bytes
//!                   3  expiry
//!                   4  flags
//!                   5  the number or boolean
//!                   6  first | last element
//!                   8… key, value
//! ```

use super::{
    Kind, Pool,
    pages::{META, NONE, Pages, class_of},
};

/// Bytes of a record before its key.
const HEADER: usize = 64;
/// What a record takes beside key and value. // nginx: its tree nodes are that large, so as many records fit as there.
const OVERHEAD: usize = 68;
/// Bytes of an element before its value.
const ELEMENT: usize = 16;
/// What an element takes beside its value, as above.
const ELEMENT_OVERHEAD: usize = 21;

const HASH: usize = 0;
const LINKS: usize = 2;
const EXPIRES: usize = 3;
const FLAGS: usize = 4;
const NUMBER: usize = 5;
const ENDS: usize = 6;

pub(super) struct Shard {
    pages: Pages,
    buckets: Box<[u32]>,
    newest: u32,
    oldest: u32,
}

/// Which end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Left,
    Right,
}

/// A record's value as it is stored: text, number or boolean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    Text(&'a [u8]),
    Number(f64),
    Boolean(bool),
}

impl Value<'_> {
    fn kind(self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
            Self::Boolean(_) => Kind::Boolean,
        }
    }

    /// The bytes it is accounted with.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(_) => 8,
            Self::Boolean(_) => 1,
        }
    }
}

/// What a record has beside key and value.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    pub(super) expires: u64,
    pub(super) flags: u32,
}

/// Bytes of a record.
pub(super) fn size_of_record(key: &[u8], value: usize) -> usize {
    OVERHEAD.saturating_add(key.len()).saturating_add(value)
}

/// Two halves of a word.
const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[allow(clippy::cast_possible_truncation)]
const fn low(word: u64) -> u32 {
    word as u32
}

impl Shard {
    /// A shard with so many buckets, a power of two.
    pub(super) fn new(buckets: usize) -> Self {
        Self { pages: Pages::new(), buckets: vec![NONE; buckets].into(), newest: NONE, oldest: NONE }
    }

    /// Occupies a block that nobody uses.
    pub(super) fn occupy(&mut self, bytes: usize, pool: &Pool) {
        if let Some(block) = self.pages.allocate(bytes, pool) {
            self.pages.words_mut(block)[META] = u64::from(Kind::Nothing as u8);
        }
    }

    /// The record of `key`, and when it expires.
    #[inline]
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<(u32, u64)> {
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let words = self.pages.words(at);
            let (found, meta, expires) = (words[HASH], words[META], words[EXPIRES]);
            if high(found) == hash
                && (meta >> 16 & 0xffff) as usize == key.len()
                && self.pages.equals(at, HEADER, key)
            {
                return Some((at, expires));
            }
            at = low(found);
        }
        None
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// A new record without a value, the newest of all; `value` bytes have room in it.
    pub(super) fn insert(&mut self, hash: u32, key: &[u8], value: usize, pool: &Pool) -> Option<u32> {
        let at = self.pages.allocate(size_of_record(key, value), pool)?;
        let bucket = self.bucket(hash);
        let next = std::mem::replace(&mut self.buckets[bucket], at);
        let words = self.pages.words_mut(at);
        words[HASH] = join(hash, next);
        words[META] = (key.len() as u64 & 0xffff) << 16 | u64::from(Kind::Boolean as u8);
        words[EXPIRES] = 0;
        words[FLAGS] = 0;
        words[ENDS] = 0;
        self.pages.write(at, HEADER, key);
        self.push_newest(at);
        Some(at)
    }

    /// Writes a record's value if its block serves for that; whether it does.
    #[inline]
    pub(super) fn rewrite(&mut self, at: u32, key: &[u8], value: Value<'_>, marks: Marks) -> bool {
        let meta = self.pages.words(at)[META];
        let (old, new) = (size_of_record(key, high(meta) as usize), size_of_record(key, value.len()));
        if Kind::of(meta) == Kind::List || (old != new && class_of(old) != class_of(new)) {
            return false;
        }
        self.write(at, value, marks);
        true
    }

    /// Writes a record's value; its block must be large enough.
    #[inline]
    pub(super) fn write(&mut self, at: u32, value: Value<'_>, marks: Marks) {
        let words = self.pages.words_mut(at);
        let key = words[META] & 0xffff_0000;
        words[META] = (value.len() as u64) << 32 | key | u64::from(value.kind() as u8);
        words[EXPIRES] = marks.expires;
        words[FLAGS] = marks.flags.into();
        match value {
            Value::Text(text) => self.pages.write(at, HEADER + (key >> 16) as usize, text),
            Value::Number(number) => words[NUMBER] = number.to_bits(),
            Value::Boolean(flag) => words[NUMBER] = flag.into(),
        }
    }

    /// Adds to a number, if the record is one; the sum.
    #[inline]
    pub(super) fn increment(&mut self, at: u32, by: f64) -> Option<f64> {
        let words = self.pages.words_mut(at);
        if words[META] & 0xff != Kind::Number as u64 {
            return None;
        }
        let sum = f64::from_bits(words[NUMBER]) + by;
        words[NUMBER] = sum.to_bits();
        Some(sum)
    }

    /// Makes a record without elements a list.
    pub(super) fn make_list(&mut self, at: u32) {
        let words = self.pages.words_mut(at);
        words[META] = words[META] & 0xffff_0000 | u64::from(Kind::List as u8);
        words[ENDS] = 0;
    }

    pub(super) fn kind(&self, at: u32) -> Kind {
        Kind::of(self.pages.words(at)[META])
    }

    /// Length of the value, or how many elements the list has.
    pub(super) fn len(&self, at: u32) -> usize {
        high(self.pages.words(at)[META]) as usize
    }

    pub(super) fn number(&self, at: u32) -> f64 {
        f64::from_bits(self.pages.words(at)[NUMBER])
    }

    pub(super) fn boolean(&self, at: u32) -> bool {
        self.pages.words(at)[NUMBER] != 0
    }

    /// The pieces of a text.
    pub(super) fn text(&self, at: u32, see: impl FnMut(&[u8])) {
        let meta = self.pages.words(at)[META];
        self.pages.read(at, HEADER + (meta >> 16 & 0xffff) as usize, high(meta) as usize, see);
    }

    pub(super) fn key(&self, at: u32) -> Vec<u8> {
        let len = (self.pages.words(at)[META] >> 16 & 0xffff) as usize;
        let mut key = Vec::with_capacity(len);
        self.pages.read(at, HEADER, len, |piece| key.extend_from_slice(piece));
        key
    }

    pub(super) fn expires(&self, at: u32) -> u64 {
        self.pages.words(at)[EXPIRES]
    }

    pub(super) fn set_expires(&mut self, at: u32, expires: u64) {
        self.pages.words_mut(at)[EXPIRES] = expires;
    }

    pub(super) fn flags(&self, at: u32) -> u32 {
        low(self.pages.words(at)[FLAGS])
    }

    /// Removes a record, and what it consists of.
    pub(super) fn remove(&mut self, at: u32, pool: &Pool) {
        self.clear_list(at, pool);
        let word = self.pages.words(at)[HASH];
        let (bucket, next) = (self.bucket(high(word)), low(word));
        let mut link = self.buckets[bucket];
        if link == at {
            self.buckets[bucket] = next;
        }
        while link != NONE && link != at {
            let word = self.pages.words(link)[HASH];
            if low(word) == at {
                self.pages.words_mut(link)[HASH] = join(high(word), next);
                break;
            }
            link = low(word);
        }
        self.unlink(at);
        self.pages.release(at, pool);
    }

    /// Removes the oldest record if `condition` holds for it; whether it did.
    pub(super) fn remove_oldest(&mut self, pool: &Pool, condition: impl FnOnce(&Self, u32) -> bool) -> bool {
        let at = self.oldest;
        let remove = at != NONE && condition(self, at);
        if remove {
            self.remove(at, pool);
        }
        remove
    }

    /// Removes the oldest record and all that share its page; false if there is none.
    pub(super) fn clear_page(&mut self, pool: &Pool) -> bool {
        let at = self.oldest;
        if at == NONE {
            return false;
        }
        let blocks = self.pages.neighbours(at);
        let kind = |block: &u32| Kind::of(self.pages.words(*block)[META]);
        // A page with elements or with a block that nobody gives back would not become free: one record gives way.
        let victims = if blocks.iter().all(|block| kind(block).is_record()) { blocks } else { vec![at] };
        victims.into_iter().for_each(|at| self.remove(at, pool));
        true
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        Some(self.oldest).filter(|at| *at != NONE)
    }

    /// The record used next after this one.
    pub(super) fn newer(&self, at: u32) -> Option<u32> {
        Some(high(self.pages.words(at)[LINKS])).filter(|at| *at != NONE)
    }

    /// Makes a record the newest.
    #[inline]
    pub(super) fn touch(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.push_newest(at);
        }
    }

    fn push_newest(&mut self, at: u32) {
        let second = std::mem::replace(&mut self.newest, at);
        self.pages.words_mut(at)[LINKS] = join(NONE, second);
        if second == NONE {
            self.oldest = at;
        } else {
            let links = &mut self.pages.words_mut(second)[LINKS];
            *links = join(at, low(*links));
        }
    }

    fn unlink(&mut self, at: u32) {
        let links = self.pages.words(at)[LINKS];
        let (newer, older) = (high(links), low(links));
        if newer == NONE {
            self.newest = older;
        } else {
            let links = &mut self.pages.words_mut(newer)[LINKS];
            *links = join(high(*links), older);
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            let links = &mut self.pages.words_mut(older)[LINKS];
            *links = join(newer, low(*links));
        }
    }

    /// Adds an element to a list; false if there is no room.
    pub(super) fn push(&mut self, at: u32, value: Value<'_>, end: End, pool: &Pool) -> bool {
        let size = ELEMENT_OVERHEAD.saturating_add(value.len());
        let Some(element) = self.pages.allocate(size, pool) else { return false };
        let ends = self.pages.words(at)[ENDS];
        let (first, last) = (high(ends), low(ends));
        let words = self.pages.words_mut(element);
        words[META] = (value.len() as u64) << 32 | ELEMENT_MARK | u64::from(value.kind() as u8);
        words[0] = match end {
            End::Left => join(NONE, first),
            End::Right => join(last, NONE),
        };
        match value {
            Value::Text(text) => self.pages.write(element, ELEMENT, text),
            Value::Number(number) => words[2] = number.to_bits(),
            Value::Boolean(flag) => words[2] = flag.into(),
        }
        let (first, last) = match end {
            End::Left => (element, if last == NONE { element } else { last }),
            End::Right => (if first == NONE { element } else { first }, element),
        };
        self.join_elements(element);
        let words = self.pages.words_mut(at);
        words[ENDS] = join(first, last);
        words[META] += 1 << 32;
        true
    }

    /// Makes the neighbours of a new element know it.
    fn join_elements(&mut self, element: u32) {
        let links = self.pages.words(element)[0];
        if high(links) != NONE {
            let links = &mut self.pages.words_mut(high(links))[0];
            *links = join(high(*links), element);
        }
        if low(links) != NONE {
            let links = &mut self.pages.words_mut(low(links))[0];
            *links = join(element, low(*links));
        }
    }

    /// Takes an element off a list.
    pub(super) fn pop(&mut self, at: u32, end: End, pool: &Pool) -> Option<Element> {
        let ends = self.pages.words(at)[ENDS];
        let element = match end {
            End::Left => high(ends),
            End::Right => low(ends),
        };
        if element == NONE {
            return None;
        }
        let words = self.pages.words(element);
        let (links, meta, number) = (words[0], words[META], words[2]);
        let value = match Kind::of(meta & !ELEMENT_MARK) {
            Kind::Number => Element::Number(f64::from_bits(number)),
            _ => {
                let mut text = Vec::with_capacity(high(meta) as usize);
                self.pages.read(element, ELEMENT, high(meta) as usize, |piece| text.extend_from_slice(piece));
                Element::Text(text)
            }
        };
        let (previous, next) = (high(links), low(links));
        let ends = match end {
            End::Left => join(next, if next == NONE { NONE } else { low(ends) }),
            End::Right => join(if previous == NONE { NONE } else { high(ends) }, previous),
        };
        let neighbour = if end == End::Left { next } else { previous };
        if neighbour != NONE {
            let links = &mut self.pages.words_mut(neighbour)[0];
            *links = match end {
                End::Left => join(NONE, low(*links)),
                End::Right => join(high(*links), NONE),
            };
        }
        self.pages.release(element, pool);
        let words = self.pages.words_mut(at);
        words[ENDS] = ends;
        words[META] -= 1 << 32;
        Some(value)
    }

    /// Removes all elements of a list.
    pub(super) fn clear_list(&mut self, at: u32, pool: &Pool) {
        if self.kind(at) != Kind::List {
            return;
        }
        let mut element = high(self.pages.words(at)[ENDS]);
        while element != NONE {
            let next = low(self.pages.words(element)[0]);
            self.pages.release(element, pool);
            element = next;
        }
        let words = self.pages.words_mut(at);
        words[ENDS] = 0;
        words[META] &= 0xffff_ffff;
    }
}

/// Tells elements from records.
const ELEMENT_MARK: u64 = 0x80;

/// An element that was taken off a list.
#[derive(Clone, PartialEq, Debug)]
pub enum Element {
    Text(Vec<u8>),
    Number(f64),
}

impl Kind {
    fn of(meta: u64) -> Self {
        match meta & 0xff {
            1 => Self::Boolean,
            3 => Self::Number,
            4 => Self::Text,
            5 => Self::List,
            _ => Self::Nothing,
        }
    }
}
