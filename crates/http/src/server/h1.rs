//! HTTP/1 connections: reads heads, runs requests, writes responses, keeps the connection or closes it.
//!
//! ```text
//! idle (owns no buffer) → head → request → response ─┬→ head in the buffer → request …   (pipelined: one write at the end)
//!                                                    ├→ idle
//!                                                    └→ lingering close
//! ```

use super::{
    head::Delimited,
    intake::{Next, log_unanswered, next_request},
    queue::Queue,
    write::Pace,
};
use crate::{
    body::BodyState,
    core::{Lingering, ServerSettings},
    engine::{self, Later},
    exchange::{BodyRead, Connection},
    listen::AddrConf,
    phase::RequestError,
    request::{Memory, RequestRef},
    worker::{Counters, Worker, bump},
};
use moonrest_core::Level;
use moonrest_net::{io::Io, timer::Timeout};
use moonrest_proto::http1::{FieldRules, chunked::Decoder, host::LastHost};
use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
};

/// Room made in the buffer before each read.
pub(super) const READ_SIZE: usize = 16 * 1024;
/// Responses of pipelined requests gather up to this before they are written.
pub(super) const BATCH: u64 = 64 * 1024;

/// One client's connection: what an idle one needs. All else is in [`Work`], to which it derefs.
pub struct H1 {
    pub(super) io: Io,
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Rc<Connection>,
    pub(super) addr_conf: Arc<AddrConf>,
    pub(super) timeout: Timeout,
    /// Taken from the worker on first use, given back before the connection becomes idle.
    work: OnceCell<Box<Work>>,
    /// Bytes written, of all requests.
    pub(super) bytes_sent: Cell<u64>,
    pub(super) broken: Cell<bool>,
    pub(super) timed_out: Cell<bool>,
    pub(super) eof: Cell<bool>,
    /// Closing resets the connection.
    pub(super) reset: Cell<bool>,
    /// `reset_timedout_connection` of the response being sent.
    pub(super) reset_if_late: Cell<bool>,
    doing: Cell<Doing>,
}

/// What a connection counts as in `stub_status`; one thing at a time.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Doing {
    #[default]
    Nothing,
    Waiting,
    Reading,
    Writing,
}

impl Doing {
    #[inline(always)]
    fn counter(self, counters: &Counters) -> Option<&AtomicU64> {
        match self {
            Self::Nothing => None,
            Self::Waiting => Some(&counters.waiting),
            Self::Reading => Some(&counters.reading),
            Self::Writing => Some(&counters.writing),
        }
    }
}

/// What a connection needs while something is going on. Kept by the worker in between.
#[derive(Default)]
pub struct Work {
    /// What was read and not used yet starts at `at`.
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) at: Cell<usize>,
    pub(super) queue: RefCell<Queue>,
    pub(super) send_timeout: RefCell<Option<(Timeout, Cell<bool>)>>,
    pub(super) send_timeout_ms: Cell<u64>,
    pub(super) max_chunk: Cell<u64>,
    pub(super) pace: RefCell<Option<Pace>>,
    /// `bytes_sent` plus what was queued when the present request began.
    pub(super) sent_before: Cell<u64>,
    pub(super) delimited: Cell<Delimited>,
    pub(super) body: RefCell<BodyReader>,
    /// When the wait for more of the body began, and the milliseconds that its slowness has used up: both monotonic.
    pub(super) body_wait: Cell<(u64, u64)>,
    /// Bytes of the next request were there when the last one ended.
    pub(super) pipelined: Cell<bool>,
    /// When the first byte of the present request was seen, in monotonic milliseconds.
    pub(super) begun: Cell<u64>,
    /// What the last `Host` was found to be: the next one is most often the same.
    pub(super) last_host: RefCell<LastHost>,
}

/// Buffers that grew beyond this are given back to the allocator.
const KEPT: usize = 64 * 1024;

impl Work {
    /// Makes it ready for another connection. `false` when it is not worth keeping.
    pub(crate) fn clear(&mut self) -> bool {
        let buffer = self.buffer.get_mut();
        buffer.clear();
        let kept = buffer.capacity() <= KEPT;
        self.at.set(0);
        self.send_timeout_ms.set(60_000);
        self.max_chunk.set(u64::MAX);
        self.pipelined.set(false);
        if self.pace.get_mut().is_some() || self.send_timeout.get_mut().is_some() {
            return false;
        }
        *self.body.get_mut() = BodyReader::Done;
        self.queue.get_mut().clear() <= KEPT && kept
    }

    /// Bytes read and not used.
    pub(super) fn unread(&self) -> usize {
        self.buffer.borrow().len() - self.at.get()
    }
}

impl std::ops::Deref for H1 {
    type Target = Work;

    fn deref(&self) -> &Work {
        self.work.get_or_init(|| self.worker.take_work())
    }
}

/// How far the present request's body was read.
#[derive(Default)]
pub(super) enum BodyReader {
    #[default]
    Done,
    Length(u64),
    Chunked(Box<Decoder>),
}

impl H1 {
    /// A connection that was just accepted.
    pub fn new(io: Io, worker: Rc<Worker>, conn: Rc<Connection>, addr_conf: Arc<AddrConf>) -> Rc<Self> {
        Rc::new(Self {
            io,
            worker,
            conn,
            addr_conf,
            timeout: Timeout::new(),
            work: OnceCell::new(),
            bytes_sent: Cell::new(0),
            broken: Cell::new(false),
            timed_out: Cell::new(false),
            eof: Cell::new(false),
            reset: Cell::new(false),
            reset_if_late: Cell::new(false),
            doing: Cell::default(),
        })
    }

    pub(super) fn default_settings(&self) -> &ServerSettings {
        &self.worker.http.server(self.conn.server.get()).settings
    }

    pub(super) fn default_core(&self) -> &crate::core::Core {
        &self.worker.http.location(self.last_location()).core
    }

    /// Counts the connection as this from now on, and no longer as what it was.
    pub(super) fn count_as(&self, doing: Doing) {
        let counters = &self.worker.counters;
        if let Some(counter) = self.doing.replace(doing).counter(counters) {
            bump(counter, -1);
        }
        if let Some(counter) = doing.counter(counters) {
            bump(counter, 1);
        }
    }

    /// Reads more; 0 at the end of the stream. The read timeout applies.
    pub(super) fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Fill>> {
        let work: &Work = self;
        let mut buffer = work.buffer.borrow_mut();
        let at = work.at.get();
        if at > 0 && at == buffer.len() {
            buffer.clear();
            work.at.set(0);
        } else if at > READ_SIZE {
            buffer.drain(..at);
            work.at.set(0);
        }
        buffer.reserve(READ_SIZE);
        match self.io.poll_read(&mut buffer, cx) {
            Poll::Ready(Ok(n)) => {
                if n == 0 {
                    self.eof.set(true);
                }
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Fill::Io(error))),
            Poll::Pending => self.timeout.poll(cx).map(|()| Err(Fill::TimedOut)),
        }
    }

    /// Gives back what an idle connection does not need, unless there is something in it or a request still uses it.
    pub(super) fn release(h1: &mut Rc<Self>) {
        let Some(this) = Rc::get_mut(h1) else { return };
        let busy =
            |work: &Work| work.buffer.borrow().len() > work.at.get() || !work.queue.borrow().is_empty();
        if this.work.get().is_some_and(|work| !busy(work))
            && let Some(work) = this.work.take()
        {
            this.worker.give_work(work);
        }
    }

    pub(super) fn rules(settings: &ServerSettings) -> FieldRules {
        FieldRules {
            ignore_invalid: settings.ignore_invalid_headers,
            underscores: settings.underscores_in_headers,
        }
    }
}

pub(super) enum Fill {
    TimedOut,
    Io(io::Error),
}

/// What follows a batch of requests.
pub(super) enum After {
    Idle(u64),
    Close,
    /// `lingering_time` and `lingering_timeout`.
    Linger(u64, u64),
}

impl H1 {
    /// Writes what is queued while the present work waits for something else.
    pub(super) fn flush_while_waiting(&self, cx: &mut Context<'_>) {
        if !self.queue.borrow().is_empty()
            && let Poll::Ready(Err(_)) = self.poll_flush(cx)
        {
            // Whoever waits for the client learns that it is gone.
            cx.waker().wake_by_ref();
        }
    }
}

/// What of a batch could not be done at once.
pub(super) enum Rest {
    /// A head is not there yet, or its beginning.
    Head(Option<Rc<Memory>>),
    /// A request with what its handling came to; the status is that of an error in its head.
    Request(RequestRef, Handling),
    /// Nothing but writing.
    Flush(u64),
}

/// How far the handling of a request has come.
pub(super) enum Handling {
    BadHead(u16),
    Later(Later),
    Finished,
}

/// Goes on where [`super::now::batch`] had to wait, until there is no request left in the buffer.
pub(super) async fn batch(h1: Rc<H1>, rest: Rest) -> After {
    let mut rest = rest;
    loop {
        let (r, handling) = match rest {
            Rest::Request(r, handling) => (r, handling),
            Rest::Flush(keepalive) => {
                return match flush(&h1).await {
                    Ok(()) => After::Idle(keepalive),
                    Err(error) => {
                        // The request was logged before: what it did not notice is told about the connection.
                        h1.note(format_args!("{}", error.describe().1));
                        After::Close
                    }
                };
            }
            Rest::Head(memory) => match next_request(&h1, memory).await {
                Next::Request((r, status)) => {
                    begin(&h1);
                    let handling = match status {
                        Some(status) => Handling::BadHead(status),
                        None => match engine::handle_now(&r) {
                            Some(later) => Handling::Later(later),
                            None => Handling::Finished,
                        },
                    };
                    (r, handling)
                }
                Next::Http2 => return super::h2::serve(h1).await,
                Next::Close => {
                    let _ = flush(&h1).await;
                    return After::Close;
                }
                Next::Unanswered(r, status) => {
                    log_unanswered(&r, status).await;
                    return After::Close;
                }
            },
        };
        let result = match handling {
            Handling::BadHead(status) => engine::handle_error(&r, status).await,
            Handling::Later(later) => engine::handle_later(&r, later).await,
            Handling::Finished => Ok(()),
        };
        h1.count_as(Doing::Nothing);
        if let Some(after) = finish(&h1, &r, result).await {
            return after;
        }
        let keepalive = r.loc().core.keepalive_timeout;
        drop(r);
        if h1.queue.borrow().len() > BATCH && flush(&h1).await.is_err() {
            return After::Close;
        }
        h1.pipelined.set(h1.unread() > 0);
        rest = if h1.unread() == 0 { Rest::Flush(keepalive) } else { Rest::Head(None) };
    }
}

/// Counts a request in.
pub(super) fn begin(h1: &H1) {
    bump(&h1.worker.counters.requests, 1);
    h1.count_as(Doing::Writing);
}

impl H1 {
    pub(super) fn last_location(&self) -> crate::location::LocId {
        self.worker.http.server(self.conn.server.get()).location
    }
}

/// The response is queued: what becomes of the connection. `None` keeps it.
async fn finish(h1: &Rc<H1>, r: &RequestRef, result: Result<(), RequestError>) -> Option<After> {
    let core = &r.loc().core;
    let lingering = core.lingering_close;
    let linger = After::Linger(core.lingering_time, core.lingering_timeout);
    if h1.queue.borrow().is_empty() {
        *h1.pace.borrow_mut() = None;
    }
    if let Err(error) = result {
        h1.reset.set(h1.timed_out.get() && core.reset_timedout_connection);
        if h1.broken.get() || r.header_sent.get() {
            // A response that cannot be completed must not look complete.
            return Some(After::Close);
        }
        let flushed = flush(h1).await.is_ok();
        let gone = matches!(error, RequestError::Gone { .. });
        return Some(if gone || !flushed || lingering == Lingering::Off { After::Close } else { linger });
    }
    // Without a head: Lua code can send this status as any other.
    let unanswered = r.out.borrow().status == 444 && r.header_size.get() == 0;
    if h1.broken.get() || unanswered {
        return Some(After::Close);
    }
    let body_left = !matches!(*h1.body.borrow(), BodyReader::Done);
    if r.keepalive.get() && !h1.worker.is_quitting() {
        if !body_left {
            return None;
        }
        if flush(h1).await.is_err() {
            return Some(After::Close);
        }
        let (total, step) = (core.lingering_time, core.lingering_timeout);
        let discarded = moonrest_net::timer::within(total, discard_rest(h1, r, step)).await;
        return match discarded {
            Some(Ok(())) => None,
            // The body is broken, the answer is on its way: closing at once could destroy it.
            Some(Err(RequestError::Client { .. })) if lingering != Lingering::Off => Some(linger),
            _ => Some(After::Close),
        };
    }
    if flush(h1).await.is_err() {
        return Some(After::Close);
    }
    Some(match lingering {
        Lingering::Always => linger,
        Lingering::On if body_left || h1.unread() > 0 || h1.more_has_come() => linger,
        _ => After::Close,
    })
}

impl H1 {
    /// Whether bytes wait in the socket. Closing it now would reset the connection, and the answer with it.
    fn more_has_come(&self) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        buffer.reserve(1);
        self.io.try_read(&mut buffer).is_ok_and(|n| n > 0)
    }

    /// A line at `info` about the connection, when there is no request to speak of.
    #[cold]
    pub(super) fn note(&self, message: std::fmt::Arguments<'_>) {
        self.say(Level::Info, message);
    }

    /// Whether anybody listens to lines of this level about the connection.
    pub(super) fn is_heard(&self, level: Level) -> bool {
        self.default_core().error_log.enabled(level)
    }

    /// A line about the connection: with its client and the address it arrived at.
    #[cold]
    pub(super) fn say(&self, level: Level, message: std::fmt::Arguments<'_>) {
        let log = &self.default_core().error_log;
        if !log.enabled(level) {
            return;
        }
        let mut client = Vec::new();
        self.conn.remote.append_text(&mut client);
        let client = String::from_utf8_lossy(&client);
        let server = self.worker.http.listeners.get(self.conn.listener as usize);
        let server = server.map(|listener| listener.spec.addr.to_string()).unwrap_or_default();
        let number = Some(self.conn.number);
        log.write(level, number, format_args!("{message}, client: {client}, server: {server}"));
    }

    /// The client closed the connection while it was idle.
    #[cold]
    pub(super) fn note_idle_close(&self, error: Option<&io::Error>) {
        if self.conn.requests.get() == 0 {
            match error {
                Some(error) => {
                    let error = moonrest_core::env::os_error(error);
                    self.note(format_args!("recv() failed ({error}) while waiting for request"));
                }
                None => self.note(format_args!("client closed connection while waiting for request")),
            }
            return;
        }
        // nginx: no context here, and a reset is not worth a line.
        let mut client = Vec::new();
        self.conn.remote.append_text(&mut client);
        let client = String::from_utf8_lossy(&client);
        if error.is_none() {
            let message = format_args!("client {client} closed keepalive connection");
            self.default_core().error_log.write(Level::Info, Some(self.conn.number), message);
        }
    }
}

async fn discard_rest(h1: &Rc<H1>, r: &RequestRef, step: u64) -> Result<(), RequestError> {
    r.body.borrow_mut().state = BodyState::Discarded;
    loop {
        let read = poll_fn(|cx| h1.poll_body_within(r, step, cx)).await?;
        if matches!(read, BodyRead::End) {
            return Ok(());
        }
    }
}

pub(super) async fn flush(h1: &Rc<H1>) -> Result<(), RequestError> {
    poll_fn(|cx| h1.poll_flush(cx)).await
}

/// Lets the client read the answer before the connection is closed: reads and drops what still comes.
pub(super) async fn linger(h1: &Rc<H1>, time: u64, timeout: u64) {
    if h1.io.shutdown_write().is_err() {
        return;
    }
    h1.at.set(h1.buffer.borrow().len());
    let reading = async {
        loop {
            h1.timeout.set(timeout);
            match poll_fn(|cx| h1.poll_fill(cx)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => h1.at.set(h1.buffer.borrow().len()),
            }
        }
    };
    moonrest_net::timer::within(time, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<super::super::serve::Serve>() <= 64);
        assert!(size_of::<H1>() <= 112, "{}", size_of::<H1>());
        assert!(size_of::<Connection>() <= 128, "{}", size_of::<Connection>());
    }
}
