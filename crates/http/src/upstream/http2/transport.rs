//! The connection's stream as the framing wants it.

use crate::frame_guard::Guard;
use moonrest_net::io::Io;
use moonrest_sys::time::monotonic_coarse_ms;
use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// What is known of a connection beside its frames.
pub(super) struct Wire {
    pub received: Cell<u64>,
    pub sent: Cell<u64>,
    /// The upstream has closed it.
    pub ended: Cell<bool>,
    guard: Guard,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            received: Cell::new(0),
            sent: Cell::new(0),
            ended: Cell::new(false),
            guard: Guard::new(0, monotonic_coarse_ms()),
        }
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.guard.is_flooded()
    }
}

/// Reads and writes one connection, and shows its guard what is read.
pub(super) struct Transport {
    io: Rc<Io>,
    wire: Rc<Wire>,
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    at: usize,
}

impl Transport {
    pub(super) fn new(io: Rc<Io>, wire: Rc<Wire>) -> Self {
        Self { io, wire, buffer: Vec::new(), at: 0 }
    }

    fn poll_send(&self, slices: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.io.try_write(slices, false) {
                Ok(n) => {
                    self.wire.sent.set(self.wire.sent.get() + n as u64);
                    self.wire.guard.sent(n);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_writable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, wire, buffer, at } = self.get_mut();
        if wire.is_flooded() {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        if *at == buffer.len() {
            buffer.clear();
            *at = 0;
            buffer.reserve(READ_SIZE);
            match io.poll_read(buffer, cx) {
                Poll::Ready(Ok(0)) => {
                    wire.ended.set(true);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(n)) => wire.received.set(wire.received.get() + n as u64),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // Nobody idle owns a buffer.
                    *buffer = Vec::new();
                    return Poll::Pending;
                }
            }
        }
        let unread = buffer.get(*at..).unwrap_or_default();
        let take = unread.len().min(out.remaining());
        let bytes = unread.get(..take).unwrap_or_default();
        wire.guard.see(bytes, monotonic_coarse_ms());
        out.put_slice(bytes);
        *at += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(&[IoSlice::new(bytes)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(slices, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }
}
