//! The serving process below a master: gives up rights, serves, and takes new generations over a channel.

use crate::{
    configuration::{self, Loaded},
    handover::{self, Answer, Order, Record, Sockets},
    listeners::Group,
    panics,
    report::Report,
    resources::Handed,
    run::Program,
    serving::{Change, Serving},
    settings::MainSettings,
};
use moonrest_core::{
    env::{Resources as _, os_error},
    log::{Level, LogFile},
};
use moonrest_sys::{
    environment,
    fdpass::Channel,
    limits, log_write, path,
    poll::{self, Interest},
    process,
    signals::{Received, Signals},
    title, user,
};
use std::{
    fs::File,
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

/// The exit status of a process that could not begin.
const FATAL: i32 = 2;

struct Process<'p> {
    program: &'p Program,
    serving: Serving,
    report: Report,
    channel: Option<Channel>,
    /// A generation that came while another was being started; the last one wins.
    next: Option<(Record, Sockets)>,
    quitting: bool,
    stderr_log: Option<PathBuf>,
}

/// What a serving process gets from the master besides its first configuration.
pub(crate) struct Birth<'p> {
    pub program: &'p Program,
    pub settings: MainSettings,
    pub report: Report,
    /// The log that standard error goes to.
    pub stderr_log: Option<PathBuf>,
    pub channel: Channel,
}

/// Serves until it is told to end; gives the exit status.
pub(crate) fn run(birth: Birth<'_>, record: Record, sockets: Sockets) -> i32 {
    let Birth { program, settings, report, stderr_log, channel } = birth;
    title::set(b"nginx: worker process");
    if let Err(text) = settle(&settings, &report) {
        report.write(Level::Emerg, format_args!("{text}"));
        return FATAL;
    }
    let (signals, serving) = match (Signals::new(), Serving::new()) {
        (Ok(signals), Ok(serving)) => (signals, serving),
        (Err(error), _) | (_, Err(error)) => {
            report.write(Level::Emerg, format_args!("pipe() failed ({})", os_error(&error)));
            return FATAL;
        }
    };
    drop(settings);
    let channel = Some(channel);
    let mut process = Process { program, serving, report, channel, next: None, quitting: false, stderr_log };
    process.begin(&record, &sockets);
    drop((record, sockets));
    process.watch(&signals)
}

/// Gives up what the master has and this process may not have.
fn settle(settings: &MainSettings, report: &Report) -> Result<(), String> {
    let failed = |call: &str, error: &std::io::Error| format!("{call} failed ({})", os_error(error));
    let note = |level: Level, result: std::io::Result<()>, call: String| {
        if let Err(error) = result {
            report.write(level, format_args!("{call} failed ({})", os_error(&error)));
        }
    };
    let variables = settings.environment(&environment::all());
    environment::replace(&variables).map_err(|error| failed("setting the environment", &error))?;
    moonrest_sys::time::refresh_timezone();
    if let Some(nice) = settings.priority {
        note(Level::Alert, limits::set_priority(nice), format!("setpriority({nice})"));
    }
    if let Some(count) = settings.rlimit_nofile {
        note(Level::Alert, limits::set_open_files(count), format!("setrlimit(RLIMIT_NOFILE, {count})"));
    }
    if let Some(size) = settings.rlimit_core {
        note(Level::Alert, limits::set_core_size(size), format!("setrlimit(RLIMIT_CORE, {size})"));
    }
    if let Some(identity) = &settings.user {
        match user::become_identity(identity) {
            Ok(None) => {}
            Ok(Some(warning)) => report.write(Level::Emerg, format_args!("{warning}")),
            Err(error) => return Err(error.to_string()),
        }
    }
    // A core file may hold keys and requests: only who asks for it gets one.
    if settings.rlimit_core.is_some_and(|size| size > 0) {
        note(Level::Alert, limits::set_dumpable(true), "prctl(PR_SET_DUMPABLE)".to_owned());
    }
    note(Level::Alert, limits::set_no_new_privileges(), "prctl(PR_SET_NO_NEW_PRIVS)".to_owned());
    if let Some(directory) = &settings.working_directory {
        std::env::set_current_dir(directory)
            .map_err(|error| failed(&format!("chdir(\"{}\")", directory.display()), &error))?;
    }
    Ok(())
}

impl Process<'_> {
    fn watch(&mut self, signals: &Signals) -> i32 {
        loop {
            let patience = self.serving.tick();
            let mut fds = vec![(signals.as_fd(), Interest::Read), (self.serving.fd(), Interest::Read)];
            fds.extend(self.channel.as_ref().map(|channel| (channel.as_fd(), Interest::Read)));
            let ready = match poll::wait(&fds, Some(patience)) {
                Ok(ready) => ready,
                Err(error) => {
                    self.report.write(Level::Alert, format_args!("poll() failed ({})", os_error(&error)));
                    return FATAL;
                }
            };
            while let Ok(Some(received)) = signals.next() {
                self.signal(received);
            }
            for change in self.serving.handle() {
                self.changed(change);
            }
            if ready.get(2).is_some_and(|ready| *ready) {
                self.listen_to_master();
            }
            if self.serving.is_over() {
                if self.quitting {
                    self.report.write(Level::Notice, format_args!("exiting"));
                }
                self.report.write(Level::Notice, format_args!("exit"));
                return 0;
            }
        }
    }

    fn signal(&mut self, received: Received) {
        let note = |action: &str| self.report.write(Level::Notice, format_args!("{received}{action}"));
        match received.number {
            libc::SIGTERM | libc::SIGINT => {
                note(", exiting");
                self.stop();
            }
            libc::SIGQUIT | libc::SIGWINCH => {
                note(", shutting down");
                self.quit();
            }
            libc::SIGUSR1 => {
                note(", reopening logs");
                for log in self.serving.logs() {
                    match log_write::open(path::to_bytes(log.path())) {
                        Ok(fd) => log.replace(fd.into()),
                        Err(error) => {
                            let name = log.path().display();
                            let text = os_error(&error);
                            self.report
                                .write(Level::Emerg, format_args!("open() \"{name}\" failed ({text})"));
                        }
                    }
                }
            }
            libc::SIGHUP | libc::SIGUSR2 | libc::SIGIO => note(", ignoring"),
            _ => {}
        }
    }

    fn quit(&mut self) {
        title::set(b"nginx: worker process is shutting down");
        self.report.write(Level::Notice, format_args!("gracefully shutting down"));
        self.quitting = true;
        self.serving.quit();
    }

    fn stop(&mut self) {
        self.report.write(Level::Notice, format_args!("exiting"));
        self.serving.stop();
    }

    fn listen_to_master(&mut self) {
        loop {
            let Some(channel) = &mut self.channel else { return };
            match channel.try_recv() {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Ok(Some(message)) => match handover::order(message) {
                    Some(order) => self.obey(order),
                    None => {
                        self.report.write(Level::Alert, format_args!("the master's order is not understood"))
                    }
                },
                Ok(None) => return self.orphaned("the master process has gone"),
                Err(error) => {
                    return self.orphaned(&format!("reading from the master failed ({})", os_error(&error)));
                }
            }
        }
    }

    /// Goes on serving: that is what connections and nginx's users expect.
    fn orphaned(&mut self, why: &str) {
        self.channel = None;
        self.report.write(Level::Alert, format_args!("{why}"));
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Quit => self.quit(),
            Order::Stop => self.stop(),
            Order::Reopen(logs) => {
                let new = logs.iter().find(|(name, _)| Some(name) == self.stderr_log.as_ref());
                if let Some((_, file)) = new {
                    let _ = process::redirect_stderr(file);
                }
                reopen(&self.serving.logs(), &logs);
            }
            Order::Generation(record, sockets) => {
                if self.serving.is_starting() {
                    self.next = Some((record, sockets));
                } else {
                    self.begin(&record, &sockets);
                }
            }
        }
    }

    fn begin(&mut self, record: &Record, sockets: &Sockets) {
        let resources = Handed { record, sockets };
        let loaded = self.compile(&resources);
        if let Ok(loaded) = &loaded {
            self.stderr_log.clone_from(&loaded.stderr_log);
        }
        let begun = loaded.and_then(|loaded| {
            let groups = groups(&loaded, &resources)?;
            self.serving.begin(loaded, groups)
        });
        if let Err(text) = begun {
            self.answer(&Answer::Failed(text));
        }
    }

    fn compile(&self, resources: &Handed<'_>) -> Result<Loaded, String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| configuration::load(self.program, resources)))
            .map_err(|_| "the configuration could not be compiled".to_owned())?;
        // The master has said all but what went wrong only here.
        let fatal = outcome.complaints.iter().find(|complaint| complaint.level.is_fatal());
        let text = fatal.map(|complaint| complaint.line.clone());
        outcome.loaded.ok_or_else(|| text.unwrap_or_default())
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Serving => {
                if let Some(shared) = self.serving.current() {
                    self.report = Report::to(shared.log.clone());
                    panics::log_to(shared.log.clone());
                }
                self.answer(&Answer::Serving);
            }
            Change::Failed(text) => self.answer(&Answer::Failed(text)),
            Change::Leaves => return,
        }
        if let Some((record, sockets)) = self.next.take() {
            self.begin(&record, &sockets);
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let Some(channel) = &mut self.channel else { return };
        if let Err(error) = channel.send(&answer.to_bytes(), &[]) {
            let text = os_error(&error);
            self.report.write(Level::Alert, format_args!("writing to the master failed ({text})"));
        }
    }
}

fn groups(loaded: &Loaded, resources: &Handed<'_>) -> Result<Vec<Group>, String> {
    let listeners = loaded.http.iter().flat_map(|http| &http.listeners);
    let group = |spec: &moonrest_sys::listen::ListenSpec| {
        let known =
            resources.sockets.iter().find(|(place, _)| place.addr == spec.addr && place.kind == spec.kind);
        let shards = match known {
            Some((_, shards)) => shards.clone(),
            None => vec![Arc::new(resources.listen(spec, 0).map_err(|error| error.to_string())?)],
        };
        Ok(Group { spec: spec.clone(), shards })
    };
    listeners.map(|listener| group(&listener.spec)).collect()
}

/// Continues logs in files that were opened anew.
fn reopen(logs: &[Arc<LogFile>], files: &[(PathBuf, File)]) {
    for log in logs {
        let file = files.iter().find(|(name, _)| name == log.path());
        if let Some(file) = file.and_then(|(_, file)| file.try_clone().ok()) {
            log.replace(file);
        }
    }
}
