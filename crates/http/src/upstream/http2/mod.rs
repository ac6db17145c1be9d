//! HTTP/2 to upstreams (RFC 9113): one request at a time on a connection, as nginx has it.
//!
//! A protocol that says [`super::Protocol::is_http2`] writes its request as text; [`head`] makes header fields of it.
//! [`talk`] takes the request to the upstream, [`body`] the answer back.

mod body;
mod head;
mod talk;

pub(super) use talk::Exchange;

use crate::server::Queue;
use moonrest_net::io::Io;
use moonrest_proto::http2::{Client, Event};
use std::{
    cell::RefCell,
    io,
    task::{Context, Poll},
};

/// What HTTP/2 knows of a connection.
#[derive(Default)]
pub(super) struct Session {
    client: RefCell<Client>,
    /// What waits to be sent.
    queue: RefCell<Queue>,
}

impl Session {
    /// Sends what waits. Ready when nothing is left; gives how many bytes have left.
    fn poll_write(&self, io: &Io, cx: &mut Context<'_>) -> (u64, Poll<io::Result<()>>) {
        let mut queue = self.queue.borrow_mut();
        let mut client = self.client.borrow_mut();
        if !client.out.is_empty() {
            queue.push_slice(&client.out);
            client.out.clear();
        }
        let mut sent = 0;
        while !queue.is_empty() {
            match queue.write(io, u64::MAX) {
                Ok(n) => sent += n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match io.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return (sent, Poll::Ready(Err(error))),
                    Poll::Pending => return (sent, Poll::Pending),
                },
                Err(error) => return (sent, Poll::Ready(Err(error))),
            }
        }
        (sent, if io.has_pending() { io.poll_flush(cx) } else { Poll::Ready(Ok(())) })
    }

    /// Whether another request may be sent, as far as the upstream was heard.
    pub(super) fn is_open(&self) -> bool {
        let client = self.client.borrow();
        client.is_idle() && client.out.is_empty() && self.queue.borrow().is_empty()
    }

    /// Looks after it while it waits for another request; whether it may go on waiting.
    pub(super) fn is_quiet(&self, io: &Io, cx: &mut Context<'_>) -> bool {
        let mut buffer = Vec::new();
        loop {
            buffer.reserve(4096);
            match io.poll_read(&mut buffer, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return false,
            }
            let mut used = 0;
            while used < buffer.len() {
                match self.client.borrow_mut().receive(buffer.get(used..).unwrap_or_default()) {
                    Ok((n, Event::Control)) => used += n,
                    // Half a frame, or none that could be answered without a request.
                    _ => return false,
                }
            }
            buffer.clear();
        }
        let (_, written) = self.poll_write(io, cx);
        matches!(written, Poll::Ready(Ok(()))) && self.is_open()
    }
}
