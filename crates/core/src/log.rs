//! The error log: levels, targets and nginx's line format.
//! <https://nginx.org/en/docs/ngx_core_module.html#error_log>

use crate::syslog::Syslog;
use moonrest_sys::{process, time};
use parking_lot::{Mutex, RwLock};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

/// The severity of a line, most severe first. `Debug` lines need `error_log … debug`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Emerg = 1,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

impl Level {
    /// nginx's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [Level; 8] = [
            Level::Emerg,
            Level::Alert,
            Level::Crit,
            Level::Error,
            Level::Warn,
            Level::Notice,
            Level::Info,
            Level::Debug,
        ];
        ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A log file that can be opened anew (`USR1`) while threads write to it.
pub struct LogFile {
    path: PathBuf,
    file: RwLock<File>,
    buffers: Mutex<Vec<Weak<dyn Buffered>>>,
}

/// Lines that wait in memory to be written to a log file.
pub trait Buffered: Send + Sync {
    /// Writes them. Called from any thread.
    fn flush(&self);
}

impl LogFile {
    /// Wraps a file opened for appending.
    pub fn new(path: PathBuf, file: File) -> Self {
        Self { path, file: RwLock::new(file), buffers: Mutex::default() }
    }

    /// Has `buffer` flushed whenever the file is to be complete, for as long as the buffer lives.
    pub fn attach(&self, buffer: Weak<dyn Buffered>) {
        let mut buffers = self.buffers.lock();
        buffers.retain(|known| known.strong_count() > 0);
        buffers.push(buffer);
    }

    /// Writes what waits in the buffers of all workers: before the file is opened anew, and when the process ends.
    pub fn flush(&self) {
        let buffers: Vec<_> = self.buffers.lock().iter().filter_map(Weak::upgrade).collect();
        for buffer in buffers {
            buffer.flush();
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `line` with one system call; gives the number of bytes that were written (fewer on a full disk).
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, line: &[u8]) -> io::Result<usize> {
        let file = self.file.read();
        loop {
            match (&*file).write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Continues in `file`, opened anew under the same path. What waits in buffers goes to the old one.
    pub fn replace(&self, file: File) {
        self.flush();
        *self.file.write() = file;
    }
}

/// The log files of one compilation, each opened once however often it is named.
#[derive(Default)]
pub struct LogFiles {
    files: RefCell<Vec<Arc<LogFile>>>,
    stderr: Cell<bool>,
}

impl LogFiles {
    /// Notes that lines go to standard error, wherever that is said: it must not lead elsewhere then.
    pub fn use_stderr(&self) {
        self.stderr.set(true);
    }

    /// Whether lines go to standard error.
    pub fn uses_stderr(&self) -> bool {
        self.stderr.get()
    }

    /// The log at `path`, opened by `open` if it is new here.
    ///
    /// # Errors
    /// What `open` gives.
    pub fn open(
        &self,
        path: &Path,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> io::Result<Arc<LogFile>> {
        if let Some(known) = self.files.borrow().iter().find(|file| file.path == path) {
            return Ok(known.clone());
        }
        let file = Arc::new(LogFile::new(path.to_owned(), open(path)?));
        self.files.borrow_mut().push(file.clone());
        Ok(file)
    }

    /// All of them, for reopening.
    pub fn all(&self) -> Vec<Arc<LogFile>> {
        self.files.borrow().clone()
    }
}

/// Where lines go.
#[derive(Clone)]
pub enum Sink {
    File(Arc<LogFile>),
    Stderr,
    Syslog(Arc<Syslog>),
    /// `memory:SIZE`: the last lines, kept for a debugger.
    Memory(Arc<MemoryLog>),
}

/// A ring of the last lines.
pub struct MemoryLog {
    limit: usize,
    lines: Mutex<(usize, VecDeque<Box<[u8]>>)>,
}

impl MemoryLog {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, lines: Mutex::new((0, VecDeque::new())) }
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lines.lock();
        lines.0 += line.len();
        lines.1.push_back(line.into());
        while lines.0 > self.limit {
            let Some(old) = lines.1.pop_front() else { break };
            lines.0 -= old.len();
        }
    }

    /// The kept lines, oldest first.
    pub fn contents(&self) -> Vec<u8> {
        self.lines.lock().1.iter().flat_map(|line| line.iter().copied()).collect()
    }
}

/// One `error_log` line of the configuration.
#[derive(Clone)]
pub struct Target {
    pub level: Level,
    pub sink: Sink,
}

/// The targets that are in force at one place of the configuration.
#[derive(Clone)]
pub struct Log {
    targets: Box<[Target]>,
    max: Level,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} targets, {})", self.targets.len(), self.max.name())
    }
}

/// Makes spaces of line ends.
fn one_line(text: &mut [u8]) {
    for byte in text {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
}

/// OpenResty's nginx cuts lines at the same length.
const MAX_LINE: usize = 4096;

impl Log {
    /// A log with these targets.
    pub fn new(targets: Vec<Target>) -> Self {
        let max = targets.iter().map(|target| target.level).max().unwrap_or(Level::Emerg);
        Self { targets: targets.into(), max }
    }

    /// Standard error, for what happens before any log is open.
    pub fn stderr(level: Level) -> Self {
        Self::new(vec![Target { level, sink: Sink::Stderr }])
    }

    /// The least severe level that is written anywhere.
    pub fn max_level(&self) -> Level {
        self.max
    }

    /// Whether a line of this level is written anywhere.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.max
    }

    /// Writes `message`, which carries its own context, with time, level, process and connection number.
    pub fn write(&self, level: Level, connection: Option<u64>, message: fmt::Arguments<'_>) {
        if self.enabled(level) {
            self.write_entry(level, level.name(), connection, message, false);
        }
    }

    /// The same for a message of several lines, such as a traceback: its line ends stay. What a client sent must not
    /// be in it as it came.
    pub fn write_lines(&self, level: Level, connection: Option<u64>, message: fmt::Arguments<'_>) {
        if self.enabled(level) {
            self.write_entry(level, level.name(), connection, message, true);
        }
    }

    /// The same for what is above all levels (nginx's `NGX_LOG_STDERR`, which has no name).
    pub fn write_nameless(&self, connection: Option<u64>, message: fmt::Arguments<'_>) {
        self.write_entry(Level::Emerg, "", connection, message, true);
    }

    #[cold]
    fn write_entry(
        &self,
        level: Level,
        name: &str,
        connection: Option<u64>,
        message: fmt::Arguments<'_>,
        lines: bool,
    ) {
        let mut line = Vec::with_capacity(256);
        let now = time::wall();
        let local = time::local(now.secs);
        let _ = write!(
            line,
            "{:04}/{:02}/{:02} {:02}:{:02}:{:02} [{}] {}#{}: ",
            local.year,
            local.month,
            local.day,
            local.hour,
            local.minute,
            local.second,
            name,
            process::pid(),
            process::tid()
        );
        if let Some(number) = connection {
            let _ = write!(line, "*{number} ");
        }
        let _ = line.write_fmt(message);
        line.truncate(MAX_LINE - 1);
        if !lines {
            // One line per message, whatever a client sent.
            one_line(&mut line);
        }
        crate::log_capture::push(level, now, &line);
        line.push(b'\n');
        for target in self.targets.iter().filter(|target| level <= target.level) {
            match &target.sink {
                Sink::File(file) => {
                    // A full disk must not stop the server; the line is lost.
                    let _ = file.write(&line);
                }
                Sink::Stderr => {
                    let _ = io::stderr().write_all(&line);
                }
                Sink::Syslog(syslog) => {
                    let text = line.strip_suffix(b"\n").unwrap_or(&line);
                    // There is no other place to complain.
                    let _ = syslog.send(level as u8 - 1, text);
                }
                Sink::Memory(memory) => memory.push(&line),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_lines_keeps_them() {
        let memory = Arc::new(MemoryLog::new(4096));
        let log = Log::new(vec![Target { level: Level::Error, sink: Sink::Memory(memory.clone()) }]);
        log.write(Level::Error, Some(7), format_args!("a\nb"));
        log.write_lines(Level::Error, None, format_args!("c\nd"));
        log.write_lines(Level::Warn, None, format_args!("nobody listens"));
        log.write_nameless(None, format_args!("above all"));
        let text = String::from_utf8_lossy(&memory.contents()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains(" [error] ") && lines[0].ends_with(": *7 a b"), "{text}");
        assert!(lines[1].ends_with(": c") && lines[2] == "d", "{text}");
        assert!(lines[3].contains(" [] ") && lines[3].ends_with(": above all"), "{text}");
        assert_eq!(lines.len(), 4);
    }
}
