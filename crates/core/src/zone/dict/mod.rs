//! Dictionaries that all workers share, for `lua_shared_dict`.
//! <https://github.com/openresty/lua-nginx-module#ngxshareddict>
//!
//! Records are found in shards with a lock each; the memory is one pool of pages, so that a value may be as large as the
//! dictionary. What a dictionary holds, and when it is full, is what nginx's slab allocator makes of the same size; the
//! hash tables come on top (64 bytes for each page of 4096).

mod pages;
mod shard;
#[cfg(test)]
mod tests;

pub use shard::{Element, End, Value};

use hashbrown::DefaultHashBuilder;
use moonrest_sys::time;
use pages::{PAGE, Pool, pages_for};
use parking_lot::Mutex;
use shard::{Marks, Shard, size_of_record};
use std::hash::BuildHasher;

use super::lru::MAX_KEY;

/// What a record holds, with Lua's numbers for types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Boolean = 1,
    Number = 3,
    Text = 4,
    List = 5,
    /// Not a record's.
    Nothing = 0xff,
}

impl Kind {
    const fn is_record(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// A dictionary.
pub struct Dict {
    name: Box<str>,
    shards: Box<[Slot]>,
    pool: Pool,
    /// Seeded anew in each process, so that nobody can choose keys that collide.
    hasher: DefaultHashBuilder,
    clock: Clock,
    bytes: u64,
    pages: u32,
}

/// Alone in its cache lines, so that locks do not slow each other down.
#[repr(align(128))]
struct Slot(Mutex<Shard>);

/// Where a dictionary gets the time from, in milliseconds.
#[derive(Clone, Copy)]
pub struct Clock {
    exact: fn() -> u64,
    /// Cheaper, and no more than `LAG` behind.
    coarse: fn() -> u64,
}

const LAG: u64 = 16;
/// Times to live that need no exact clock.
const LONG: u64 = 1000;

impl Clock {
    const SYSTEM: Self = Self { exact: time::monotonic_ms, coarse: time::monotonic_coarse_ms };

    fn is_over(self, expires: u64) -> bool {
        expires != 0 && expires <= (self.coarse)() + LAG && expires <= (self.exact)()
    }

    /// The end of a time to live; 0 for ever. From a second on the coarse clock is good enough.
    fn after(self, ttl: u64) -> u64 {
        match ttl {
            0 => 0,
            1..LONG => (self.exact)().saturating_add(ttl),
            _ => (self.coarse)().saturating_add(ttl),
        }
    }

    /// How long it is until then, by the clock that it was computed with; negative if it is over.
    fn until(self, expires: u64) -> i64 {
        let left = |now: u64| expires.cast_signed().wrapping_sub(now.cast_signed());
        let exact = left((self.exact)());
        if exact < (LONG - LAG).cast_signed() { exact } else { left((self.coarse)()) }
    }
}

/// Smaller dictionaries have one shard: their records give way strictly in the order of their last use.
const SHARD_PAGES: u32 = 256;
const MAX_SHARDS: u32 = 16;
const BUCKETS_PER_PAGE: u32 = 16;
/// How many of the least recently used records give way for one new one, before whole pages are cleared for it.
const EVICTIONS: usize = 30;
/// How often pages that were cleared may be taken by somebody else.
const ATTEMPTS: usize = 8;

/// When [`Dict::store`] stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Always,
    /// Only if there is no such key.
    Absent,
    /// Only if there is such a key.
    Present,
}

/// How a value is stored.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    pub when: When,
    /// Nothing gives way.
    pub safe: bool,
    /// Milliseconds; 0 for ever.
    pub ttl: u64,
    pub flags: u32,
}

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Exists,
    NotFound,
    NotNumber,
    NotList,
    NoMemory,
}

impl Refusal {
    /// The word for it that programs compare.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::NotFound => "not found",
            Self::NotNumber => "not a number",
            Self::NotList => "value not a list",
            Self::NoMemory => "no memory",
        }
    }
}

/// What came of storing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored<T = ()> {
    pub result: Result<T, Refusal>,
    /// Records that were not expired gave way.
    pub forcible: bool,
}

/// A record that was found, seen under the lock.
pub struct Found<'a> {
    shard: &'a Shard,
    at: u32,
    /// It is expired.
    pub stale: bool,
}

impl Found<'_> {
    pub fn kind(&self) -> Kind {
        self.shard.kind(self.at)
    }

    pub fn flags(&self) -> u32 {
        self.shard.flags(self.at)
    }

    pub fn number(&self) -> f64 {
        self.shard.number(self.at)
    }

    pub fn boolean(&self) -> bool {
        self.shard.boolean(self.at)
    }

    /// How long the text is.
    pub fn text_len(&self) -> usize {
        self.shard.len(self.at)
    }

    /// Calls `see` with the pieces of the text.
    pub fn text(&self, see: impl FnMut(&[u8])) {
        self.shard.text(self.at, see);
    }
}

/// A record that a lookup met.
enum Met {
    Nothing,
    Live(u32),
    Expired(u32),
}

/// How far a change got under one lock.
enum Step<T> {
    Done(Result<T, Refusal>),
    /// So many free pages are missing.
    Missing(u32),
}

impl Dict {
    /// A dictionary of `bytes` bytes.
    pub fn new(name: &str, bytes: u64) -> Self {
        Self::with_clock(name, bytes, Clock::SYSTEM)
    }

    /// The same, with another clock.
    pub fn with_clock(name: &str, bytes: u64, clock: Clock) -> Self {
        let pages = usable_pages(bytes);
        let count = 1 << (pages / SHARD_PAGES).clamp(1, MAX_SHARDS).ilog2();
        let buckets = (pages.max(2) / count * BUCKETS_PER_PAGE).next_power_of_two() as usize;
        let pool = Pool::new(pages);
        let shards: Box<[_]> = (0..count).map(|_| Slot(Mutex::new(Shard::new(buckets)))).collect();
        // nginx: its own records take a block of a page, and leave the rest of that page to small values.
        shards[0].0.lock().occupy(128, &pool);
        Self {
            name: name.into(),
            shards,
            pool,
            hasher: DefaultHashBuilder::default(),
            clock,
            bytes,
            pages: pages.saturating_sub(1),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes as declared.
    pub fn capacity(&self) -> u64 {
        self.bytes
    }

    /// Bytes in pages that nothing uses.
    pub fn free_space(&self) -> u64 {
        u64::from(self.pool.free()) * PAGE as u64
    }

    fn place(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        // The upper bits choose the shard, the lower ones the bucket.
        ((hash >> 56) as usize & (self.shards.len() - 1), (hash & 0xffff_ffff) as u32)
    }

    #[inline]
    fn meet(&self, shard: &Shard, hash: u32, key: &[u8]) -> Met {
        match shard.find(hash, key) {
            None => Met::Nothing,
            Some((at, expires)) if self.clock.is_over(expires) => Met::Expired(at),
            Some((at, _)) => Met::Live(at),
        }
    }

    /// Removes up to two of the least recently used records, if they are expired.
    fn tidy(&self, shard: &mut Shard) {
        for _ in 0..2 {
            if !shard.remove_oldest(&self.pool, |shard, at| self.clock.is_over(shard.expires(at))) {
                break;
            }
        }
    }

    /// Shows the key's record; an expired one only if `stale`.
    #[inline]
    pub fn get<R>(&self, key: &[u8], stale: bool, see: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        let (shard, hash) = self.place(key);
        let mut shard = self.shards[shard].0.lock();
        match self.meet(&shard, hash, key) {
            Met::Live(at) => {
                shard.touch(at);
                Some(see(Found { shard: &shard, at, stale: false }))
            }
            Met::Expired(at) if stale => Some(see(Found { shard: &shard, at, stale: true })),
            Met::Expired(_) | Met::Nothing => None,
        }
    }

    /// Stores a value.
    pub fn store(&self, key: &[u8], value: Value<'_>, how: Store) -> Stored {
        let (index, hash) = self.place(key);
        let marks = Marks { expires: self.clock.after(how.ttl), flags: how.flags };
        let mut new = New { hash, key, room: value.len(), safe: how.safe, forcible: false };
        let mut decided = false;
        let result = self.change(index, |shard| {
            if !decided {
                self.tidy(shard);
            }
            let known = match self.meet(shard, hash, key) {
                Met::Live(at) if how.when == When::Absent => {
                    shard.touch(at);
                    return Step::Done(Err(Refusal::Exists));
                }
                Met::Expired(_) | Met::Nothing if how.when == When::Present && !decided => {
                    return Step::Done(Err(Refusal::NotFound));
                }
                Met::Live(at) | Met::Expired(at) => Some(at),
                Met::Nothing => None,
            };
            if let Some(at) = known {
                if shard.rewrite(at, key, value, marks) {
                    shard.touch(at);
                    return Step::Done(Ok(()));
                }
                shard.remove(at, &self.pool);
            }
            decided = true;
            match self.insert(shard, &mut new) {
                Ok(at) => {
                    shard.write(at, value, marks);
                    Step::Done(Ok(()))
                }
                Err(step) => step,
            }
        });
        Stored { result, forcible: new.forcible }
    }

    /// Removes a key.
    pub fn remove(&self, key: &[u8]) {
        let (shard, hash) = self.place(key);
        let mut shard = self.shards[shard].0.lock();
        self.tidy(&mut shard);
        if let Some((at, _)) = shard.find(hash, key) {
            shard.remove(at, &self.pool);
        }
    }

    /// Adds to a number; a key that is not there begins at `init` and lives for so many milliseconds (0: for ever).
    pub fn increment(&self, key: &[u8], by: f64, init: Option<(f64, u64)>) -> Stored<f64> {
        let (index, hash) = self.place(key);
        let mut new = New { hash, key, room: 8, safe: false, forcible: false };
        let result = self.change(index, |shard| {
            let expired = match self.meet(shard, hash, key) {
                Met::Live(at) => {
                    let Some(sum) = shard.increment(at, by) else {
                        return Step::Done(Err(Refusal::NotNumber));
                    };
                    shard.touch(at);
                    return Step::Done(Ok(sum));
                }
                Met::Expired(at) => Some(at),
                Met::Nothing => None,
            };
            let Some((init, ttl)) = init else { return Step::Done(Err(Refusal::NotFound)) };
            let marks = Marks { expires: self.clock.after(ttl), flags: 0 };
            let sum = init + by;
            if let Some(at) = expired {
                if shard.rewrite(at, key, Value::Number(sum), marks) {
                    shard.touch(at);
                    return Step::Done(Ok(sum));
                }
                shard.remove(at, &self.pool);
            }
            self.tidy(shard);
            match self.insert(shard, &mut new) {
                Ok(at) => {
                    shard.write(at, Value::Number(sum), marks);
                    Step::Done(Ok(sum))
                }
                Err(step) => step,
            }
        });
        Stored { result, forcible: new.forcible }
    }

    /// Runs a change on a shard until no page is missing.
    fn change<T>(&self, index: usize, mut step: impl FnMut(&mut Shard) -> Step<T>) -> Result<T, Refusal> {
        for _ in 0..ATTEMPTS {
            // The lock must not outlive the step.
            let done = step(&mut self.shards[index].0.lock());
            match done {
                Step::Done(result) => return result,
                Step::Missing(pages) => self.clear_pages(index, pages),
            }
        }
        Err(Refusal::NoMemory)
    }

    /// A new record; others give way for it if need be.
    #[inline(never)]
    fn insert<T>(&self, shard: &mut Shard, new: &mut New<'_>) -> Result<u32, Step<T>> {
        let pool = &self.pool;
        if let Some(at) = self.try_insert(shard, new) {
            return Ok(at);
        }
        if new.safe || new.key.len() > MAX_KEY {
            return Err(Step::Done(Err(Refusal::NoMemory)));
        }
        for _ in 0..EVICTIONS {
            if !shard.remove_oldest(pool, |_, _| true) {
                break;
            }
            new.forcible = true;
            self.tidy(shard);
            if let Some(at) = self.try_insert(shard, new) {
                return Ok(at);
            }
        }
        match u32::try_from(pages_for(size_of_record(new.key, new.room))) {
            Ok(pages) if pages <= self.pages => {
                new.forcible = true;
                Err(Step::Missing(pages))
            }
            _ => Err(Step::Done(Err(Refusal::NoMemory))),
        }
    }

    fn try_insert(&self, shard: &mut Shard, new: &New<'_>) -> Option<u32> {
        if new.key.len() > MAX_KEY || u32::try_from(new.room).is_err() {
            return None;
        }
        shard.insert(new.hash, new.key, new.room, &self.pool)
    }

    /// Makes records give way, page by page, until so many pages are free; the shard's own first.
    fn clear_pages(&self, index: usize, pages: u32) {
        for n in 0..self.shards.len() {
            let mut shard = self.shards[(index + n) % self.shards.len()].0.lock();
            loop {
                if self.pool.free() >= pages {
                    return;
                }
                if !shard.clear_page(&self.pool) {
                    break;
                }
            }
        }
    }

    /// Adds an element to a list, which is made if it is not there; answers how long the list is. Nothing gives way.
    pub fn push(&self, key: &[u8], value: Value<'_>, end: End) -> Result<usize, Refusal> {
        let (index, hash) = self.place(key);
        let pool = &self.pool;
        let mut shard = self.shards[index].0.lock();
        let shard = &mut *shard;
        self.tidy(shard);
        let known = match self.meet(shard, hash, key) {
            Met::Live(at) if shard.kind(at) != Kind::List => return Err(Refusal::NotList),
            Met::Live(at) => Some(at),
            Met::Expired(at) => {
                shard.remove(at, pool);
                None
            }
            Met::Nothing => None,
        };
        let at = match known {
            Some(at) => {
                shard.touch(at);
                at
            }
            None => {
                let new = New { hash, key, room: 16, safe: true, forcible: false };
                let at = self.try_insert(shard, &new).ok_or(Refusal::NoMemory)?;
                shard.make_list(at);
                at
            }
        };
        if u32::try_from(value.len()).is_ok() && shard.push(at, value, end, pool) {
            return Ok(shard.len(at));
        }
        if shard.len(at) == 0 {
            shard.remove(at, pool);
        }
        Err(Refusal::NoMemory)
    }

    /// Takes an element off a list; the list goes with its last one.
    pub fn pop(&self, key: &[u8], end: End) -> Result<Option<Element>, Refusal> {
        let (index, hash) = self.place(key);
        let mut shard = self.shards[index].0.lock();
        let shard = &mut *shard;
        self.tidy(shard);
        let Met::Live(at) = self.meet(shard, hash, key) else { return Ok(None) };
        if shard.kind(at) != Kind::List {
            return Err(Refusal::NotList);
        }
        let element = shard.pop(at, end, &self.pool);
        if shard.len(at) == 0 {
            shard.remove(at, &self.pool);
        } else {
            shard.touch(at);
        }
        Ok(element)
    }

    /// How many elements a list has; none if it is not there.
    pub fn list_len(&self, key: &[u8]) -> Result<usize, Refusal> {
        let (index, hash) = self.place(key);
        let mut shard = self.shards[index].0.lock();
        self.tidy(&mut shard);
        let Met::Live(at) = self.meet(&shard, hash, key) else { return Ok(0) };
        if shard.kind(at) != Kind::List {
            return Err(Refusal::NotList);
        }
        shard.touch(at);
        Ok(shard.len(at))
    }

    /// Milliseconds that a key lives on: 0 for ever, negative if it is expired.
    pub fn ttl(&self, key: &[u8]) -> Option<i64> {
        let (index, hash) = self.place(key);
        let shard = self.shards[index].0.lock();
        let (_, expires) = shard.find(hash, key)?;
        drop(shard);
        if expires == 0 {
            return Some(0);
        }
        Some(self.clock.until(expires))
    }

    /// Gives a key so many milliseconds to live, 0 for ever; whether it is there.
    pub fn expire(&self, key: &[u8], ttl: u64) -> bool {
        let (index, hash) = self.place(key);
        let mut shard = self.shards[index].0.lock();
        let found = shard.find(hash, key);
        if let Some((at, _)) = found {
            shard.set_expires(at, self.clock.after(ttl));
        }
        found.is_some()
    }

    /// Lets everything expire.
    pub fn flush_all(&self) {
        for slot in &self.shards {
            let mut shard = slot.0.lock();
            let mut next = shard.oldest();
            while let Some(at) = next {
                shard.set_expires(at, 1);
                next = shard.newer(at);
            }
            self.tidy(&mut shard);
        }
    }

    /// Removes expired records, at most `max` unless that is 0; answers how many.
    pub fn flush_expired(&self, max: usize) -> usize {
        let mut removed = 0;
        for slot in &self.shards {
            let mut shard = slot.0.lock();
            let mut next = shard.oldest();
            while let Some(at) = next {
                next = shard.newer(at);
                if self.clock.is_over(shard.expires(at)) {
                    shard.remove(at, &self.pool);
                    removed += 1;
                    if removed == max {
                        return removed;
                    }
                }
            }
        }
        removed
    }

    /// Keys that are not expired, those not used for the longest time first; at most `max` unless that is 0.
    pub fn keys(&self, max: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for slot in &self.shards {
            let shard = slot.0.lock();
            let mut next = shard.oldest();
            while let Some(at) = next {
                next = shard.newer(at);
                if !self.clock.is_over(shard.expires(at)) {
                    keys.push(shard.key(at));
                    if keys.len() == max {
                        return keys;
                    }
                }
            }
        }
        keys
    }
}

/// A record to be made.
struct New<'a> {
    hash: u32,
    key: &'a [u8],
    room: usize,
    safe: bool,
    forcible: bool,
}

/// How many pages nginx's slab allocator makes of a zone. // nginx: programs size their zones by what fits.
fn usable_pages(bytes: u64) -> u32 {
    const HEADER: u64 = 704;
    const PER_PAGE: u64 = 24;
    /// What blocks can be named by, less than 128 GiB.
    const MAX: u64 = 1 << 24;
    let page = PAGE as u64;
    let pages = bytes.saturating_sub(HEADER) / (page + PER_PAGE);
    let start = (HEADER + pages * PER_PAGE).next_multiple_of(page);
    let pages = pages.min(bytes.saturating_sub(start) / page);
    // One of them holds the name for log lines.
    u32::try_from(pages.saturating_sub(1).clamp(1, MAX)).unwrap_or(1)
}
