//! Log files, written through a buffer per worker: of the size that `buffer=` gives, or one that holds the lines of one
//! turn of the event loop, so that requests which were ready together are one write.

use flate2::{Compression, write::GzEncoder};
use moonrest_core::{
    Log,
    env::os_error,
    log::{Buffered, Level, LogFile},
};
use moonrest_sys::time;
use parking_lot::Mutex;
use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// A file that `access_log` names. All lines of the configuration that name it share this.
pub(super) struct File {
    pub(super) file: Arc<LogFile>,
    /// What `buffer=` says.
    buffering: OnceLock<Arc<Buffering>>,
    /// What stands in its place where nothing is said.
    turns: OnceLock<Arc<Buffering>>,
    complaints: Arc<Complaints>,
}

/// `buffer=`, `gzip` and `flush=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferSettings {
    pub(super) size: usize,
    /// Milliseconds after which a line is written at the latest.
    pub(super) flush: Option<u64>,
    /// The compression level.
    pub(super) gzip: Option<u32>,
}

/// Lines of one turn gather up to this: so much is written to a pipe in one piece.
const TURN: BufferSettings = BufferSettings { size: 4096, flush: None, gzip: None };

struct Buffering {
    settings: BufferSettings,
    /// Where it is known how the last write went, if lines wait no longer than to the end of the turn.
    turns: Option<Arc<Complaints>>,
    file: Arc<LogFile>,
    /// Where failures are reported that belong to no request.
    log: Arc<Log>,
}

impl File {
    pub(super) fn new(file: Arc<LogFile>) -> Self {
        Self { file, buffering: OnceLock::new(), turns: OnceLock::new(), complaints: Arc::default() }
    }

    /// Has lines gathered in buffers. `false` when that was settled differently before.
    pub(super) fn buffer(&self, settings: BufferSettings, log: &Arc<Log>) -> bool {
        let buffering = self.buffering.get_or_init(|| {
            Arc::new(Buffering { settings, turns: None, file: self.file.clone(), log: log.clone() })
        });
        buffering.settings == settings
    }

    /// Whether the disk was full within this second.
    pub(super) fn disk_full(&self) -> bool {
        self.complaints.disk_full()
    }

    /// Appends a line, its line feed included. Failures that show at once go to `complain`, those of a later write to
    /// `log`.
    pub(super) fn write(&self, line: &[u8], log: &Arc<Log>, complain: impl FnOnce(Complaint<'_>)) {
        let written = match self.buffering.get() {
            Some(buffering) => add(buffering, line),
            None if moonrest_rt::is_running() => add(self.turns(log), line),
            None => Some((line.len(), self.file.write(line))),
        };
        if let Some((len, result)) = written {
            let name = self.file.path().as_os_str().as_encoded_bytes();
            self.complaints.judge(name, len, result, complain);
        }
    }

    fn turns(&self, log: &Arc<Log>) -> &Arc<Buffering> {
        self.turns.get_or_init(|| {
            let turns = Some(self.complaints.clone());
            Arc::new(Buffering { settings: TURN, turns, file: self.file.clone(), log: log.clone() })
        })
    }
}

/// Why a line did not reach its file.
pub(super) struct Complaint<'a> {
    pub(super) name: &'a [u8],
    pub(super) failure: Failure,
}

pub(super) enum Failure {
    System(io::Error),
    Incomplete { written: usize, of: usize },
}

impl Complaint<'_> {
    /// nginx's wording.
    pub(super) fn message(&self) -> String {
        let name = String::from_utf8_lossy(self.name);
        match &self.failure {
            Failure::System(error) => format!("write() to \"{name}\" failed ({})", os_error(error)),
            Failure::Incomplete { written, of } => {
                format!("write() to \"{name}\" was incomplete: {written} of {of}")
            }
        }
    }
}

/// When one `access_log` last failed: a full disk is left alone for the rest of the second, and complaints come once a
/// minute.
#[derive(Default)]
pub(super) struct Complaints {
    disk_full: AtomicI64,
    logged: AtomicI64,
}

impl Complaints {
    /// Whether the disk was full within this second.
    pub(super) fn disk_full(&self) -> bool {
        let full = self.disk_full.load(Relaxed);
        full != 0 && full == time::wall_coarse().secs
    }

    /// Looks at the outcome of a write, and complains through `log` if it is time.
    pub(super) fn judge(
        &self,
        name: &[u8],
        len: usize,
        result: io::Result<usize>,
        log: impl FnOnce(Complaint<'_>),
    ) {
        let failure = match result {
            Ok(written) if written == len => return,
            Ok(written) => Failure::Incomplete { written, of: len },
            Err(error) => Failure::System(error),
        };
        let now = time::wall_coarse().secs;
        if matches!(&failure, Failure::System(error) if error.kind() == io::ErrorKind::StorageFull) {
            self.disk_full.store(now, Relaxed);
        }
        if now - self.logged.load(Relaxed) > 59 {
            self.logged.store(now, Relaxed);
            log(Complaint { name, failure });
        }
    }
}

/// One worker's buffer for one file. The lock is its worker's alone but for reopening.
struct Buffer {
    buffering: Arc<Buffering>,
    state: Mutex<State>,
    /// Wakes the task that watches the time, when there is something to watch.
    filled: Notify,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Monotonic milliseconds by which the lines must be written.
    deadline: u64,
    /// They could not be written at the end of a turn.
    failed: bool,
}

/// What a write gave, and how many bytes it had to write.
type Written = (usize, io::Result<usize>);

impl Buffer {
    /// Adds a line and writes what does not fit. Tells whether the line is the first that waits now.
    fn add(&self, line: &[u8]) -> (bool, Option<Written>) {
        let settings = &self.buffering.settings;
        let mut state = self.state.lock();
        let mut written = None;
        if line.len() > settings.size - state.lines.len().min(settings.size) {
            written = self.write_lines(&mut state);
        }
        if line.len() > settings.size {
            return (false, Some((line.len(), self.write_out(line))));
        }
        let first = state.lines.is_empty();
        if let Some(flush) = settings.flush.filter(|_| first) {
            state.deadline = time::monotonic_ms() + flush;
            self.filled.notify_one();
        }
        state.lines.extend_from_slice(line);
        if std::mem::take(&mut state.failed) {
            // Again, on behalf of a request that the complaint can name.
            return (false, self.write_lines(&mut state));
        }
        (first, written)
    }

    /// Writes what has gathered in a turn. What cannot be written is kept for the next line to fail with.
    fn end_turn(&self) {
        let mut state = self.state.lock();
        if state.lines.is_empty() {
            return;
        }
        let written = self.buffering.file.write(&state.lines).unwrap_or(0).min(state.lines.len());
        state.lines.drain(..written);
        state.failed = !state.lines.is_empty();
    }

    fn write_lines(&self, state: &mut State) -> Option<Written> {
        if state.lines.is_empty() {
            return None;
        }
        let result = self.write_out(&state.lines);
        let len = state.lines.len();
        state.lines.clear();
        Some((len, result))
    }

    /// Writes lines, compressed if that is wanted; gives their number of bytes, not the compressed one.
    fn write_out(&self, lines: &[u8]) -> io::Result<usize> {
        let Some(level) = self.buffering.settings.gzip else { return self.buffering.file.write(lines) };
        let packed = gzip(lines, level)?;
        match self.buffering.file.write(&packed)? {
            n if n == packed.len() => Ok(lines.len()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

impl Buffered for Buffer {
    fn flush(&self) {
        let written = self.write_lines(&mut self.state.lock());
        let Some((len, result)) = written else { return };
        let Buffering { file, log, turns, .. } = &*self.buffering;
        let name = file.path().as_os_str().as_encoded_bytes();
        let complain = |complaint: Complaint<'_>| {
            log.write(Level::Alert, None, format_args!("{}", complaint.message()));
        };
        match turns {
            Some(complaints) => complaints.judge(name, len, result, complain),
            None => Complaints::default().judge(name, len, result, complain),
        }
    }
}

/// One member of a gzip file.
fn gzip(lines: &[u8], level: u32) -> io::Result<Vec<u8>> {
    // zlib-rs: the first level gives up a quarter of the ratio for little time.
    let level = Compression::new(level.max(2));
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), level);
    encoder.write_all(lines)?;
    encoder.finish()
}

thread_local! {
    /// This worker's buffers. A worker is a thread and has one generation for life.
    static BUFFERS: RefCell<Vec<Owned>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this worker.
struct Owned {
    buffer: Arc<Buffer>,
    /// Writes it at the end of a turn, if lines wait no longer than that.
    end_turn: Option<Rc<dyn Fn()>>,
}

impl Owned {
    fn add(&self, line: &[u8]) -> Option<Written> {
        let (first, written) = self.buffer.add(line);
        if let Some(end_turn) = self.end_turn.as_ref().filter(|_| first) {
            moonrest_rt::turn::at_end(end_turn.clone());
        }
        written
    }
}

/// Adds a line to this worker's buffer.
fn add(buffering: &Arc<Buffering>, line: &[u8]) -> Option<Written> {
    let find = |buffers: &Vec<Owned>| {
        let known = buffers.iter().find(|owned| Arc::ptr_eq(&owned.buffer.buffering, buffering))?;
        Some(known.add(line))
    };
    BUFFERS.with_borrow(find).unwrap_or_else(|| {
        let owned = new_buffer(buffering);
        let written = owned.add(line);
        BUFFERS.with_borrow_mut(|buffers| buffers.push(owned));
        written
    })
}

#[cold]
fn new_buffer(buffering: &Arc<Buffering>) -> Owned {
    let buffer =
        Arc::new(Buffer { buffering: buffering.clone(), state: Mutex::default(), filled: Notify::new() });
    let weak: Weak<Buffer> = Arc::downgrade(&buffer);
    buffering.file.attach(weak.clone());
    if buffering.settings.flush.is_some() {
        moonrest_rt::spawn(watch(weak.clone()));
    }
    let end_turn = buffering.turns.is_some().then(|| {
        let end_turn = move || {
            if let Some(buffer) = weak.upgrade() {
                buffer.end_turn();
            }
        };
        Rc::new(end_turn) as Rc<dyn Fn()>
    });
    Owned { buffer, end_turn }
}

/// Writes a buffer whose lines have waited for the `flush=` time.
async fn watch(buffer: Weak<Buffer>) {
    while let Some(buffer) = buffer.upgrade() {
        let (empty, deadline) = {
            let state = buffer.state.lock();
            (state.lines.is_empty(), state.deadline)
        };
        if empty {
            buffer.filled.notified().await;
            continue;
        }
        let left = deadline.saturating_sub(time::monotonic_ms());
        if left == 0 {
            buffer.flush();
        } else {
            drop(buffer);
            moonrest_net::sleep::sleep(left).await;
        }
    }
}

/// Writes what waits in this worker's buffers, and forgets them.
pub(super) fn flush_worker() {
    for owned in BUFFERS.take() {
        owned.buffer.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Read, path::PathBuf};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("moonrest-log-{name}-{}", std::process::id()));
            let _ = fs::remove_file(&path);
            Self(path)
        }

        fn file(&self) -> File {
            File::new(Arc::new(LogFile::new(self.0.clone(), self.open())))
        }

        fn open(&self) -> fs::File {
            fs::OpenOptions::new().create(true).append(true).open(&self.0).expect("a temporary file")
        }

        fn content(&self) -> Vec<u8> {
            fs::read(&self.0).unwrap_or_default()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn write(file: &File, line: &str) {
        let log = Arc::new(Log::stderr(Level::Emerg));
        file.write(line.as_bytes(), &log, |complaint| panic!("{}", complaint.message()));
    }

    fn settings(size: usize, gzip: Option<u32>) -> BufferSettings {
        BufferSettings { size, flush: None, gzip }
    }

    #[test]
    fn lines_wait_until_the_next_one_does_not_fit() {
        let place = Place::new("fit");
        let file = place.file();
        let log = Arc::new(Log::stderr(Level::Emerg));
        assert!(file.buffer(settings(10, None), &log));
        assert!(!file.buffer(settings(11, None), &log), "conflicting settings are noticed");
        write(&file, "one\n");
        write(&file, "two\n");
        assert_eq!(place.content(), b"");
        write(&file, "three\n");
        assert_eq!(place.content(), b"one\ntwo\n");
        write(&file, "longer than all\n");
        assert_eq!(place.content(), b"one\ntwo\nthree\nlonger than all\n");
        write(&file, "end\n");
        flush_worker();
        assert!(place.content().ends_with(b"all\nend\n"));
    }

    #[test]
    fn lines_of_one_turn_are_written_at_its_end() {
        let place = Place::new("turn");
        let file = place.file();
        write(&file, "outside of the loop\n");
        let outside = place.content();
        assert_eq!(outside, b"outside of the loop\n");
        moonrest_rt::block_on(async {
            write(&file, "one\n");
            write(&file, "two\n");
            assert_eq!(place.content(), outside);
            moonrest_rt::yield_now().await;
            assert!(place.content().ends_with(b"loop\none\ntwo\n"));
            write(&file, &"x".repeat(4090));
            write(&file, "three\n");
            assert!(place.content().ends_with(b"two\n"), "they fit");
            write(&file, "four\n");
            assert!(place.content().ends_with(b"xthree\n"));
        });
        assert!(place.content().ends_with(b"xthree\nfour\n"));
        flush_worker();
    }

    #[test]
    fn what_cannot_be_written_is_told_of_by_the_next_line() {
        let full = fs::OpenOptions::new().append(true).open("/dev/full").expect("a full device");
        let file = File::new(Arc::new(LogFile::new("/dev/full".into(), full)));
        let (log, mut heard) = (Arc::new(Log::stderr(Level::Emerg)), Vec::new());
        let place = Place::new("room");
        moonrest_rt::block_on(async {
            for line in ["one\n", "two\n", "three\n", "four\n"] {
                file.write(line.as_bytes(), &log, |complaint| heard.push((line, complaint.message())));
                moonrest_rt::yield_now().await;
                if line == "three\n" {
                    file.file.replace(place.open());
                }
            }
        });
        let message = "write() to \"/dev/full\" failed (28: No space left on device)".to_owned();
        assert_eq!(heard, [("two\n", message)]);
        assert!(file.disk_full());
        assert_eq!(place.content(), b"four\n");
        flush_worker();
    }

    #[test]
    fn reopening_leaves_buffered_lines_in_the_old_file() {
        let (old, new) = (Place::new("old"), Place::new("new"));
        let file = old.file();
        file.buffer(settings(100, None), &Arc::new(Log::stderr(Level::Emerg)));
        write(&file, "one\n");
        file.file.replace(new.open());
        write(&file, "two\n");
        flush_worker();
        assert_eq!((old.content(), new.content()), (b"one\n".to_vec(), b"two\n".to_vec()));
    }

    #[test]
    fn each_flush_is_one_member_of_a_gzip_file() {
        let place = Place::new("gzip");
        let file = place.file();
        file.buffer(settings(1000, Some(1)), &Arc::new(Log::stderr(Level::Emerg)));
        write(&file, "one\n");
        file.file.flush();
        write(&file, "two\n");
        flush_worker();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&*place.content()).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn complaints_come_once_a_minute_and_a_full_disk_is_left_alone() {
        let complaints = Complaints::default();
        let mut heard = Vec::new();
        let mut fail = |error: i32| {
            let result = Err(io::Error::from_raw_os_error(error));
            complaints.judge(b"/x", 5, result, |complaint| heard.push(complaint.message()));
        };
        fail(5);
        assert!(!complaints.disk_full());
        fail(28);
        assert!(complaints.disk_full());
        assert_eq!(heard, ["write() to \"/x\" failed (5: Input/output error)"]);
        let mut heard = String::new();
        Complaints::default().judge(b"/x", 5, Ok(3), |complaint| heard = complaint.message());
        assert_eq!(heard, "write() to \"/x\" was incomplete: 3 of 5");
    }
}
