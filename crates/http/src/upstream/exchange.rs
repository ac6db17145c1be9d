//! Sends a request to an upstream and reads until the answer's head is complete, both at the same time: an upstream may
//! answer before it has read everything.

use super::{
    conf::mask,
    protocol::{Framing, HeadStep, Protocol},
    run::{Failure, Run},
    source::Source,
    tls::describe_io,
};
use crate::{
    body::BodyState,
    exchange::BodyRead,
    filter::{FileRange, OpenFile},
    phase::RequestError,
    server::Queue,
};
use bytes::Bytes;
use moonrest_core::Level;
use std::{
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Bytes of the client's body that are passed on together.
const STREAM_STEP: usize = 64 * 1024;

/// What was read with a head is copied, up to this length, and the buffer used again.
const COPY: usize = 1024;

/// Interim answers that may come before the real one.
pub(super) const MAX_INTERIM: u32 = 100;

pub(super) const SENDING: &str = "sending request to upstream";
pub(super) const READING_HEAD: &str = "reading response header from upstream";

impl Run {
    /// Makes ready to send the request over the present connection.
    pub(super) fn begin_talk(&mut self) -> Result<(), Failure> {
        self.act(SENDING);
        self.protocol.reset();
        self.sent = true;
        self.sent_all = false;
        self.write_error = None;
        self.queue_request()?;
        (self.interim, self.hints) = (0, 0);
        self.given = self.protocol.is_tunnel();
        // Memory that was used before may have another size.
        if self.input.capacity() == self.conf.buffer_size {
            self.input.clear();
        } else {
            self.input = Vec::with_capacity(self.conf.buffer_size);
        }
        Ok(())
    }

    /// Sends the request and reads the answer's head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if !std::mem::take(&mut self.given) {
                ready!(self.poll_talk(cx))?;
            }
            self.act(READING_HEAD);
            if self.read_head()? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads the head in what has come; `true` when it is complete.
    fn read_head(&mut self) -> Result<bool, Failure> {
        loop {
            let step = self.protocol.read_head(&self.input, &mut self.states.answer.borrow_mut().head);
            match step {
                Err(message) => {
                    self.log(Level::Error, format_args!("{message}"));
                    return Err(Failure::Next(mask::INVALID_HEADER));
                }
                Ok(HeadStep::Done(len, framing)) => {
                    self.take_head(len, framing);
                    return Ok(true);
                }
                Ok(HeadStep::Interim(len)) if self.interim < MAX_INTERIM => {
                    self.interim += 1;
                    self.hints += len;
                    self.pass_hints(len, self.hints)?;
                    self.input.drain(..len.min(self.input.len()));
                    self.states.answer.borrow_mut().head.reset();
                    if self.input.is_empty() {
                        return Ok(false);
                    }
                }
                Ok(HeadStep::Skip(len)) => {
                    self.input.drain(..len.min(self.input.len()));
                    return Ok(false);
                }
                Ok(HeadStep::Interim(_)) => {
                    self.log(Level::Error, format_args!("upstream sent too many interim responses"));
                    return Err(Failure::Next(mask::INVALID_HEADER));
                }
                Ok(HeadStep::More) if self.input.len() >= self.conf.buffer_size => {
                    self.log(Level::Error, format_args!("upstream sent too big header"));
                    return Err(Failure::Next(mask::INVALID_HEADER));
                }
                Ok(HeadStep::More) => return Ok(false),
            }
        }
    }

    /// The head is complete: its bytes are kept, what follows them is the body's beginning.
    fn take_head(&mut self, len: usize, mut framing: Framing) {
        let mut text = if self.input.len() <= COPY {
            Bytes::copy_from_slice(&self.input)
        } else {
            Bytes::from(std::mem::take(&mut self.input))
        };
        let mut answer = self.states.answer.borrow_mut();
        self.rest = text.split_off(len.min(text.len()));
        answer.block = framing.text.take().unwrap_or(text);
        answer.trailers.clear();
        drop(answer);
        self.framing = framing;
    }

    fn queue_request(&mut self) -> Result<(), Failure> {
        self.queue.clear();
        self.queue.push_slice(&self.states.request.borrow());
        match &self.source {
            Source::None => {
                self.protocol.end_body(self.queue.scratch());
                self.queue.settle();
            }
            Source::Stream { early, .. } => push_body(&mut *self.protocol, &mut self.queue, early),
            Source::Memory(pieces) => {
                push_body(&mut *self.protocol, &mut self.queue, pieces);
                self.protocol.end_body(self.queue.scratch());
                self.queue.settle();
            }
            Source::File(file) => {
                let open = OpenFile {
                    file: file.file.clone(),
                    name: file.path.clone(),
                    direct: false,
                    threads: false,
                    sendfile: true,
                };
                let range = FileRange { file: Rc::new(open), start: 0, end: file.len.get() };
                let mut at = range.start;
                while at < range.end {
                    let end = range.end.min(at.saturating_add(self.protocol.max_piece()));
                    let part = FileRange { file: range.file.clone(), start: at, end };
                    self.protocol.open_body(part.len(), self.queue.scratch());
                    self.queue.settle();
                    self.queue.push_file(part).map_err(|error| {
                        let reason = moonrest_core::env::os_error(&error);
                        Failure::Fatal(RequestError::internal(format!("read() failed ({reason})")))
                    })?;
                    self.protocol.close_body(self.queue.scratch());
                    self.queue.settle();
                    at = end;
                }
                self.protocol.end_body(self.queue.scratch());
                self.queue.settle();
            }
        }
        Ok(())
    }

    /// Ready when something more has been read.
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while let Poll::Ready(result) = self.poll_send(cx) {
            if !result? {
                break;
            }
        }
        let Some(conn) = &mut self.conn else {
            return Poll::Ready(Err(Failure::Fatal(RequestError::internal("no connection to the upstream"))));
        };
        match conn.io.poll_read(&mut self.input, cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(self.ended_early())),
            Poll::Ready(Ok(n)) => {
                self.states.with(|attempt| attempt.bytes_received += n as u64);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                let message = describe_io(&conn.io, "recv()", &error);
                self.act(READING_HEAD);
                self.log(Level::Error, format_args!("{message}"));
                Poll::Ready(Err(Failure::Next(mask::ERROR)))
            }
            Poll::Pending if conn.timeout.poll(cx).is_ready() => {
                self.act(if self.sent_all { READING_HEAD } else { SENDING });
                Poll::Ready(Err(Failure::Next(mask::TIMEOUT)))
            }
            Poll::Pending => self.poll_gone(cx).map(|error| Err(Failure::Fatal(error))),
        }
    }

    /// The connection ended before the head did; perhaps that was why writing failed.
    fn ended_early(&mut self) -> Failure {
        match self.write_error.take() {
            Some(error) => {
                self.act(SENDING);
                let message = match &self.conn {
                    Some(conn) => describe_io(&conn.io, "writev()", &error),
                    None => error.to_string(),
                };
                self.log(Level::Error, format_args!("{message}"));
            }
            None => {
                self.act(READING_HEAD);
                self.log(Level::Error, format_args!("upstream prematurely closed connection"));
            }
        }
        Failure::Next(mask::ERROR)
    }

    /// Sends what there is to send. `true` when it should be asked again at once.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        let Some(conn) = &mut self.conn else { return Poll::Ready(Ok(false)) };
        if self.sent_all || self.write_error.is_some() {
            return Poll::Ready(Ok(false));
        }
        if !self.queue.is_empty() {
            match self.queue.write(&conn.io, u64::MAX) {
                Ok(n) => {
                    self.states.with(|attempt| attempt.bytes_sent += n as u64);
                    if !self.queue.is_empty() {
                        conn.timeout.set(self.timeouts.send);
                    }
                    return Poll::Ready(Ok(true));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Poll::Ready(Ok(true)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match conn.io.poll_writable(cx) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(true)),
                    Poll::Ready(Err(error)) => self.write_error = Some(error),
                    Poll::Pending if !conn.timeout.is_armed() => conn.timeout.set(self.timeouts.send),
                    Poll::Pending => {}
                },
                // An answer that was sent before may still be read.
                Err(error) => self.write_error = Some(error),
            }
            if self.write_error.is_some() {
                conn.timeout.set(self.timeouts.read);
            }
            return Poll::Ready(Ok(false));
        }
        if conn.io.has_pending() {
            match conn.io.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.write_error = Some(error);
                    conn.timeout.set(self.timeouts.read);
                    return Poll::Ready(Ok(false));
                }
                Poll::Pending => {
                    if !conn.timeout.is_armed() {
                        conn.timeout.set(self.timeouts.send);
                    }
                    return Poll::Ready(Ok(false));
                }
            }
        }
        if let Source::Stream { ended: false, .. } = self.source {
            conn.timeout.clear();
            return self.poll_stream(cx);
        }
        self.sent_all = true;
        conn.timeout.set(self.timeouts.read);
        Poll::Ready(Ok(false))
    }

    /// Takes what there is of the client's body.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        let r = self.r.clone();
        let (mut pieces, mut len, mut end) = (Vec::new(), 0, false);
        while len < STREAM_STEP {
            match r.exchange.poll_body(&r, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(BodyRead::Data(data))) => {
                    len += data.len();
                    pieces.push(data);
                }
                Poll::Ready(Ok(BodyRead::End)) => {
                    end = true;
                    break;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Fatal(error))),
            }
        }
        let received = {
            let mut body = r.body.borrow_mut();
            body.received += len as u64;
            body.received
        };
        crate::body::check_size(&r, received).map_err(Failure::Fatal)?;
        push_body(&mut *self.protocol, &mut self.queue, &pieces);
        if end {
            if let Source::Stream { ended, .. } = &mut self.source {
                *ended = true;
            }
            r.body.borrow_mut().state = BodyState::Complete;
            self.protocol.end_body(self.queue.scratch());
            self.queue.settle();
        }
        Poll::Ready(Ok(end || len > 0))
    }

    /// Ready when the client has gone, and that ends the request.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<RequestError> {
        if !self.watch {
            return Poll::Pending;
        }
        self.r.exchange.poll_closed(cx).map(|()| {
            self.log(
                Level::Info,
                format_args!(
                    "epoll_wait() reported that client prematurely closed connection, so upstream connection is \
                     closed too"
                ),
            );
            RequestError::Gone { status: 499, message: "".into() }
        })
    }
}

/// Queues a part of the request's body.
fn push_body(protocol: &mut dyn Protocol, queue: &mut Queue, pieces: &[Bytes]) {
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if len == 0 {
        return;
    }
    let most = protocol.max_piece();
    if len <= most {
        protocol.open_body(len, queue.scratch());
        queue.settle();
        pieces.iter().for_each(|piece| queue.push_bytes(piece.clone()));
        protocol.close_body(queue.scratch());
        queue.settle();
        return;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    for piece in pieces {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            let part = rest.split_to(most.min(rest.len()));
            protocol.open_body(part.len() as u64, queue.scratch());
            queue.settle();
            queue.push_bytes(part);
            protocol.close_body(queue.scratch());
            queue.settle();
        }
    }
}
