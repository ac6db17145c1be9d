//! Log files: written line by line, or through a buffer per worker.

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
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// A file that `access_log` names. All lines of the configuration that name it share this.
pub(super) struct File {
    pub(super) file: Arc<LogFile>,
    buffering: OnceLock<Arc<Buffering>>,
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

struct Buffering {
    settings: BufferSettings,
    file: Arc<LogFile>,
    /// Where failures are reported that belong to no request.
    log: Arc<Log>,
}

impl File {
    pub(super) fn new(file: Arc<LogFile>) -> Self {
        Self { file, buffering: OnceLock::new() }
    }

    /// Has lines gathered in buffers. `false` when that was settled differently before.
    pub(super) fn buffer(&self, settings: BufferSettings, log: &Arc<Log>) -> bool {
        let buffering = self
            .buffering
            .get_or_init(|| Arc::new(Buffering { settings, file: self.file.clone(), log: log.clone() }));
        buffering.settings == settings
    }

    /// Appends a line, its line feed included.
    pub(super) fn write(&self, line: &[u8], complaints: &Complaints, log: impl FnOnce(Complaint<'_>)) {
        let Some(buffering) = self.buffering.get() else {
            let name = self.file.path().as_os_str().as_encoded_bytes();
            complaints.judge(name, line.len(), self.file.write(line), log);
            return;
        };
        with_worker_buffer(buffering, |buffer| {
            if let Some((len, result)) = buffer.add(line) {
                let name = self.file.path().as_os_str().as_encoded_bytes();
                complaints.judge(name, len, result, log);
            }
        });
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
}

/// What a write gave, and how many bytes it had to write.
type Written = (usize, io::Result<usize>);

impl Buffer {
    /// Adds a line; writes what does not fit.
    fn add(&self, line: &[u8]) -> Option<Written> {
        let settings = &self.buffering.settings;
        let mut state = self.state.lock();
        let mut written = None;
        if line.len() > settings.size - state.lines.len().min(settings.size) {
            written = self.write_lines(&mut state);
        }
        if line.len() > settings.size {
            return Some((line.len(), self.write_out(line)));
        }
        if let Some(flush) = settings.flush.filter(|_| state.lines.is_empty()) {
            state.deadline = time::monotonic_ms() + flush;
            self.filled.notify_one();
        }
        state.lines.extend_from_slice(line);
        written
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
        let name = self.buffering.file.path().as_os_str().as_encoded_bytes();
        Complaints::default().judge(name, len, result, |complaint| {
            self.buffering.log.write(Level::Alert, None, format_args!("{}", complaint.message()));
        });
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
    static BUFFERS: RefCell<Vec<Arc<Buffer>>> = const { RefCell::new(Vec::new()) };
}

fn with_worker_buffer<R>(buffering: &Arc<Buffering>, f: impl FnOnce(&Buffer) -> R) -> R {
    let known = BUFFERS.with_borrow(|buffers| {
        buffers.iter().find(|buffer| Arc::ptr_eq(&buffer.buffering, buffering)).cloned()
    });
    f(&known.unwrap_or_else(|| new_buffer(buffering)))
}

#[cold]
fn new_buffer(buffering: &Arc<Buffering>) -> Arc<Buffer> {
    let buffer =
        Arc::new(Buffer { buffering: buffering.clone(), state: Mutex::default(), filled: Notify::new() });
    let weak: Weak<Buffer> = Arc::downgrade(&buffer);
    buffering.file.attach(weak);
    BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer.clone()));
    if buffering.settings.flush.is_some() {
        moonrest_rt::spawn(watch(Arc::downgrade(&buffer)));
    }
    buffer
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
    for buffer in BUFFERS.take() {
        buffer.flush();
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
        file.write(line.as_bytes(), &Complaints::default(), |complaint| panic!("{}", complaint.message()));
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
