//! HTTP/2 connections (RFC 9113): streams become requests, their answers frames. The `h2` crate does the framing; nothing
//! outside of this folder knows it.
//!
//! ```text
//! frames read → streams accepted, all that have come → handled, what does not wait at once ┐
//!      ↑                                                                                     │
//!      └──────────────── answers written together ←──────────────────────────────────────────┘
//! ```

mod head;
mod intake;
mod stream;
mod transport;
mod websocket;

use super::h1::{After, Doing, H1, Handling};
use crate::{engine, frame_guard::Guard, http2, phase::RequestError, request::RequestRef, worker::bump};
use bytes::Bytes;
use h2::{Reason, server};
use moonrest_core::Level;
use moonrest_net::timer::Timeout;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use stream::Stream;
use transport::Transport;

/// What clients that know in advance send first (RFC 9113, 3.4), as far as the HTTP/1 parser reads it.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Whether connections of this listener may speak HTTP/2.
pub(super) fn is_enabled(h1: &H1) -> bool {
    h1.addr_conf.http2 || http2::Settings::of(&h1.worker.http, h1.conn.server.get()).enabled
}

/// What the streams of one connection share.
pub(super) struct Shared {
    /// Streams whose handling has not ended.
    active: Cell<usize>,
    /// Of the connection's task.
    waker: RefCell<Option<Waker>>,
    guard: Guard,
    /// Whether all that had come was read in this turn: the framing, which asks again for each stream, is told so at
    /// once. None while there are no turns yet.
    dry: Cell<Option<bool>>,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Counts a stream that is being handled.
struct Active(Rc<Shared>);

impl Active {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.active.set(shared.active.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.wake();
    }
}

/// Serves a connection to its end. What was read from it already is in its buffer.
pub(super) async fn serve(h1: Rc<H1>) -> After {
    let settings = http2::Settings::of(&h1.worker.http, h1.conn.server.get());
    let shared = Rc::new(Shared {
        active: Cell::new(0),
        waker: RefCell::default(),
        guard: Guard::new(24, h1.conn.started),
        dry: Cell::new(None),
    });
    let transport = Transport::new(h1.clone(), shared.clone());
    let limits = h1.default_settings().head_limits;
    let mut builder = server::Builder::new();
    if settings.websocket {
        builder.enable_connect_protocol();
    }
    let handshake = builder
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_window_size(settings.body_preread_size)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Fields count for more there than they have bytes; those are counted when the head is whole.
        .max_header_list_size(limits.large.saturating_mul(limits.large_count).saturating_add(FIELDS_OVERHEAD))
        .max_send_buffer_size(SEND_BUFFER)
        .max_frame_size(MAX_FRAME)
        .handshake::<_, Bytes>(transport);
    let patience = h1.default_settings().client_header_timeout;
    let connection = match moonrest_net::timer::within(patience, handshake).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            h1.note(format_args!("client sent invalid HTTP/2 preface: {error}"));
            return After::Close;
        }
        None => {
            h1.note(format_args!("{} while processing HTTP/2 connection", super::TIMED_OUT));
            return After::Close;
        }
    };
    h1.count_as(Doing::Waiting);
    let mut driver = Driver {
        h1: h1.clone(),
        shared,
        connection,
        usual: 0,
        closing: false,
        idle: false,
        refused: false,
        head: Timeout::new(),
    };
    let mut stopping = Box::pin(stopping(h1.clone()));
    poll_fn(|cx| {
        if !driver.closing && stopping.as_mut().poll(cx).is_ready() {
            driver.closing = true;
            driver.connection.graceful_shutdown();
        }
        driver.poll(cx)
    })
    .await;
    h1.timeout.clear();
    h1.count_as(Doing::Nothing);
    if h1.eof.get() || h1.broken.get() {
        return After::Close;
    }
    let core = h1.default_core();
    After::Linger(core.lingering_time, core.lingering_timeout)
}

async fn stopping(h1: Rc<H1>) {
    while !h1.worker.is_quitting() {
        h1.worker.stopping().await;
    }
}

/// Bytes of request bodies that may be under way on a connection; each stream has a window of its own.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The longest frame that clients may send. It is held until it is complete.
const MAX_FRAME: u32 = 128 * 1024;
/// By how much the framing's count of a head may be larger than the head (RFC 9113, 6.5.2): 32 bytes for a field.
const FIELDS_OVERHEAD: u32 = 32 * 1000;
/// Bytes of a response that the framing holds, beyond which its stream waits.
const SEND_BUFFER: usize = 64 * 1024;

/// A connection under way.
struct Driver {
    h1: Rc<H1>,
    shared: Rc<Shared>,
    connection: server::Connection<Transport, Bytes>,
    /// How many streams have come together last.
    usual: usize,
    /// No further streams are wanted.
    closing: bool,
    /// Nothing is being handled, and the time for that runs.
    idle: bool,
    /// The client has sent what ends a connection.
    refused: bool,
    /// How long a head that has begun may take to end.
    head: Timeout,
}

type Accepted = (::http::Request<h2::RecvStream>, server::SendResponse<Bytes>);

impl Driver {
    /// Ready when the connection is to be closed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.dry.set(Some(false));
        loop {
            // All that have come are accepted before the first is answered, so that the answers leave in one write.
            let mut accepted: Vec<Accepted> = Vec::with_capacity(self.usual);
            let ended = loop {
                match self.connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok(stream))) => accepted.push(stream),
                    Poll::Ready(Some(Err(error))) => {
                        self.failed(&error);
                        break true;
                    }
                    Poll::Ready(None) => break true,
                    Poll::Pending => break false,
                }
            };
            if self.shared.guard.is_flooded() {
                self.h1.note(format_args!("http2 flood detected while processing HTTP/2 connection"));
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // What can be written at once is written.
                let _ = self.connection.poll_closed(cx);
                return Poll::Ready(());
            }
            let more = !accepted.is_empty();
            if more {
                self.usual = accepted.len();
            }
            for stream in accepted {
                self.begin(stream);
            }
            if self.refused {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let _ = self.connection.poll_closed(cx);
                return Poll::Ready(());
            }
            if ended {
                return Poll::Ready(());
            }
            if !more {
                break;
            }
        }
        if self.poll_head(cx).is_ready() || self.poll_idle(cx).is_ready() {
            return Poll::Ready(());
        }
        *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when a head has not ended in time.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shared.guard.is_in_head() {
            if self.head.is_armed() {
                self.head.clear();
            }
            return Poll::Pending;
        }
        if !self.head.is_armed() {
            self.head.set(self.h1.default_settings().client_header_timeout);
        }
        if self.head.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.h1.note(format_args!("{} while processing HTTP/2 connection", super::TIMED_OUT));
        self.connection.abrupt_shutdown(Reason::PROTOCOL_ERROR);
        let _ = self.connection.poll_closed(cx);
        Poll::Ready(())
    }

    /// Ready when nothing has happened for as long as a connection is kept.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is being received is not nothing, and has a time of its own.
        if self.shared.active.get() > 0 || self.shared.guard.is_in_head() {
            if std::mem::take(&mut self.idle) {
                self.h1.timeout.clear();
                self.h1.count_as(Doing::Writing);
            }
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.idle, true) {
            let first = self.h1.conn.requests.get() == 0;
            let core = self.h1.default_core();
            let wait =
                if first { self.h1.default_settings().client_header_timeout } else { core.keepalive_timeout };
            self.h1.timeout.set(wait);
            self.h1.count_as(Doing::Waiting);
        }
        if self.h1.timeout.poll(cx).is_ready() || self.h1.worker.wants_no_idle() {
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
            let _ = self.connection.poll_closed(cx);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn failed(&self, error: &h2::Error) {
        self.h1.broken.set(true);
        match error.get_io() {
            Some(error) => {
                let error = moonrest_core::env::os_error(error);
                self.h1.note(format_args!("recv() failed ({error}) while processing HTTP/2 connection"));
            }
            None => {
                self.h1.say(
                    Level::Info,
                    format_args!("client broke HTTP/2: {error} while processing HTTP/2 connection"),
                );
            }
        }
    }

    /// Handles a stream; what has to wait goes on beside the others.
    fn begin(&mut self, (request, respond): Accepted) {
        let h1 = &self.h1;
        // Handling counts even if it is over at once: the time without any begins anew.
        if std::mem::take(&mut self.idle) {
            h1.timeout.clear();
        }
        let (parts, body) = request.into_parts();
        if let Some(what) = intake::too_large(&parts, &h1.default_settings().head_limits) {
            h1.note(format_args!("client sent too large header{what} while processing HTTP/2 connection"));
            self.refused = true;
            return;
        }
        let stream = Rc::new(Stream::new(h1.clone(), self.shared.clone(), respond, body));
        let (r, status) = intake::request(h1, &stream, &parts);
        bump(&h1.worker.counters.requests, 1);
        let core = &r.loc().core;
        let age = r.started_ms.get().saturating_sub(h1.conn.started);
        if !self.closing && (h1.conn.requests.get() >= core.keepalive_requests || age > core.keepalive_time) {
            self.closing = true;
            self.connection.graceful_shutdown();
        }
        let handling = match status {
            Some(status) => Handling::BadHead(status),
            None => match engine::handle_now(&r) {
                Some(later) => Handling::Later(later),
                None => Handling::Finished,
            },
        };
        if matches!(handling, Handling::Finished) && stream.is_done() {
            return;
        }
        let active = Active::new(&self.shared);
        moonrest_rt::spawn(async move {
            handle(r, stream, handling).await;
            drop(active);
        });
    }
}

/// Takes the handling of a request to its end, and its response to the client.
async fn handle(r: RequestRef, stream: Rc<Stream>, handling: Handling) {
    let mut work = Box::pin(async {
        match handling {
            Handling::BadHead(status) => engine::handle_error(&r, status).await,
            Handling::Later(later) => engine::handle_later(&r, later).await,
            Handling::Finished => Ok(()),
        }
    });
    let result: Result<(), RequestError> = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => {
            // What it has put out leaves meanwhile.
            stream.flush_while_waiting(cx);
            Poll::Pending
        }
    })
    .await;
    drop(work);
    let unanswered = r.out().status == 444 && r.header_size.get() == 0;
    if result.is_err() || unanswered {
        // nginx: whose body came too late has broken the protocol.
        let late = matches!(result, Err(RequestError::Gone { status: 408, .. }));
        return stream.reset(if late { Reason::PROTOCOL_ERROR } else { Reason::INTERNAL_ERROR });
    }
    if let Err(error) = poll_fn(|cx| stream.poll_done(cx)).await {
        stream.h1.note(format_args!("{}", error.describe().1));
        stream.reset(Reason::CANCEL);
    }
}
