//! Small entries that a worker has in memory. Each time one is used, the file's name is looked at: what was removed,
//! replaced or written to is read anew.

use super::{
    file::{self, Entry, Read, Stamp},
    index::Key,
    zone::Zone,
};
use lru::LruCache;
use moonrest_proto::http1::{Parse, ResponseHead};
use moonrest_sys::file as files;
use std::{cell::RefCell, sync::Arc};

/// Bytes that a worker keeps.
const ROOM: usize = 4 << 20;

/// A cache, and an entry's name in it.
type Place = (usize, Key);

/// Entries in the order of use.
struct Hot {
    entries: LruCache<Place, Kept>,
    bytes: usize,
}

struct Kept {
    key: Box<[u8]>,
    entry: Entry,
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

/// What a parsed head and the rest of an entry take beside its bytes.
const BESIDE: usize = 1024;

fn size(entry: &Entry) -> usize {
    usize::try_from(entry.body.end).unwrap_or(usize::MAX).saturating_add(BESIDE)
}

impl Hot {
    fn find(&mut self, place: &Place, path: &[u8], key: &[u8]) -> Option<Entry> {
        let kept = self.entries.get(place)?;
        let same = *kept.key == *key
            && kept.entry.path == path
            && files::stat(path).is_ok_and(|stat| Stamp::of(&stat) == kept.entry.stamp);
        if same {
            return Some(kept.entry.clone());
        }
        if let Some(kept) = self.entries.pop(place) {
            self.forget(&kept);
        }
        None
    }

    fn keep(&mut self, place: Place, key: &[u8], entry: &Entry) {
        let mut head = ResponseHead::new();
        let parsed = matches!(head.parse(&entry.block), Ok(Parse::Complete { .. }));
        let entry = Entry { head: parsed.then(|| Arc::new(head)), ..entry.clone() };
        self.bytes = self.bytes.saturating_add(size(&entry));
        if let Some(before) = self.entries.put(place, Kept { key: key.into(), entry }) {
            self.forget(&before);
        }
        while self.bytes > ROOM {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, kept: &Kept) {
        self.bytes = self.bytes.saturating_sub(size(&kept.entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_sys::temp::TempDir;

    #[test]
    fn a_file_that_changes_is_read_anew() {
        let dir = std::env::temp_dir().join(format!("moonrest-hot-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("entry");
        let path = file.clone().into_os_string().into_encoded_bytes();
        let temp = TempDir { path: Vec::new(), levels: [0; 3] };
        let zone = Arc::new(Zone::new("z", "proxy", temp, 0, Arc::default()));
        let body = |key: &[u8]| match read(&zone, &[1; 16], &path, key) {
            Read::Entry(entry) => entry.small.map(|body| body.to_vec()).unwrap_or_default(),
            Read::Collision => b"collision".to_vec(),
            _ => b"none".to_vec(),
        };
        let write = |body: &[u8]| {
            let head =
                file::head(&file::Meta::default(), b"k", b"HTTP/1.1 200 OK\r\n\r\n", body.len() as u64);
            std::fs::write(&file, [&head, body].concat()).unwrap();
        };
        write(b"one");
        assert_eq!(
            (body(b"k"), body(b"k"), body(b"other")),
            (b"one".to_vec(), b"one".to_vec(), b"collision".to_vec())
        );
        write(b"longer");
        assert_eq!(body(b"k"), b"longer");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(body(b"k"), b"none");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
