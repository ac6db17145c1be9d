//! What belongs to one worker thread: its generation, counters, cached time and reusable memory.

use crate::{
    compile::Http,
    request::Memory,
    server::{OK, SERVER, Work},
};
use moonrest_core::{Level, Log};
use moonrest_net::report::Severity;
use moonrest_sys::time;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Counters of one worker, read by `stub_status` in any worker. Written by their worker alone.
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    pub accepted: AtomicU64,
    pub handled: AtomicU64,
    pub requests: AtomicU64,
    pub active: AtomicU64,
    pub reading: AtomicU64,
    pub writing: AtomicU64,
    pub waiting: AtomicU64,
}

/// Adds to a counter that only this thread writes.
#[inline]
pub fn bump(counter: &AtomicU64, by: i64) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(by), Relaxed);
}

/// What the workers of all generations of this process share.
#[derive(Default)]
pub struct Process {
    /// The counters of every worker that ever ran; a finished worker's are kept for the totals.
    pub counters: parking_lot::Mutex<Vec<Arc<Counters>>>,
    /// Connection numbers (`$connection`).
    pub connections: AtomicU64,
    /// The threads of workers that are there, draining ones included.
    pub threads: parking_lot::Mutex<Vec<i32>>,
}

/// A second in the forms that logs have.
#[derive(Clone, Copy)]
pub struct LocalTimes {
    at: i64,
    /// `$time_local`.
    pub log: [u8; 26],
    /// `$time_iso8601`.
    pub iso8601: [u8; 25],
}

/// One worker thread's state. Lives as long as the thread serves its generation.
pub struct Worker {
    pub id: usize,
    pub http: Arc<Http>,
    /// The log of the main level, for what belongs to no request.
    pub log: Arc<Log>,
    pub process: Arc<Process>,
    pub counters: Arc<Counters>,
    /// Set when the worker drains: keep-alive ends, idle connections close.
    pub quitting: Arc<AtomicBool>,
    /// Connections it may have at once (`worker_connections`).
    pub max_connections: usize,
    pub connections: Cell<usize>,
    /// How many workers its generation has (`worker_processes`).
    pub siblings: Cell<usize>,
    /// There is no master (`master_process off`).
    pub single: Cell<bool>,
    /// Its program wants that a worker without sockets is started beside the others.
    pub wants_agent: Rc<Cell<bool>>,
    /// How many idle connections are to close, to make room for new ones.
    unwanted: Cell<usize>,
    /// When it was last said that there is no room, in monotonic seconds.
    crowded: Cell<u64>,
    memories: RefCell<Vec<Rc<Memory>>>,
    #[expect(clippy::vec_box, reason = "the boxes themselves are lent out: moving one moves a pointer")]
    works: RefCell<Vec<Box<Work>>>,
    pub(crate) file_caches: crate::open_file::Caches,
    upstreams: std::cell::OnceCell<Rc<crate::upstream::Local>>,
    /// What most heads begin with, and the second it was written for.
    head_start: RefCell<[u8; HEAD_START]>,
    head_start_at: Cell<i64>,
    local_times: Cell<LocalTimes>,
    /// Times of files as heads have them, each in the place that its second has.
    file_times: [Cell<FileTime>; FILE_TIMES],
    stopping: tokio::sync::Notify,
    /// Its own program wants it to end.
    leaving: tokio::sync::watch::Sender<bool>,
    /// Notified when the last connection or task of a draining worker has ended.
    pub drained: tokio::sync::Notify,
    tasks: Cell<usize>,
}

/// Something besides connections that a draining worker waits for, as long as this lives.
pub struct Task(Rc<Worker>);

impl Task {
    /// Begins one.
    pub fn new(worker: &Rc<Worker>) -> Self {
        worker.tasks.set(worker.tasks.get() + 1);
        Self(worker.clone())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get().saturating_sub(1));
        if self.0.is_idle() {
            self.0.drained.notify_waiters();
        }
    }
}

const DATE_NAME: &[u8] = b"\r\nDate: ";
/// Bytes of the line with its break; the time itself has 29.
const DATE: usize = DATE_NAME.len() + 29;
const SERVER_AND_DATE: usize = SERVER.len() + DATE;
const HEAD_START: usize = OK.len() + SERVER_AND_DATE;

/// A time and its text.
type FileTime = (i64, [u8; 29]);
/// How many are kept. The same few files are asked for again and again.
const FILE_TIMES: usize = 32;

/// Buffers and requests kept for reuse, of each.
const KEPT: usize = 64;

impl Worker {
    /// A worker for `http`.
    pub fn new(
        id: usize,
        http: Arc<Http>,
        log: Arc<Log>,
        process: Arc<Process>,
        max_connections: usize,
    ) -> Rc<Self> {
        let counters = Arc::new(Counters::default());
        let journal = log.clone();
        moonrest_net::report::set(move |severity, line| {
            let level = match severity {
                Severity::Alert => Level::Alert,
                Severity::Error => Level::Error,
            };
            journal.write(level, None, line);
        });
        process.counters.lock().push(counters.clone());
        Rc::new(Self {
            id,
            http,
            log,
            process,
            counters,
            quitting: Arc::default(),
            max_connections,
            connections: Cell::new(0),
            siblings: Cell::new(1),
            single: Cell::new(false),
            wants_agent: Rc::default(),
            unwanted: Cell::new(0),
            crowded: Cell::new(0),
            memories: RefCell::default(),
            works: RefCell::default(),
            file_caches: crate::open_file::Caches::default(),
            upstreams: std::cell::OnceCell::new(),
            head_start: RefCell::new([0; HEAD_START]),
            head_start_at: Cell::new(i64::MIN),
            local_times: Cell::new(LocalTimes { at: i64::MIN, log: [0; 26], iso8601: [0; 25] }),
            file_times: [const { Cell::new((i64::MIN, [0; 29])) }; FILE_TIMES],
            stopping: tokio::sync::Notify::new(),
            leaving: tokio::sync::watch::Sender::new(false),
            drained: tokio::sync::Notify::new(),
            tasks: Cell::new(0),
        })
    }

    /// Whether there are neither connections nor tasks.
    pub fn is_idle(&self) -> bool {
        self.connections.get() == 0 && self.tasks.get() == 0
    }

    /// Whether it drains.
    pub fn is_quitting(&self) -> bool {
        self.quitting.load(Relaxed)
    }

    /// Begins to drain: wakes everything that sleeps until then. Called in the worker's own thread.
    pub fn quit(&self) {
        self.quitting.store(true, Relaxed);
        self.stopping.notify_waiters();
        moonrest_net::timer::wake_all();
    }

    /// Asks it to drain and to end, as a program in it may.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Resolves when it was asked to.
    pub async fn left(&self) {
        // The sender lives as long as this.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    /// Asks some idle connections to close, as nginx does when all are in use. `false` when none is idle.
    pub(crate) fn make_room(&self) -> bool {
        let idle = usize::try_from(self.counters.waiting.load(Relaxed)).unwrap_or(0);
        if idle == 0 {
            return false;
        }
        if self.is_news() {
            let text = format_args!(
                "{} worker_connections are not enough, reusing connections",
                self.max_connections
            );
            self.log.write(Level::Warn, None, text);
        }
        self.unwanted.set((idle / 8).clamp(1, 32));
        moonrest_net::timer::wake_all();
        true
    }

    /// There is no room and none can be made.
    pub(crate) fn note_crowd(&self) {
        if self.is_news() {
            let text = format_args!("{} worker_connections are not enough", self.max_connections);
            self.log.write(Level::Alert, None, text);
        }
    }

    /// True once a second.
    fn is_news(&self) -> bool {
        let now = time::monotonic_ms() / 1000 + 1;
        self.crowded.replace(now) != now
    }

    /// Whether the idle connection that asks shall close because there are too many.
    pub(crate) fn wants_no_idle(&self) -> bool {
        let unwanted = self.unwanted.get();
        self.unwanted.set(unwanted.saturating_sub(1));
        unwanted > 0
    }

    /// Resolves when draining begins.
    pub fn stopping(&self) -> tokio::sync::futures::Notified<'_> {
        self.stopping.notified()
    }

    /// Its upstreams' state and connections.
    pub(crate) fn upstreams(&self) -> Rc<crate::upstream::Local> {
        self.upstreams.get_or_init(|| crate::upstream::Local::new(&self.http, &self.quitting)).clone()
    }

    #[inline]
    pub(crate) fn take_work(&self) -> Box<Work> {
        self.works.borrow_mut().pop().unwrap_or_else(|| {
            let mut work = Box::<Work>::default();
            work.clear();
            work
        })
    }

    #[inline]
    pub(crate) fn give_work(&self, mut work: Box<Work>) {
        let mut works = self.works.borrow_mut();
        if works.len() < KEPT && work.clear() {
            works.push(work);
        }
    }

    #[inline]
    pub(crate) fn take_memory(&self) -> Rc<Memory> {
        self.memories.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn give_memory(&self, memory: Rc<Memory>) {
        let mut memories = self.memories.borrow_mut();
        if memories.len() < KEPT {
            memories.push(memory);
        }
    }

    /// Appends the status line of 200 with our own `Server` and the present second as `Date`, written once per second.
    /// As with all lines of heads, the next one begins with the line break.
    #[inline]
    pub(crate) fn append_ok(&self, out: &mut Vec<u8>) {
        self.refresh_date();
        out.extend_from_slice(&*self.head_start.borrow());
    }

    /// The same without the status line.
    #[inline]
    pub(crate) fn append_server_and_date(&self, out: &mut Vec<u8>) {
        self.refresh_date();
        out.extend_from_slice(
            self.head_start.borrow().last_chunk::<SERVER_AND_DATE>().unwrap_or(&[0; SERVER_AND_DATE]),
        );
    }

    /// Only the `Date`.
    pub(crate) fn append_date(&self, out: &mut Vec<u8>) {
        self.refresh_date();
        out.extend_from_slice(self.head_start.borrow().last_chunk::<DATE>().unwrap_or(&[0; DATE]));
    }

    #[inline]
    fn refresh_date(&self) {
        let now = self.now();
        if self.head_start_at.get() != now {
            self.write_date(now);
        }
    }

    #[cold]
    fn write_date(&self, now: i64) {
        let text = moonrest_proto::date::http(now);
        let all = OK.as_bytes().iter().chain(SERVER.as_bytes()).chain(DATE_NAME).chain(&text);
        for (into, byte) in self.head_start.borrow_mut().iter_mut().zip(all) {
            *into = *byte;
        }
        self.head_start_at.set(now);
    }

    /// Appends the time of a file as heads have it.
    pub(crate) fn append_file_time(&self, time: i64, out: &mut Vec<u8>) {
        let place = usize::try_from(time.unsigned_abs() % FILE_TIMES as u64).unwrap_or(0);
        let Some(kept) = self.file_times.get(place) else { return };
        if kept.get().0 != time {
            kept.set((time, moonrest_proto::date::http(time)));
        }
        out.extend_from_slice(&kept.get().1);
    }

    /// The present second in local time, formatted once per second.
    pub fn local_times(&self) -> LocalTimes {
        let now = self.now();
        let known = self.local_times.get();
        if known.at == now {
            return known;
        }
        let offset = time::local_offset(now);
        let times = LocalTimes {
            at: now,
            log: moonrest_proto::date::log_local(now, offset),
            iso8601: moonrest_proto::date::iso8601(now, offset),
        };
        self.local_times.set(times);
        times
    }

    /// Seconds since 1970, from the kernel's coarse clock.
    pub fn now(&self) -> i64 {
        moonrest_rt::clock::wall_secs()
    }

    /// The sum of one counter over all workers.
    pub fn total(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.process.counters.lock().iter().map(|counters| counter(counters).load(Relaxed)).sum()
    }
}
