//! Reading an answer's body and what follows it.

use super::talk::{Exchange, describe};
use crate::{
    phase::RequestError,
    upstream::{
        body::{Broken, Decoded},
        run::Run,
    },
};
use bytes::Bytes;
use moonrest_core::Level;
use std::{
    mem,
    task::{Context, Poll, Waker},
};

impl Run {
    /// Goes on with the request while its answer waits for the client.
    pub(in crate::upstream) fn keep_sending_beside(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), RequestError> {
        if self.http2.is_some() && !self.sent_all { self.keep_sending(cx) } else { Ok(()) }
    }

    /// What has been read, if there is any; at the end of the body the connection goes back to the pool.
    pub(in crate::upstream) fn decode_http2(&mut self) -> Result<Decoded, Broken> {
        if self.rest.is_empty() {
            let ended = self.http2.as_ref().is_none_or(|exchange| exchange.ended);
            if !ended {
                return Ok(Decoded::Need);
            }
            return self.end_http2().map(|()| Decoded::End);
        }
        let data = mem::take(&mut self.rest);
        if let Some(recorder) = &mut self.recorder {
            recorder.data(&self.r, &data);
        }
        Ok(Decoded::Data(data))
    }

    /// The stream has ended: what came behind it may still spoil it.
    fn end_http2(&mut self) -> Result<(), Broken> {
        if let Some(exchange) = &mut self.http2
            && let Some(reason) = exchange.late_reset()
        {
            return Err(Broken::Log(
                Level::Error,
                format!("upstream rejected request with error {}", u32::from(reason)),
            ));
        }
        self.finished();
        self.release(true);
        Ok(())
    }

    /// Reads more of the body; `true` at its end.
    pub(in crate::upstream) fn poll_more_http2(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Broken>> {
        if let Err(error) = self.keep_sending(cx) {
            let (level, message) = error.describe();
            return Poll::Ready(Err(Broken::Log(level, message.to_owned())));
        }
        let Some(exchange) = &mut self.http2 else { return Poll::Ready(Ok(true)) };
        match exchange.poll_data(cx) {
            Poll::Ready(Ok(Some(data))) => {
                let len = data.len() as u64;
                self.rest = data;
                self.states.with(|attempt| attempt.response_length += len);
                self.pause();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Ok(None)) => {
                let trailers = mem::take(&mut exchange.trailers);
                self.states.answer.borrow_mut().trailers = trailers;
                Poll::Ready(self.end_http2().map(|()| true))
            }
            Poll::Ready(Err(error)) => {
                let io = self.conn.as_ref().map(|conn| &*conn.io);
                let (message, _) = describe(&error, io, Some(&exchange.wire));
                Poll::Ready(Err(Broken::Log(Level::Error, message)))
            }
            Poll::Pending => self.poll_read_timeout(cx),
        }
    }
}

impl Exchange {
    /// The next piece of the body; none at its end, when the trailers have come.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        let Some(recv) = &mut self.recv else { return Poll::Ready(Ok(None)) };
        loop {
            if !self.data_ended {
                match recv.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        // An error means that the stream is over, which the next read will tell.
                        let _ = recv.flow_control().release_capacity(data.len());
                        if data.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Ok(Some(data)));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => self.data_ended = true,
                    Poll::Pending => return Poll::Pending,
                }
            }
            return match recv.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => {
                    self.ended = true;
                    for (name, value) in &trailers.unwrap_or_default() {
                        let name = Bytes::copy_from_slice(name.as_str().as_bytes());
                        self.trailers.push((name, Bytes::copy_from_slice(value.as_bytes())));
                    }
                    Poll::Ready(Ok(None))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            };
        }
    }

    /// A reset that came behind the end of the answer, unless it only means that the rest of the request is not wanted.
    fn late_reset(&mut self) -> Option<h2::Reason> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.send.poll_reset(&mut cx) {
            Poll::Ready(Ok(reason)) if reason != h2::Reason::NO_ERROR => Some(reason),
            _ => None,
        }
    }
}
