//! Request bodies: read as far as asked for, taken out of their framing.

use super::h1::{BodyReader, Fill, H1, Work};
use super::write::Pace;
use crate::{body::BodyState, core::Core, exchange::BodyRead, phase::RequestError, request::Request};
use bytes::Bytes;
use moonrest_proto::http1::chunked::Chunk;
use moonrest_sys::time::monotonic_ms;
use std::task::{Context, Poll, ready};

impl H1 {
    pub(super) fn poll_body_within(
        &self,
        r: &Request,
        timeout: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BodyRead, RequestError>> {
        loop {
            if matches!(*self.body.borrow(), BodyReader::Done) {
                return Poll::Ready(Ok(BodyRead::End));
            }
            if self.unread() > 0 {
                if let Some(read) = self.decode(r)? {
                    return Poll::Ready(Ok(read));
                }
                continue;
            }
            if self.eof.get() {
                return Poll::Ready(Err(ended_in_body()));
            }
            if !self.timeout.is_armed() {
                self.timeout.set(timeout.min(self.body_patience(r)));
                self.body_wait.set((monotonic_ms(), self.body_wait.get().1));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Err(ended_in_body())),
                Ok(n) => {
                    self.timeout.clear();
                    let (since, debt) = self.body_wait.get();
                    let waited = monotonic_ms().saturating_sub(since);
                    self.body_wait
                        .set((since, debt.saturating_add(waited).saturating_sub(self.earned(r, n))));
                }
                Err(Fill::TimedOut) => {
                    self.timed_out.set(true);
                    return Poll::Ready(Err(RequestError::Gone {
                        status: 408,
                        message: super::TIMED_OUT.into(),
                    }));
                }
                Err(Fill::Io(error)) => {
                    let message = format!("recv() failed ({})", moonrest_core::env::os_error(&error));
                    return Poll::Ready(Err(RequestError::Gone { status: 400, message: message.into() }));
                }
            }
        }
    }

    /// How much longer the body may be waited for so that it keeps to `client_body_min_rate`. What counts is only the
    /// time in which the client was waited for, less that which the bytes received so far may take.
    fn body_patience(&self, r: &Request) -> u64 {
        let core = &r.loc().core;
        match core.client_body_min_rate {
            0 => u64::MAX,
            _ => core.client_body_timeout.saturating_sub(self.body_wait.get().1),
        }
    }

    /// The milliseconds that so many bytes may take.
    fn earned(&self, r: &Request, bytes: usize) -> u64 {
        let rate = r.loc().core.client_body_min_rate;
        (bytes as u64).saturating_mul(1000).checked_div(rate).unwrap_or(u64::MAX)
    }

    /// Decodes body bytes from the buffer.
    pub(super) fn decode(&self, r: &Request) -> Result<Option<BodyRead>, RequestError> {
        let buffer = self.buffer.borrow();
        let unread = buffer.get(self.at.get()..).unwrap_or_default();
        let mut reader = self.body.borrow_mut();
        match &mut *reader {
            BodyReader::Done => Ok(Some(BodyRead::End)),
            BodyReader::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                let data = Bytes::copy_from_slice(unread.get(..take).unwrap_or_default());
                *left -= take as u64;
                self.at.set(self.at.get() + take);
                count_body(r, take);
                if *left == 0 {
                    *reader = BodyReader::Done;
                }
                Ok(Some(BodyRead::Data(data)))
            }
            BodyReader::Chunked(decoder) => {
                let step = decoder.decode(unread).map_err(|_| RequestError::Client {
                    status: 400,
                    message: "client sent invalid chunked body".into(),
                })?;
                let used = |n: usize| {
                    self.at.set(self.at.get() + n);
                    count_body(r, n);
                };
                match step {
                    Chunk::Data(range) => {
                        let n = range.end;
                        let data = Bytes::copy_from_slice(unread.get(range).unwrap_or_default());
                        used(n);
                        Ok(Some(BodyRead::Data(data)))
                    }
                    Chunk::End(n) => {
                        used(n);
                        *reader = BodyReader::Done;
                        Ok(Some(BodyRead::End))
                    }
                    Chunk::Partial(n) => {
                        used(n);
                        Ok(None)
                    }
                }
            }
        }
    }
}

impl Work {
    /// What the location says of how fast the response may leave, and how long that may take.
    pub(super) fn start_pace(&self, r: &Request, core: &Core) {
        self.send_timeout_ms.set(core.send_timeout);
        if r.limit_rate.get().is_none() && core.limit_rate.is_none() {
            r.limit_rate.set(Some(0));
        } else if let Some(pace) = pace_of(r) {
            *self.pace.borrow_mut() = Some(pace);
        }
    }
}

/// How fast the response may leave; none without a limit.
pub(super) fn pace_of(r: &Request) -> Option<Pace> {
    let core = &r.loc().core;
    let rate = r.limit_rate.get().or_else(|| core.limit_rate.as_ref().map(|rate| size(r, rate))).unwrap_or(0);
    r.limit_rate.set(Some(rate));
    if rate == 0 {
        return None;
    }
    let after = r.limit_rate_after.get();
    let after = after.or_else(|| core.limit_rate_after.as_ref().map(|after| size(r, after))).unwrap_or(0);
    Some(Pace { rate, after, started: r.started_ms.get(), sent: 0, sleep: None })
}

/// Counts bytes of the body as received. nginx: not those that are thrown away.
pub(super) fn count_body(r: &Request, n: usize) {
    if r.body.borrow().state != BodyState::Discarded {
        r.request_length.set(r.request_length.get() + n as u64);
    }
}

/// nginx: 400 in the access log, although the client does not see it.
pub(super) fn ended_in_body() -> RequestError {
    RequestError::Gone { status: 400, message: "client prematurely closed connection".into() }
}

/// A size given by a text with variables; what is no size counts as 0.
fn size(r: &Request, template: &moonrest_core::Template) -> u64 {
    moonrest_core::conf::value::parse_size(&template.eval(r)).unwrap_or(0)
}
