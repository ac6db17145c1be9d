//! `master_process off`: one process that serves and takes the signals.

use crate::{
    configuration,
    listeners::{self, Group},
    master::{move_pid_file, remove_unix},
    report::Report,
    resources::Direct,
    run::{Launch, Program},
    serving::{Change, Serving},
};
use moonrest_core::{env::os_error, log::Level};
use moonrest_sys::{
    log_write, path, pidfile,
    poll::{self, Interest},
    process::{self, Daemon},
    signals::{Received, Signals},
};
use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

struct Single<'p> {
    program: &'p Program,
    serving: Serving,
    report: Report,
    pid_file: PathBuf,
    daemon: Option<Daemon>,
    /// HUP came while a generation was being started.
    again: bool,
    /// Nothing has served yet.
    first: bool,
    /// The sockets of the newest generation.
    groups: Vec<Group>,
    stderr_log: Option<PathBuf>,
}

/// Serves until a signal ends it; gives the exit status.
pub(crate) fn run(launch: Launch<'_>) -> i32 {
    let Launch { program, loaded, groups, daemon, .. } = launch;
    let report = Report::to(loaded.log.clone());
    let fatal = |text: &str| {
        report.write(Level::Emerg, format_args!("{text}"));
        2
    };
    let environment = loaded.settings.environment(&moonrest_sys::environment::all());
    if let Err(error) = moonrest_sys::environment::replace(&environment) {
        return fatal(&format!("setting the environment failed ({})", os_error(&error)));
    }
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fatal(&format!("sigaction() failed ({})", os_error(&error))),
    };
    let mut serving = match Serving::new() {
        Ok(serving) => serving,
        Err(error) => return fatal(&format!("pipe() failed ({})", os_error(&error))),
    };
    let pid_file = loaded.pid_file.clone();
    let kept = groups.clone();
    let stderr_log = loaded.stderr_log.clone();
    report.write(Level::Notice, format_args!("start worker processes"));
    if let Err(text) = serving.begin(loaded, groups) {
        return fatal(&text);
    }
    let mut single = Single {
        program,
        serving,
        report,
        pid_file,
        daemon,
        again: false,
        first: true,
        groups: kept,
        stderr_log,
    };
    let status = single.watch(&signals);
    single.close_sockets();
    let _ = pidfile::remove(path::to_bytes(&single.pid_file));
    single.report.write(Level::Notice, format_args!("exit"));
    status
}

impl Single<'_> {
    fn watch(&mut self, signals: &Signals) -> i32 {
        loop {
            let patience = self.serving.tick();
            let fds = [(signals.as_fd(), Interest::Read), (self.serving.fd(), Interest::Read)];
            if let Err(error) = poll::wait(&fds, Some(patience)) {
                self.report.write(Level::Alert, format_args!("poll() failed ({})", os_error(&error)));
                return 2;
            }
            while let Ok(Some(received)) = signals.next() {
                self.signal(received);
            }
            for change in self.serving.handle() {
                if let Some(status) = self.changed(&change) {
                    return status;
                }
            }
            if self.serving.is_over() {
                return 0;
            }
        }
    }

    fn signal(&mut self, received: Received) {
        let note = |action: &str| {
            self.report.write(Level::Notice, format_args!("{received}{action}"));
        };
        match received.number {
            libc::SIGTERM | libc::SIGINT => {
                note(", exiting");
                self.close_sockets();
                self.serving.stop();
            }
            libc::SIGQUIT => {
                note(", shutting down");
                self.report.write(Level::Notice, format_args!("gracefully shutting down"));
                self.close_sockets();
                self.serving.quit();
            }
            libc::SIGHUP if self.serving.is_ending() => note(", ignoring"),
            libc::SIGHUP => {
                note(", reconfiguring");
                if self.serving.is_starting() {
                    self.again = true;
                } else {
                    self.reload();
                }
            }
            libc::SIGUSR1 => {
                note(", reopening logs");
                self.report.write(Level::Notice, format_args!("reopening logs"));
                self.reopen();
            }
            libc::SIGUSR2 | libc::SIGWINCH | libc::SIGIO => note(", ignoring"),
            _ => {}
        }
    }

    /// Nobody shall wait where nobody accepts.
    fn close_sockets(&mut self) {
        remove_unix(&std::mem::take(&mut self.groups), &self.report);
    }

    fn reload(&mut self) {
        self.report.write(Level::Notice, format_args!("reconfiguring"));
        let resources = Direct::serving();
        let outcome = catch_unwind(AssertUnwindSafe(|| configuration::load(self.program, &resources)));
        let Ok(outcome) = outcome else {
            return self.report.write(Level::Alert, format_args!("the configuration could not be compiled"));
        };
        self.report.complain(outcome.as_nginx());
        let Some(loaded) = outcome.loaded else { return };
        let http = loaded.http.as_deref();
        let opened = listeners::open(http, &loaded.settings, &resources, &self.groups, &self.report);
        let Ok(groups) = opened else { return };
        let mut gone = std::mem::replace(&mut self.groups, groups.clone());
        gone.retain(|group| !groups.iter().any(|kept| listeners::same_place(&kept.spec, &group.spec)));
        remove_unix(&gone, &self.report);
        move_pid_file(&self.pid_file, &loaded.pid_file, &self.report);
        self.pid_file.clone_from(&loaded.pid_file);
        self.stderr_log.clone_from(&loaded.stderr_log);
        if let Err(text) = self.serving.begin(loaded, groups) {
            self.report.write(Level::Emerg, format_args!("{text}"));
        }
    }

    fn reopen(&self) {
        for log in self.serving.logs() {
            match log_write::open(path::to_bytes(log.path())) {
                Ok(fd) => {
                    if self.stderr_log.as_deref() == Some(log.path()) {
                        let _ = process::redirect_stderr(&fd);
                    }
                    log.replace(fd.into());
                }
                Err(error) => {
                    let name = log.path().display();
                    self.report
                        .write(Level::Emerg, format_args!("open() \"{name}\" failed ({})", os_error(&error)));
                }
            }
        }
    }

    /// Gives an exit status when the process must end.
    fn changed(&mut self, change: &Change) -> Option<i32> {
        match change {
            Change::Serving => {
                if let Some(shared) = self.serving.current() {
                    self.report = Report::to(shared.log.clone());
                }
                if std::mem::take(&mut self.first)
                    && let Some(text) = &self.program.options.greeting
                {
                    // Nobody to tell when this fails.
                    let _ = writeln!(io::stdout(), "{text}");
                }
                if let Some(daemon) = self.daemon.take() {
                    daemon.ready();
                }
            }
            Change::Leaves => {
                self.close_sockets();
                self.serving.quit();
            }
            Change::Failed(text) => {
                self.report.write(Level::Emerg, format_args!("{text}"));
                if self.first {
                    return Some(1);
                }
            }
        }
        if std::mem::take(&mut self.again) {
            self.reload();
        }
        None
    }
}
