//! What is known of a cache's entries without a look at the disk: a bounded table, in the order of last use.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// An entry's name: the MD5 sum of its key.
pub(crate) type Key = [u8; 16];

/// No node.
const NONE: u32 = u32::MAX;
/// Bytes of a zone that one entry counts for, as in nginx, so that sizes mean what they mean there.
const NODE_BYTES: u64 = 128;
/// What a zone needs for itself.
const OVERHEAD: u64 = 8192;
/// Entries that even the smallest zone holds.
const LEAST: u64 = 32;
/// Uses are counted no further than this.
const MOST_USES: u32 = 1023;

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub key: Key,
    pub uses: u32,
    /// Requests that fill it or wait for it: it stays in the table.
    pub holders: u32,
    /// A status that is answered without asking, until `error_until`.
    pub error: u16,
    /// There is a file.
    pub exists: bool,
    /// The ticket of the request that fills it; 0 for none.
    pub ticket: u64,
    /// Monotonic milliseconds until which others wait for that request.
    pub locked_until: u64,
    /// Seconds since 1970.
    pub error_until: i64,
    /// Monotonic seconds.
    pub expires: u64,
    /// Blocks of the file system that its file takes.
    pub blocks: u64,
    newer: u32,
    older: u32,
}

/// The table.
pub(super) struct Index {
    nodes: Vec<Node>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    newest: u32,
    oldest: u32,
    capacity: usize,
    /// Blocks of all files.
    pub blocks: u64,
}

impl Index {
    /// A table for a zone of `bytes`.
    pub(super) fn with_bytes(bytes: u64) -> Self {
        let capacity = (bytes.saturating_sub(OVERHEAD) / NODE_BYTES).clamp(LEAST, u64::from(NONE) - 1);
        let capacity = usize::try_from(capacity).unwrap_or(NONE as usize - 1);
        Self {
            nodes: Vec::with_capacity(capacity),
            free: Vec::new(),
            table: HashTable::with_capacity(capacity),
            hasher: DefaultHashBuilder::default(),
            newest: NONE,
            oldest: NONE,
            capacity,
            blocks: 0,
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let same = |at: &u32| self.nodes.get(*at as usize).is_some_and(|node| node.key == *key);
        self.table.find(hash, same).copied()
    }

    /// The entry of that name.
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut Node> {
        let at = self.find(key)?;
        self.nodes.get_mut(at as usize)
    }

    /// The entry of that name, now the one used last.
    pub(super) fn touch(&mut self, key: &Key) -> Option<&mut Node> {
        let at = self.find(key)?;
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
        self.nodes.get_mut(at as usize)
    }

    /// A new entry of that name, which must not be there yet; `None` when the table is full.
    pub(super) fn insert(&mut self, key: &Key) -> Option<&mut Node> {
        let node = Node {
            key: *key,
            uses: 0,
            holders: 0,
            error: 0,
            exists: false,
            ticket: 0,
            locked_until: 0,
            error_until: 0,
            expires: 0,
            blocks: 0,
            newer: NONE,
            older: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                *self.nodes.get_mut(at as usize)? = node;
                at
            }
            None if self.nodes.len() < self.capacity => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).ok()?
            }
            None => return None,
        };
        let (hash, hasher, nodes) = (self.hasher.hash_one(key), &self.hasher, &self.nodes);
        let rehash = |at: &u32| nodes.get(*at as usize).map_or(0, |node| hasher.hash_one(node.key));
        self.table.insert_unique(hash, at, rehash);
        self.link(at);
        self.nodes.get_mut(at as usize)
    }

    /// Forgets an entry, its file's size with it.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(at) = self.find(key) else { return };
        let hash = self.hasher.hash_one(key);
        if let Ok(found) = self.table.find_entry(hash, |known| *known == at) {
            found.remove();
        }
        self.unlink(at);
        self.free.push(at);
        let blocks = self.nodes.get(at as usize).map_or(0, |node| node.blocks);
        self.blocks = self.blocks.saturating_sub(blocks);
    }

    /// Says how large an entry's file is; 0 for none.
    pub(super) fn resize(&mut self, key: &Key, blocks: u64) {
        let Some(node) = self.get(key) else { return };
        node.exists = blocks > 0;
        let before = std::mem::replace(&mut node.blocks, blocks);
        self.blocks = self.blocks.saturating_sub(before).saturating_add(blocks);
    }

    /// The entry that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<&Node> {
        self.nodes.get(self.oldest as usize)
    }

    /// All entries' names, in no order.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.table.iter().filter_map(|at| self.nodes.get(*at as usize)).map(|node| node.key).collect()
    }

    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        if let Some(node) = self.node(at) {
            (node.newer, node.older) = (NONE, before);
        }
        match self.node(before) {
            Some(node) => node.newer = at,
            None => self.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(node) = self.node(at) else { return };
        let (newer, older) = (node.newer, node.older);
        match self.node(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.node(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }
}

impl Node {
    /// Counts a use.
    pub(super) fn count_use(&mut self) {
        self.uses = (self.uses + 1).min(MOST_USES);
    }

    /// Forgets what it was: the next request begins anew.
    pub(super) fn renew(&mut self) {
        self.error = 0;
        self.error_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; 16]
    }

    fn order(index: &Index) -> Vec<u8> {
        let mut order = Vec::new();
        let mut at = index.newest;
        while let Some(node) = index.nodes.get(at as usize) {
            order.push(node.key[0]);
            at = node.older;
        }
        order
    }

    #[test]
    fn entries_stand_in_the_order_of_use() {
        let mut index = Index::with_bytes(0);
        for n in 1..=4 {
            assert!(index.insert(&key(n)).is_some());
        }
        assert_eq!(order(&index), [4, 3, 2, 1]);
        index.touch(&key(2));
        index.touch(&key(2));
        assert_eq!(order(&index), [2, 4, 3, 1]);
        index.remove(&key(4));
        assert_eq!(order(&index), [2, 3, 1]);
        index.remove(&key(1));
        assert_eq!(index.oldest().map(|node| node.key), Some(key(3)));
        assert!(index.touch(&key(4)).is_none() && index.get(&key(1)).is_none());
        index.insert(&key(9));
        assert_eq!((order(&index), index.len()), (vec![9, 2, 3], 3));
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut index = Index::with_bytes(OVERHEAD);
        for n in 0..LEAST as u8 {
            assert!(index.insert(&key(n)).is_some());
        }
        assert!(index.insert(&key(200)).is_none());
        index.remove(&key(7));
        assert!(index.insert(&key(200)).is_some());
    }

    #[test]
    fn sizes_add_up() {
        let mut index = Index::with_bytes(0);
        for n in 1..=3 {
            index.insert(&key(n));
            index.resize(&key(n), u64::from(n));
        }
        index.resize(&key(3), 10);
        index.remove(&key(1));
        index.resize(&key(2), 0);
        assert_eq!(index.blocks, 10);
        assert!(!index.get(&key(2)).is_some_and(|node| node.exists));
    }
}
