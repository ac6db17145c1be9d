//! A cache's files: a head with all that must be known before the body, then the answer's own head, then its body.
//!
//! ```text
//! fixed part │ "\nKEY: " key "\n" │ vary │ etag │ the answer's head ║ its body
//! ```
//!
//! A file gets its name when it is complete. Whatever is not exactly as it was written (cut off, overwritten, of another
//! version) is no entry.

use super::index::Key;
use bytes::Bytes;
use moonrest_proto::http1::ResponseHead;
use moonrest_sys::file::{self, FileStat};
use std::{fs::File, io, ops::Range, sync::Arc};

/// The bytes that begin every file; the last one is the version of what follows.
const MAGIC: &[u8; 8] = b"mrcache\x01";
/// Length of the fixed part.
const FIXED: usize = 112;
/// What stands before the key, so that `grep` finds it as in nginx's files.
const KEY: &[u8] = b"\nKEY: ";
/// A head is no longer than this, whatever a file says.
const MOST_HEAD: usize = 1 << 20;
/// Files of this length are read with their head.
const SMALL: u64 = 32 * 1024;
/// `Vary` and `ETag` are kept up to this length, as in nginx.
pub(super) const MOST_VARY: usize = 128;
pub(crate) const MOST_ETAG: usize = 128;

/// What is known of an answer besides its head and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Fresh until then, in seconds since 1970.
    pub valid: i64,
    /// Seconds after that in which it may be answered while another one is fetched, or when none can be had.
    pub updating: i64,
    pub error: i64,
    /// `Last-Modified`.
    pub modified: Option<i64>,
    /// When it was stored or last confirmed.
    pub date: i64,
    /// The hash of the request fields that `vary` names.
    pub variant: Key,
    /// Variants of one answer have this in common; another answer under the same key has other variants.
    pub family: u64,
    pub vary: Bytes,
    pub etag: Bytes,
}

/// An entry that was read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// None when all of it was read.
    pub file: Option<Arc<File>>,
    pub path: Vec<u8>,
    /// Which file that was.
    pub stamp: Stamp,
    pub meta: Meta,
    /// The answer's head.
    pub block: Bytes,
    /// The same, if it was parsed before.
    pub head: Option<Arc<ResponseHead>>,
    /// Where the body lies.
    pub body: Range<u64>,
    /// The body, if it was read with the head.
    pub small: Option<Bytes>,
}

/// What tells a file from another one, and from itself when it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, u32),
}

impl Stamp {
    pub(super) fn of(stat: &FileStat) -> Self {
        let FileStat { device, inode, size, mtime, mtime_nanos, .. } = *stat;
        Self { device, inode, size, mtime: (mtime, mtime_nanos) }
    }
}

/// What a look at a file came to.
#[derive(Debug)]
pub(crate) enum Read {
    Entry(Box<Entry>),
    /// There is none.
    Missing,
    /// It belongs to another key.
    Collision,
    /// It is no entry: why.
    Corrupt(&'static str),
    /// The system's error, and the call.
    Failed(&'static str, io::Error),
}

/// Opens the file at `path` and reads its head.
pub(crate) fn read(path: &[u8], key: &[u8]) -> Read {
    // A head that is being renewed may be seen half written.
    for _ in 0..2 {
        match attempt(path, key) {
            Read::Corrupt(_) => std::thread::yield_now(),
            other => return other,
        }
    }
    attempt(path, key)
}

fn attempt(path: &[u8], key: &[u8]) -> Read {
    let fd = match file::open_read(path) {
        Ok(fd) => fd,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Read::Missing;
        }
        Err(error) => return Read::Failed("open()", error),
    };
    let stat = match file::fstat(&fd) {
        Ok(stat) => stat,
        Err(error) => return Read::Failed("fstat()", error),
    };
    if !stat.is_file() {
        return Read::Corrupt("is not a regular file");
    }
    let first = if stat.size <= SMALL { stat.size } else { 4096 };
    let mut text = Vec::new();
    if let Err(error) = read_to(&fd, &mut text, first) {
        return Read::Failed("pread()", error);
    }
    let Some(lengths) = Lengths::of(&text) else {
        return Read::Corrupt("is too small or of another version");
    };
    let Some(head) = lengths.head(stat.size) else { return Read::Corrupt("has a wrong length") };
    if text.len() < head
        && let Err(error) = read_to(&fd, &mut text, head as u64)
    {
        return Read::Failed("pread()", error);
    }
    match parse(&text, &lengths, key) {
        Parsed::Corrupt(why) => Read::Corrupt(why),
        Parsed::Collision => Read::Collision,
        Parsed::Head(meta, block) => {
            let text = Bytes::from(text);
            let mut meta = *meta;
            meta.vary = text.slice(lengths.vary_at()..lengths.etag_at());
            meta.etag = text.slice(lengths.etag_at()..block.start);
            let small = (stat.size <= SMALL).then(|| text.slice(head..));
            Read::Entry(Box::new(Entry {
                file: small.is_none().then(|| Arc::new(File::from(fd))),
                path: path.to_vec(),
                stamp: Stamp::of(&stat),
                meta,
                head: None,
                block: text.slice(block),
                body: head as u64..stat.size,
                small,
            }))
        }
    }
}

/// Reads until `len` bytes are there, or the file ends.
fn read_to(fd: &impl std::os::fd::AsFd, text: &mut Vec<u8>, len: u64) -> io::Result<()> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let have = text.len();
    let want = len.saturating_sub(have);
    text.reserve_exact(want);
    let mut at = have;
    while at < len {
        match file::pread_append(fd, text, len - at, at as u64)? {
            0 => break,
            n => at += n,
        }
    }
    Ok(())
}

/// The lengths that a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lengths {
    head: usize,
    key: usize,
    vary: usize,
    etag: usize,
    body: u64,
}

impl Lengths {
    fn of(text: &[u8]) -> Option<Self> {
        if text.len() < FIXED || !text.starts_with(MAGIC) {
            return None;
        }
        Some(Self {
            head: usize::try_from(number(text, 16)?).ok()?,
            key: usize::try_from(number(text, 24)?).ok()?,
            vary: usize::try_from(number(text, 32)? & 0xffff_ffff).ok()?,
            etag: usize::try_from(number(text, 32)? >> 32).ok()?,
            body: number(text, 40)?,
        })
    }

    /// The head's length, if it fits the file's and has room for its parts.
    fn head(&self, size: u64) -> Option<usize> {
        let parts = FIXED.checked_add(KEY.len() + 1)?.checked_add(self.key)?.checked_add(self.vary)?;
        let parts = parts.checked_add(self.etag)?;
        let fits = parts <= self.head
            && self.head <= MOST_HEAD
            && (self.head as u64).checked_add(self.body) == Some(size);
        fits.then_some(self.head)
    }

    fn key_at(&self) -> usize {
        FIXED + KEY.len()
    }

    fn vary_at(&self) -> usize {
        self.key_at() + self.key + 1
    }

    fn etag_at(&self) -> usize {
        self.vary_at() + self.vary
    }

    fn block_at(&self) -> usize {
        self.etag_at() + self.etag
    }
}

enum Parsed {
    Head(Box<Meta>, Range<usize>),
    Collision,
    Corrupt(&'static str),
}

fn parse(text: &[u8], lengths: &Lengths, key: &[u8]) -> Parsed {
    let Some(head) = text.get(..lengths.head) else { return Parsed::Corrupt("is too small") };
    let sum = head.get(16..).map(checksum);
    if sum.is_none() || number(head, 8) != sum {
        return Parsed::Corrupt("has a wrong checksum");
    }
    if head.get(lengths.key_at()..lengths.key_at() + lengths.key) != Some(key) {
        return Parsed::Collision;
    }
    let signed = |at| number(head, at).map_or(0, u64::cast_signed);
    let mut variant = Key::default();
    if let Some(bytes) = head.get(88..104) {
        variant.copy_from_slice(bytes);
    }
    let meta = Meta {
        valid: signed(48),
        updating: signed(56),
        error: signed(64),
        modified: Some(signed(72)).filter(|at| *at != i64::MIN),
        date: signed(80),
        variant,
        family: number(head, 104).unwrap_or(0),
        ..Meta::default()
    };
    Parsed::Head(Box::new(meta), lengths.block_at()..lengths.head)
}

/// The head of a file with a body of `body` bytes.
pub(super) fn head(meta: &Meta, key: &[u8], block: &[u8], body: u64) -> Vec<u8> {
    let len = head_len(meta, key, block);
    let mut text = Vec::with_capacity(len);
    text.extend_from_slice(MAGIC);
    text.extend_from_slice(&[0; 8]);
    let lengths = (meta.vary.len() as u64) | (meta.etag.len() as u64) << 32;
    let modified = meta.modified.unwrap_or(i64::MIN);
    for value in [len as u64, key.len() as u64, lengths, body] {
        text.extend_from_slice(&value.to_le_bytes());
    }
    for value in [meta.valid, meta.updating, meta.error, modified, meta.date] {
        text.extend_from_slice(&value.to_le_bytes());
    }
    text.extend_from_slice(&meta.variant);
    text.extend_from_slice(&meta.family.to_le_bytes());
    for part in [KEY, key, b"\n", &meta.vary, &meta.etag, block] {
        text.extend_from_slice(part);
    }
    let sum = checksum(text.get(16..).unwrap_or_default());
    if let Some(place) = text.get_mut(8..16) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    text
}

/// Writes other times into an entry's file, if it is still the same file.
///
/// # Errors
/// The call that failed, and the system's error.
pub(crate) fn renew(entry: &Entry, meta: &Meta, key: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let fd = match file::open_update(&entry.path) {
        Ok(fd) => fd,
        // It was removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(("open()", error)),
    };
    let now = file::fstat(&fd).map_err(|error| ("fstat()", error))?;
    if Stamp::of(&now) != entry.stamp {
        return Ok(());
    }
    let head = head(meta, key, &entry.block, entry.body.end - entry.body.start);
    if head.len() as u64 != entry.body.start {
        return Ok(());
    }
    file::pwrite_all(&fd, &head, 0).map_err(|error| ("pwrite()", error))
}

/// Whether the key of the entry at `path` begins so.
pub(super) fn has_key_prefix(path: &[u8], prefix: &[u8]) -> bool {
    let Ok(fd) = file::open_read(path) else { return false };
    let mut text = Vec::new();
    let want = FIXED + KEY.len() + prefix.len();
    if read_to(&fd, &mut text, want as u64).is_err() {
        return false;
    }
    let Some(lengths) = Lengths::of(&text) else { return false };
    lengths.key >= prefix.len() && text.get(lengths.key_at()..) == Some(prefix)
}

/// Whether a file's head has room for this key and this answer's head.
pub(crate) fn has_room(key: &[u8], block: &[u8]) -> bool {
    FIXED + KEY.len() + 1 + key.len() + MOST_VARY + MOST_ETAG + block.len() <= MOST_HEAD
}

/// How long [`head`] will be.
pub(super) fn head_len(meta: &Meta, key: &[u8], block: &[u8]) -> usize {
    FIXED + KEY.len() + key.len() + 1 + meta.vary.len() + meta.etag.len() + block.len()
}

/// Whether a file of this length can be an entry at all.
pub(super) fn is_plausible(size: u64) -> bool {
    size >= FIXED as u64
}

/// Against accidents, not against anybody.
fn checksum(text: &[u8]) -> u64 {
    let mut sum = 0x9e37_79b9_7f4a_7c15 ^ text.len() as u64;
    let mut mix = |word: u64| {
        sum = (sum ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        sum ^= sum >> 32;
    };
    let (words, rest) = text.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mix(u64::from_le_bytes(last));
    sum
}

fn number(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("moonrest-cache-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, content: &[u8]) -> Vec<u8> {
            let path = self.0.join("entry");
            std::fs::write(&path, content).unwrap();
            path.into_os_string().into_encoded_bytes()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn meta() -> Meta {
        Meta {
            valid: 1000,
            updating: 5,
            error: 6,
            modified: Some(-7),
            date: 900,
            variant: [3; 16],
            family: 77,
            vary: Bytes::from_static(b"Accept"),
            etag: Bytes::from_static(b"\"e\""),
        }
    }

    fn content(body: &[u8]) -> Vec<u8> {
        let mut content = head(&meta(), b"the key", b"HTTP/1.1 200 OK\r\n\r\n", body.len() as u64);
        content.extend_from_slice(body);
        content
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = Scratch::new("read");
        for len in [0, 5, 100_000] {
            let body = vec![b'x'; len];
            let path = dir.file(&content(&body));
            let Read::Entry(entry) = read(&path, b"the key") else { panic!("{len}") };
            assert_eq!(entry.meta, meta());
            assert_eq!(&*entry.block, b"HTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(entry.body.end - entry.body.start, len as u64);
            assert_eq!(entry.small.is_some(), len < 1000);
            assert!(matches!(read(&path, b"another"), Read::Collision));
            assert!(has_key_prefix(&path, b"the") && !has_key_prefix(&path, b"the key "));
        }
    }

    #[test]
    fn nothing_else_is_an_entry() {
        let dir = Scratch::new("corrupt");
        let whole = content(b"body");
        for cut in 0..whole.len() {
            let path = dir.file(&whole[..cut]);
            assert!(matches!(read(&path, b"the key"), Read::Corrupt(_)), "{cut} bytes");
        }
        for at in 0..whole.len() - 4 {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            let path = dir.file(&changed);
            assert!(matches!(read(&path, b"the key"), Read::Corrupt(_)), "byte {at}");
        }
        let longer = [&whole[..], b"!"].concat();
        assert!(matches!(read(&dir.file(&longer), b"the key"), Read::Corrupt(_)));
        assert!(matches!(
            read(&dir.0.join("none").into_os_string().into_encoded_bytes(), b""),
            Read::Missing
        ));
    }
}
