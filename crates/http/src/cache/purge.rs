//! `*_cache_purge`: entries removed because somebody says so.

use super::{file, settings::Cache, zone::Zone};
use moonrest_sys::time::{monotonic_coarse_ms, wall_coarse};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    },
    thread,
    time::Duration,
};

/// Purges by the beginning of keys that are remembered at the same time. When there are more, the files are looked for.
const MOST: usize = 256;

/// What was purged by the beginning of its key: entries that are older are none, wherever they still lie.
#[derive(Default)]
pub(crate) struct Purges {
    list: Mutex<Vec<Purge>>,
    count: AtomicUsize,
}

struct Purge {
    prefix: Box<[u8]>,
    /// Seconds since 1970.
    at: i64,
    /// Monotonic seconds after which no entry can be that old.
    until: u64,
}

impl Purges {
    /// Whether an entry of that key, stored or confirmed at `date`, was purged.
    pub(crate) fn concern(&self, key: &[u8], date: i64) -> bool {
        if self.count.load(Acquire) == 0 {
            return false;
        }
        self.list.lock().iter().any(|purge| date <= purge.at && key.starts_with(&purge.prefix))
    }

    /// Adds one; `false` when there are too many.
    fn add(&self, prefix: &[u8], inactive: u64) -> bool {
        let now = monotonic_coarse_ms() / 1000;
        let at = wall_coarse().secs;
        let mut list = self.list.lock();
        list.retain(|purge| purge.until > now && *purge.prefix != *prefix);
        let room = list.len() < MOST;
        if !room {
            list.remove(0);
        }
        // Entries that nobody has asked for until then have expired.
        list.push(Purge {
            prefix: prefix.into(),
            at,
            until: now.saturating_add(inactive).saturating_add(20),
        });
        self.count.store(list.len(), Release);
        room
    }
}

/// Removes the entry of a key, or all whose keys begin as one that ends in `*` does. `false` when there was none.
pub(crate) fn purge(cache: &Cache, key: &[u8]) -> bool {
    let Some(prefix) = key.strip_suffix(b"*") else {
        // Its variants belong to the answer that is gone: nobody finds them any more.
        return cache.zone.purge(&super::digest(key));
    };
    let room = cache.zone.purges().add(prefix, cache.limits.inactive);
    if cache.limits.purger || !room {
        let (cache, prefix) = (cache.clone(), prefix.to_vec());
        // If there is no thread, entries are removed when somebody asks for them.
        let _ = thread::Builder::new().name("cache purger".to_owned()).spawn(move || sweep(&cache, &prefix));
    }
    true
}

/// Looks through all entries.
fn sweep(cache: &Cache, prefix: &[u8]) {
    let (zone, limits): (&Arc<Zone>, _) = (&cache.zone, &cache.limits);
    let (mut files, mut until) = (0, monotonic_coarse_ms().saturating_add(limits.purger_threshold));
    for key in zone.keys() {
        if file::has_key_prefix(&zone.path(&key), prefix) {
            zone.purge(&key);
        }
        files += 1;
        if files >= limits.purger_files || monotonic_coarse_ms() >= until {
            thread::sleep(Duration::from_millis(limits.purger_sleep));
            (files, until) = (0, monotonic_coarse_ms().saturating_add(limits.purger_threshold));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_entries_are_concerned() {
        let purges = Purges::default();
        let now = wall_coarse().secs;
        assert!(!purges.concern(b"/a/b", now));
        assert!(purges.add(b"/a/", 10));
        assert!(purges.concern(b"/a/b", now) && purges.concern(b"/a/", now - 100));
        assert!(!purges.concern(b"/b", now) && !purges.concern(b"/a/b", now + 2));
        assert!((1..MOST).all(|n| purges.add(n.to_string().as_bytes(), 10)));
        assert!(!purges.add(b"one more", 10));
    }
}
