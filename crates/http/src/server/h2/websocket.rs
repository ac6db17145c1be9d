//! WebSockets as streams (RFC 8441): the handshake is what HTTP/1 has, the stream's data what follows it there.

use super::{SEND_BUFFER, stream::Stream};
use crate::{
    exchange::{Output, RawStream},
    phase::RequestError,
    request::Request,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use http::{Response, StatusCode, header};
use sha1::{Digest, Sha1};
use std::{
    cell::RefCell,
    io,
    os::fd::BorrowedFd,
    task::{Context, Poll, ready},
};

/// What a server shows its having understood with (RFC 6455, 4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key of a handshake. Clients of HTTP/2 send none; whoever answers as in HTTP/1 gets ours.
pub(super) struct Key(String);

impl Key {
    /// A new one; `None` when the system has no random bytes.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [0; 16];
        moonrest_sys::random::fill(&mut bytes).ok()?;
        Some(Self(STANDARD.encode(bytes)))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The answer to it.
    fn accept(&self) -> String {
        STANDARD.encode(Sha1::new().chain_update(self.0.as_bytes()).chain_update(GUID).finalize())
    }
}

/// What a stream with a WebSocket has beside others.
pub(super) struct WebSocket {
    key: Key,
    /// What has come and was not read.
    unread: RefCell<Bytes>,
}

impl WebSocket {
    pub(super) fn new(key: Key) -> Self {
        Self { key, unread: RefCell::default() }
    }

    /// Looks at a response before it is sent. To the client any status of success means that the WebSocket is there: only
    /// one that switches protocols is.
    pub(super) fn judge(&self, r: &Request) -> Result<(), RequestError> {
        let mut out = r.out.borrow_mut();
        match out.status {
            101 => {
                let expected = self.key.accept();
                let mut given = out
                    .fields
                    .iter()
                    .filter(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-accept"));
                if given.any(|field| field.value == expected) {
                    return Ok(());
                }
                Err(RequestError::Upstream {
                    status: 502,
                    message: "the WebSocket handshake was answered with a wrong \"Sec-WebSocket-Accept\""
                        .into(),
                })
            }
            200..300 => {
                out.status = 501;
                out.status_line = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Switching protocols is success here, and shows it without a key.
pub(super) fn adapt(response: &mut Response<()>) {
    if *response.status_mut() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
    }
    response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
}

impl Stream {
    /// Reads what the client sends; nothing at its end.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some(websocket) = self.websocket() {
                let unread = std::mem::take(&mut *websocket.unread.borrow_mut());
                if !unread.is_empty() {
                    return Poll::Ready(Ok(unread));
                }
            }
            if self.received.get() || self.broken.get() {
                return Poll::Ready(Ok(Bytes::new()));
            }
            let mut receive = self.receive.borrow_mut();
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The reader decides when there is room for more.
                    let _ = receive.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Ok(data));
                    }
                }
                Some(Err(_)) => {
                    self.broken.set(true);
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => self.received.set(true),
            }
        }
    }
}

impl RawStream for Stream {
    fn take_over(&self, _r: &Request) -> bool {
        // Data belongs to the WebSocket once the handshake is answered.
        let answered = self.send.borrow().is_some();
        answered && self.pump().is_ok() && self.queued.get() == 0
    }

    fn poll_read(&self, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut data = ready!(self.poll_data(cx))?;
        let room = into.capacity() - into.len();
        let part = data.split_to(room.min(data.len()));
        into.extend_from_slice(&part);
        if data.has_remaining()
            && let Some(websocket) = self.websocket()
        {
            *websocket.unread.borrow_mut() = data;
        }
        Poll::Ready(Ok(part.len()))
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.pump().map_err(gone)?;
        let room = SEND_BUFFER.saturating_sub(usize::try_from(self.queued.get()).unwrap_or(usize::MAX));
        if room == 0 && !data.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let part = data.get(..room.min(data.len())).unwrap_or_default();
        self.enqueue(Output::Data(Bytes::copy_from_slice(part)));
        self.pump().map_err(gone)?;
        Ok(part.len())
    }

    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.h1.io.with_fd(f);
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pump(SEND_BUFFER as u64 / 2, cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_have_sixteen_bytes_and_differ() {
        let keys = [Key::new().unwrap(), Key::new().unwrap()];
        assert_ne!(keys[0].text(), keys[1].text());
        assert_eq!(STANDARD.decode(keys[0].text()).unwrap().len(), 16);
    }
}
