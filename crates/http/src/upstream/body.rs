//! Reading an answer's body: taken out of its framing, whoever passes it on.

use super::run::Run;
use bytes::Bytes;
use moonrest_core::Level;
use std::task::{Context, Poll};

/// What decoding gave.
pub(super) enum Decoded {
    Data(Bytes),
    /// Read more first.
    Need,
    /// The body is complete; the connection was given back.
    End,
}

/// Why no more can be read.
pub(super) enum Broken {
    /// What to log, and at which level.
    Log(Level, String),
}

impl Run {
    /// Decodes what was read. At the end of the body the connection goes back to the pool, unless there is more in it.
    pub(super) fn decode(&mut self) -> Result<Decoded, Broken> {
        use super::BodyStep as Step;
        if self.http2.is_some() {
            return self.decode_http2();
        }
        loop {
            match self.protocol.read_body(&self.rest) {
                Err(message) => return Err(Broken::Log(Level::Error, message)),
                Ok(Step::Data(range)) => {
                    let data = if range == (0..self.rest.len()) {
                        std::mem::take(&mut self.rest)
                    } else {
                        let end = range.end.min(self.rest.len());
                        let data = self.rest.slice(range.start.min(end)..end);
                        self.rest = self.rest.slice(end..);
                        data
                    };
                    if let Some(recorder) = &mut self.recorder {
                        recorder.data(&self.r, &data);
                    }
                    return Ok(Decoded::Data(data));
                }
                Ok(Step::More(used)) => {
                    self.rest = self.rest.slice(used.min(self.rest.len())..);
                    if self.rest.is_empty() || used == 0 {
                        return Ok(Decoded::Need);
                    }
                }
                Ok(Step::End(used)) => {
                    self.rest = self.rest.slice(used.min(self.rest.len())..);
                    let exact = self.rest.is_empty();
                    if !exact {
                        self.log(Level::Warn, format_args!("{}", self.protocol.excess()));
                    }
                    let trailers = self.protocol.trailers();
                    if !trailers.is_empty() {
                        self.states.answer.borrow_mut().trailers = trailers;
                    }
                    self.finished();
                    self.release(exact);
                    return Ok(Decoded::End);
                }
            }
        }
    }

    pub(super) fn finished(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            recorder.complete(&self.r, &self.states.answer.borrow());
        }
    }

    /// Reads more of the body; `true` at its end, which was the connection's.
    pub(super) fn poll_more(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        if self.http2.is_some() {
            return self.poll_more_http2(cx);
        }
        let Some(conn) = &mut self.conn else { return Poll::Ready(Ok(true)) };
        let mut buffer = Vec::with_capacity(room);
        match conn.io.poll_read(&mut buffer, cx) {
            Poll::Ready(Ok(0)) => {
                if self.protocol.may_end() {
                    self.finished();
                    self.release(false);
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Err(Broken::Log(
                    Level::Error,
                    "upstream prematurely closed connection".to_owned(),
                )))
            }
            Poll::Ready(Ok(n)) => {
                conn.timeout.clear();
                self.states.with(|attempt| {
                    attempt.bytes_received += n as u64;
                    attempt.response_length += n as u64;
                });
                self.rest = if self.rest.is_empty() {
                    Bytes::from(buffer)
                } else {
                    // The decoder wants to see more at once than was there.
                    Bytes::from([&self.rest[..], &buffer].concat())
                };
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Err(error)) => {
                let message = super::tls::describe_io(&conn.io, "recv()", &error);
                Poll::Ready(Err(Broken::Log(Level::Error, message)))
            }
            Poll::Pending => self.poll_read_timeout(cx),
        }
    }

    /// Ready when the upstream has been silent for too long. Only the time counts in which we wait for it, not that in
    /// which the client lets it wait.
    pub(super) fn poll_read_timeout(&self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        let Some(conn) = &self.conn else { return Poll::Pending };
        if !conn.timeout.is_armed() {
            conn.timeout.set(self.timeouts.read);
            return conn.timeout.poll(cx).map(|()| Ok(false));
        }
        conn.timeout.poll(cx).map(|()| {
            let message = "upstream timed out (110: Connection timed out)";
            Err(Broken::Log(Level::Error, message.to_owned()))
        })
    }

    /// Nothing is read for a while, for reasons of our own.
    pub(super) fn pause(&self) {
        if let Some(conn) = &self.conn {
            conn.timeout.clear();
        }
    }

    /// The answer broke off: says so, and gives the connection up.
    pub(super) fn give_up(&mut self, broken: Broken) {
        let Broken::Log(level, message) = broken;
        self.log(level, format_args!("{message}"));
        self.http2 = None;
        self.conn = None;
        self.recorder = None;
        self.release(false);
    }
}
