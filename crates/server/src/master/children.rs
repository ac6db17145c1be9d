//! The serving processes of a master: started, heard, mourned.

use super::{
    Child, Ending, FIRST_DELAY, MAX_DELAY, Master, Pending, SOUND, State, listeners, move_pid_file,
    remove_unix,
};
use crate::{
    handover::{self, Answer},
    panics,
    report::Report,
    serving_process,
};
use moonrest_core::{env::os_error, log::Level};
use moonrest_sys::{
    fdpass::{Channel, Message},
    process::{self, ExitStatus, Exited},
};
use std::{
    io,
    time::{Duration, Instant},
};

impl Master<'_> {
    pub(super) fn start_current(&mut self) {
        self.report.write(Level::Notice, format_args!("start worker processes"));
        self.child = self.fork(None);
        if self.child.is_none() {
            self.respawn_later();
        }
    }

    /// Starts a serving process for the current configuration, or for `pending`.
    pub(super) fn fork(&mut self, mut pending: Option<&mut State>) -> Option<Child> {
        let (ours, theirs) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                self.spawn_failed("socketpair()", &error);
                return None;
            }
        };
        let mut ours = Some(ours);
        let forked = process::fork_child(|| {
            // Only what it serves stays open in the child: it must see the master go, and let sockets and logs go.
            drop(ours.take());
            let state = match &mut pending {
                Some(state) => std::mem::replace(*state, State::empty()),
                None => std::mem::replace(&mut self.state, State::empty()),
            };
            self.forget();
            panics::log_to(state.log.clone());
            let State { settings, log, logs, record, groups, stderr_log, pid_file: _ } = state;
            let sockets = handover::sockets(&groups);
            drop((groups, logs));
            let birth = serving_process::Birth {
                program: self.program,
                settings,
                report: Report::to(log),
                stderr_log,
                channel: theirs,
            };
            serving_process::run(birth, record, sockets)
        });
        match (forked, ours) {
            (Ok(pid), Some(channel)) => {
                self.report.write(Level::Notice, format_args!("start worker process {pid}"));
                Some(Child { pid, channel, started: Instant::now(), proven: false })
            }
            (Err(error), _) => {
                self.spawn_failed("fork()", &error);
                None
            }
            (Ok(_), None) => None,
        }
    }

    pub(super) fn spawn_failed(&self, call: &str, error: &io::Error) {
        let text = os_error(error);
        let line = format_args!("{call} failed while spawning \"worker process\" ({text})");
        self.report.write(Level::Alert, line);
    }

    /// In a child: closes what the master had.
    pub(super) fn forget(&mut self) {
        self.state = State::empty();
        self.child = None;
        self.old.clear();
        self.pending = None;
        self.daemon = None;
        self.report = Report::to(self.state.log.clone());
    }

    pub(super) fn listen_to_children(&mut self) {
        for answer in answers(&mut self.child) {
            match answer {
                Answer::Serving => self.confirmed(),
                Answer::Failed(text) => self.refused(&text),
            }
        }
        let answers = match &mut self.pending {
            Some(pending) => answers(&mut pending.child),
            None => Vec::new(),
        };
        for answer in answers {
            match answer {
                Answer::Serving => self.confirmed(),
                Answer::Failed(text) => self.refused(&text),
            }
        }
    }

    /// The serving process serves what it was given last.
    pub(super) fn confirmed(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.ready();
        }
        if let Some(Pending { state, child }) = self.pending.take() {
            if let Some(child) = child
                && let Some(mut old) = self.child.replace(child)
            {
                tell(&mut old, handover::end(false));
                self.old.push(old);
            }
            self.adopt(state);
        }
        if let Some(child) = &mut self.child {
            child.proven = true;
        }
        self.served = true;
        self.reload_again();
    }

    pub(super) fn adopt(&mut self, state: State) {
        move_pid_file(&self.state.pid_file, &state.pid_file, &self.report);
        self.report = Report::to(state.log.clone());
        panics::log_to(state.log.clone());
        let old = std::mem::replace(&mut self.state, state);
        let mut gone = old.groups;
        gone.retain(|group| {
            !self.state.groups.iter().any(|kept| listeners::same_place(&kept.spec, &group.spec))
        });
        remove_unix(&gone, &self.report);
    }

    /// What it was given last cannot be served.
    pub(super) fn refused(&mut self, text: &str) {
        self.report.write(Level::Emerg, format_args!("{text}"));
        match self.pending.take() {
            // A process of its own ends by itself.
            Some(Pending { child, .. }) => self.old.extend(child),
            None if self.child.as_ref().is_some_and(|child| !child.proven) => {
                if let Some(daemon) = self.daemon.take() {
                    daemon.failed(1);
                    self.status = Some(1);
                } else if self.ending == Ending::No && !self.served {
                    self.status = Some(1);
                }
            }
            None => {}
        }
        self.reload_again();
    }

    pub(super) fn reload_again(&mut self) {
        if std::mem::take(&mut self.again) {
            self.reconfigure();
        }
    }

    pub(super) fn reap(&mut self) {
        while let Ok(Some(exited)) = process::reap_any() {
            // Its last words may still be on their way.
            self.listen_to_children();
            self.exited(exited);
        }
    }

    pub(super) fn exited(&mut self, exited: Exited) {
        let Exited { pid, status } = exited;
        let new_binary = self.new_binary == Some(pid);
        let name = if new_binary {
            "new binary process"
        } else if self.children().any(|child| child.pid == pid) {
            "worker process"
        } else {
            "unknown process"
        };
        let level = if matches!(status, ExitStatus::Signal { .. }) { Level::Alert } else { Level::Notice };
        self.report.write(level, format_args!("{name} {pid} {status}"));
        if new_binary {
            self.new_binary = None;
            self.restore_pid_file();
            if std::mem::take(&mut self.noaccepting) && self.ending == Ending::No {
                self.start_current();
            }
            return;
        }
        self.old.retain(|child| child.pid != pid);
        if let Some(child) = self.child.take_if(|child| child.pid == pid) {
            self.lost(&child);
        }
        let pending_died = self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.child.as_ref().is_some_and(|child| child.pid == pid));
        if pending_died {
            self.pending = None;
            self.report.write(Level::Emerg, format_args!("the new configuration could not be served"));
            self.reload_again();
        }
    }

    /// The serving process is gone although nobody told it to go.
    pub(super) fn lost(&mut self, child: &Child) {
        if let Some(Pending { child: None, .. }) = &self.pending {
            self.pending = None;
            self.report
                .write(Level::Emerg, format_args!("the new configuration was lost with the worker process"));
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.failed(1);
            self.status = Some(1);
            return;
        }
        if child.started.elapsed() >= SOUND {
            self.delay = Duration::ZERO;
        }
        self.respawn_later();
        self.reload_again();
    }

    pub(super) fn respawn_later(&mut self) {
        if self.ending != Ending::No || self.noaccepting {
            return;
        }
        self.respawn = Some(Instant::now() + self.delay);
        self.delay = (self.delay * 2).clamp(FIRST_DELAY, MAX_DELAY);
    }
}

/// Queues an order; what cannot be sent is seen when the process ends.
pub(super) fn tell(child: &mut Child, message: Message) {
    let _ = child.channel.queue(message.bytes, message.fds);
    let _ = child.channel.flush();
}

/// What a serving process has said.
fn answers(child: &mut Option<Child>) -> Vec<Answer> {
    let Some(child) = child else { return Vec::new() };
    let mut answers = Vec::new();
    while let Ok(Some(message)) = child.channel.try_recv() {
        answers.extend(Answer::read(&message.bytes));
    }
    answers
}
