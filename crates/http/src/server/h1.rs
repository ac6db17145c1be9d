//! HTTP/1 connections: reads heads, runs requests, writes responses, keeps the connection or closes it.
//!
//! ```text
//! idle (owns no buffer) → head → request → response ─┬→ head in the buffer → request …   (pipelined: one write at the end)
//!                                                    ├→ idle
//!                                                    └→ lingering close
//! ```

use super::{
    head::{self, Delimited},
    queue::Queue,
    write::Pace,
};
use crate::{
    body::BodyState,
    browser::Browser,
    core::{Lingering, ServerSettings},
    engine::{self, Later},
    exchange::{BodyRead, Connection, Exchange, Output},
    listen::AddrConf,
    phase::RequestError,
    request::{Memory, NewRequest, Request, RequestRef},
    worker::{Worker, bump},
};
use bytes::Bytes;
use moonrest_core::Level;
use moonrest_net::{addr::Addr, io::Io, timer::Timeout};
use moonrest_proto::{
    http1::{
        Body, FieldRules, Framing, HeadError, Known, Method, Parse, Version,
        chunked::{Chunk, ChunkHead, ChunkLimits, DATA_END, Decoder, LAST_CHUNK},
        framing,
        framing::check_method,
        host,
    },
    uri,
};
use moonrest_sys::time;
use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Room made in the buffer before each read.
const READ_SIZE: usize = 16 * 1024;
/// Responses of pipelined requests gather up to this before they are written.
pub(super) const BATCH: u64 = 64 * 1024;

/// One client's connection: what an idle one needs. All else is in [`Work`], to which it derefs.
pub struct H1 {
    pub(super) io: Io,
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Rc<Connection>,
    addr_conf: Arc<AddrConf>,
    pub(super) timeout: Timeout,
    /// Taken from the worker on first use, given back before the connection becomes idle.
    work: OnceCell<Box<Work>>,
    /// Bytes written, of all requests.
    pub(super) bytes_sent: Cell<u64>,
    pub(super) broken: Cell<bool>,
    pub(super) timed_out: Cell<bool>,
    eof: Cell<bool>,
    /// Closing resets the connection.
    pub(super) reset: Cell<bool>,
    /// `reset_timedout_connection` of the response being sent.
    pub(super) reset_if_late: Cell<bool>,
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
    sent_before: Cell<u64>,
    delimited: Cell<Delimited>,
    pub(super) body: RefCell<BodyReader>,
    /// Bytes of the next request were there when the last one ended.
    pub(super) pipelined: Cell<bool>,
    /// When the first byte of the present request was seen: monotonic milliseconds and wall time.
    begun: Cell<(u64, time::WallTime)>,
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
        })
    }

    pub(super) fn default_settings(&self) -> &ServerSettings {
        &self.worker.http.server(self.addr_conf.default_server).settings
    }

    pub(super) fn default_core(&self) -> &crate::core::Core {
        &self.worker.http.location(self.last_location()).core
    }

    /// Bytes read and not used.
    pub(super) fn unread(&self) -> usize {
        self.buffer.borrow().len() - self.at.get()
    }

    /// Reads more; 0 at the end of the stream. The read timeout applies.
    pub(super) fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Fill>> {
        let mut buffer = self.buffer.borrow_mut();
        let at = self.at.get();
        if at > 0 && at == buffer.len() {
            buffer.clear();
            self.at.set(0);
        } else if at > READ_SIZE {
            buffer.drain(..at);
            self.at.set(0);
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
        if this.work.get().is_some_and(|work| !busy(work)) {
            if let Some(work) = this.work.take() {
                this.worker.give_work(work);
            }
        }
    }

    fn rules(settings: &ServerSettings) -> FieldRules {
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
        if !self.queue.borrow().is_empty() {
            if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                // Whoever waits for the client learns that it is gone.
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// What of a batch could not be done at once.
pub(super) enum Rest {
    /// A head is not there yet, or its beginning.
    Head(Option<Box<Memory>>),
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
        bump(&h1.worker.counters.writing, -1);
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
    let counters = &h1.worker.counters;
    bump(&counters.requests, 1);
    bump(&counters.writing, 1);
}

impl H1 {
    fn last_location(&self) -> crate::location::LocId {
        self.worker.http.server(self.addr_conf.default_server).location
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
    if h1.broken.get() || r.out.borrow().status == 444 {
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
            _ => Some(After::Close),
        };
    }
    if flush(h1).await.is_err() {
        return Some(After::Close);
    }
    Some(match lingering {
        Lingering::Always => linger,
        Lingering::On if body_left || h1.unread() > 0 || h1.more_has_come().await => linger,
        _ => After::Close,
    })
}

impl H1 {
    /// Whether bytes wait in the socket. Closing it now would reset the connection, and the answer with it.
    async fn more_has_come(&self) -> bool {
        poll_fn(|cx| {
            let mut buffer = self.buffer.borrow_mut();
            buffer.reserve(1);
            Poll::Ready(matches!(self.io.poll_read(&mut buffer, cx), Poll::Ready(Ok(n)) if n > 0))
        })
        .await
    }

    /// A line at `info` about the connection, when there is no request to speak of.
    #[cold]
    pub(super) fn note(&self, message: std::fmt::Arguments<'_>) {
        self.say(Level::Info, message);
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

async fn flush(h1: &Rc<H1>) -> Result<(), RequestError> {
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

pub(super) enum Next {
    /// A request, and the status of the error in its head if there is one.
    Request((RequestRef, Option<u16>)),
    Close,
    /// The client is gone or too slow: the request is logged with this status, and the connection closed.
    Unanswered(RequestRef, u16),
}

/// Reads a head. Responses queued before are written if it is not there yet.
async fn next_request(h1: &Rc<H1>, memory: Option<Box<Memory>>) -> Next {
    let mut memory = memory.unwrap_or_else(|| h1.worker.take_memory());
    let settings = h1.default_settings();
    let limits = settings.head_limits;
    let mut waited = false;
    let mut begun = h1.unread() > 0;
    if begun {
        h1.begin();
    }
    loop {
        if h1.unread() > 0 {
            let parsed = {
                let buffer = h1.buffer.borrow();
                memory.head.get_mut().parse(buffer.get(h1.at.get()..).unwrap_or_default(), &limits)
            };
            match parsed {
                Ok(Parse::Complete { len }) => return Next::Request(take_head(h1, memory, len)),
                Ok(Parse::Partial) => {}
                Err(error) => return Next::Request(bad_head(h1, memory, &error)),
            }
        }
        if waited {
            // Already reading this head.
        } else {
            waited = true;
            h1.timeout.set(settings.client_header_timeout);
        }
        if !h1.queue.borrow().is_empty() && flush(h1).await.is_err() {
            return Next::Close;
        }
        // nginx: a connection waits until the first byte of a request has come.
        let counters = &h1.worker.counters;
        let counter = if h1.unread() == 0 { &counters.waiting } else { &counters.reading };
        bump(counter, 1);
        let filled = poll_fn(|cx| h1.poll_fill(cx)).await;
        bump(counter, -1);
        match filled {
            Ok(0) => return head_ended(h1, memory, None),
            Ok(_) if begun => {}
            Ok(_) => {
                begun = true;
                h1.begin();
            }
            Err(Fill::TimedOut) => return head_timed_out(h1, memory),
            Err(Fill::Io(error)) => return head_ended(h1, memory, Some(&error)),
        }
    }
}

impl H1 {
    /// The first byte of a request is there.
    pub(super) fn begin(&self) {
        self.begun.set((time::monotonic_ms(), time::wall()));
    }
}

/// What was being read when a head stopped coming.
fn reading(head: &moonrest_proto::http1::RequestHead) -> &'static str {
    if head.line.is_empty() { "reading client request line" } else { HEADERS }
}

/// The client closed within a head, or the connection broke.
fn head_ended(h1: &Rc<H1>, memory: Box<Memory>, error: Option<&io::Error>) -> Next {
    let blank = memory.head.borrow().is_blank(h1.buffer.borrow().get(h1.at.get()..).unwrap_or_default());
    if h1.unread() == 0 || blank {
        h1.note_idle_close(error);
        return Next::Close;
    }
    let r = new_request(h1, memory, h1.unread());
    r.action.set(reading(&r.head.borrow()));
    match error {
        Some(error) => {
            let error = moonrest_core::env::os_error(error);
            crate::info!(r, "recv() failed ({error})");
        }
        None => crate::info!(r, "client prematurely closed connection"),
    }
    Next::Unanswered(r, 400)
}

fn head_timed_out(h1: &Rc<H1>, memory: Box<Memory>) -> Next {
    if h1.unread() == 0 {
        if h1.conn.requests.get() == 0 {
            h1.note(format_args!("{} while waiting for request", super::TIMED_OUT));
        }
        return Next::Close;
    }
    let r = new_request(h1, memory, h1.unread());
    r.action.set(reading(&r.head.borrow()));
    h1.reset.set(r.loc().core.reset_timedout_connection);
    crate::info!(r, "{}", super::TIMED_OUT);
    Next::Unanswered(r, 408)
}

/// nginx logs such requests with their status although nothing is sent.
async fn log_unanswered(r: &RequestRef, status: u16) {
    r.out.borrow_mut().status = status;
    r.action.set("logging request");
    engine::log(r).await;
}

fn new_request(h1: &Rc<H1>, memory: Box<Memory>, len: usize) -> RequestRef {
    let server = h1.addr_conf.default_server;
    h1.conn.requests.set(h1.conn.requests.get() + 1);
    h1.sent_before.set(h1.bytes_sent.get() + h1.queue.borrow().len());
    *h1.body.borrow_mut() = BodyReader::Done;
    h1.delimited.set(Delimited::Length);
    let (start, method, version) = {
        let head = memory.head.borrow();
        (head.start(), head.method, head.version)
    };
    let new = NewRequest {
        worker: h1.worker.clone(),
        conn: h1.conn.clone(),
        exchange: h1.clone(),
        server,
        location: h1.worker.http.server(server).location,
        parent: None,
    };
    let r = Request::start_in(memory, new);
    let mut buffer = h1.buffer.borrow_mut();
    let at = h1.at.get();
    r.block.borrow_mut().extend_from_slice(buffer.get(at..at + len).unwrap_or_default());
    if at + len == buffer.len() {
        buffer.clear();
        h1.at.set(0);
    } else {
        h1.at.set(at + len);
    }
    drop(buffer);
    r.request_length.set((len - start.min(len)) as u64);
    r.pipelined.set(h1.pipelined.get());
    r.method.set(method);
    r.version.set(version);
    let (ms, wall) = h1.begun.get();
    r.started.set(wall);
    r.started_ms.set(ms);
    r
}

/// What a request is doing while its fields are read.
const HEADERS: &str = "reading client request headers";

fn bad_head(h1: &Rc<H1>, memory: Box<Memory>, error: &HeadError) -> (RequestRef, Option<u16>) {
    let message = {
        let buffer = h1.buffer.borrow();
        error.log_message(buffer.get(h1.at.get()..).unwrap_or_default())
    };
    let len = h1.unread();
    let r = new_request(h1, memory, len);
    if r.version.get() == Version::Http09 && *error != HeadError::InvalidMethodInHttp09 {
        // The line was not read to its version: the answer has a head.
        r.version.set(Version::Http10);
    }
    r.keepalive.set(false);
    r.action.set(error.action());
    crate::info!(r, "{message}");
    // What was read before the error counts: the path, and the server that the host means.
    if error.action() == HEADERS && set_uri(h1, &r).is_ok() {
        let _ = find_server(h1, &r);
    }
    (r, Some(error.status()))
}

/// Makes a request of a complete head; with the status of what is wrong with it.
pub(super) fn take_head(h1: &Rc<H1>, memory: Box<Memory>, len: usize) -> (RequestRef, Option<u16>) {
    let r = new_request(h1, memory, len);
    let status = accept_head(h1, &r).err();
    if status.is_some() {
        r.keepalive.set(false);
    }
    (r, status)
}

fn accept_head(h1: &H1, r: &RequestRef) -> Result<(), u16> {
    r.action.set("reading client request line");
    set_uri(h1, r)?;
    r.action.set(HEADERS);
    find_server(h1, r)?;
    let settings = r.srv().settings.clone();
    let dropped = {
        let block = r.block.borrow();
        let mut dropped = Vec::new();
        let checked =
            r.head.borrow_mut().filter(H1::rules(&settings), limit(settings.max_headers), |field| {
                dropped.push(String::from_utf8_lossy(field.line().of(&block)).into_owned());
            });
        checked.map(|()| dropped)
    };
    match dropped {
        Ok(lines) => {
            for line in lines {
                crate::info!(r, "client sent invalid header line: \"{line}\"");
            }
        }
        Err(error) => {
            crate::info!(r, "{}", error.log_message(&[]));
            return Err(error.status());
        }
    }
    let framed = {
        let block = r.block.borrow();
        let head = r.head.borrow();
        framing(&head, &block)
            .and_then(|framed| check_method(&head, &framed, false).map(|()| framed))
            .map_err(|error| (error.status(), error.log_message(&block)))
    };
    let framed: Framing = match framed {
        Ok(framed) => framed,
        Err((status, message)) => {
            crate::info!(r, "{message}");
            return Err(status);
        }
    };
    h1.timeout.clear();
    r.framing.set(framed);
    r.keepalive.set(framed.keep_alive);
    *h1.body.borrow_mut() = match framed.body {
        Body::None | Body::Length(0) => BodyReader::Done,
        Body::Length(length) => BodyReader::Length(length),
        Body::Chunked => BodyReader::Chunked(Box::new(Decoder::new(ChunkLimits::default()))),
    };
    Ok(())
}

fn limit(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn set_uri(h1: &H1, r: &Request) -> Result<(), u16> {
    let head = r.head.borrow();
    let block = r.block.borrow();
    r.args.borrow_mut().extend_from_slice(head.args.of(&block));
    let mut path = r.uri.borrow_mut();
    if head.complex || head.empty_path {
        r.complex_uri.set(true);
        let merge = h1.default_settings().merge_slashes;
        let normalized = uri::normalize(head.path.of(&block), merge, &mut path);
        drop(path);
        if normalized.is_err() {
            r.uri.borrow_mut().clear();
            crate::info!(r, "client sent invalid request");
            return Err(400);
        }
    } else {
        path.extend_from_slice(head.path.of(&block));
    }
    Ok(())
}

/// Takes the host from the target or the field, and with it the server.
fn find_server(h1: &H1, r: &Request) -> Result<(), u16> {
    let valid = {
        let head = r.head.borrow();
        let block = r.block.borrow();
        let mut target = r.host.borrow_mut();
        let field = head.fields.value(Known::Host, &block);
        // The authority of an absolute target wins; both must be well-formed.
        let from_field = match field {
            Some(host) => {
                host::validate(host, &mut target).map(Some).map_err(|_| host::InvalidHost::IN_FIELD)
            }
            None => Ok(None),
        };
        match from_field {
            Ok(_) if head.has_host => host::validate(head.host.of(&block), &mut target)
                .map(Some)
                .map_err(|_| host::InvalidHost::IN_REQUEST_LINE),
            other => other,
        }
    };
    match valid {
        Ok(info) => r.port.set(info.and_then(|info| info.port).unwrap_or(0)),
        Err(message) => {
            r.host.borrow_mut().clear();
            if message == host::InvalidHost::IN_REQUEST_LINE {
                r.action.set("reading client request line");
            }
            crate::info!(r, "{message}");
            return Err(400);
        }
    }
    if !h1.addr_conf.has_names() {
        return Ok(());
    }
    let found = h1.addr_conf.find(r, &r.host.borrow());
    match found {
        Ok(server) => r.server.set(server),
        Err(error) => {
            engine::report(r, &error);
            return Err(error.status());
        }
    }
    r.location.set(r.srv().location);
    Ok(())
}

impl H1 {
    fn poll_body_within(
        &self,
        r: &Request,
        timeout: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BodyRead, RequestError>> {
        loop {
            if matches!(*self.body.borrow(), BodyReader::Done) {
                return Poll::Ready(Ok(BodyRead::End));
            }
            if self.unread() > 0 {
                if let Some(read) = self.decode(r)? {
                    return Poll::Ready(Ok(read));
                }
                continue;
            }
            if self.eof.get() {
                return Poll::Ready(Err(ended_in_body()));
            }
            if !self.timeout.is_armed() {
                self.timeout.set(timeout);
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Err(ended_in_body())),
                Ok(_) => self.timeout.clear(),
                Err(Fill::TimedOut) => {
                    self.timed_out.set(true);
                    return Poll::Ready(Err(RequestError::Gone {
                        status: 408,
                        message: super::TIMED_OUT.into(),
                    }));
                }
                Err(Fill::Io(error)) => {
                    let message = format!("recv() failed ({})", moonrest_core::env::os_error(&error));
                    return Poll::Ready(Err(RequestError::Gone { status: 400, message: message.into() }));
                }
            }
        }
    }

    /// Decodes body bytes from the buffer.
    fn decode(&self, r: &Request) -> Result<Option<BodyRead>, RequestError> {
        let buffer = self.buffer.borrow();
        let unread = buffer.get(self.at.get()..).unwrap_or_default();
        let mut reader = self.body.borrow_mut();
        match &mut *reader {
            BodyReader::Done => Ok(Some(BodyRead::End)),
            BodyReader::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                let data = Bytes::copy_from_slice(unread.get(..take).unwrap_or_default());
                *left -= take as u64;
                self.at.set(self.at.get() + take);
                count_body(r, take);
                if *left == 0 {
                    *reader = BodyReader::Done;
                }
                Ok(Some(BodyRead::Data(data)))
            }
            BodyReader::Chunked(decoder) => {
                let step = decoder.decode(unread).map_err(|_| RequestError::Client {
                    status: 400,
                    message: "client sent invalid chunked body".into(),
                })?;
                let used = |n: usize| {
                    self.at.set(self.at.get() + n);
                    count_body(r, n);
                };
                match step {
                    Chunk::Data(range) => {
                        let n = range.end;
                        let data = Bytes::copy_from_slice(unread.get(range).unwrap_or_default());
                        used(n);
                        Ok(Some(BodyRead::Data(data)))
                    }
                    Chunk::End(n) => {
                        used(n);
                        *reader = BodyReader::Done;
                        Ok(Some(BodyRead::End))
                    }
                    Chunk::Partial(n) => {
                        used(n);
                        Ok(None)
                    }
                }
            }
        }
    }

    fn start_pace(&self, r: &Request) {
        let core = &r.loc().core;
        self.send_timeout_ms.set(core.send_timeout);
        self.reset_if_late.set(core.reset_timedout_connection);
        let rate =
            r.limit_rate.get().or_else(|| core.limit_rate.as_ref().map(|rate| size(r, rate))).unwrap_or(0);
        r.limit_rate.set(Some(rate));
        if rate == 0 {
            return;
        }
        let after = r.limit_rate_after.get();
        let after = after.or_else(|| core.limit_rate_after.as_ref().map(|after| size(r, after))).unwrap_or(0);
        *self.pace.borrow_mut() =
            Some(Pace { rate, after, started: r.started_ms.get(), sent: 0, sleep: None });
    }
}

/// Counts bytes of the body as received. nginx: not those that are thrown away.
fn count_body(r: &Request, n: usize) {
    if r.body.borrow().state != BodyState::Discarded {
        r.request_length.set(r.request_length.get() + n as u64);
    }
}

/// nginx: 400 in the access log, although the client does not see it.
fn ended_in_body() -> RequestError {
    RequestError::Gone { status: 400, message: "client prematurely closed connection".into() }
}

/// A size given by a text with variables; what is no size counts as 0.
fn size(r: &Request, template: &moonrest_core::Template) -> u64 {
    moonrest_core::conf::value::parse_size(&template.eval(r)).unwrap_or(0)
}

impl Exchange for H1 {
    fn is_paced(&self) -> bool {
        self.pace.borrow().is_some()
    }

    fn queued(&self) -> u64 {
        self.queue.borrow().len()
    }

    fn send_head(&self, r: &Request, _end: bool) -> Result<(), RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        self.decide_keepalive(r);
        let delimited = head::delimit(r);
        self.delimited.set(delimited);
        r.chunked.set(delimited == Delimited::Chunked);
        let absolute = head::make_location_absolute(r);
        self.start_pace(r);
        if r.version.get() == Version::Http09 {
            r.keepalive.set(false);
            return Ok(());
        }
        let mut queue = self.queue.borrow_mut();
        let before = queue.tail().len();
        head::append(r, queue.tail(), delimited, absolute);
        let grown = queue.tail().len() - before;
        queue.grown(grown);
        r.header_size.set(grown as u64);
        Ok(())
    }

    fn send_interim(&self, r: &Request, status: u16, fields: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
        if r.version.get() != Version::Http11 {
            return Ok(());
        }
        let mut queue = self.queue.borrow_mut();
        queue.push_slice(b"HTTP/1.1 ");
        queue.push_slice(head::reason(status).unwrap_or("100 Continue").as_bytes());
        queue.push_slice(b"\r\n");
        for (name, value) in fields {
            queue.push_slice(name);
            queue.push_slice(b": ");
            queue.push_slice(value);
            queue.push_slice(b"\r\n");
        }
        queue.push_slice(b"\r\n");
        Ok(())
    }

    fn push(&self, _r: &Request, output: Output) -> Result<(), RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        let mut queue = self.queue.borrow_mut();
        let chunked = self.delimited.get() == Delimited::Chunked;
        let len = match &output {
            Output::Data(data) => data.len() as u64,
            Output::File(range) => range.len(),
        };
        if chunked {
            queue.push_slice(ChunkHead::new(len).as_bytes());
        }
        match output {
            Output::Data(data) => queue.push_bytes(data),
            Output::File(range) => {
                let name = range.file.name.clone();
                queue.push_file(range).map_err(|error| {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    RequestError::Cut(format!("reading \"{name}\" failed: {error}").into())
                })?;
            }
        }
        if chunked {
            queue.push_slice(DATA_END);
        }
        Ok(())
    }

    fn finish(&self, r: &Request) -> Result<(), RequestError> {
        if self.delimited.get() != Delimited::Chunked {
            return Ok(());
        }
        let mut queue = self.queue.borrow_mut();
        let out = r.out.borrow();
        if out.trailers.is_empty() {
            queue.push_slice(LAST_CHUNK);
            return Ok(());
        }
        queue.push_slice(b"0\r\n");
        for field in &out.trailers {
            queue.push_slice(&field.name);
            queue.push_slice(b": ");
            queue.push_slice(&field.value);
            queue.push_slice(b"\r\n");
        }
        queue.push_slice(b"\r\n");
        Ok(())
    }

    fn flush(&self, _r: &Request) {
        // Everything queued is written whenever the request waits, and at its end.
    }

    fn poll_drained(
        &self,
        _r: &Request,
        low_water: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        if self.broken.get() {
            return Poll::Ready(Err(RequestError::client_gone()));
        }
        let low_water = if self.is_paced() { 0 } else { low_water };
        if self.queue.borrow().len() <= low_water as u64 {
            return Poll::Ready(Ok(()));
        }
        match self.poll_flush(cx) {
            Poll::Pending if self.queue.borrow().len() <= low_water as u64 => Poll::Ready(Ok(())),
            other => other,
        }
    }

    fn poll_body(&self, r: &Request, cx: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        self.poll_body_within(r, r.loc().core.client_body_timeout, cx)
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken.get() || self.eof.get() {
            return Poll::Ready(());
        }
        if self.unread() > 0 || !matches!(*self.body.borrow(), BodyReader::Done) {
            // Bytes are there, or belong to the body: the end cannot be seen behind them.
            return Poll::Pending;
        }
        match self.poll_fill(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) => Poll::Pending,
            Poll::Ready(Err(Fill::Io(_))) => {
                self.broken.set(true);
                Poll::Ready(())
            }
            Poll::Ready(Err(Fill::TimedOut)) | Poll::Pending => Poll::Pending,
        }
    }

    fn abort(&self, _r: &Request) {
        self.queue.borrow_mut().clear();
    }

    fn discard_received(&self, r: &Request) -> Result<(), RequestError> {
        while self.unread() > 0 && !matches!(*self.body.borrow(), BodyReader::Done) {
            self.decode(r)?;
        }
        Ok(())
    }

    fn expect_continue(&self, r: &Request) -> Result<(), RequestError> {
        let mut framing = r.framing.get();
        if !framing.expect_continue || r.header_sent.get() {
            return Ok(());
        }
        framing.expect_continue = false;
        r.framing.set(framing);
        self.send_interim(r, 100, &[])
    }

    fn local_addr(&self) -> Addr {
        self.io.local_addr().unwrap_or_else(|_| Addr::Unix(Box::default()))
    }

    fn bytes_sent(&self) -> u64 {
        // What is queued will leave, unless the client has gone.
        let queued = if self.broken.get() { 0 } else { self.queue.borrow().len() };
        (self.bytes_sent.get() + queued).saturating_sub(self.sent_before.get())
    }

    fn tcp_info(&self) -> Option<moonrest_sys::socket::TcpInfo> {
        self.io.with_fd(|fd| moonrest_sys::socket::tcp_info(fd)).ok()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl H1 {
    /// Keep-alive ends for reasons of the location.
    fn decide_keepalive(&self, r: &Request) {
        if !r.keepalive.get() {
            return;
        }
        let core = &r.loc().core;
        let age = r.started_ms.get().saturating_sub(self.conn.started);
        let old_browser = core.keepalive_disable != 0 && disabled_browser(r, core.keepalive_disable);
        if core.keepalive_timeout == 0
            || self.conn.requests.get() >= core.keepalive_requests
            || age > core.keepalive_time
            || self.worker.is_quitting()
            || old_browser
        {
            r.keepalive.set(false);
        }
    }
}

/// `keepalive_disable`: browsers known to mishandle it.
fn disabled_browser(r: &Request, which: u8) -> bool {
    // Telling browsers apart costs more than the rest of a small answer.
    let posted = r.method.get() == Method::Post;
    if (which & 1 == 0 || !posted) && which & 2 == 0 {
        return false;
    }
    let browser = Browser::of(r);
    (which & 1 != 0 && browser.msie6 && posted) || (which & 2 != 0 && browser.safari)
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
