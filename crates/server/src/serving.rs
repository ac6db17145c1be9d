//! The serving process: generations of workers, one current, others starting or draining.

use crate::{
    configuration::Loaded,
    listeners::{self, Group},
    panics,
    settings::MainSettings,
    worker::{self, Command, Event, Events, Handle, Job, News},
};
use moonrest_core::{
    Log,
    env::os_error,
    log::{Level, LogFile},
    zone::Zones,
};
use moonrest_http::{compile::Http, worker::Process};
use std::{
    io::{self, PipeReader, Read as _},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// A generation as its workers see it.
pub(crate) struct Shared {
    pub settings: MainSettings,
    pub http: Option<Arc<Http>>,
    pub log: Arc<Log>,
    pub logs: Vec<Arc<LogFile>>,
}

/// A generation and its workers.
struct Running {
    number: u64,
    shared: Arc<Shared>,
    /// Until it takes over.
    zones: Option<Zones>,
    /// The sockets; given up when the generation drains, so that none stays open that nobody accepts from.
    groups: Vec<Group>,
    workers: Vec<Option<Handle>>,
    /// How many there will be: as many as are configured, and one without sockets when their program wants that.
    wanted: usize,
    ready: usize,
    /// When a worker that died is started again, and how long the next one will wait.
    respawn: Vec<(usize, Instant)>,
    delay: Duration,
}

impl Running {
    /// Accepts no more, and ends.
    fn end(&mut self, command: Command) {
        self.groups.clear();
        self.tell(command);
    }

    fn tell(&self, command: Command) {
        for worker in self.workers.iter().flatten() {
            worker.command.send_if_modified(|known| {
                let later = command > *known;
                if later {
                    *known = command;
                }
                later
            });
        }
    }

    fn is_over(&self) -> bool {
        self.workers.iter().all(Option::is_none)
    }
}

/// What the owner of the serving process has to know.
#[derive(Debug)]
pub(crate) enum Change {
    /// The generation that was starting serves now.
    Serving,
    /// It could not be started; the one before serves on.
    Failed(String),
    /// A worker ends of its own accord. Another takes its place unless the process ends too.
    Leaves,
}

/// All workers of this process.
pub(crate) struct Serving {
    process: Arc<Process>,
    events: Events,
    receiver: mpsc::Receiver<Event>,
    wake: PipeReader,
    number: u64,
    starting: Option<Running>,
    current: Option<Running>,
    draining: Vec<Running>,
    /// Nothing is started any more.
    ending: bool,
    /// When the workers were last looked at.
    looked: Instant,
}

/// nginx's name of the worker without sockets.
const AGENT: &str = "privileged agent";

/// A worker that dies is started again after this long, and ever later up to the maximum.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// How often workers are looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Serving {
    /// A serving process without workers.
    ///
    /// # Errors
    /// Those of `pipe`.
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, writer) = io::pipe()?;
        let (sender, receiver) = mpsc::channel();
        Ok(Self {
            process: Arc::default(),
            events: Events { sender, wake: Arc::new(writer) },
            receiver,
            wake,
            number: 0,
            starting: None,
            current: None,
            draining: Vec::new(),
            ending: false,
            looked: Instant::now(),
        })
    }

    /// Becomes readable when [`Serving::handle`] has work.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The generation that serves.
    pub(crate) fn current(&self) -> Option<&Arc<Shared>> {
        self.current.as_ref().map(|running| &running.shared)
    }

    /// Whether a generation is being started.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Whether nothing is started any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Starts a generation beside the current one; it takes over when all its workers are ready.
    pub(crate) fn begin(&mut self, loaded: Loaded, groups: Vec<Group>) -> Result<(), String> {
        self.number += 1;
        let Loaded { settings, http, log, logs, zones, .. } = loaded;
        let wanted = settings.workers();
        let shared = Arc::new(Shared { settings, http, log, logs });
        let mut running = Running {
            number: self.number,
            shared,
            zones: Some(zones),
            groups,
            workers: Vec::new(),
            wanted,
            ready: 0,
            respawn: Vec::new(),
            delay: FIRST_DELAY,
        };
        // One after another: workers need not expect each other while they prepare.
        running.workers.push(Some(self.spawn(&running, 0)?));
        self.starting = Some(running);
        Ok(())
    }

    fn spawn(&self, running: &Running, id: usize) -> Result<Handle, String> {
        let shared = running.shared.clone();
        let workers = shared.settings.workers();
        let shares = if id < workers {
            listeners::share(&running.groups, id, workers)
        } else {
            shared.log.write(Level::Notice, None, format_args!("start {AGENT} process {id}"));
            Vec::new()
        };
        let job = Job {
            generation: running.number,
            id,
            shares,
            shared,
            process: self.process.clone(),
            events: self.events.clone(),
        };
        worker::start(job).map_err(|error| format!("starting a thread failed ({})", os_error(&error)))
    }

    /// Takes in what workers have said.
    pub(crate) fn handle(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut wake = [0];
        while let Ok(event) = self.receiver.try_recv() {
            // One byte for each message.
            let _ = self.wake.read(&mut wake);
            let (generation, id, news) = event;
            match news {
                News::Ready { agent } => changes.extend(self.ready(generation, id, agent)),
                News::Failed(text) => changes.extend(self.failed(generation, id, text)),
                News::Leaves => changes.extend(self.leaves(generation, id)),
                News::Ended { panicked } => changes.extend(self.ended(generation, id, panicked)),
            }
        }
        changes
    }

    fn ready(&mut self, generation: u64, id: usize, agent: bool) -> Option<Change> {
        if let Some(current) = self.current.as_mut().filter(|running| running.number == generation) {
            // Started again after its end.
            if let Some(Some(worker)) = current.workers.get(id) {
                worker.command.send_replace(if self.ending { Command::Stop } else { Command::Serve });
            }
            return None;
        }
        let mut starting = self.starting.take_if(|running| running.number == generation)?;
        starting.ready += 1;
        if agent {
            starting.wanted = starting.shared.settings.workers() + 1;
        }
        if starting.ready == starting.wanted {
            self.take_over(starting);
            return Some(Change::Serving);
        }
        match self.spawn(&starting, id + 1) {
            Ok(worker) => {
                starting.workers.push(Some(worker));
                self.starting = Some(starting);
                None
            }
            Err(text) => Some(self.abandon(starting, text)),
        }
    }

    fn take_over(&mut self, mut running: Running) {
        if let Some(zones) = running.zones.take() {
            zones.commit();
        }
        panics::log_to(running.shared.log.clone());
        running.tell(Command::Serve);
        if let Some(mut old) = self.current.replace(running) {
            old.shared.log.write(Level::Notice, None, format_args!("gracefully shutting down"));
            old.end(Command::Quit);
            self.draining.push(old);
        }
    }

    fn abandon(&mut self, mut running: Running, text: String) -> Change {
        running.end(Command::Stop);
        self.draining.push(running);
        Change::Failed(text)
    }

    fn failed(&mut self, generation: u64, id: usize, text: String) -> Option<Change> {
        match self.starting.take_if(|running| running.number == generation) {
            Some(starting) => Some(self.abandon(starting, text)),
            None => {
                if let Some(current) = self.current.as_ref().filter(|running| running.number == generation) {
                    current.shared.log.write(Level::Alert, None, format_args!("worker {id}: {text}"));
                }
                None
            }
        }
    }

    fn ended(&mut self, generation: u64, id: usize, panicked: bool) -> Option<Change> {
        let ending = self.ending;
        let all = self.current.iter_mut().chain(&mut self.draining).chain(&mut self.starting);
        let running = all.into_iter().find(|running| running.number == generation)?;
        let worker = running.workers.get_mut(id).and_then(Option::take)?;
        let order = *worker.command.borrow();
        let _ = worker.thread.join();
        let expected = order >= Command::Quit || ending;
        if expected && !ending {
            // nginx: its master says so, and those who wait for a reload to be over look for it.
            let kind = if id < running.shared.settings.workers() { "worker" } else { AGENT };
            let text = format_args!("{kind} process {id} exited with code {}", u8::from(panicked));
            running.shared.log.write(Level::Notice, None, text);
        }
        if self.current.as_ref().is_some_and(|running| running.number == generation) && !expected {
            self.revive(id, panicked, worker.leaves);
        } else if self.starting.as_ref().is_some_and(|running| running.number == generation) {
            let starting = self.starting.take()?;
            return Some(self.abandon(starting, format!("worker {id} ended while it started")));
        }
        self.draining.retain(|running| {
            if running.is_over() && !ending {
                running.shared.log.write(Level::Notice, None, format_args!("exiting"));
            }
            !running.is_over()
        });
        None
    }

    fn leaves(&mut self, generation: u64, id: usize) -> Option<Change> {
        let current = self.current.as_mut().filter(|running| running.number == generation)?;
        current.workers.get_mut(id)?.as_mut()?.leaves = true;
        Some(Change::Leaves)
    }

    fn revive(&mut self, id: usize, panicked: bool, left: bool) {
        let Some(current) = &mut self.current else { return };
        if left {
            return current.respawn.push((id, Instant::now()));
        }
        let how = if panicked { "died of a panic" } else { "ended" };
        let wait = current.delay;
        current.shared.log.write(
            Level::Alert,
            None,
            format_args!("worker {id} {how}, it is started again in {} s", wait.as_secs()),
        );
        current.respawn.push((id, Instant::now() + wait));
        current.delay = (wait * 2).min(MAX_DELAY);
    }

    /// Does what is due; says when to come again at the latest.
    pub(crate) fn tick(&mut self) -> Duration {
        let now = Instant::now();
        self.respawn(now);
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            for running in self.current.iter_mut().chain(&mut self.draining) {
                for (id, worker) in running.workers.iter_mut().enumerate() {
                    if let Some(worker) = worker {
                        worker.watch.look(id, &running.shared.log, now);
                    }
                }
            }
        }
        LOOK
    }

    fn respawn(&mut self, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let due: Vec<usize> =
            current.respawn.extract_if(.., |(_, at)| *at <= now).map(|(id, _)| id).collect();
        for id in due {
            let started = self.current.as_ref().map(|current| self.spawn(current, id));
            let Some(current) = &mut self.current else { return };
            match started {
                Some(Ok(worker)) => current.workers[id] = Some(worker),
                Some(Err(text)) => {
                    current.shared.log.write(Level::Alert, None, format_args!("{text}"));
                    current.respawn.push((id, now + MAX_DELAY));
                }
                None => {}
            }
        }
    }

    /// All workers finish what they have and end.
    pub(crate) fn quit(&mut self) {
        self.end(Command::Quit);
    }

    /// All workers end now.
    pub(crate) fn stop(&mut self) {
        self.end(Command::Stop);
    }

    fn end(&mut self, command: Command) {
        self.ending = true;
        if let Some(mut starting) = self.starting.take() {
            starting.end(Command::Stop);
            self.draining.push(starting);
        }
        self.draining.extend(self.current.take());
        for running in &mut self.draining {
            running.end(command);
        }
        self.draining.retain(|running| !running.is_over());
    }

    /// Whether no worker is left.
    pub(crate) fn is_over(&self) -> bool {
        self.starting.is_none() && self.current.is_none() && self.draining.is_empty()
    }

    /// The log files of all generations.
    pub(crate) fn logs(&self) -> Vec<Arc<LogFile>> {
        let all = self.current.iter().chain(&self.draining).chain(&self.starting);
        all.flat_map(|running| running.shared.logs.iter().cloned()).collect()
    }
}
