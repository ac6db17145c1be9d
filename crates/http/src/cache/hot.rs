//! Small entries that a worker has in memory. Each time one is used, the file's name is looked at: what was removed,
//! replaced or written to is read anew.

use super::{
    file::{self, Entry, Read, Stamp},
    index::Key,
    zone::Zone,
};
use lru::LruCache;
use moonrest_sys::file as files;
use std::{cell::RefCell, sync::Arc};

/// Bytes that a worker keeps.
const ROOM: usize = 4 << 20;

/// Entries by cache and name, with their keys, in the order of use.
struct Hot {
    entries: LruCache<(usize, Key), (Box<[u8]>, Entry)>,
    bytes: usize,
}

thread_local! {
    static HOT: RefCell<Hot> = RefCell::new(Hot { entries: LruCache::unbounded(), bytes: 0 });
}

/// Reads the file at `path`, or takes what was read before.
pub(crate) fn read(zone: &Arc<Zone>, name: &Key, path: &[u8], key: &[u8]) -> Read {
    let place = (Arc::as_ptr(zone) as usize, *name);
    HOT.with_borrow_mut(|hot| {
        if let Some(entry) = hot.find(&place, path, key) {
            return Read::Entry(Box::new(entry));
        }
        let read = file::read(path, key);
        if let Read::Entry(entry) = &read
            && entry.small.is_some()
        {
            hot.keep(place, key, entry);
        }
        read
    })
}

fn size(entry: &Entry) -> usize {
    usize::try_from(entry.body.end).unwrap_or(usize::MAX)
}

impl Hot {
    fn find(&mut self, place: &(usize, Key), path: &[u8], key: &[u8]) -> Option<Entry> {
        let (known, entry) = self.entries.get(place)?;
        let same = **known == *key
            && entry.path == path
            && files::stat(path).is_ok_and(|stat| Stamp::of(&stat) == entry.stamp);
        if same {
            return Some(entry.clone());
        }
        if let Some((_, entry)) = self.entries.pop(place) {
            self.bytes = self.bytes.saturating_sub(size(&entry));
        }
        None
    }

    fn keep(&mut self, place: (usize, Key), key: &[u8], entry: &Entry) {
        self.bytes = self.bytes.saturating_add(size(entry));
        if let Some((_, before)) = self.entries.put(place, (key.into(), entry.clone())) {
            self.bytes = self.bytes.saturating_sub(size(&before));
        }
        while self.bytes > ROOM {
            let Some((_, (_, oldest))) = self.entries.pop_lru() else { break };
            self.bytes = self.bytes.saturating_sub(size(&oldest));
        }
    }
}
