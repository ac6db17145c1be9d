//! One shard of a zone: records in an arena, found by hash, and kept in the order of their last use.
//!
//! ```text
//! word of a record: 0  hash | next of the same bucket     3  expiry
//!                   1  newer | older                      4  length of the value
//!                   2  tag | length of the key | (arena)  5… key, value
//! ```

use super::arena::{Arena, NONE, UNIT, high, join, low};

/// Bytes of a record before its key.
const HEADER: usize = 40;

pub(super) struct Shard {
    pub(super) arena: Arena,
    buckets: Box<[u32]>,
    newest: u32,
    oldest: u32,
    pub(super) count: usize,
}

impl Shard {
    /// A shard that uses no more than `bytes` bytes for records and buckets together.
    pub(super) fn new(bytes: usize) -> Self {
        // A bucket for each unit at most.
        let units =
            u32::try_from(bytes / (UNIT + size_of::<u32>())).unwrap_or(u32::MAX).clamp(1, (1 << 31) - 1);
        let buckets = 1_usize << units.ilog2();
        Self {
            arena: Arena::new(units),
            buckets: vec![NONE; buckets].into(),
            newest: NONE,
            oldest: NONE,
            count: 0,
        }
    }

    /// The record of `key`.
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let word = self.arena.unit(at)[0];
            if high(word) == hash && self.key(at) == key {
                return Some(at);
            }
            at = low(word);
        }
        None
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The class of blocks for so much.
    pub(super) fn class_of(key: &[u8], value: usize) -> u32 {
        Arena::class_of(HEADER.saturating_add(key.len()).saturating_add(value))
    }

    /// Makes a block a record, newest of all, its value being zeros.
    pub(super) fn insert(&mut self, at: u32, hash: u32, key: &[u8], value: usize) {
        let bucket = self.bucket(hash);
        let next = std::mem::replace(&mut self.buckets[bucket], at);
        let unit = self.arena.unit_mut(at);
        unit[0] = join(hash, next);
        unit[2] = unit[2] & 0xffff | (key.len() as u64 & 0xffff) << 16;
        unit[3] = 0;
        unit[4] = value as u64;
        let bytes = self.arena.bytes_mut(at);
        bytes[HEADER..HEADER + key.len()].copy_from_slice(key);
        bytes[HEADER + key.len()..][..value].fill(0);
        self.push_newest(at);
        self.count += 1;
    }

    /// Removes a record and gives its block back.
    pub(super) fn remove(&mut self, at: u32) {
        let word = self.arena.unit(at)[0];
        let (bucket, next) = (self.bucket(high(word)), low(word));
        let mut link = self.buckets[bucket];
        if link == at {
            self.buckets[bucket] = next;
        } else {
            while link != NONE {
                let word = self.arena.unit(link)[0];
                if low(word) == at {
                    self.arena.unit_mut(link)[0] = join(high(word), next);
                    break;
                }
                link = low(word);
            }
        }
        self.unlink(at);
        self.arena.release(at);
        self.count -= 1;
    }

    /// Makes a record the newest.
    pub(super) fn touch(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.push_newest(at);
        }
    }

    /// The record that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<u32> {
        Some(self.oldest).filter(|at| *at != NONE)
    }

    fn push_newest(&mut self, at: u32) {
        let second = std::mem::replace(&mut self.newest, at);
        self.arena.unit_mut(at)[1] = join(NONE, second);
        if second == NONE {
            self.oldest = at;
        } else {
            let links = &mut self.arena.unit_mut(second)[1];
            *links = join(at, low(*links));
        }
    }

    fn unlink(&mut self, at: u32) {
        let links = self.arena.unit(at)[1];
        let (newer, older) = (high(links), low(links));
        if newer == NONE {
            self.newest = older;
        } else {
            let links = &mut self.arena.unit_mut(newer)[1];
            *links = join(high(*links), older);
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            let links = &mut self.arena.unit_mut(older)[1];
            *links = join(newer, low(*links));
        }
    }

    fn key_len(&self, at: u32) -> usize {
        (self.arena.unit(at)[2] >> 16 & 0xffff) as usize
    }

    fn value_len(&self, at: u32) -> usize {
        low(self.arena.unit(at)[4]) as usize
    }

    pub(super) fn key(&self, at: u32) -> &[u8] {
        &self.arena.bytes(at)[HEADER..HEADER + self.key_len(at)]
    }

    pub(super) fn value(&self, at: u32) -> &[u8] {
        let (key, value) = (self.key_len(at), self.value_len(at));
        &self.arena.bytes(at)[HEADER + key..][..value]
    }

    pub(super) fn value_mut(&mut self, at: u32) -> &mut [u8] {
        let (key, value) = (self.key_len(at), self.value_len(at));
        &mut self.arena.bytes_mut(at)[HEADER + key..][..value]
    }

    /// Gives a record's value another length within its block; what is new of it are zeros.
    pub(super) fn resize(&mut self, at: u32, value: usize) {
        let (key, known) = (self.key_len(at), self.value_len(at));
        self.arena.unit_mut(at)[4] = value as u64;
        if value > known {
            self.arena.bytes_mut(at)[HEADER + key..][known..value].fill(0);
        }
    }

    pub(super) fn expires(&self, at: u32) -> u64 {
        self.arena.unit(at)[3]
    }

    pub(super) fn set_expires(&mut self, at: u32, expires: u64) {
        self.arena.unit_mut(at)[3] = expires;
    }

    pub(super) fn tag(&self, at: u32) -> u32 {
        high(self.arena.unit(at)[2])
    }

    pub(super) fn set_tag(&mut self, at: u32, tag: u32) {
        let word = &mut self.arena.unit_mut(at)[2];
        *word = join(tag, low(*word));
    }
}
