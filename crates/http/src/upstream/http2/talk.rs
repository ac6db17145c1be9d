//! Sends a request as a stream and reads until the answer's head has come, both at the same time.

use super::{Session, head};
use crate::{
    body::{self, BodyFile, BodyState},
    exchange::BodyRead,
    phase::RequestError,
    request::Request,
    upstream::{
        conf::mask,
        exchange::{MAX_INTERIM, READING_HEAD, SENDING},
        protocol::Framing,
        run::{Failure, Run, Source},
        tls::describe_io,
    },
};
use bytes::Bytes;
use moonrest_core::Level;
use moonrest_proto::{
    Span,
    http1::{Method, Parse, ResponseBody, ResponseHead, response_framing},
    http2::{Event, MAX_DATA},
};
use std::{
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes of the client's body that are passed on together.
const STREAM_STEP: usize = 64 * 1024;
/// Bytes of a request that may wait to be sent.
const HELD: u64 = 64 * 1024;
/// How much is read at once before the head is complete.
const READ_SIZE: usize = 16 * 1024;

/// One request on its connection.
pub(in crate::upstream) struct Exchange {
    outgoing: Outgoing,
}

/// What is left of a request's body.
#[derive(Default)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    file: Option<(Rc<BodyFile>, u64)>,
    /// More may come from the client.
    open: bool,
    /// Its end was given to the framing, or nobody wants it any more.
    done: bool,
}

impl Outgoing {
    fn new(source: &Source, own: Bytes) -> Self {
        let mut outgoing = Self::default();
        if !own.is_empty() {
            outgoing.pieces.push_back(own);
        }
        match source {
            Source::None => {}
            Source::Memory(pieces) => outgoing.pieces.extend(pieces.iter().cloned()),
            Source::File(file) => outgoing.file = Some((file.clone(), 0)),
            Source::Stream { early, ended } => {
                outgoing.pieces.extend(early.iter().cloned());
                outgoing.open = !ended;
            }
        }
        outgoing.pieces.retain(|piece| !piece.is_empty());
        outgoing
    }

    fn is_empty(&self) -> bool {
        let file_left = self.file.as_ref().is_some_and(|(file, at)| *at < file.len.get());
        self.pieces.is_empty() && !file_left && !self.open
    }

    /// The next piece to send: small ones are put together.
    fn next(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let fits = |len: usize, next: &Bytes| len + next.len() <= MAX_DATA;
        if !self.pieces.front().is_some_and(|next| fits(first.len(), next)) {
            return Some(first);
        }
        let mut gathered = first.to_vec();
        while let Some(next) = self.pieces.pop_front_if(|next| fits(gathered.len(), next)) {
            gathered.extend_from_slice(&next);
        }
        Some(gathered.into())
    }

    /// Reads the next part of a file.
    fn read_file(&mut self) -> std::io::Result<()> {
        let Some((file, at)) = &mut self.file else { return Ok(()) };
        let len = usize::try_from(file.len.get().saturating_sub(*at)).unwrap_or(usize::MAX).min(STREAM_STEP);
        if len == 0 {
            self.file = None;
            return Ok(());
        }
        let mut buffer = vec![0; len];
        let n = moonrest_sys::file::pread(&*file.file, &mut buffer, *at)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(n);
        *at += n as u64;
        self.pieces.push_back(buffer.into());
        Ok(())
    }
}

impl Run {
    /// Sends the request over the present connection and reads the answer's head.
    pub(in crate::upstream) async fn talk_http2(&mut self) -> Result<Framing, Failure> {
        self.act(SENDING);
        self.protocol.reset();
        self.sent = true;
        self.sent_all = false;
        self.write_error = None;
        self.begin_exchange().map_err(Failure::Fatal)?;
        self.input.clear();
        let (mut interim, mut hints) = (0, 0);
        loop {
            let text = poll_fn(|cx| self.poll_answer(cx)).await?;
            self.act(READING_HEAD);
            self.parse_head(&text)?;
            let status = self.states.answer.borrow().head.status;
            if status >= 200 {
                return self.take_response(text);
            }
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(self.invalid("upstream sent too many interim responses"));
            }
            hints += text.len();
            let received = std::mem::replace(&mut self.input, text);
            self.pass_hints(self.input.len(), hints)?;
            self.input = received;
            self.states.answer.borrow_mut().head.reset();
        }
    }

    /// Queues the request's head.
    fn begin_exchange(&mut self) -> Result<(), RequestError> {
        let head = head::head(&self.states.request.borrow(), self.link.secure.is_some())?;
        let mut outgoing = Outgoing::new(&self.source, head.body);
        outgoing.done = outgoing.is_empty();
        let Some(conn) = &mut self.conn else {
            return Err(RequestError::internal("no connection to the upstream"));
        };
        let session = conn.http2.get_or_insert_with(Box::<Session>::default);
        session.client.borrow_mut().request(&head.block, outgoing.done, self.conf.buffer_size);
        self.http2 = Some(Box::new(Exchange { outgoing }));
        Ok(())
    }

    /// Ready when a head has come.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, Failure>> {
        loop {
            if let Some(text) = self.receive_head()? {
                return Poll::Ready(Ok(text));
            }
            // What was received may have opened a window, or may want to be answered.
            self.keep_sending(cx).map_err(Failure::Fatal)?;
            let Some(conn) = &self.conn else {
                return Poll::Ready(Err(Failure::Fatal(RequestError::internal(
                    "no connection to the upstream",
                ))));
            };
            self.input.reserve(READ_SIZE);
            match conn.io.poll_read(&mut self.input, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.ended_early())),
                Poll::Ready(Ok(n)) => {
                    self.states.with(|attempt| attempt.bytes_received += n as u64);
                }
                Poll::Ready(Err(error)) => {
                    let message = describe_io(&conn.io, "recv()", &error);
                    self.act(READING_HEAD);
                    self.log(Level::Error, format_args!("{message}"));
                    return Poll::Ready(Err(Failure::Next(mask::ERROR)));
                }
                Poll::Pending if conn.timeout.poll(cx).is_ready() => {
                    self.act(if self.sent_all { READING_HEAD } else { SENDING });
                    return Poll::Ready(Err(Failure::Next(mask::TIMEOUT)));
                }
                Poll::Pending => return self.poll_gone(cx).map(|error| Err(Failure::Fatal(error))),
            }
        }
    }

    /// Deals with what was received, up to a head.
    fn receive_head(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else {
                return Ok(None);
            };
            let received = session.client.borrow_mut().receive(&self.input);
            let (used, event) = received.map_err(|message| self.invalid(&message))?;
            self.input.drain(..used.min(self.input.len()));
            match event {
                Event::Head(text) => return Ok(Some(text)),
                Event::Control => {}
                _ => return Ok(None),
            }
        }
    }

    /// Sends more of the request if the upstream takes it, and answers what it has asked.
    pub(in crate::upstream) fn keep_sending(&mut self, cx: &mut Context<'_>) -> Result<(), RequestError> {
        let Some(mut exchange) = self.http2.take() else { return Ok(()) };
        let result = self.send_more(&mut exchange.outgoing, cx);
        self.http2 = Some(exchange);
        result
    }

    fn send_more(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Result<(), RequestError> {
        while self.write_error.is_none() {
            let fed = self.feed(outgoing, cx)?;
            let Some(conn) = &self.conn else { return Ok(()) };
            let Some(session) = &conn.http2 else { return Ok(()) };
            let (sent, written) = session.poll_write(&conn.io, cx);
            if sent > 0 {
                self.states.with(|attempt| attempt.bytes_sent += sent);
            }
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    // An answer that was sent before may still be read.
                    self.write_error = Some(error);
                    conn.timeout.set(self.conf.read_timeout);
                    return Ok(());
                }
                Poll::Pending => {
                    if sent > 0 || !conn.timeout.is_armed() {
                        conn.timeout.set(self.conf.send_timeout);
                    }
                    return Ok(());
                }
            }
            if outgoing.done {
                if !self.sent_all {
                    self.sent_all = true;
                    conn.timeout.set(self.conf.read_timeout);
                }
                return Ok(());
            }
            match fed {
                Fed::Some => {}
                // It is the client that lets the upstream wait.
                Fed::Starved => {
                    conn.timeout.clear();
                    return Ok(());
                }
                Fed::Closed => {
                    if sent > 0 || !conn.timeout.is_armed() {
                        conn.timeout.set(self.conf.send_timeout);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Makes frames of the body as far as windows allow.
    fn feed(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> Result<Fed, RequestError> {
        let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else {
            return Ok(Fed::Closed);
        };
        while !outgoing.done {
            let (mut client, mut queue) = (session.client.borrow_mut(), session.queue.borrow_mut());
            if client.is_reset() {
                outgoing.done = true;
                break;
            }
            if !client.out.is_empty() {
                queue.push_slice(&client.out);
                client.out.clear();
            }
            if queue.len() >= HELD {
                return Ok(Fed::Some);
            }
            if outgoing.pieces.is_empty() {
                outgoing.read_file().map_err(|error| {
                    let reason = moonrest_core::env::os_error(&error);
                    RequestError::internal(format!("read() failed ({reason})"))
                })?;
            }
            if outgoing.pieces.is_empty() && outgoing.open {
                let (pieces, ended) = more(&self.r, cx)?;
                if pieces.is_empty() && !ended {
                    return Ok(Fed::Starved);
                }
                outgoing.pieces.extend(pieces);
                outgoing.open = !ended;
                if let Source::Stream { ended: end, .. } = &mut self.source {
                    *end = ended;
                }
            }
            let room = client.room();
            let Some(mut piece) = outgoing.next() else {
                outgoing.done = true;
                client.data(0, true, queue.scratch());
                queue.settle();
                break;
            };
            if room < piece.len() {
                outgoing.pieces.push_front(piece.split_off(room));
            }
            if room == 0 {
                return Ok(Fed::Closed);
            }
            outgoing.done = outgoing.is_empty();
            client.data(piece.len(), outgoing.done, queue.scratch());
            queue.settle();
            queue.push_bytes(piece);
        }
        Ok(Fed::Some)
    }

    fn parse_head(&self, text: &[u8]) -> Result<(), Failure> {
        let parsed = self.states.answer.borrow_mut().head.parse(text);
        match parsed {
            Ok(Parse::Complete { .. }) => {
                // There are no reasons in HTTP/2.
                self.states.answer.borrow_mut().head.status_line = Span::default();
                Ok(())
            }
            Ok(Parse::Partial) => Err(self.invalid("upstream sent invalid header")),
            Err(error) => Err(self.invalid(&error.log_message(text))),
        }
    }

    fn invalid(&self, message: &str) -> Failure {
        self.act(READING_HEAD);
        self.log(Level::Error, format_args!("{message}"));
        Failure::Next(mask::INVALID_HEADER)
    }

    /// The head has come.
    fn take_response(&mut self, text: Vec<u8>) -> Result<Framing, Failure> {
        let method = if self.protocol.asks_head(&self.r) { Method::Head } else { Method::Get };
        let framing = framing(&self.states.answer.borrow().head, &text, method);
        let (mut framing, bodiless) = framing.map_err(|message| self.invalid(&message))?;
        let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else {
            return Err(Failure::Fatal(RequestError::internal("no connection to the upstream")));
        };
        let mut client = session.client.borrow_mut();
        client.expect(if bodiless { Some(0) } else { framing.content_length });
        framing.empty = client.is_done();
        if framing.empty && framing.content_length.is_none() {
            framing.content_length = self.protocol.length_of_nothing();
        }
        self.rest = Bytes::from(std::mem::take(&mut self.input));
        let mut answer = self.states.answer.borrow_mut();
        answer.block = text.into();
        answer.trailers.clear();
        Ok(framing)
    }

    /// Sends what waits to be sent as far as that is possible at once.
    pub(in crate::upstream) fn flush_http2(&self) {
        let Some(conn) = &self.conn else { return };
        if let Some(session) = &conn.http2 {
            let (sent, _) = session.poll_write(&conn.io, &mut Context::from_waker(Waker::noop()));
            self.states.with(|attempt| attempt.bytes_sent += sent);
        }
    }
}

/// What became of a body on its way into frames.
enum Fed {
    /// There may be more when this has been sent.
    Some,
    /// The client has sent no more.
    Starved,
    /// The upstream's windows are closed.
    Closed,
}

/// What the head says about the body, and whether there is none in any case.
fn framing(head: &ResponseHead, text: &[u8], method: Method) -> Result<(Framing, bool), String> {
    let framing = response_framing(head, text, method).map_err(|error| error.log_message(text))?;
    let bodiless = framing.body == ResponseBody::None;
    Ok((Framing { content_length: framing.content_length, keep_alive: true, ..Framing::default() }, bodiless))
}

/// What has come of the client's body, and whether that was its end.
fn more(r: &Request, cx: &mut Context<'_>) -> Result<(Vec<Bytes>, bool), RequestError> {
    let (mut pieces, mut len) = (Vec::new(), 0);
    let mut ended = false;
    while len < STREAM_STEP {
        match r.exchange.poll_body(r, cx) {
            Poll::Pending => break,
            Poll::Ready(Ok(BodyRead::Data(data))) => {
                len += data.len();
                if !data.is_empty() {
                    pieces.push(data);
                }
            }
            Poll::Ready(Ok(BodyRead::End)) => {
                ended = true;
                break;
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    let received = {
        let mut body = r.body.borrow_mut();
        body.received += len as u64;
        if ended {
            body.state = BodyState::Complete;
        }
        body.received
    };
    body::check_size(r, received)?;
    Ok((pieces, ended))
}
