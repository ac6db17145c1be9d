//! Opening the files that responses are made of, with the open file cache of a worker.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#open_file_cache>

use crate::{
    core::{Aio, Core, DisableSymlinks, OpenFileCache},
    filter::{FileRange, OpenFile, Piece},
    phase::{RequestError, Step},
    request::{Request, RequestRef},
};
use lru::LruCache;
use moonrest_core::{Level, env::os_error};
use moonrest_sys::{
    errno::{EACCES, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOTDIR},
    file::{self, Access, FileStat},
    symlinks::{self, Symlinks},
};
use std::{cell::RefCell, fs::File, io, rc::Rc, sync::Arc};

/// A file or directory that was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub stat: FileStat,
    /// Open for reading; `None` for a directory.
    pub file: Option<Arc<File>>,
    /// Reads go past the page cache (`directio`).
    pub direct: bool,
}

/// Why a file could not be opened.
#[derive(Debug)]
pub struct Failure {
    /// The call that failed, as nginx logs it.
    pub call: &'static str,
    pub error: io::Error,
}

/// Files this small are not worth telling the kernel about (`read_ahead`).
const MIN_READ_AHEAD: u64 = 128 * 1024;

/// Opens `path` under the settings in force for the request, or takes it from the cache.
///
/// # Errors
/// The system's.
pub fn open(r: &Request, path: &[u8]) -> Result<Found, Failure> {
    let ask = Ask::new(r, path);
    match cache_of(r) {
        Some(cache) => cache.borrow_mut().open(&ask, path, r.worker.now(), false),
        None => ask.open(path),
    }
}

/// Describes what `path` leads to, without keeping it open unless the cache does.
///
/// # Errors
/// The system's.
pub fn test(r: &Request, path: &[u8]) -> Result<FileStat, Failure> {
    describe(r, path, false)
}

/// The same for a name that is expected to be a directory.
///
/// # Errors
/// The system's.
pub fn test_dir(r: &Request, path: &[u8]) -> Result<FileStat, Failure> {
    describe(r, path, true)
}

fn describe(r: &Request, path: &[u8], directory: bool) -> Result<FileStat, Failure> {
    let ask = Ask::new(r, path);
    match cache_of(r) {
        Some(cache) => cache.borrow_mut().open(&ask, path, r.worker.now(), directory).map(|found| found.stat),
        None => ask.stat(path),
    }
}

impl Found {
    /// Answers with the file: the head as it stands, and all of the file behind it.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond(&self, r: &RequestRef, path: Vec<u8>) -> Result<Step, RequestError> {
        match self.range(r, path) {
            Some(range) => r.respond_piece(Piece::File(range)),
            None => r.respond_pieces(Vec::new()),
        }
    }

    /// All of the file as a piece of a response. `None` for a directory.
    pub fn range(&self, r: &Request, path: Vec<u8>) -> Option<FileRange> {
        let core = &r.loc().core;
        let file = OpenFile {
            file: self.file.clone()?,
            name: path,
            direct: self.direct,
            threads: matches!(core.aio, Aio::Threads(_)),
            sendfile: core.sendfile && !self.direct,
        };
        Some(FileRange { file: Rc::new(file), start: 0, end: self.stat.size })
    }
}

impl Failure {
    /// The system's error number; 0 when the name itself was refused.
    pub fn code(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(0)
    }

    /// Whether nothing has that name.
    pub fn is_not_found(&self) -> bool {
        matches!(self.code(), ENOENT | ENOTDIR | ENAMETOOLONG)
    }

    /// Whether a link on the way may not be followed.
    pub fn is_link(&self) -> bool {
        matches!(self.code(), ELOOP | EMLINK)
    }

    /// The status to answer with, after a line in the error log.
    pub fn answer(&self, r: &Request, path: &[u8]) -> u16 {
        let (level, status) = if self.is_not_found() {
            (Level::Error, 404)
        } else if self.is_link() || self.code() == EACCES {
            (Level::Error, 403)
        } else {
            (Level::Crit, 500)
        };
        if status != 404 || r.loc().core.log_not_found {
            self.log(r, level, path);
        }
        status
    }

    /// The status to answer with when a directory could not be listed, after a line in the error log.
    pub fn answer_directory(&self, r: &Request, path: &[u8]) -> u16 {
        let (level, status) = if self.is_not_found() {
            (Level::Error, 404)
        } else if self.code() == EACCES {
            (Level::Error, 403)
        } else {
            (Level::Crit, 500)
        };
        self.log(r, level, path);
        status
    }

    /// Writes nginx's `open() "path" failed (2: No such file or directory)`.
    pub fn log(&self, r: &Request, level: Level, path: &[u8]) {
        if r.log().enabled(level) {
            r.log_at(
                level,
                format_args!(
                    "{} \"{}\" failed ({})",
                    self.call,
                    String::from_utf8_lossy(path),
                    os_error(&self.error)
                ),
            );
        }
    }
}

/// How one file is wanted.
struct Ask {
    symlinks: Symlinks,
    /// Of the path, the part in which links are followed anyway.
    from: usize,
    read_ahead: bool,
    directio: u64,
    /// Seconds.
    valid: u64,
    min_uses: u64,
    errors: bool,
}

impl Ask {
    fn new(r: &Request, path: &[u8]) -> Self {
        let core: &Core = &r.loc().core;
        let (symlinks, from) = link_policy(r, &core.disable_symlinks, path);
        Self {
            symlinks,
            from,
            read_ahead: core.read_ahead != 0,
            directio: core.directio,
            valid: core.open_file_cache_valid,
            min_uses: core.open_file_cache_min_uses,
            errors: core.open_file_cache_errors,
        }
    }

    fn stat(&self, path: &[u8]) -> Result<FileStat, Failure> {
        symlinks::stat(path, self.symlinks, self.from)
            .map_err(|failure| Failure { call: failure.call, error: failure.error })
    }

    fn open(&self, path: &[u8]) -> Result<Found, Failure> {
        let fd = symlinks::open_read(path, self.symlinks, self.from)
            .map_err(|failure| Failure { call: failure.call, error: failure.error })?;
        let stat = file::fstat(&fd).map_err(|error| Failure { call: "fstat()", error })?;
        if stat.is_dir() {
            return Ok(Found { stat, file: None, direct: false });
        }
        if self.read_ahead && stat.size > MIN_READ_AHEAD {
            // Advice only: a file system that cannot follow it serves the file all the same.
            let _ = file::advise(&fd, 0, 0, Access::Sequential);
        }
        let direct = self.directio <= stat.size && stat.is_file() && file::set_direct(&fd, true).is_ok();
        Ok(Found { stat, file: Some(Arc::new(fd.into())), direct })
    }
}

/// `disable_symlinks … from=`: how links in `path` are treated.
fn link_policy(r: &Request, setting: &DisableSymlinks, path: &[u8]) -> (Symlinks, usize) {
    let (symlinks, from) = match setting {
        DisableSymlinks::Off => return (Symlinks::Follow, 0),
        DisableSymlinks::On { from } => (Symlinks::Refuse, from),
        DisableSymlinks::IfNotOwner { from } => (Symlinks::SameOwner, from),
    };
    let Some(from) = from else { return (symlinks, 0) };
    trusted_part(symlinks, &from.eval(r), path)
}

fn trusted_part(symlinks: Symlinks, from: &[u8], path: &[u8]) -> (Symlinks, usize) {
    let Some(rest) = path.strip_prefix(from).filter(|_| !from.is_empty()) else { return (symlinks, 0) };
    match rest.first() {
        None => (Symlinks::Follow, 0),
        Some(b'/') => (symlinks, from.len()),
        Some(_) if from.ends_with(b"/") => (symlinks, from.len() - 1),
        Some(_) => (symlinks, 0),
    }
}

/// The caches of one worker, one for each `open_file_cache` line.
#[derive(Default)]
pub(crate) struct Caches(RefCell<Vec<(u64, Rc<RefCell<Cache>>)>>);

fn cache_of(r: &Request) -> Option<Rc<RefCell<Cache>>> {
    let OpenFileCache::On { id, max, inactive } = r.loc().core.open_file_cache else { return None };
    let mut caches = r.worker.file_caches.0.borrow_mut();
    if let Some((_, cache)) = caches.iter().find(|(known, _)| *known == id) {
        return Some(cache.clone());
    }
    let cache = Rc::new(RefCell::new(Cache::new(max, inactive)));
    caches.push((id, cache.clone()));
    Some(cache)
}

/// What is known of names, in order of last use.
struct Cache {
    entries: LruCache<Box<[u8]>, Entry>,
    max: usize,
    /// Seconds.
    inactive: i64,
}

struct Entry {
    known: Known,
    uses: u64,
    created: i64,
    accessed: i64,
    symlinks: Symlinks,
    from: usize,
}

enum Known {
    /// An open file, or a directory.
    Found(Found),
    /// A file not used often enough to be kept open.
    Closed,
    Failed {
        call: &'static str,
        code: i32,
    },
}

impl Cache {
    fn new(max: u64, inactive: u64) -> Self {
        Self {
            entries: LruCache::unbounded(),
            max: usize::try_from(max).unwrap_or(usize::MAX),
            inactive: i64::try_from(inactive).unwrap_or(i64::MAX),
        }
    }

    fn open(&mut self, ask: &Ask, path: &[u8], now: i64, directory: bool) -> Result<Found, Failure> {
        let mut uses = 1;
        let mut directory = directory;
        if let Some(entry) = self.entries.get_mut(path) {
            entry.uses += 1;
            entry.accessed = now;
            uses = entry.uses;
            if entry.is_valid(ask, now) {
                let answer = entry.answer();
                self.expire(now, false);
                return answer;
            }
            if let Known::Found(found) = &mut entry.known {
                match ask.stat(path) {
                    // Still the same file: its descriptor serves on.
                    Ok(stat) if stat.same_file(&found.stat) && stat.is_dir() == found.stat.is_dir() => {
                        found.stat = stat;
                        (entry.created, entry.symlinks, entry.from) = (now, ask.symlinks, ask.from);
                        return entry.answer();
                    }
                    Ok(_) => directory = false,
                    Err(failure) => return self.keep(ask, path, now, uses, Err(failure)),
                }
            }
        }
        let answer = if directory {
            match ask.stat(path) {
                Ok(stat) if stat.is_dir() => Ok(Found { stat, file: None, direct: false }),
                Ok(_) => ask.open(path),
                Err(failure) => Err(failure),
            }
        } else {
            ask.open(path)
        };
        self.keep(ask, path, now, uses, answer)
    }

    /// Remembers an answer, as far as the settings want that.
    fn keep(
        &mut self,
        ask: &Ask,
        path: &[u8],
        now: i64,
        uses: u64,
        answer: Result<Found, Failure>,
    ) -> Result<Found, Failure> {
        let known = match &answer {
            Ok(found) if found.file.is_some() && uses < ask.min_uses => Known::Closed,
            Ok(found) => Known::Found(found.clone()),
            Err(failure) if ask.errors && failure.code() != 0 => {
                let call = if ask.symlinks == Symlinks::Follow { "open()" } else { "openat()" };
                Known::Failed { call, code: failure.code() }
            }
            Err(_) => {
                self.entries.pop(path);
                return answer;
            }
        };
        let entry =
            Entry { known, uses, created: now, accessed: now, symlinks: ask.symlinks, from: ask.from };
        match self.entries.get_mut(path) {
            Some(old) => *old = entry,
            None => {
                let full = self.entries.len() >= self.max;
                self.expire(now, full);
                self.entries.put(path.into(), entry);
            }
        }
        answer
    }

    /// Drops one or two names that were not asked for lately; the least recent one in any case when `force` says so.
    fn expire(&mut self, now: i64, force: bool) {
        for step in 0..3 {
            let Some((_, last)) = self.entries.peek_lru() else { return };
            let forced = force && step == 0;
            if !forced && (now - last.accessed <= self.inactive || (step == 2 && !force)) {
                return;
            }
            self.entries.pop_lru();
        }
    }
}

impl Entry {
    fn is_valid(&self, ask: &Ask, now: i64) -> bool {
        !matches!(self.known, Known::Closed)
            && now.saturating_sub(self.created) < i64::try_from(ask.valid).unwrap_or(i64::MAX)
            && self.symlinks == ask.symlinks
            && self.from == ask.from
    }

    fn answer(&self) -> Result<Found, Failure> {
        match &self.known {
            Known::Found(found) => Ok(found.clone()),
            Known::Failed { call, code } => Err(Failure { call, error: io::Error::from_raw_os_error(*code) }),
            Known::Closed => Err(Failure { call: "open()", error: io::ErrorKind::NotFound.into() }),
        }
    }
}

/// Reads past the page cache start and end at multiples of this, in memory as in the file.
const ALIGNMENT: u64 = 4096;

impl OpenFile {
    /// Reads at `offset` until the buffer is full or the file ends.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at(&self.file, self.direct, buffer, offset)
    }

    /// Appends up to `len` bytes from `offset` on, fewer only when the file ends.
    ///
    /// # Errors
    /// The system's.
    pub fn append_at(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        if !self.direct {
            return file::pread_append(&*self.file, buffer, len, offset);
        }
        let before = buffer.len();
        buffer.resize(before + len, 0);
        let read = self.read_at(buffer.get_mut(before..).unwrap_or_default(), offset);
        buffer.truncate(before + read.as_ref().map_or(0, |n| *n));
        read
    }

    /// Whether `start..end` can be read without waiting for a disk, as far as the kernel tells.
    pub fn is_cached(&self, start: u64, end: u64) -> bool {
        if self.direct {
            return false;
        }
        let mut byte = [0];
        let mut cached = |at| {
            !matches!(file::pread_cached(&*self.file, &mut byte, at),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        };
        cached(start) && cached(end.saturating_sub(1).max(start))
    }
}

/// Reads at `offset` until the buffer is full or the file ends, past the page cache if `direct` says so.
pub(crate) fn read_at(file: &File, direct: bool, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    if !direct {
        return file::pread_full(file, buffer, offset);
    }
    match read_direct(file, buffer, offset) {
        // This file system wants it otherwise.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            file::set_direct(file, false)?;
            file::pread_full(file, buffer, offset)
        }
        other => other,
    }
}

fn read_direct(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let start = offset / ALIGNMENT * ALIGNMENT;
    let before = usize::try_from(offset - start).unwrap_or(0);
    let unit = usize::try_from(ALIGNMENT).unwrap_or(4096);
    let len = (before + buffer.len()).next_multiple_of(unit);
    let mut room = vec![0u8; len + unit];
    let skip = room.as_ptr().align_offset(unit).min(unit);
    let aligned = room.get_mut(skip..skip + len).unwrap_or_default();
    let n = file::pread(file, aligned, start)?;
    let got = aligned.get(before..n.max(before)).unwrap_or_default();
    let n = got.len().min(buffer.len());
    buffer.iter_mut().zip(got).for_each(|(to, from)| *to = *from);
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("moonrest-open-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        fn name(&self, name: &str) -> Vec<u8> {
            self.0.join(name).into_os_string().into_encoded_bytes()
        }
        fn write(&self, name: &str, content: &str) -> Vec<u8> {
            fs::write(self.0.join(name), content).unwrap();
            self.name(name)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ask() -> Ask {
        Ask {
            symlinks: Symlinks::Follow,
            from: 0,
            read_ahead: false,
            directio: u64::MAX,
            valid: 60,
            min_uses: 1,
            errors: false,
        }
    }

    fn size(answer: Result<Found, Failure>) -> Option<u64> {
        answer.ok().map(|found| found.stat.size)
    }

    #[test]
    fn a_file_is_looked_at_again_when_its_time_is_over() {
        let dir = Dir::new("valid");
        let name = dir.write("a", "1");
        let mut cache = Cache::new(10, 60);
        assert_eq!(size(cache.open(&ask(), &name, 100, false)), Some(1));
        dir.write("a", "123");
        assert_eq!(size(cache.open(&ask(), &name, 159, false)), Some(1));
        let again = cache.open(&ask(), &name, 160, false).unwrap();
        assert_eq!(again.stat.size, 3);
        fs::remove_file(dir.0.join("a")).unwrap();
        assert_eq!(size(cache.open(&ask(), &name, 161, false)), Some(3), "the open file serves on");
        let gone = cache.open(&ask(), &name, 230, false).unwrap_err();
        assert_eq!((gone.call, gone.is_not_found()), ("stat()", true));
        assert_eq!(cache.entries.len(), 0);
    }

    #[test]
    fn a_replaced_file_is_opened_anew() {
        let dir = Dir::new("replaced");
        let name = dir.write("a", "old");
        let mut cache = Cache::new(10, 60);
        let old = cache.open(&ask(), &name, 0, false).unwrap();
        dir.write("b", "newer");
        fs::rename(dir.0.join("b"), dir.0.join("a")).unwrap();
        let new = cache.open(&ask(), &name, 60, false).unwrap();
        assert_eq!((old.stat.size, new.stat.size), (3, 5));
        let mut text = [0; 5];
        file::pread(&*new.file.unwrap(), &mut text, 0).unwrap();
        assert_eq!(&text, b"newer");
    }

    #[test]
    fn errors_are_kept_when_wanted() {
        let dir = Dir::new("errors");
        let name = dir.name("none");
        let mut cache = Cache::new(10, 60);
        assert!(cache.open(&ask(), &name, 0, false).is_err());
        assert_eq!(cache.entries.len(), 0);
        let keeping = Ask { errors: true, ..ask() };
        assert!(cache.open(&keeping, &name, 0, false).is_err());
        dir.write("none", "x");
        assert!(cache.open(&keeping, &name, 10, false).unwrap_err().is_not_found());
        assert_eq!(size(cache.open(&keeping, &name, 60, false)), Some(1));
    }

    #[test]
    fn a_file_is_kept_open_only_after_enough_uses() {
        let dir = Dir::new("uses");
        let name = dir.write("a", "1");
        let mut cache = Cache::new(10, 60);
        let twice = Ask { min_uses: 2, ..ask() };
        let _ = cache.open(&twice, &name, 0, false);
        dir.write("a", "12");
        assert_eq!(size(cache.open(&twice, &name, 1, false)), Some(2));
        dir.write("a", "123");
        assert_eq!(size(cache.open(&twice, &name, 2, false)), Some(2));
    }

    #[test]
    fn a_full_cache_drops_what_was_used_longest_ago() {
        let dir = Dir::new("full");
        let names: Vec<_> = ["a", "b", "c"].iter().map(|name| dir.write(name, "1")).collect();
        let mut cache = Cache::new(2, 60);
        for name in &names[..2] {
            let _ = cache.open(&ask(), name, 0, false);
        }
        let _ = cache.open(&ask(), &names[0], 1, false);
        let _ = cache.open(&ask(), &names[2], 1, false);
        assert!(cache.entries.contains(&*names[0]) && !cache.entries.contains(&*names[1]));
        let _ = cache.open(&ask(), &names[2], 62, false);
        assert_eq!(cache.entries.len(), 2, "61 seconds old, but just looked at again");
        let _ = cache.open(&ask(), &names[2], 63, false);
        assert_eq!(cache.entries.len(), 1, "the other one was not asked for in 60 seconds");
    }

    #[test]
    fn directories_are_described_and_not_kept_open() {
        let dir = Dir::new("dirs");
        let mut cache = Cache::new(2, 60);
        for directory in [true, false] {
            let found = cache.open(&ask(), &dir.name(""), 0, directory).unwrap();
            assert!(found.stat.is_dir() && found.file.is_none());
        }
    }

    #[test]
    fn the_trusted_part_ends_at_a_slash() {
        let check = |from: &str, path: &str, expect| {
            assert_eq!(trusted_part(Symlinks::Refuse, from.as_bytes(), path.as_bytes()), expect, "{from}");
        };
        check("", "/a/b", (Symlinks::Refuse, 0));
        check("/a", "/a/b", (Symlinks::Refuse, 2));
        check("/a/", "/a/b", (Symlinks::Refuse, 2));
        check("/a", "/ab/c", (Symlinks::Refuse, 0));
        check("/a/b", "/a/b", (Symlinks::Follow, 0));
        check("/x", "/a/b", (Symlinks::Refuse, 0));
    }

    #[test]
    fn direct_reads_give_any_range() {
        let dir = Dir::new("direct");
        let content: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(dir.0.join("f"), &content).unwrap();
        let found = Ask { directio: 1, ..ask() }.open(&dir.name("f")).unwrap();
        let file = OpenFile {
            file: found.file.unwrap(),
            name: dir.name("f"),
            direct: found.direct,
            threads: false,
            sendfile: false,
        };
        for (start, end) in [(0, 10_000), (1, 2), (4095, 4097), (5000, 9999), (8192, 10_000)] {
            let mut buffer = vec![0; end - start];
            assert_eq!(file.read_at(&mut buffer, start as u64).unwrap(), end - start);
            assert_eq!(buffer, content[start..end]);
        }
        let mut buffer = [0; 10];
        assert_eq!(file.read_at(&mut buffer, 9_995).unwrap(), 5);
        assert_eq!(file.read_at(&mut buffer, 20_000).unwrap(), 0);
    }
}
