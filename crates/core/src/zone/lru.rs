//! A bounded table of records that all workers share: `limit_req`, `limit_conn`, `lua_shared_dict`, caches of sessions.
//!
//! The memory is taken once and never grows. It is divided into shards with a lock each; a record lies in one shard,
//! with its key, its value, the time it expires and a tag for its user. When a shard is full, records give way that
//! were not used for the longest time.

use super::{
    arena::{NONE, UNIT},
    shard::Shard,
};
use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard};
use std::hash::BuildHasher;

/// The table.
pub struct Lru {
    shards: Box<[Slot]>,
    /// Seeded anew in each process, so that nobody can choose keys that collide.
    hasher: DefaultHashBuilder,
}

/// Alone in its cache lines, so that locks do not slow each other down.
#[repr(align(128))]
struct Slot(Mutex<Shard>);

/// A shard no smaller than this, so that large values find room.
const SHARD: u64 = 1 << 20;
const MAX_SHARDS: u64 = 16;
/// Keys are no longer than this.
pub const MAX_KEY: usize = 65_535;

/// There is no room for a record of that size, even with others evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Lru {
    /// A table that uses no more than `bytes` bytes.
    pub fn with_bytes(bytes: u64) -> Self {
        let count = (bytes / SHARD).clamp(1, MAX_SHARDS);
        let count = 1 << count.ilog2();
        let each = usize::try_from(bytes / count).unwrap_or(usize::MAX);
        Self {
            shards: (0..count).map(|_| Slot(Mutex::new(Shard::new(each)))).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Locks the shard of `key`.
    pub fn lock<'a>(&'a self, key: &'a [u8]) -> Locked<'a> {
        let hash = self.hasher.hash_one(key);
        // The upper bits choose the shard, the lower ones the bucket.
        let shard = (hash >> 56) as usize & (self.shards.len() - 1);
        Locked { shard: self.shards[shard].0.lock(), hash: super::arena::low(hash), key }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|slot| slot.0.lock().count).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in no record.
    pub fn free_bytes(&self) -> u64 {
        self.shards.iter().map(|slot| u64::from(slot.0.lock().arena.free_units()) * UNIT as u64).sum()
    }

    /// Removes records, oldest of each shard first, as long as `remove` says so; with `Err` it stops in this shard.
    pub fn sweep(&self, mut remove: impl FnMut(&Record<'_>) -> Result<bool, ()>) {
        for slot in &self.shards {
            let mut shard = slot.0.lock();
            let mut next = shard.oldest();
            while let Some(at) = next {
                next = Some(super::arena::high(shard.arena.unit(at)[1])).filter(|at| *at != NONE);
                match remove(&Record { shard: &mut shard, at }) {
                    Ok(true) => shard.remove(at),
                    Ok(false) => {}
                    Err(()) => break,
                }
            }
        }
    }
}

/// The shard of one key, locked. Nothing else can happen to the key meanwhile.
pub struct Locked<'a> {
    shard: MutexGuard<'a, Shard>,
    hash: u32,
    key: &'a [u8],
}

impl Locked<'_> {
    /// The key's record, as it is.
    pub fn peek(&mut self) -> Option<Record<'_>> {
        let at = self.shard.find(self.hash, self.key)?;
        Some(Record { shard: &mut self.shard, at })
    }

    /// The key's record, which counts as used now.
    pub fn get(&mut self) -> Option<Record<'_>> {
        let at = self.shard.find(self.hash, self.key)?;
        self.shard.touch(at);
        Some(Record { shard: &mut self.shard, at })
    }

    /// A record for the key with room for a value of `len` bytes. One that is there already keeps its place if it can,
    /// and as much of its value as fits; a new one's value is zeros. At most `evict` other records give way.
    ///
    /// # Errors
    /// [`Full`]; a record that was there is gone then.
    pub fn put(&mut self, len: usize, evict: usize) -> Result<Put<'_>, Full> {
        let class = Shard::class_of(self.key, len);
        match self.shard.find(self.hash, self.key) {
            Some(at) if self.shard.arena.class(at) == class => {
                self.shard.touch(at);
                self.shard.resize(at, len);
                Ok(Put { record: Record { shard: &mut self.shard, at }, evicted: 0, new: false })
            }
            Some(at) => self.replace(at, len, evict),
            None => {
                let (at, evicted) = self.insert(len, evict)?;
                Ok(Put { record: Record { shard: &mut self.shard, at }, evicted, new: true })
            }
        }
    }

    /// Moves a record to a block of another size.
    fn replace(&mut self, at: u32, len: usize, evict: usize) -> Result<Put<'_>, Full> {
        let value = self.shard.value(at);
        let value = value.get(..len).unwrap_or(value).to_vec();
        let (expires, tag) = (self.shard.expires(at), self.shard.tag(at));
        self.shard.remove(at);
        let (at, evicted) = self.insert(len, evict)?;
        self.shard.value_mut(at)[..value.len()].copy_from_slice(&value);
        self.shard.set_expires(at, expires);
        self.shard.set_tag(at, tag);
        Ok(Put { record: Record { shard: &mut self.shard, at }, evicted, new: false })
    }

    fn insert(&mut self, len: usize, evict: usize) -> Result<(u32, usize), Full> {
        let class = Shard::class_of(self.key, len);
        if self.key.len() > MAX_KEY || u32::try_from(len).is_err() || !self.shard.arena.can_hold(class) {
            return Err(Full);
        }
        let mut evicted = 0;
        let at = loop {
            if let Some(at) = self.shard.arena.allocate(class) {
                break at;
            }
            let oldest = self.shard.oldest().filter(|_| evicted < evict).ok_or(Full)?;
            self.shard.remove(oldest);
            evicted += 1;
        };
        self.shard.insert(at, self.hash, self.key, len);
        Ok((at, evicted))
    }

    /// Removes the key's record; whether there was one.
    pub fn remove(&mut self) -> bool {
        let found = self.shard.find(self.hash, self.key);
        if let Some(at) = found {
            self.shard.remove(at);
        }
        found.is_some()
    }

    /// Removes the oldest record of the shard if `remove` says so; whether it did.
    pub fn remove_oldest(&mut self, remove: impl FnOnce(&Record<'_>) -> bool) -> bool {
        let Some(at) = self.shard.oldest() else { return false };
        let removed = remove(&Record { shard: &mut self.shard, at });
        if removed {
            self.shard.remove(at);
        }
        removed
    }
}

/// What [`Locked::put`] made.
pub struct Put<'a> {
    pub record: Record<'a>,
    /// Records that gave way.
    pub evicted: usize,
    /// The key had no record before.
    pub new: bool,
}

/// A record of a locked shard.
pub struct Record<'a> {
    shard: &'a mut Shard,
    at: u32,
}

impl Record<'_> {
    pub fn key(&self) -> &[u8] {
        self.shard.key(self.at)
    }

    pub fn value(&self) -> &[u8] {
        self.shard.value(self.at)
    }

    /// The value, to be overwritten in place.
    pub fn value_mut(&mut self) -> &mut [u8] {
        self.shard.value_mut(self.at)
    }

    /// Milliseconds of a clock of the user's choice; 0 in a new record. Nothing happens by itself when they are over.
    pub fn expires(&self) -> u64 {
        self.shard.expires(self.at)
    }

    pub fn set_expires(&mut self, expires: u64) {
        self.shard.set_expires(self.at, expires);
    }

    /// What the user marked the record with; 0 in a new record.
    pub fn tag(&self) -> u32 {
        self.shard.tag(self.at)
    }

    pub fn set_tag(&mut self, tag: u32) {
        self.shard.set_tag(self.at, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(lru: &Lru, key: &str, value: &[u8], evict: usize) -> Result<usize, Full> {
        let mut slot = lru.lock(key.as_bytes());
        let mut put = slot.put(value.len(), evict)?;
        put.record.value_mut().copy_from_slice(value);
        Ok(put.evicted)
    }

    fn get(lru: &Lru, key: &str) -> Option<Vec<u8>> {
        lru.lock(key.as_bytes()).get().map(|record| record.value().to_vec())
    }

    #[test]
    fn values_are_found_replaced_and_removed() {
        let lru = Lru::with_bytes(1 << 16);
        assert_eq!(get(&lru, "a"), None);
        assert_eq!(set(&lru, "a", b"1", 0), Ok(0));
        assert_eq!(set(&lru, "b", b"", 0), Ok(0));
        assert_eq!(get(&lru, "a"), Some(b"1".to_vec()));
        assert_eq!(set(&lru, "a", &[7; 500], 0), Ok(0));
        assert_eq!(get(&lru, "a"), Some(vec![7; 500]));
        assert_eq!(set(&lru, "a", b"short", 0), Ok(0));
        assert_eq!(get(&lru, "a"), Some(b"short".to_vec()));
        assert_eq!(get(&lru, "b"), Some(Vec::new()));
        assert_eq!(lru.len(), 2);
        assert!(lru.lock(b"a").remove());
        assert!(!lru.lock(b"a").remove());
        assert_eq!(get(&lru, "a"), None);
        assert_eq!(lru.len(), 1);
    }

    #[test]
    fn a_full_table_evicts_what_was_not_used_for_the_longest_time() {
        let lru = Lru::with_bytes(8 * 1024);
        let mut n = 0;
        while set(&lru, &format!("{n:04}"), &[0; 16], 0).is_ok() {
            n += 1;
        }
        assert!(n >= 100, "{n}");
        assert_eq!(lru.free_bytes(), 0);
        assert!(get(&lru, "0000").is_some());
        assert_eq!(set(&lru, "new", &[0; 16], 1), Ok(1));
        assert!(get(&lru, "0000").is_some(), "used just now");
        assert!(get(&lru, "0001").is_none(), "the oldest");
        // A large value takes the place of as many small ones as it needs.
        let evicted = set(&lru, "large", &[1; 3000], usize::MAX).unwrap();
        assert!(evicted >= 64, "{evicted}");
        assert_eq!(get(&lru, "large"), Some(vec![1; 3000]));
        assert_eq!(set(&lru, "huge", &[1; 9000], usize::MAX), Err(Full));
        assert!(get(&lru, "large").is_some(), "nothing gives way in vain");
    }

    #[test]
    fn a_record_keeps_its_marks_when_its_value_grows() {
        let lru = Lru::with_bytes(1 << 16);
        set(&lru, "a", b"12", 0).unwrap();
        {
            let mut slot = lru.lock(b"a");
            let mut record = slot.peek().unwrap();
            record.set_expires(99);
            record.set_tag(7);
        }
        let mut slot = lru.lock(b"a");
        {
            let put = slot.put(1000, 0).unwrap();
            assert!(!put.new);
            assert_eq!((put.record.expires(), put.record.tag()), (99, 7));
            assert_eq!(&put.record.value()[..3], b"12\0");
        }
        slot.remove();
        let put = slot.put(2, 0).unwrap();
        assert!(put.new);
        assert_eq!((put.record.expires(), put.record.tag(), put.record.value()), (0, 0, &[0, 0][..]));
    }

    #[test]
    fn sweeping_goes_from_the_oldest_to_the_newest() {
        let lru = Lru::with_bytes(1 << 16);
        for key in ["a", "b", "c", "d"] {
            set(&lru, key, b"x", 0).unwrap();
        }
        get(&lru, "a");
        let mut seen = Vec::new();
        lru.sweep(|record| {
            seen.push(record.key().to_vec());
            if seen.len() == 3 { Err(()) } else { Ok(record.key() == b"c") }
        });
        assert_eq!(seen, [b"b", b"c", b"d"]);
        assert_eq!(get(&lru, "c"), None);
        assert!(lru.lock(b"z").remove_oldest(|record| record.key() == b"b"));
        assert!(!lru.lock(b"z").remove_oldest(|record| record.key() == b"b"));
    }

    #[test]
    fn threads_lose_no_update() {
        let lru = Lru::with_bytes(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000_u32 {
                        let key = [b'k', u8::try_from(n % 16).unwrap()];
                        let mut slot = lru.lock(&key);
                        let mut put = slot.put(8, usize::MAX).unwrap();
                        let value = put.record.value_mut();
                        let number = u64::from_ne_bytes(value.try_into().unwrap()) + 1;
                        value.copy_from_slice(&number.to_ne_bytes());
                    }
                });
            }
        });
        let mut total = 0;
        lru.sweep(|record| {
            total += u64::from_ne_bytes(record.value().try_into().unwrap());
            Ok(false)
        });
        assert_eq!(total, 40_000);
    }
}
