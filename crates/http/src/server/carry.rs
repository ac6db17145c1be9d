//! What the engine asks of an HTTP/1 connection: the way out of responses and in of bodies.

use super::h1::{BodyReader, Fill, H1, Work};
use super::head::{self, Delimited};
use super::queue::COPY;
use crate::{
    browser::Browser,
    core::Core,
    exchange::{BodyRead, Exchange, Output, RawStream},
    phase::RequestError,
    request::Request,
};
use bytes::Bytes;
use moonrest_net::addr::Addr;
use moonrest_proto::http1::{
    Method, Version,
    chunked::{ChunkHead, DATA_END, LAST_CHUNK},
};
use std::{
    any::Any,
    io,
    os::fd::BorrowedFd,
    task::{Context, Poll},
};

impl Exchange for H1 {
    fn is_paced(&self) -> bool {
        self.pace.borrow().is_some()
    }

    fn leaves_at_once(&self, few: u64) -> bool {
        let work: &Work = self;
        work.queue.borrow().len() <= few && work.pace.borrow().is_none()
    }

    fn queued(&self) -> u64 {
        self.queue.borrow().len()
    }

    fn send_head(&self, r: &Request, _end: bool) -> Result<(), RequestError> {
        if self.broken.get() {
            return Err(RequestError::client_gone());
        }
        let (work, core): (&Work, &Core) = (self, &r.loc().core);
        self.decide_keepalive(r, core);
        let delimited = head::delimit(r, core);
        work.delimited.set(delimited);
        r.chunked.set(delimited == Delimited::Chunked);
        let absolute = r.out.borrow().location.is_some() && head::make_location_absolute(r);
        self.reset_if_late.set(core.reset_timedout_connection);
        work.start_pace(r, core);
        if r.version.get() == Version::Http09 {
            r.keepalive.set(false);
            return Ok(());
        }
        let mut queue = work.queue.borrow_mut();
        let before = queue.tail().len();
        head::append(r, core, queue.tail(), delimited, absolute);
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
        for part in head::interim_line(status) {
            queue.push_slice(part.as_bytes());
        }
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
                let file = range.file.clone();
                queue.push_file(range).map_err(|error| {
                    let name = String::from_utf8_lossy(&file.name).into_owned();
                    RequestError::Cut(format!("reading \"{name}\" failed: {error}").into())
                })?;
            }
        }
        if chunked {
            queue.push_slice(DATA_END);
        }
        Ok(())
    }

    fn push_whole(&self, r: &Request, data: &Bytes) -> Result<(), RequestError> {
        // Short data is copied in any case.
        let work: &Work = self;
        if self.broken.get() || work.delimited.get() == Delimited::Chunked || data.len() > COPY {
            self.push(r, Output::Data(data.clone()))?;
            return self.finish(r);
        }
        work.queue.borrow_mut().push_slice(data);
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

    fn take_body(&self, length: u64) -> Option<Bytes> {
        let work: &Work = self;
        let mut reader = work.body.borrow_mut();
        match &*reader {
            BodyReader::Length(left) if *left == length => {}
            _ => return None,
        }
        let (buffer, at) = (work.buffer.borrow(), work.at.get());
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        let data = Bytes::copy_from_slice(buffer.get(at..end)?);
        work.at.set(end);
        *reader = BodyReader::Done;
        Some(data)
    }

    fn poll_body_unhurried(&self, r: &Request, cx: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        self.poll_body_within(r, UNHURRIED, cx)
    }

    fn raw(&self) -> Option<&dyn RawStream> {
        Some(self)
    }

    fn poll_raw(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        loop {
            if self.unread() > 0 {
                let data =
                    Bytes::copy_from_slice(self.buffer.borrow().get(self.at.get()..).unwrap_or_default());
                self.at.set(self.at.get() + data.len());
                return Poll::Ready(Ok(data));
            }
            if self.broken.get() || self.eof.get() {
                return Poll::Ready(Ok(Bytes::new()));
            }
            self.timeout.clear();
            match self.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(Fill::Io(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Fill::TimedOut)) | Poll::Pending => return Poll::Pending,
            }
        }
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

/// A timeout that never comes, in milliseconds.
const UNHURRIED: u64 = 1 << 40;

impl RawStream for H1 {
    fn take_over(&self, r: &Request) -> bool {
        if !self.queue.borrow().is_empty() && !self.flush_now() {
            return false;
        }
        // No length is to be kept to, and no chunk ends the response.
        self.delimited.set(Delimited::Length);
        r.chunked.set(false);
        self.timeout.clear();
        true
    }

    #[inline]
    fn is_readable(&self) -> Option<bool> {
        if self.unread() > 0 || self.eof.get() { Some(true) } else { self.io.is_readable() }
    }

    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.is_readable() {
            Some(false) => self.io.poll_readable(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_read(&self, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let unread = self.unread();
        if unread == 0 {
            if self.eof.get() {
                return Poll::Ready(Ok(0));
            }
            return self.io.poll_read(into, cx);
        }
        let buffer = self.buffer.borrow();
        let room = into.capacity() - into.len();
        let bytes = buffer.get(self.at.get()..).unwrap_or_default();
        let bytes = bytes.get(..unread.min(room)).unwrap_or_default();
        into.extend_from_slice(bytes);
        self.at.set(self.at.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        let sent = self.io.try_write(&[io::IoSlice::new(data)], false)?;
        self.bytes_sent.set(self.bytes_sent.get() + sent as u64);
        Ok(sent)
    }

    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.io.with_fd(f);
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_writable(cx)
    }
}

impl H1 {
    /// Keep-alive ends for reasons of the location.
    fn decide_keepalive(&self, r: &Request, core: &Core) {
        if !r.keepalive.get() {
            return;
        }
        let age = r.started_ms.get().saturating_sub(self.conn.started);
        if core.keepalive_timeout == 0
            || self.conn.requests.get() >= core.keepalive_requests
            || age > core.keepalive_time
            || self.worker.is_quitting()
            || disabled_browser(r, core.keepalive_disable)
        {
            r.keepalive.set(false);
        }
    }
}

/// `keepalive_disable`: browsers known to mishandle it.
#[inline]
fn disabled_browser(r: &Request, which: u8) -> bool {
    // Telling browsers apart costs more than the rest of a small answer.
    let posted = r.method.get() == Method::Post;
    which != 0 && (posted && which & 1 != 0 || which & 2 != 0) && is_disabled_browser(r, which, posted)
}

fn is_disabled_browser(r: &Request, which: u8, posted: bool) -> bool {
    let browser = Browser::of(r);
    (which & 1 != 0 && browser.msie6 && posted) || (which & 2 != 0 && browser.safari)
}
