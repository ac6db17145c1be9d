//! The connection's stream as the framing wants it.

use super::Shared;
use crate::server::h1::H1;
use moonrest_sys::time::monotonic_coarse_ms;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes one connection, and shows its guard what is read.
pub(super) struct Transport {
    h1: Rc<H1>,
    shared: Rc<Shared>,
}

impl Transport {
    pub(super) fn new(h1: Rc<H1>, shared: Rc<Shared>) -> Self {
        Self { h1, shared }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.shared.guard.is_flooded() {
            return Poll::Pending;
        }
        let h1 = &self.h1;
        let mut buffer = h1.buffer.borrow_mut();
        if buffer.len() == h1.at.get() {
            if self.shared.dry.get() == Some(true) {
                return Poll::Pending;
            }
            buffer.clear();
            h1.at.set(0);
            buffer.reserve(crate::server::h1::READ_SIZE);
            match h1.io.poll_read(&mut buffer, cx) {
                Poll::Ready(Ok(0)) => {
                    h1.eof.set(true);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.shared.dry.set(self.shared.dry.get().map(|_| true));
                    // Nobody idle owns a buffer.
                    *buffer = Vec::new();
                    return Poll::Pending;
                }
            }
        }
        let at = h1.at.get();
        let unread = buffer.get(at..).unwrap_or_default();
        let take = unread.len().min(out.remaining());
        let bytes = unread.get(..take).unwrap_or_default();
        self.shared.guard.see(bytes, monotonic_coarse_ms());
        out.put_slice(bytes);
        h1.at.set(at + take);
        Poll::Ready(Ok(()))
    }
}

impl Transport {
    fn poll_send(&self, slices: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.h1.io.try_write(slices, false) {
                Ok(n) => {
                    self.shared.guard.sent(n);
                    self.h1.bytes_sent.set(self.h1.bytes_sent.get() + n as u64);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.h1.io.poll_writable(cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
        self.h1.io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.h1.io.poll_flush(cx)
    }
}
