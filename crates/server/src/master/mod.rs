//! The master: opens with full rights, keeps a serving process alive, answers to the administrator's signals.
//!
//! It never serves and has one thread. A generation passes through three states:
//!
//! ```text
//!            HUP: compiled and opened        "S": it serves
//!   files ---------------------------> pending ------------> current (kept for the next serving process)
//!                                         |  "F", or the serving process died
//!                                         +------> dropped, the current one stays
//! ```
//! <https://nginx.org/en/docs/control.html>

mod children;
mod upgrade;

use crate::{
    configuration::{self, Loaded},
    handover::{self, Record},
    listeners::{self, Group},
    report::Report,
    resources::Recording,
    run::{Launch, Program},
    settings::MainSettings,
};
use children::tell;
use moonrest_core::{
    Log,
    env::os_error,
    log::{Level, LogFile},
};
use moonrest_sys::{
    fdpass::Channel,
    file,
    listen::ListenAddr,
    log_write, path, pidfile,
    poll::{self, Interest},
    process::{self, Daemon},
    signals::{Received, Signals},
    title,
};
use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// A configuration as the master keeps it: everything but what serves.
struct State {
    settings: MainSettings,
    log: Arc<Log>,
    logs: Vec<Arc<LogFile>>,
    pid_file: PathBuf,
    groups: Vec<Group>,
    record: Record,
    stderr_log: Option<PathBuf>,
}

impl State {
    /// What stands in the place of a state that was given away.
    fn empty() -> Self {
        Self {
            settings: MainSettings::default(),
            log: Arc::new(Log::stderr(Level::Error)),
            logs: Vec::new(),
            pid_file: PathBuf::new(),
            groups: Vec::new(),
            record: Record::default(),
            stderr_log: None,
        }
    }

    fn new(loaded: Loaded, groups: Vec<Group>, record: Record) -> Self {
        let Loaded { settings, log, logs, pid_file, stderr_log, .. } = loaded;
        Self { settings, log, logs, pid_file, groups, record, stderr_log }
    }
}

/// A serving process.
struct Child {
    pid: i32,
    channel: Channel,
    started: Instant,
    /// It has served; what it was started with is good.
    proven: bool,
}

/// A generation that a serving process has not confirmed yet.
struct Pending {
    state: State,
    /// The process that will serve it, when that is a new one.
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// QUIT
    Quit,
    /// TERM or INT, and when patience ends.
    Stop(Instant),
}

struct Master<'p> {
    program: &'p Program,
    report: Report,
    state: State,
    child: Option<Child>,
    /// Processes that finish their connections.
    old: Vec<Child>,
    pending: Option<Pending>,
    /// HUP came while a generation was pending.
    again: bool,
    ending: Ending,
    /// WINCH: the workers are gone, the master stays.
    noaccepting: bool,
    new_binary: Option<i32>,
    /// Who was the parent in the beginning: while it lives, this may be the new program of an upgrade.
    parent: i32,
    upgraded: bool,
    daemonized: bool,
    daemon: Option<Daemon>,
    respawn: Option<Instant>,
    delay: Duration,
    status: Option<i32>,
    /// Some generation has been served.
    served: bool,
}

/// A serving process that has lived so long is started again at once.
const SOUND: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Serving processes that do not end on TERM are killed after this time, as nginx does.
const PATIENCE: Duration = Duration::from_millis(1600);
/// How often the master looks at its clock while something is due.
const TICK: Duration = Duration::from_millis(100);

/// Runs the master; gives the exit status.
pub(crate) fn run(launch: Launch<'_>, record: Record) -> i32 {
    let Launch { program, loaded, groups, daemon, upgraded } = launch;
    let report = Report::to(loaded.log.clone());
    let mut words = b"nginx: master process".to_vec();
    for word in &program.argv {
        words.push(b' ');
        words.extend_from_slice(word);
    }
    title::set(&words);
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            report.write(Level::Emerg, format_args!("sigaction() failed ({})", os_error(&error)));
            return 2;
        }
    };
    let daemonized = daemon.is_some() || upgraded;
    let mut master = Master {
        program,
        report,
        state: State::new(loaded, groups, record),
        child: None,
        old: Vec::new(),
        pending: None,
        again: false,
        ending: Ending::No,
        noaccepting: false,
        new_binary: None,
        parent: process::parent_pid(),
        upgraded,
        daemonized,
        daemon,
        respawn: None,
        delay: Duration::ZERO,
        status: None,
        served: false,
    };
    master.start_current();
    let status = master.watch(&signals);
    master.leave();
    status
}

impl Master<'_> {
    fn watch(&mut self, signals: &Signals) -> i32 {
        loop {
            if let Some(status) = self.status {
                return status;
            }
            if self.ending != Ending::No && self.children().next().is_none() {
                return 0;
            }
            if let Err(error) = self.wait(signals) {
                self.report.write(Level::Alert, format_args!("poll() failed ({})", os_error(&error)));
                return 2;
            }
            while let Ok(Some(received)) = signals.next() {
                self.signal(received);
            }
            self.listen_to_children();
            self.tick();
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        let pending = self.pending.iter().filter_map(|pending| pending.child.as_ref());
        self.child.iter().chain(pending).chain(&self.old)
    }

    fn wait(&mut self, signals: &Signals) -> io::Result<()> {
        let mut fds = vec![(signals.as_fd(), Interest::Read)];
        let mut writing = false;
        let pending = self.pending.iter_mut().filter_map(|pending| pending.child.as_mut());
        for child in self.child.iter_mut().chain(pending).chain(&mut self.old) {
            // A closed channel is seen when it is read, and the end of the process as SIGCHLD.
            let flushed = child.channel.flush().unwrap_or(true);
            writing |= !flushed;
        }
        for child in self.children() {
            fds.push((child.channel.as_fd(), if writing { Interest::Both } else { Interest::Read }));
        }
        let due = self.respawn.is_some() || matches!(self.ending, Ending::Stop(_)) || writing;
        poll::wait(&fds, due.then_some(TICK)).map(drop)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if let Ending::Stop(limit) = self.ending
            && now >= limit
        {
            for child in self.children() {
                let _ = process::kill(child.pid, libc::SIGKILL);
            }
            self.ending = Ending::Stop(now + PATIENCE);
        }
        if self.respawn.is_some_and(|at| at <= now) {
            self.respawn = None;
            self.start_current();
        }
    }

    fn signal(&mut self, received: Received) {
        let note = |action: &str| self.report.write(Level::Notice, format_args!("{received}{action}"));
        match received.number {
            libc::SIGCHLD => {
                note("");
                self.reap();
            }
            libc::SIGTERM | libc::SIGINT => {
                note(", exiting");
                self.end(true);
            }
            libc::SIGQUIT => {
                note(", shutting down");
                self.end(false);
            }
            libc::SIGHUP => {
                note(", reconfiguring");
                self.reconfigure();
            }
            libc::SIGUSR1 => {
                note(", reopening logs");
                self.reopen();
            }
            libc::SIGWINCH if self.daemonized => {
                note(", stop accepting connections");
                self.stop_accepting();
            }
            libc::SIGUSR2 => {
                // The new program of an upgrade, while the old one lives, and the old one, while the new one does.
                let busy = process::parent_pid() == self.parent || self.new_binary.is_some();
                note(if busy { ", ignoring" } else { ", changing binary" });
                if busy {
                    self.report.write(
                        Level::Crit,
                        format_args!(
                            "the changing binary signal is ignored: you should shutdown or terminate before \
                             either old or new binary's process"
                        ),
                    );
                } else {
                    self.change_binary();
                }
            }
            _ => note(""),
        }
    }

    fn end(&mut self, now: bool) {
        if matches!(self.ending, Ending::Stop(_)) {
            return;
        }
        self.ending = if now { Ending::Stop(Instant::now() + PATIENCE) } else { Ending::Quit };
        self.respawn = None;
        let children = self.child.take().into_iter();
        let pending = self.pending.take().and_then(|pending| pending.child);
        self.old.extend(children.chain(pending));
        for child in &mut self.old {
            tell(child, handover::end(now));
        }
        // Nobody waits in them any more.
        self.state.record = Record::default();
        self.close_sockets();
    }

    fn close_sockets(&mut self) {
        let groups = std::mem::take(&mut self.state.groups);
        if self.new_binary.is_some() || (self.upgraded && process::parent_pid() == self.parent) {
            return;
        }
        remove_unix(&groups, &self.report);
    }

    fn stop_accepting(&mut self) {
        self.noaccepting = true;
        self.respawn = None;
        let pending = self.pending.take().and_then(|pending| pending.child);
        for mut child in self.child.take().into_iter().chain(pending) {
            tell(&mut child, handover::end(false));
            self.old.push(child);
        }
    }

    fn reconfigure(&mut self) {
        if self.ending != Ending::No {
            return;
        }
        if self.new_binary.is_some() {
            self.noaccepting = false;
            if self.child.is_none() {
                self.start_current();
            }
            return;
        }
        if self.pending.is_some() {
            self.again = true;
            return;
        }
        self.report.write(Level::Notice, format_args!("reconfiguring"));
        let Some(mut state) = self.compile() else { return };
        self.noaccepting = false;
        self.respawn = None;
        let replace = self.state.settings.needs_new_process(&state.settings);
        self.report.write(Level::Notice, format_args!("start worker processes"));
        match &mut self.child {
            Some(child) if !replace => match handover::generation(&state.record, &state.groups) {
                Ok(message) => {
                    tell(child, message);
                    self.pending = Some(Pending { state, child: None });
                }
                Err(error) => {
                    self.report.write(Level::Alert, format_args!("dup() failed ({})", os_error(&error)));
                }
            },
            _ => {
                if let Some(child) = self.fork(Some(&mut state)) {
                    self.pending = Some(Pending { state, child: Some(child) });
                }
            }
        }
    }

    fn compile(&self) -> Option<State> {
        let resources = Recording::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| configuration::load(self.program, &resources)));
        let Ok(outcome) = outcome else {
            self.report.write(Level::Alert, format_args!("the configuration could not be compiled"));
            return None;
        };
        self.report.complain(outcome.as_nginx());
        let loaded = outcome.loaded?;
        let http = loaded.http.as_deref();
        let old = &self.state.groups;
        let groups = listeners::open(http, &loaded.settings, &resources, old, &self.report).ok()?;
        self.report.write(Level::Notice, format_args!("using the \"epoll\" event method"));
        Some(State::new(loaded, groups, resources.finish()))
    }

    fn reopen(&mut self) {
        self.report.write(Level::Notice, format_args!("reopening logs"));
        let owner = self.state.settings.user.as_ref().map(|user| user.uid);
        let mut opened: Vec<(PathBuf, File)> = Vec::new();
        for log in &self.state.logs {
            let name = path::to_bytes(log.path());
            let file = log_write::open(name).map(File::from).and_then(|file| {
                if let Some(uid) = owner.filter(|uid| file::fstat(&file).is_ok_and(|stat| stat.uid != *uid)) {
                    file::chown(name, uid, None)?;
                }
                log.replace(file.try_clone()?);
                Ok(file)
            });
            match file {
                Ok(file) => {
                    if self.state.stderr_log.as_deref() == Some(log.path()) {
                        let _ = process::redirect_stderr(&file);
                    }
                    opened.push((log.path().to_owned(), file));
                }
                Err(error) => {
                    let name = log.path().display();
                    self.report
                        .write(Level::Emerg, format_args!("open() \"{name}\" failed ({})", os_error(&error)));
                }
            }
        }
        for (name, file) in &mut self.state.record.logs {
            let new =
                opened.iter().find(|(known, _)| known == name).and_then(|(_, new)| new.try_clone().ok());
            if let Some(new) = new {
                *file = new;
            }
        }
        let pending = self.pending.iter_mut().filter_map(|pending| pending.child.as_mut());
        for child in self.child.iter_mut().chain(pending).chain(&mut self.old) {
            if let Ok(message) = handover::reopened(&opened) {
                tell(child, message);
            }
        }
    }

    fn leave(&mut self) {
        let name = path::to_bytes(&self.state.pid_file).to_vec();
        let name = if self.new_binary.is_some() { pidfile::oldbin(&name) } else { name };
        if let Err(error) = pidfile::remove(&name) {
            let name = String::from_utf8_lossy(&name);
            self.report
                .write(Level::Alert, format_args!("unlink() \"{name}\" failed ({})", os_error(&error)));
        }
        for child in self.children() {
            let _ = process::kill(child.pid, libc::SIGTERM);
        }
        self.close_sockets();
        self.report.write(Level::Notice, format_args!("exit"));
    }
}

/// Writes the pid file of a new configuration and removes the old one's.
pub(crate) fn move_pid_file(from: &PathBuf, to: &PathBuf, report: &Report) {
    if from == to {
        return;
    }
    if let Err(error) = pidfile::write(path::to_bytes(to)) {
        report.write(Level::Emerg, format_args!("open() \"{}\" failed ({})", to.display(), os_error(&error)));
        return;
    }
    let _ = pidfile::remove(path::to_bytes(from));
}

/// Removes the files of unix sockets that are no longer listened on.
pub(crate) fn remove_unix(groups: &[Group], report: &Report) {
    for group in groups {
        let ListenAddr::Unix(name) = &group.spec.addr else { continue };
        if let Err(error) = file::remove(name) {
            let name = String::from_utf8_lossy(name);
            report.write(Level::Emerg, format_args!("unlink() {name} failed ({})", os_error(&error)));
        }
    }
}
