//! Sends a request as a stream and reads until the answer's head has come, both at the same time.

use super::{super::exchange::MAX_INTERIM, Session, WINDOW, head, transport::Wire};
use crate::{
    body::{self, BodyFile, BodyState},
    exchange::BodyRead,
    phase::RequestError,
    request::Request,
    upstream::{
        conf::mask,
        exchange::{READING_HEAD, SENDING},
        protocol::Framing,
        run::{Failure, Run},
        source::Source,
        tls::describe_io,
    },
};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use moonrest_core::Level;
use moonrest_net::io::Io;
use moonrest_proto::{
    Span,
    http1::{Method, Parse, ResponseHead, response_framing},
};
use std::{
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

/// Bytes of the client's body that are passed on together.
const STREAM_STEP: usize = 64 * 1024;
/// What fits into one frame whatever the upstream allows.
const FRAME: usize = 16 * 1024;

/// One request on its connection.
pub(in crate::upstream) struct Exchange {
    response: ResponseFuture,
    pub(super) send: SendStream<Bytes>,
    pub(super) recv: Option<RecvStream>,
    outgoing: Outgoing,
    pub(super) wire: Rc<Wire>,
    /// Bytes received and sent before it began.
    before: (u64, u64),
    /// All data of the answer was read; the answer is complete.
    pub(super) data_ended: bool,
    pub(super) ended: bool,
    pub(super) trailers: Vec<(Bytes, Bytes)>,
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
        let fits = |len: usize, next: &Bytes| len + next.len() <= FRAME;
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

/// What the upstream said first.
enum Answer {
    Interim(http::Response<()>),
    Final(http::Response<RecvStream>),
}

impl Run {
    /// Sends the request over the present connection and reads the answer's head.
    pub(in crate::upstream) async fn talk_http2(&mut self) -> Result<Framing, Failure> {
        self.act(SENDING);
        self.protocol.reset();
        self.http2 = None;
        self.sent_all = false;
        self.begin_exchange().await?;
        let (mut interim, mut hints) = (0, 0);
        loop {
            match poll_fn(|cx| self.poll_answer(cx)).await? {
                Answer::Final(response) => return self.take_response(response),
                Answer::Interim(response) if interim < MAX_INTERIM => {
                    interim += 1;
                    let (parts, ()) = response.into_parts();
                    let text = head::text(parts.status, &parts.headers);
                    hints += text.len();
                    self.parse_head(&text)?;
                    let len = text.len();
                    self.input = text;
                    self.pass_hints(len, hints)?;
                    self.input.clear();
                    self.states.answer.borrow_mut().head.reset();
                }
                Answer::Interim(_) => {
                    return Err(self.invalid(format_args!("upstream sent too many interim responses")));
                }
            }
        }
    }

    /// Sends the request's head.
    async fn begin_exchange(&mut self) -> Result<(), Failure> {
        let (request, own) = {
            let text = self.states.request.borrow();
            head::request(&text, self.link.secure.is_some()).map_err(Failure::Fatal)?
        };
        let outgoing = Outgoing::new(&self.source, own);
        self.sent = true;
        let ready = self.open_session().await;
        if let Err(error) = ready {
            return Err(self.http2_failed(&error));
        }
        let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else {
            return Err(Failure::Fatal(RequestError::internal("no connection to the upstream")));
        };
        let before = (session.wire.received.get(), session.wire.sent.get());
        let begun = session.sender.borrow_mut().send_request(request, outgoing.is_empty());
        let wire = session.wire.clone();
        match begun {
            Ok((response, send)) => {
                let outgoing = Outgoing { done: outgoing.is_empty(), ..outgoing };
                self.http2 = Some(Box::new(Exchange {
                    response,
                    send,
                    recv: None,
                    outgoing,
                    wire,
                    before,
                    data_ended: false,
                    ended: false,
                    trailers: Vec::new(),
                }));
                Ok(())
            }
            Err(error) => Err(self.http2_failed(&error)),
        }
    }

    /// Makes the connection ready for a request.
    async fn open_session(&mut self) -> Result<(), h2::Error> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        if conn.http2.is_none() {
            // Small enough for any connection to take it at once.
            conn.http2 = Some(Session::begin(conn.io.clone(), self.conf.buffer_size).await?);
        }
        let Some(session) = &conn.http2 else { return Ok(()) };
        conn.timeout.set(self.timeouts.send);
        poll_fn(|cx| {
            session.drive(cx);
            match session.sender.borrow_mut().poll_ready(cx) {
                Poll::Ready(ready) => Poll::Ready(ready),
                // It allows no streams at all.
                Poll::Pending => conn.timeout.poll(cx).map(|()| Err(h2::Reason::REFUSED_STREAM.into())),
            }
        })
        .await
    }

    /// Ready when the upstream has said something.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        self.keep_sending(cx).map_err(Failure::Fatal)?;
        let Some(exchange) = &mut self.http2 else {
            return Poll::Ready(Err(Failure::Fatal(RequestError::internal("no request under way"))));
        };
        if let Poll::Ready(Some(interim)) = exchange.response.poll_informational(cx) {
            return Poll::Ready(match interim {
                Ok(response) => Ok(Answer::Interim(response)),
                Err(error) => Err(self.http2_failed(&error)),
            });
        }
        match std::pin::Pin::new(&mut exchange.response).poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(Answer::Final(response))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.http2_failed(&error))),
            Poll::Pending => {
                let Some(conn) = &self.conn else { return Poll::Pending };
                if conn.timeout.poll(cx).is_ready() {
                    self.act(if self.sent_all { READING_HEAD } else { SENDING });
                    return Poll::Ready(Err(Failure::Next(mask::TIMEOUT)));
                }
                self.poll_gone(cx).map(|error| Err(Failure::Fatal(error)))
            }
        }
    }

    /// Sends more of the request's body if the upstream takes it, and lets the connection do its work.
    pub(in crate::upstream) fn keep_sending(&mut self, cx: &mut Context<'_>) -> Result<(), RequestError> {
        let Some(mut exchange) = self.http2.take() else { return Ok(()) };
        let result = self.feed(&mut exchange, cx);
        if let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) {
            session.drive(cx);
        }
        let (received, sent) = exchange.before;
        self.states.with(|attempt| {
            attempt.bytes_received = exchange.wire.received.get() - received;
            attempt.bytes_sent = exchange.wire.sent.get() - sent;
        });
        self.http2 = Some(exchange);
        result
    }

    /// Gives the framing what it takes of the body.
    fn feed(&mut self, exchange: &mut Exchange, cx: &mut Context<'_>) -> Result<(), RequestError> {
        let Some(conn) = &self.conn else { return Ok(()) };
        let timeout = &conn.timeout;
        let Exchange { send, outgoing, .. } = exchange;
        while !outgoing.done {
            if outgoing.pieces.is_empty() {
                outgoing.read_file().map_err(|error| {
                    let reason = moonrest_core::env::os_error(&error);
                    RequestError::internal(format!("read() failed ({reason})"))
                })?;
            }
            // Asked for more in time, the client may say that what there is was all.
            if outgoing.pieces.len() <= 1 && outgoing.open {
                let (pieces, ended) = more(&self.r, cx)?;
                outgoing.pieces.extend(pieces);
                outgoing.open = !ended;
                if let Source::Stream { ended: end, .. } = &mut self.source {
                    *end = ended;
                }
                if outgoing.pieces.is_empty() && !ended {
                    // It is the client that lets the upstream wait.
                    timeout.clear();
                    return Ok(());
                }
            }
            let Some(mut piece) = outgoing.next() else {
                outgoing.done = true;
                // Whoever has reset the stream does not want its end either.
                let _ = send.send_data(Bytes::new(), true);
                break;
            };
            send.reserve_capacity(piece.len());
            let room = match send.capacity() {
                0 => match send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Pending => 0,
                    Poll::Ready(None | Some(Err(_))) => {
                        outgoing.done = true;
                        break;
                    }
                },
                room => room,
            };
            if room == 0 {
                outgoing.pieces.push_front(piece);
                if !timeout.is_armed() || self.sent_all {
                    timeout.set(self.timeouts.send);
                }
                return Ok(());
            }
            if room < piece.len() {
                outgoing.pieces.push_front(piece.split_off(room));
            }
            let last = outgoing.is_empty();
            let refused = send.send_data(piece, last).is_err();
            outgoing.done = last || refused;
            timeout.set(self.timeouts.send);
        }
        if !self.sent_all {
            self.sent_all = true;
            timeout.set(self.timeouts.read);
        }
        Ok(())
    }

    fn parse_head(&self, text: &[u8]) -> Result<(), Failure> {
        let parsed = self.states.answer.borrow_mut().head.parse(text);
        match parsed {
            Ok(Parse::Complete { .. }) => {
                // There are no reasons in HTTP/2.
                self.states.answer.borrow_mut().head.status_line = Span::default();
                Ok(())
            }
            Ok(Parse::Partial) => Err(self.invalid(format_args!("upstream sent invalid header"))),
            Err(error) => Err(self.invalid(format_args!("{}", error.log_message(text)))),
        }
    }

    fn invalid(&self, message: std::fmt::Arguments<'_>) -> Failure {
        self.act(READING_HEAD);
        self.log(Level::Error, message);
        Failure::Next(mask::INVALID_HEADER)
    }

    /// The head has come.
    fn take_response(&mut self, response: http::Response<RecvStream>) -> Result<Framing, Failure> {
        self.act(READING_HEAD);
        let (parts, recv) = response.into_parts();
        let text = head::text(parts.status, &parts.headers);
        if text.len()
            > self.conf.buffer_size.saturating_add(head::text(parts.status, &http::HeaderMap::new()).len())
        {
            return Err(self.invalid(format_args!("upstream sent too big header")));
        }
        self.parse_head(&text)?;
        let method = if self.protocol.asks_head(&self.r) { Method::Head } else { Method::Get };
        let framing = {
            let answer = self.states.answer.borrow();
            framing(&answer.head, &text, method)
        };
        let framing = framing.map_err(|message| self.invalid(format_args!("{message}")))?;
        let mut answer = self.states.answer.borrow_mut();
        answer.block = text.into();
        answer.trailers.clear();
        self.rest = Bytes::new();
        let empty = recv.is_end_stream();
        if let Some(exchange) = &mut self.http2 {
            exchange.ended = empty;
            exchange.recv = Some(recv);
        }
        let content_length =
            framing.content_length.or(if empty { self.protocol.length_of_nothing() } else { None });
        Ok(Framing { empty, content_length, ..framing })
    }

    /// Says in the log why a stream came to nothing.
    fn http2_failed(&self, error: &h2::Error) -> Failure {
        let (io, wire) = match &self.conn {
            Some(conn) => (Some(&*conn.io), conn.http2.as_ref().map(|session| &*session.wire)),
            None => (None, None),
        };
        let (message, reason) = describe(error, io, wire);
        if reason == mask::INVALID_HEADER || !self.sent_all {
            self.act(if self.sent_all || reason == mask::INVALID_HEADER { READING_HEAD } else { SENDING });
        } else {
            self.act(READING_HEAD);
        }
        self.log(Level::Error, format_args!("{message}"));
        Failure::Next(reason)
    }
}

fn framing(head: &ResponseHead, text: &[u8], method: Method) -> Result<Framing, String> {
    if head.status < 200 {
        return Err(format!("upstream sent unexpected :status \"{}\"", head.status));
    }
    let framing = response_framing(head, text, method).map_err(|error| error.log_message(text))?;
    Ok(Framing { content_length: framing.content_length, keep_alive: true, ..Framing::default() })
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

/// What the log says about a failure, and what it means for other servers.
pub(super) fn describe(error: &h2::Error, io: Option<&Io>, wire: Option<&Wire>) -> (String, u32) {
    let number = error.reason().map_or(0, u32::from);
    if wire.is_some_and(Wire::is_flooded) {
        return ("upstream sent too many control frames".to_owned(), mask::INVALID_HEADER);
    }
    if error.is_go_away() && error.is_remote() {
        return (format!("upstream sent goaway with error {number}"), mask::INVALID_HEADER);
    }
    if error.is_reset() && error.is_remote() {
        return (format!("upstream rejected request with error {number}"), mask::INVALID_HEADER);
    }
    if wire.is_some_and(|wire| wire.ended.get()) {
        return ("upstream prematurely closed connection".to_owned(), mask::ERROR);
    }
    if let (Some(error), Some(io)) = (error.get_io(), io) {
        return (describe_io(io, "recv()", error), mask::ERROR);
    }
    if error.is_reset() {
        return (format!("upstream sent invalid header or http2 frame ({error})"), mask::INVALID_HEADER);
    }
    (format!("upstream sent invalid http2 frame ({error})"), mask::INVALID_HEADER)
}

// The window is what the pipe may have to hold: a test would notice a change that makes it unbounded.
const _: () = assert!(WINDOW <= 1024 * 1024);
