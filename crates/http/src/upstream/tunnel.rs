//! Behind a 101 the connection carries another protocol: bytes go both ways until one side ends.

use super::run::Run;
use crate::{
    exchange::Output,
    phase::{Flow, RequestError},
};
use bytes::Bytes;
use moonrest_core::Level;
use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

/// What a direction may hold at most.
const HELD: u64 = 64 * 1024;

/// What became of the two sides.
#[derive(Default)]
struct Sides {
    client_ended: bool,
    upstream_ended: bool,
}

impl Run {
    /// Passes bytes both ways.
    pub(super) async fn tunnel(&mut self) -> Result<Flow, RequestError> {
        let r = self.r.clone();
        if r.is_subrequest() {
            self.log(Level::Error, format_args!("connection upgrade in subrequest"));
            return Err(RequestError::Upstream { status: 502, message: "".into() });
        }
        r.keepalive.set(false);
        r.send_head().await?;
        self.act("proxying upgraded connection");
        self.queue.clear();
        if let Some(conn) = &self.conn {
            conn.timeout.set(self.timeouts.read);
        }
        let early = std::mem::take(&mut self.rest);
        if !early.is_empty() {
            self.states.with(|attempt| attempt.response_length += early.len() as u64);
            r.exchange.push(&r, Output::Data(early))?;
        }
        let mut sides = Sides::default();
        let result = poll_fn(|cx| self.poll_tunnel(&mut sides, cx)).await;
        self.release(false);
        r.done.set(true);
        result?;
        r.exchange.finish(&r)?;
        r.drained(0).await?;
        Ok(Flow::Responded)
    }

    fn poll_tunnel(&mut self, sides: &mut Sides, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        loop {
            let moved = self.poll_upwards(sides, cx)? | self.poll_downwards(sides, cx)?;
            let up_done =
                self.queue.is_empty() && self.conn.as_ref().is_none_or(|conn| !conn.io.has_pending());
            let down_done = self.r.exchange.queued() == 0;
            if (sides.upstream_ended && down_done)
                || (sides.client_ended && up_done)
                || (sides.upstream_ended && sides.client_ended)
            {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                break;
            }
        }
        let Some(conn) = &self.conn else { return Poll::Ready(Ok(())) };
        if conn.timeout.poll(cx).is_ready() {
            self.log(Level::Error, format_args!("upstream timed out (110: Connection timed out)"));
            return Poll::Ready(Err(RequestError::Upstream { status: 504, message: "".into() }));
        }
        Poll::Pending
    }

    /// From the client to the upstream. Whether anything moved.
    fn poll_upwards(&mut self, sides: &mut Sides, cx: &mut Context<'_>) -> Result<bool, RequestError> {
        let mut moved = false;
        if !sides.client_ended && self.queue.len() < HELD {
            match self.r.exchange.poll_raw(cx) {
                Poll::Ready(Ok(data)) if data.is_empty() => {
                    sides.client_ended = true;
                    moved = true;
                }
                Poll::Ready(Ok(data)) => {
                    self.queue.push_bytes(data);
                    moved = true;
                }
                Poll::Ready(Err(_)) => sides.client_ended = true,
                Poll::Pending => {}
            }
        }
        let Some(conn) = &self.conn else { return Ok(moved) };
        while !self.queue.is_empty() {
            match self.queue.write(&conn.io, u64::MAX) {
                Ok(n) => {
                    self.states.with(|attempt| attempt.bytes_sent += n as u64);
                    conn.timeout.set(self.timeouts.read);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match conn.io.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {}
                    _ => break,
                },
                Err(_) => {
                    self.queue.clear();
                    sides.upstream_ended = true;
                }
            }
        }
        if self.queue.is_empty()
            && conn.io.has_pending()
            && let Poll::Ready(Err(_)) = conn.io.poll_flush(cx)
        {
            sides.upstream_ended = true;
        }
        Ok(moved)
    }

    /// From the upstream to the client.
    fn poll_downwards(&mut self, sides: &mut Sides, cx: &mut Context<'_>) -> Result<bool, RequestError> {
        let r = self.r.clone();
        let mut moved = false;
        let room = self.conf.buffer_size;
        if !sides.upstream_ended
            && r.exchange.queued() < HELD
            && let Some(conn) = &self.conn
            // Most often only the other side has something to say: no memory is needed then.
            && (conn.io.client().is_some() || conn.io.poll_readable(cx).is_ready())
        {
            let mut buffer = Vec::with_capacity(room);
            match conn.io.poll_read(&mut buffer, cx) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    sides.upstream_ended = true;
                    moved = true;
                }
                Poll::Ready(Ok(n)) => {
                    self.states.with(|attempt| {
                        attempt.bytes_received += n as u64;
                        attempt.response_length += n as u64;
                    });
                    conn.timeout.set(self.timeouts.read);
                    r.body_sent.set(r.body_sent.get() + n as u64);
                    r.exchange.push(&r, Output::Data(Bytes::from(buffer)))?;
                    moved = true;
                }
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(result) = r.exchange.poll_drained(&r, 0, cx) {
            result?;
        }
        Ok(moved)
    }
}
