//! Writing to a client: flushes the queue, paces it (`limit_rate`), times out.

use super::h1::{H1, Work};
use crate::{exchange::Exchange as _, phase::RequestError};
use std::{
    io,
    task::{Context, Poll},
};

/// How fast the present response may leave.
pub(super) struct Pace {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that are not counted.
    pub after: u64,
    /// Monotonic milliseconds when the request began.
    pub started: u64,
    /// Bytes of this response that have left.
    pub sent: u64,
    pub sleep: Option<moonrest_net::sleep::Sleep>,
}

impl Pace {
    /// Bytes that may leave now.
    pub(super) fn allowance(&self, now: u64) -> i64 {
        // nginx counts whole seconds begun, so that the first second's share leaves at once.
        let seconds = now.saturating_sub(self.started) / 1000 + 1;
        let total = self.rate.saturating_mul(seconds).saturating_add(self.after);
        i64::try_from(total).unwrap_or(i64::MAX) - i64::try_from(self.sent).unwrap_or(i64::MAX)
    }

    /// Ready with the bytes that may leave, when there are any.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if std::pin::Pin::new(sleep).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let allowance = self.allowance(moonrest_sys::time::monotonic_ms());
            if allowance > 0 {
                return Poll::Ready(u64::try_from(allowance).unwrap_or(0));
            }
            let wait = allowance.unsigned_abs().saturating_mul(1000) / self.rate.max(1) + 1;
            self.sleep = Some(moonrest_net::sleep::sleep(wait));
        }
    }
}

impl H1 {
    /// Writes what is queued, as far as the client takes it. Ready when nothing is left.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        if self.broken.get() {
            return Poll::Ready(Err(RequestError::client_gone()));
        }
        loop {
            if self.queue.borrow().is_empty() {
                if self.io.has_pending() {
                    match self.io.poll_flush(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broke(&error))),
                        Poll::Pending => return self.poll_send_timeout(cx),
                    }
                }
                self.send_timeout_off();
                return Poll::Ready(Ok(()));
            }
            let limit = match self.poll_allowance(cx) {
                Poll::Ready(limit) => limit,
                // Nothing is written for a while: only the other direction tells when the client leaves.
                Poll::Pending if self.poll_closed(cx).is_ready() => {
                    self.broken.set(true);
                    return Poll::Ready(Err(RequestError::client_gone()));
                }
                Poll::Pending => return Poll::Pending,
            };
            let result = self.queue.borrow_mut().write(&self.io, limit);
            match result {
                Ok(n) => self.wrote(self, n as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.io.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broke(&error))),
                    Poll::Pending => return self.poll_send_timeout(cx),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(self.broke(&error))),
            }
        }
    }

    /// Writes what is queued if the client takes all of it at once. `false` when that needs waiting or has failed.
    pub(super) fn flush_now(&self) -> bool {
        let work: &Work = self;
        let (result, empty) = {
            let mut queue = work.queue.borrow_mut();
            (queue.write(&self.io, u64::MAX), queue.is_empty())
        };
        match result {
            Ok(n) => self.wrote(work, n as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                self.broke(&error);
                return false;
            }
        }
        empty && !self.io.has_pending()
    }

    fn wrote(&self, work: &Work, n: u64) {
        self.bytes_sent.set(self.bytes_sent.get() + n);
        work.send_timeout_off();
        if let Some(pace) = &mut *work.pace.borrow_mut() {
            pace.sent += n;
        }
    }

    fn poll_allowance(&self, cx: &mut Context<'_>) -> Poll<u64> {
        let mut slot = self.pace.borrow_mut();
        let chunk = self.max_chunk.get();
        let Some(pace) = &mut *slot else { return Poll::Ready(chunk) };
        pace.poll(cx).map(|allowance| allowance.min(chunk))
    }

    fn poll_send_timeout(&self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let mut slot = self.send_timeout.borrow_mut();
        let (timeout, armed) = slot.get_or_insert_with(Default::default);
        if !armed.replace(true) {
            timeout.set(self.send_timeout_ms.get());
        }
        if timeout.poll(cx).is_pending() {
            return Poll::Pending;
        }
        drop(slot);
        self.broken.set(true);
        self.timed_out.set(true);
        self.reset.set(self.reset_if_late.get());
        Poll::Ready(Err(RequestError::Gone { status: 408, message: super::TIMED_OUT.into() }))
    }

    /// The connection cannot be written to any more.
    pub(super) fn broke(&self, error: &io::Error) -> RequestError {
        self.broken.set(true);
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return RequestError::Cut("a file was truncated while it was sent".into());
        }
        let call = if self.queue.borrow().file_is_next() { "sendfile()" } else { "writev()" };
        let message = format!("{call} failed ({})", moonrest_core::env::os_error(error));
        RequestError::Gone { status: 499, message: message.into() }
    }
}

impl Work {
    fn send_timeout_off(&self) {
        if let Some((timeout, armed)) = &*self.send_timeout.borrow()
            && armed.replace(false)
        {
            timeout.clear();
        }
    }
}
