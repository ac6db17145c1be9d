//! From the command line's options to a running server: nginx's order of steps and its exit codes.

use crate::{
    configuration::{self, Loaded},
    listeners::{self, Group},
    master, panics,
    report::{Report, stderr_line},
    resources::{Direct, Recording},
    single,
};
use moonrest_core::{env::os_error, log::Level};
use moonrest_http::compile::Registry;
use moonrest_sys::{
    environment, host, inherit, limits, listen::ListenSpec, path, pidfile, process, process::Daemon, signals,
    title,
};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the program is and was asked.
pub struct Program {
    pub registry: Registry,
    pub options: Options,
    /// `moonrest/0.1.0`
    pub version: &'static str,
    /// The words of the command line.
    pub argv: Vec<Vec<u8>>,
}

/// What is to be done with the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Serve,
    /// `-t`, `-T`
    Test {
        dump: bool,
    },
    /// `-s`: the signal's number.
    Signal(i32),
}

/// The options of the command line.
pub struct Options {
    /// `-p`; ends with a slash.
    pub prefix: PathBuf,
    /// `-c`, below the prefix.
    pub conf_file: PathBuf,
    /// `-g`
    pub params: Option<Vec<u8>>,
    /// `-e`; `stderr` is standard error.
    pub error_log: PathBuf,
    /// `-q`
    pub quiet: bool,
    pub mode: Mode,
    /// A line for standard output once it serves.
    pub greeting: Option<String>,
}

impl Options {
    /// The directory of the configuration file, which included files are relative to.
    pub fn conf_prefix(&self) -> PathBuf {
        let mut directory = self.conf_file.parent().unwrap_or(Path::new("")).to_owned();
        if !directory.as_os_str().is_empty() {
            directory.push("");
        }
        directory
    }

    /// The file of `-e`; `None` is standard error.
    pub fn error_log_path(&self) -> Option<PathBuf> {
        (self.error_log != Path::new("stderr")).then(|| self.prefix.join(&self.error_log))
    }
}

/// Does what the options ask; gives the exit status.
pub fn run(program: &Program) -> i32 {
    let options = &program.options;
    let _ = process::ensure_standard_fds();
    let testing = matches!(options.mode, Mode::Test { .. });
    let level = if testing { Level::Info } else { Level::Notice };
    let report = Report::open(options.error_log_path().as_deref(), level);
    match options.mode {
        Mode::Serve => serve(program, report),
        Mode::Test { dump } => test(program, &report, dump),
        Mode::Signal(signal) => {
            let outcome = configuration::load(program, &Direct::looking());
            report.complain(outcome.as_nginx());
            outcome.loaded.map_or(1, |loaded| send_signal(&loaded.pid_file, signal, &report))
        }
    }
}

fn test(program: &Program, report: &Report, dump: bool) -> i32 {
    let options = &program.options;
    let name = options.conf_file.display();
    let resources = Direct::testing();
    let outcome = configuration::load(program, &resources);
    report.complain(&outcome.complaints);
    let Some(loaded) = outcome.loaded else {
        stderr_line(format_args!("configuration file {name} test failed"));
        return 1;
    };
    if !options.quiet {
        stderr_line(format_args!("the configuration file {name} syntax is ok"));
    }
    let pid_file = path::to_bytes(&loaded.pid_file);
    let writable = pidfile::probe(pid_file).map_err(|error| {
        let file = loaded.pid_file.display();
        report.write(Level::Emerg, format_args!("open() \"{file}\" failed ({})", os_error(&error)));
    });
    let opened = writable
        .and_then(|()| listeners::open(loaded.http.as_deref(), &loaded.settings, &resources, &[], report));
    if opened.is_err() {
        stderr_line(format_args!("configuration file {name} test failed"));
        return 1;
    }
    if !options.quiet {
        stderr_line(format_args!("configuration file {name} test is successful"));
    }
    if dump {
        let mut out = io::stdout().lock();
        for (_, path, text) in outcome.files.iter() {
            let head = [b"# configuration file ", path::to_bytes(path), b":\n"].concat();
            if out
                .write_all(&head)
                .and_then(|()| out.write_all(text))
                .and_then(|()| out.write_all(b"\n"))
                .is_err()
            {
                return 1;
            }
        }
    }
    0
}

fn send_signal(pid_file: &Path, signal: i32, report: &Report) -> i32 {
    report.write(Level::Notice, format_args!("signal process started"));
    let name = pid_file.display();
    let failed = |what: &str, error: &io::Error| {
        report.write(Level::Error, format_args!("{what} \"{name}\" failed ({})", os_error(error)));
        1
    };
    let pid = match pidfile::read(path::to_bytes(pid_file)) {
        Ok(pid) => pid,
        Err(pidfile::ReadError::Open(error)) => return failed("open()", &error),
        Err(pidfile::ReadError::Read(error)) => return failed("read()", &error),
        Err(pidfile::ReadError::Invalid(text)) => {
            let text = String::from_utf8_lossy(&text);
            report.write(Level::Error, format_args!("invalid PID number \"{text}\" in \"{name}\""));
            return 1;
        }
    };
    if let Err(error) = process::kill(pid, signal) {
        report.write(Level::Alert, format_args!("kill({pid}, {signal}) failed ({})", os_error(&error)));
        return 1;
    }
    0
}

/// A server whose sockets are open and whose pid file is written.
pub(crate) struct Launch<'p> {
    pub program: &'p Program,
    pub loaded: Loaded,
    pub groups: Vec<Group>,
    /// Lets the process that the shell waits for end.
    pub daemon: Option<Daemon>,
    /// This is the new program of an upgrade.
    pub upgraded: bool,
}

fn serve(program: &Program, report: Report) -> i32 {
    // Titles are a nicety; where the system does not allow them, `ps` shows the command line.
    let _ = title::init();
    let resources = Recording::new();
    let outcome = configuration::load(program, &resources);
    report.complain(outcome.as_nginx());
    let Some(loaded) = outcome.loaded else { return 1 };
    let inherited = inherited(&report);
    let upgraded = inherited.is_some();
    let old = inherited.unwrap_or_default();
    let http = loaded.http.as_deref();
    let Ok(groups) = listeners::open(http, &loaded.settings, &resources, &old, &report) else { return 1 };
    drop(old);
    announce(program, &loaded);
    let daemon = if loaded.settings.daemon() && !upgraded {
        match process::daemonize() {
            Ok(daemon) => Some(daemon),
            Err(error) => {
                report.write(Level::Emerg, format_args!("fork() failed ({})", os_error(&error)));
                return 1;
            }
        }
    } else {
        None
    };
    if let Err(error) = pidfile::write(path::to_bytes(&loaded.pid_file)) {
        let name = loaded.pid_file.display();
        report.write(Level::Emerg, format_args!("open() \"{name}\" failed ({})", os_error(&error)));
        return 1;
    }
    redirect_stderr(&loaded);
    panics::install();
    panics::log_to(loaded.log.clone());
    // The log of the command line is not needed any more, and would hold on to a file that is moved away.
    drop(report);
    let master = loaded.settings.master_process();
    let launch = Launch { program, loaded, groups, daemon, upgraded };
    let record = resources.finish();
    if master {
        master::run(launch, record)
    } else {
        drop(record);
        single::run(launch)
    }
}

/// Sockets that an older program handed over; `None` when there is none.
fn inherited(report: &Report) -> Option<Vec<Group>> {
    let variable = environment::get(inherit::VARIABLE.as_bytes())?;
    let shown = String::from_utf8_lossy(&variable);
    report.write(Level::Notice, format_args!("using inherited sockets from \"{shown}\""));
    let found = inherit::inherited_listeners(&variable);
    for problem in &found.problems {
        report.write(Level::Emerg, format_args!("{problem}"));
    }
    let mut groups: Vec<Group> = Vec::new();
    for socket in found.sockets {
        let spec = ListenSpec { kind: socket.kind, ..ListenSpec::new(socket.addr) };
        match groups.iter_mut().find(|group| listeners::same_place(&group.spec, &spec)) {
            Some(group) => group.shards.push(Arc::new(socket.fd)),
            None => groups.push(Group { spec, shards: vec![Arc::new(socket.fd)] }),
        }
    }
    Some(groups)
}

/// What nginx says about itself and the system when it starts.
fn announce(program: &Program, loaded: &Loaded) {
    let note = |text: std::fmt::Arguments<'_>| loaded.log.write(Level::Notice, None, text);
    note(format_args!("using the \"epoll\" event method"));
    note(format_args!("{}", program.version));
    note(format_args!("OS: {}", host::system()));
    let files = limits::open_files();
    let shown = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    note(format_args!("getrlimit(RLIMIT_NOFILE): {}:{}", shown(files.soft), shown(files.hard)));
}

/// Standard error goes where the error log goes.
fn redirect_stderr(loaded: &Loaded) {
    let fd = loaded.stderr_log.as_deref().map(|name| moonrest_sys::log_write::open(path::to_bytes(name)));
    if let Some(Ok(fd)) = fd {
        let _ = process::redirect_stderr(fd);
    }
}

/// The number of a signal named on the command line.
pub fn signal_by_name(name: &str) -> Option<i32> {
    signals::by_command(name)
}
