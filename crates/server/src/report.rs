//! What the program says before and beside the error log: lines on standard error as nginx writes them.

use crate::configuration::Complaint;
use moonrest_core::{
    conf,
    env::os_error,
    log::{Level, Log, LogFile, Sink, Target},
};
use std::{
    cell::Cell,
    fmt,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::Arc,
};

/// Writes to the log and, while a person may be looking, to standard error.
pub(crate) struct Report {
    log: Arc<Log>,
    /// The log is standard error itself.
    log_is_stderr: bool,
    stderr: Cell<bool>,
}

/// Writes one line to standard error: `nginx: TEXT`.
pub(crate) fn stderr_line(text: fmt::Arguments<'_>) {
    // Nobody to tell when this fails.
    let _ = writeln!(io::stderr(), "nginx: {text}");
}

impl Report {
    /// Opens the log of the command line; without it, standard error takes its place.
    pub(crate) fn open(path: Option<&Path>, level: Level) -> Self {
        let opened = path.map(|path| {
            let bytes = moonrest_sys::path::to_bytes(path);
            moonrest_sys::log_write::open(bytes).map(|fd| LogFile::new(path.to_owned(), File::from(fd)))
        });
        let file = match opened {
            Some(Ok(file)) => file,
            None => return Self::stderr(level),
            Some(Err(error)) => {
                let name = path.unwrap_or(Path::new("")).display();
                stderr_line(format_args!(
                    "[alert] could not open error log file: open() \"{name}\" failed ({})",
                    os_error(&error)
                ));
                return Self::stderr(level);
            }
        };
        let log = Log::new(vec![Target { level, sink: Sink::File(Arc::new(file)) }]);
        Self { log: Arc::new(log), log_is_stderr: false, stderr: Cell::new(true) }
    }

    fn stderr(level: Level) -> Self {
        Self { log: Arc::new(Log::stderr(level)), log_is_stderr: true, stderr: Cell::new(true) }
    }

    /// A report into the log of a running configuration.
    pub(crate) fn to(log: Arc<Log>) -> Self {
        Self { log, log_is_stderr: false, stderr: Cell::new(false) }
    }

    /// Writes a line; warnings and worse go to standard error as well.
    pub(crate) fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        self.write_with(level, text, None);
    }

    fn write_with(&self, level: Level, text: fmt::Arguments<'_>, terminal: Option<&str>) {
        self.log.write(level, None, text);
        if level > Level::Warn || !self.stderr.get() || self.log_is_stderr {
            return;
        }
        match terminal.filter(|_| io::stderr().is_terminal()) {
            Some(terminal) => stderr_line(format_args!("{terminal}")),
            None => stderr_line(format_args!("[{}] {text}", level.name())),
        }
    }

    /// Writes complaints about a configuration.
    pub(crate) fn complain(&self, complaints: &[Complaint]) {
        for complaint in complaints {
            let text = format_args!("{}", complaint.line);
            self.write_with(log_level(complaint.level), text, Some(&complaint.terminal));
        }
    }
}

fn log_level(level: conf::Level) -> Level {
    match level {
        conf::Level::Emerg => Level::Emerg,
        conf::Level::Alert => Level::Alert,
        conf::Level::Crit => Level::Crit,
        conf::Level::Error => Level::Error,
        conf::Level::Warn => Level::Warn,
        conf::Level::Notice => Level::Notice,
    }
}
