//! Heads: read, checked, turned into requests; what happens when they stop coming.

use super::h1::{BodyReader, Doing, Fill, H1, Work, flush};
use super::{h2, head::Delimited};
use crate::{
    core::ServerSettings,
    engine,
    location::ServerId,
    request::{Memory, NewRequest, Request, RequestRef},
    tls::VerifyClient,
};
use moonrest_net::tls::verify::Failure;
use moonrest_proto::{
    http1::{
        Body, Framing, HeadError, Known, Method, Parse, RequestHead, Version,
        chunked::{ChunkLimits, Decoder},
        framing,
        framing::check_method,
        host,
    },
    uri,
};
use moonrest_rt::clock;
use std::{future::poll_fn, io, rc::Rc};

pub(super) enum Next {
    /// A request, and the status of the error in its head if there is one.
    Request((RequestRef, Option<u16>)),
    Close,
    /// What comes is HTTP/2.
    Http2,
    /// The client is gone or too slow: the request is logged with this status, and the connection closed.
    Unanswered(RequestRef, u16),
}

/// Reads a head. Responses queued before are written if it is not there yet.
pub(super) async fn next_request(h1: &Rc<H1>, memory: Option<Rc<Memory>>) -> Next {
    let memory = memory.unwrap_or_else(|| h1.worker.take_memory());
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
                memory.head.borrow_mut().parse(buffer.get(h1.at.get()..).unwrap_or_default(), &limits)
            };
            match parsed {
                Ok(Parse::Complete { len }) => return Next::Request(take_head(h1, memory, len)),
                Ok(Parse::Partial) => {}
                Err(_) if h1.is_http2_preface() => {
                    h1.worker.give_memory(memory);
                    return Next::Http2;
                }
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
        h1.count_as(if h1.unread() == 0 { Doing::Waiting } else { Doing::Reading });
        let filled = poll_fn(|cx| h1.poll_fill(cx)).await;
        h1.count_as(Doing::Nothing);
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
    /// Whether the connection begins as one of HTTP/2 does, and may.
    #[cold]
    fn is_http2_preface(&self) -> bool {
        // With TLS it must have been agreed on (RFC 9113, 3.2).
        self.conn.requests.get() == 0
            && !self.addr_conf.ssl
            && self.buffer.borrow().get(self.at.get()..).is_some_and(|unread| unread.starts_with(h2::PREFACE))
            && h2::is_enabled(self)
    }

    /// The first byte of a request is there.
    pub(super) fn begin(&self) {
        self.begun.set(clock::monotonic_ms());
    }
}

/// What was being read when a head stopped coming.
fn reading(head: &RequestHead) -> &'static str {
    if head.line.is_empty() { "reading client request line" } else { HEADERS }
}

/// The client closed within a head, or the connection broke.
fn head_ended(h1: &Rc<H1>, memory: Rc<Memory>, error: Option<&io::Error>) -> Next {
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

fn head_timed_out(h1: &Rc<H1>, memory: Rc<Memory>) -> Next {
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
pub(super) async fn log_unanswered(r: &RequestRef, status: u16) {
    r.out.borrow_mut().status = status;
    r.action.set("logging request");
    engine::log(r).await;
}

#[inline(always)]
fn new_request(h1: &Rc<H1>, memory: Rc<Memory>, len: usize) -> RequestRef {
    let server = h1.conn.server.get();
    let work: &Work = h1;
    h1.conn.requests.set(h1.conn.requests.get() + 1);
    work.sent_before.set(h1.bytes_sent.get() + work.queue.borrow().len());
    *work.body.borrow_mut() = BodyReader::Done;
    work.delimited.set(Delimited::Length);
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
    let mut buffer = work.buffer.borrow_mut();
    let at = work.at.get();
    r.block.borrow_mut().extend_from_slice(buffer.get(at..at + len).unwrap_or_default());
    if at + len == buffer.len() {
        buffer.clear();
        work.at.set(0);
    } else {
        work.at.set(at + len);
    }
    drop(buffer);
    r.request_length.set((len - start.min(len)) as u64);
    r.pipelined.set(work.pipelined.get());
    r.method.set(method);
    r.version.set(version);
    r.started_ms.set(work.begun.get());
    r
}

/// What a request is doing while its fields are read.
const HEADERS: &str = "reading client request headers";

fn bad_head(h1: &Rc<H1>, memory: Rc<Memory>, error: &HeadError) -> (RequestRef, Option<u16>) {
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
    if error.action() == HEADERS {
        let (head, block) = (r.head.borrow(), r.block.borrow());
        if set_uri(h1, &r, &head, &block).is_ok() {
            let _ = find_server(h1, &r, &head, &block);
        }
    }
    (r, Some(error.status()))
}

/// Makes a request of a complete head; with the status of what is wrong with it.
pub(super) fn take_head(h1: &Rc<H1>, memory: Rc<Memory>, len: usize) -> (RequestRef, Option<u16>) {
    let r = new_request(h1, memory, len);
    let status = accept_head(h1, &r).err();
    if status.is_some() {
        r.keepalive.set(false);
    }
    (r, status)
}

/// Checks the fields by the rules of the server, and on a socket for TLS who sent them. `ours` of them were written here.
#[inline(always)]
pub(super) fn accept_fields(h1: &H1, r: &RequestRef, ours: u64) -> Result<(), u16> {
    let settings = &r.srv().settings;
    let max = limit(settings.max_headers.saturating_add(ours));
    if !r.head.borrow().fields.is_fine(max) {
        filter_fields(r, settings, max)?;
    }
    if h1.addr_conf.ssl {
        h1.learn_tls();
        check_tls(r)?;
    }
    Ok(())
}

/// Drops the fields that the server does not take, telling of each, and refuses too many.
fn filter_fields(r: &RequestRef, settings: &ServerSettings, max: usize) -> Result<(), u16> {
    let dropped = {
        let block = r.block.borrow();
        let mut dropped = Vec::new();
        let checked = r.head.borrow_mut().filter(H1::rules(settings), max, |field| {
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
    Ok(())
}

#[inline(always)]
fn accept_head(h1: &H1, r: &RequestRef) -> Result<(), u16> {
    r.action.set("reading client request line");
    {
        let (head, block) = (r.head.borrow(), r.block.borrow());
        set_uri(h1, r, &head, &block)?;
        r.action.set(HEADERS);
        find_server(h1, r, &head, &block)?;
    }
    accept_fields(h1, r, 0)?;
    let framed = {
        let block = r.block.borrow();
        let head = r.head.borrow();
        let connect = r.srv().settings.allow_connect;
        framing(&head, &block)
            .and_then(|framed| check_method(&head, &framed, connect).map(|()| framed))
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
    // nginx: what answers CONNECT is the last on its connection, whatever it is.
    r.keepalive.set(framed.keep_alive && r.method.get() != Method::Connect);
    let work: &Work = h1;
    work.body_wait.set((0, 0));
    match framed.body {
        // As new_request set it.
        Body::None | Body::Length(0) => {}
        Body::Length(length) => *work.body.borrow_mut() = BodyReader::Length(length),
        Body::Chunked => {
            *work.body.borrow_mut() = BodyReader::Chunked(Box::new(Decoder::new(ChunkLimits::default())));
        }
    }
    Ok(())
}

impl H1 {
    /// A request may have come before the end of the handshake: whether this one has, and what was agreed on since.
    fn learn_tls(&self) {
        if let (Some(info), Some(stream)) = (self.conn.tls.get(), self.io.tls())
            && info.handshaking.get()
        {
            stream.with_side(|side| info.update(side));
        }
    }
}

/// Whoever was let in for one name must not use it for a server that asks for certificates.
fn check_name(h1: &H1, r: &Request, server: ServerId) -> Result<(), u16> {
    let Some(info) = r.tls().filter(|info| info.chosen_by_name.get()) else { return Ok(()) };
    let named = info.server_name.as_deref().unwrap_or_default();
    let http = &h1.worker.http;
    let verifies = http
        .location(http.server(server).location)
        .tls
        .as_ref()
        .is_some_and(|tls| tls.verify != VerifyClient::Off);
    if !verifies || named.eq_ignore_ascii_case(&r.host.borrow()) {
        return Ok(());
    }
    crate::info!(r, "client attempted to request the server name different from the one that was negotiated");
    Err(421)
}

/// On a socket for TLS: the request must have come through it, and its client be whom the server wants.
fn check_tls(r: &Request) -> Result<(), u16> {
    let Some(info) = r.tls() else {
        crate::info!(r, "client sent plain HTTP request to HTTPS port");
        return Err(497);
    };
    let http = r.http();
    let Some(tls) = &http.location(r.srv().location).tls else { return Ok(()) };
    if tls.verify == VerifyClient::Off {
        return Ok(());
    }
    if let Some(failure) = Failure::from_code(info.verified.get())
        && !tls.tolerates(failure)
    {
        crate::info!(r, "client SSL certificate verify error: ({}:{failure})", failure.code());
        return Err(495);
    }
    if tls.verify == VerifyClient::On && info.certificates.get().is_none_or(|chain| chain.is_empty()) {
        crate::info!(r, "client sent no required SSL certificate");
        return Err(496);
    }
    if let Some(reason) = info.revoked.get() {
        crate::info!(r, "client SSL certificate verify error: {reason}");
        return Err(495);
    }
    Ok(())
}

fn limit(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[inline(always)]
pub(super) fn set_uri(h1: &H1, r: &Request, head: &RequestHead, block: &[u8]) -> Result<(), u16> {
    if !head.args.is_empty() {
        r.args.borrow_mut().extend_from_slice(head.args.of(block));
    }
    let mut path = r.uri.borrow_mut();
    if head.complex || head.empty_path {
        r.complex_uri.set(true);
        let merge = h1.default_settings().merge_slashes;
        let normalized = uri::normalize(head.path.of(block), merge, &mut path);
        drop(path);
        if normalized.is_err() {
            r.uri.borrow_mut().clear();
            crate::info!(r, "client sent invalid request");
            return Err(400);
        }
    } else {
        path.extend_from_slice(head.path.of(block));
    }
    Ok(())
}

/// Takes the host from the target or the field, and with it the server.
#[inline(always)]
pub(super) fn find_server(h1: &H1, r: &Request, head: &RequestHead, block: &[u8]) -> Result<(), u16> {
    let valid = {
        let mut target = r.host.borrow_mut();
        let field = head.fields.value(Known::Host, block);
        // The authority of an absolute target wins; both must be well-formed.
        let from_field = match field {
            Some(host) => {
                let mut last = h1.last_host.borrow_mut();
                last.validate(host, &mut target).map(Some).map_err(|_| host::InvalidHost::IN_FIELD)
            }
            None => Ok(None),
        };
        match from_field {
            Ok(_) if head.has_host => host::validate(head.host.of(block), &mut target)
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
        Ok(server) => {
            if h1.addr_conf.ssl {
                check_name(h1, r, server)?;
            }
            r.server.set(server);
        }
        Err(error) => {
            engine::report(r, &error);
            return Err(error.status());
        }
    }
    r.location.set(r.srv().location);
    Ok(())
}
