//! One stream: what the engine asks of it, and how its body leaves within the client's windows.

use super::{
    Shared, head,
    websocket::{Key, WebSocket},
};
use crate::{
    exchange::{BodyRead, Exchange, Output, RawStream},
    filter::FileRange,
    http2,
    phase::RequestError,
    pipeline::read_range,
    request::Request,
    server::{h1::H1, head::make_location_absolute, receive::pace_of, write::Pace},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};
use moonrest_net::{addr::Addr, timer::Timeout};
use moonrest_sys::time::monotonic_ms;
use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll},
};

/// A stream with a request on it.
pub(super) struct Stream {
    pub(super) h1: Rc<H1>,
    pub(super) shared: Rc<Shared>,
    respond: RefCell<SendResponse<Bytes>>,
    /// There once the head is sent.
    pub(super) send: RefCell<Option<SendStream<Bytes>>>,
    pub(super) receive: RefCell<RecvStream>,
    /// The client has sent all of the body, or there was none.
    pub(super) received: Cell<bool>,
    /// There if the stream is to carry a WebSocket.
    websocket: OnceCell<Box<WebSocket>>,
    queue: RefCell<VecDeque<Output>>,
    pub(super) queued: Cell<u64>,
    trailers: RefCell<Option<HeaderMap>>,
    /// The end stands behind what is queued.
    ended: Cell<bool>,
    /// The end was handed to the framing.
    closed: Cell<bool>,
    pub(super) broken: Cell<bool>,
    sent: Cell<u64>,
    /// Bytes given to the framing at once.
    chunk: Cell<usize>,
    pace: RefCell<Option<Pace>>,
    send_timeout: Cell<u64>,
    /// Made when a client is first waited for.
    timeouts: OnceCell<Box<Timeouts>>,
}

#[derive(Default)]
struct Timeouts {
    body: Timeout,
    sending: Timeout,
}

/// How queueing went on.
pub(super) enum Pumped {
    /// Nothing is left to hand over.
    All,
    /// The client's window is full.
    Blocked,
    /// `limit_rate` lets nothing out for the present.
    Paced,
}

impl Stream {
    pub(super) fn new(
        h1: Rc<H1>,
        shared: Rc<Shared>,
        respond: SendResponse<Bytes>,
        receive: RecvStream,
    ) -> Self {
        let received = Cell::new(receive.is_end_stream());
        Self {
            h1,
            shared,
            respond: RefCell::new(respond),
            send: RefCell::new(None),
            receive: RefCell::new(receive),
            received,
            websocket: OnceCell::new(),
            queue: RefCell::default(),
            queued: Cell::new(0),
            trailers: RefCell::default(),
            ended: Cell::new(false),
            closed: Cell::new(false),
            broken: Cell::new(false),
            sent: Cell::new(0),
            chunk: Cell::new(usize::MAX),
            pace: RefCell::default(),
            send_timeout: Cell::new(60_000),
            timeouts: OnceCell::new(),
        }
    }

    /// The stream asks for a WebSocket.
    pub(super) fn is_websocket(&self, key: Key) {
        let _ = self.websocket.set(Box::new(WebSocket::new(key)));
    }

    pub(super) fn websocket(&self) -> Option<&WebSocket> {
        self.websocket.get().map(|websocket| &**websocket)
    }

    /// Whether the head announced no body.
    pub(super) fn has_no_body(&self) -> bool {
        self.received.get()
    }

    /// Whether all of the response was handed over.
    pub(super) fn is_done(&self) -> bool {
        self.closed.get()
    }

    fn timeouts(&self) -> &Timeouts {
        self.timeouts.get_or_init(Box::default)
    }

    /// Breaks the stream off, so that the client sees that what it has is not all.
    pub(super) fn reset(&self, reason: Reason) {
        if !self.closed.replace(true) {
            match &mut *self.send.borrow_mut() {
                Some(send) => send.send_reset(reason),
                None => self.respond.borrow_mut().send_reset(reason),
            }
        }
    }

    /// Hands over what the client's window and the rate allow.
    pub(super) fn pump(&self) -> Result<Pumped, RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        let mut slot = self.send.borrow_mut();
        let Some(send) = &mut *slot else { return Ok(Pumped::All) };
        loop {
            let Some(next) = self.queue.borrow().front().map(length) else { break };
            if next == 0 {
                self.queue.borrow_mut().pop_front();
                continue;
            }
            let allowance = match &*self.pace.borrow() {
                Some(pace) => pace.allowance(monotonic_ms()),
                None => i64::MAX,
            };
            if allowance <= 0 {
                return Ok(Pumped::Paced);
            }
            let wanted = usize::try_from(self.queued.get()).unwrap_or(usize::MAX).min(super::SEND_BUFFER);
            send.reserve_capacity(wanted);
            let capacity = send.capacity();
            if capacity == 0 {
                return Ok(Pumped::Blocked);
            }
            let room = capacity.min(self.chunk.get()).min(usize::try_from(allowance).unwrap_or(usize::MAX));
            let data = self.take(room)?;
            let count = data.len() as u64;
            let last = self.ended.get() && self.queue.borrow().is_empty() && self.trailers.borrow().is_none();
            send.send_data(data, last).map_err(|error| self.broke(&error))?;
            self.sent.set(self.sent.get() + count);
            if let Some(pace) = &mut *self.pace.borrow_mut() {
                pace.sent += count;
            }
            if last {
                self.closed.set(true);
            }
        }
        if self.ended.get() && !self.closed.replace(true) {
            let trailers = self.trailers.borrow_mut().take();
            let ended = match trailers {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            };
            ended.map_err(|error| self.broke(&error))?;
        }
        Ok(Pumped::All)
    }

    pub(super) fn enqueue(&self, output: Output) {
        self.queued.set(self.queued.get() + length(&output));
        self.queue.borrow_mut().push_back(output);
    }

    /// Takes at most `room` bytes from the front of the queue.
    fn take(&self, room: usize) -> Result<Bytes, RequestError> {
        let mut queue = self.queue.borrow_mut();
        let Some(front) = queue.front_mut() else { return Ok(Bytes::new()) };
        let data = match front {
            Output::Data(data) => data.split_to(room.min(data.len())),
            Output::File(range) => {
                let end = range.end.min(range.start.saturating_add(room as u64));
                let part = FileRange { file: range.file.clone(), start: range.start, end };
                let data = read_range(&part)?;
                range.start = end;
                data
            }
        };
        if length(front) == 0 {
            queue.pop_front();
        }
        self.queued.set(self.queued.get().saturating_sub(data.len() as u64));
        Ok(data)
    }

    fn broke(&self, error: &h2::Error) -> RequestError {
        self.broken.set(true);
        let message = if error.is_reset() {
            "client canceled stream".into()
        } else {
            format!("client closed connection or broke HTTP/2 ({error})").into()
        };
        RequestError::Gone { status: 499, message }
    }

    /// Hands over, waiting for the client, until at most `low_water` bytes are queued.
    pub(super) fn poll_pump(&self, low_water: u64, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        loop {
            let pumped = self.pump()?;
            if matches!(pumped, Pumped::All) || self.queued.get() <= low_water {
                self.sending_off();
                return Poll::Ready(Ok(()));
            }
            match pumped {
                Pumped::All => {}
                Pumped::Paced => {
                    if let Some(pace) = &mut *self.pace.borrow_mut()
                        && pace.poll(cx).is_ready()
                    {
                        continue;
                    }
                    return self.poll_left(cx);
                }
                Pumped::Blocked => {
                    let mut slot = self.send.borrow_mut();
                    let Some(send) = &mut *slot else { return Poll::Ready(Ok(())) };
                    match send.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {
                            drop(slot);
                            self.sending_off();
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broke(&error))),
                        Poll::Ready(None) => {
                            self.broken.set(true);
                            return Poll::Ready(Err(RequestError::client_gone()));
                        }
                        Poll::Pending => {
                            drop(slot);
                            return self.poll_sending(cx);
                        }
                    }
                }
            }
        }
    }

    /// Pending while the client is there.
    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        if self.poll_closed(cx).is_ready() {
            self.broken.set(true);
            return Poll::Ready(Err(RequestError::client_gone()));
        }
        Poll::Pending
    }

    fn poll_sending(&self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let timeout = &self.timeouts().sending;
        if !timeout.is_armed() {
            timeout.set(self.send_timeout.get());
        }
        if timeout.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.broken.set(true);
        Poll::Ready(Err(RequestError::Gone { status: 408, message: crate::server::TIMED_OUT.into() }))
    }

    fn sending_off(&self) {
        if let Some(timeouts) = self.timeouts.get() {
            timeouts.sending.clear();
        }
    }

    /// Ready when all of the response was handed over.
    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        self.poll_pump(0, cx)
    }

    /// Goes on sending while the request's work waits for something else.
    pub(super) fn flush_while_waiting(&self, cx: &mut Context<'_>) {
        if self.queued.get() > 0
            && let Poll::Ready(Err(_)) = self.poll_pump(0, cx)
        {
            // Whoever waits for the client learns that it is gone.
            cx.waker().wake_by_ref();
        }
    }
}

fn length(output: &Output) -> u64 {
    match output {
        Output::Data(data) => data.len() as u64,
        Output::File(range) => range.len(),
    }
}

impl Exchange for Stream {
    fn send_head(&self, r: &Request, end: bool) -> Result<(), RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        if let Some(websocket) = self.websocket() {
            websocket.judge(r)?;
        }
        make_location_absolute(r);
        let core = &r.loc().core;
        self.send_timeout.set(core.send_timeout);
        self.chunk.set(http2::chunk_size(r.loc()));
        *self.pace.borrow_mut() = pace_of(r);
        let mut response = head::response(r);
        if self.websocket().is_some() {
            super::websocket::adapt(&mut response);
        }
        // About what it takes without compression; what leaves is usually less.
        let size: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        r.header_size.set(size as u64);
        self.sent.set(self.sent.get() + size as u64);
        let nothing = {
            let out = r.out.borrow();
            out.content_length == Some(0) && !out.expect_trailers
        };
        let end = end || nothing;
        let send =
            self.respond.borrow_mut().send_response(response, end).map_err(|error| self.broke(&error))?;
        *self.send.borrow_mut() = Some(send);
        if end {
            self.ended.set(true);
            self.closed.set(true);
        }
        Ok(())
    }

    fn send_interim(&self, _r: &Request, status: u16, fields: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
        if status == 100 || self.send.borrow().is_some() {
            // nginx: clients of HTTP/2 do not wait for leave.
            return Ok(());
        }
        let Ok(status) = StatusCode::from_u16(status) else { return Ok(()) };
        let mut response = Response::new(());
        *response.status_mut() = status;
        for (name, value) in fields {
            head::append(response.headers_mut(), name, value);
        }
        self.respond.borrow_mut().send_informational(response).map_err(|error| self.broke(&error))
    }

    fn push(&self, _r: &Request, output: Output) -> Result<(), RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        self.enqueue(output);
        Ok(())
    }

    fn finish(&self, r: &Request) -> Result<(), RequestError> {
        let trailers = head::trailers(r);
        if !trailers.is_empty() {
            *self.trailers.borrow_mut() = Some(trailers);
        }
        self.ended.set(true);
        self.pump().map(|_| ())
    }

    fn flush(&self, _r: &Request) {
        // Everything queued leaves whenever the request waits, and at its end.
    }

    fn is_paced(&self) -> bool {
        self.pace.borrow().is_some()
    }

    fn queued(&self) -> u64 {
        self.queued.get()
    }

    fn poll_drained(
        &self,
        _r: &Request,
        low_water: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        let low_water = if self.is_paced() { 0 } else { low_water };
        self.poll_pump(low_water as u64, cx)
    }

    fn poll_body(&self, r: &Request, cx: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        if self.received.get() {
            return Poll::Ready(Ok(BodyRead::End));
        }
        let mut receive = self.receive.borrow_mut();
        match receive.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                // It is the engine's to bound from here on.
                let _ = receive.flow_control().release_capacity(data.len());
                drop(receive);
                if let Some(timeouts) = self.timeouts.get() {
                    timeouts.body.clear();
                }
                r.request_length.set(r.request_length.get() + data.len() as u64);
                Poll::Ready(Ok(BodyRead::Data(data)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(self.broke(&error))),
            Poll::Ready(None) => {
                self.received.set(true);
                Poll::Ready(Ok(BodyRead::End))
            }
            Poll::Pending => {
                drop(receive);
                let timeout = &self.timeouts().body;
                if !timeout.is_armed() {
                    timeout.set(r.loc().core.client_body_timeout);
                }
                timeout.poll(cx).map(|()| {
                    Err(RequestError::Gone { status: 408, message: crate::server::TIMED_OUT.into() })
                })
            }
        }
    }

    fn raw(&self) -> Option<&dyn RawStream> {
        self.websocket().map(|_| self as &dyn RawStream)
    }

    fn poll_raw(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        self.poll_data(cx)
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken.get() || self.h1.broken.get() {
            return Poll::Ready(());
        }
        if self.closed.get() {
            return Poll::Pending;
        }
        let reset = match &mut *self.send.borrow_mut() {
            Some(send) => send.poll_reset(cx),
            None => self.respond.borrow_mut().poll_reset(cx),
        };
        if reset.is_ready() {
            self.broken.set(true);
        }
        reset.map(|_| ())
    }

    fn abort(&self, _r: &Request) {
        self.queue.borrow_mut().clear();
        self.queued.set(0);
        self.reset(Reason::INTERNAL_ERROR);
        self.shared.wake();
    }

    fn expect_continue(&self, _r: &Request) -> Result<(), RequestError> {
        Ok(())
    }

    fn local_addr(&self) -> Addr {
        self.h1.io.local_addr().unwrap_or_else(|_| Addr::Unix(Box::default()))
    }

    fn bytes_sent(&self) -> u64 {
        self.sent.get() + if self.broken.get() { 0 } else { self.queued.get() }
    }

    fn tcp_info(&self) -> Option<moonrest_sys::socket::TcpInfo> {
        self.h1.tcp_info()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
