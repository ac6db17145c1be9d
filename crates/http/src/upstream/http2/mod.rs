//! HTTP/2 to upstreams (RFC 9113): one request at a time on a connection, as nginx has it. The `h2` crate does the
//! framing; nothing outside of this folder knows it.
//!
//! A protocol that says [`super::Protocol::is_http2`] writes its request as text; [`head`] makes of it what the framing
//! wants, and text of the answer's head. [`talk`] takes the request there, [`body`] the answer back.

mod body;
mod head;
mod talk;
mod transport;

pub(super) use talk::Exchange;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use moonrest_net::io::Io;
use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use transport::{Transport, Wire};

/// Bytes of an answer that may be under way when nobody takes them.
const WINDOW: u32 = 256 * 1024;
/// Bytes that the framing keeps of a request, beyond what the connection takes.
const SEND_BUFFER: usize = 64 * 1024;

/// A connection that speaks HTTP/2.
pub(super) struct Session {
    connection: RefCell<Connection<Transport, Bytes>>,
    sender: RefCell<SendRequest<Bytes>>,
    wire: Rc<Wire>,
    /// It has come to its end.
    over: Cell<bool>,
}

impl Session {
    /// Begins on a connection. Answers' heads may have `max_head` bytes.
    async fn begin(io: Rc<Io>, max_head: usize) -> Result<Box<Self>, h2::Error> {
        let wire = Rc::new(Wire::new());
        let transport = Transport::new(io, wire.clone());
        let max_head = u32::try_from(max_head.saturating_mul(2)).unwrap_or(u32::MAX).max(64 * 1024);
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .header_table_size(0)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_header_list_size(max_head)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(transport)
            .await?;
        Ok(Box::new(Self {
            connection: RefCell::new(connection),
            sender: RefCell::new(sender),
            wire,
            over: Cell::new(false),
        }))
    }

    /// Sends and receives what there is. Whoever waits on one of its streams is woken through that.
    pub(super) fn drive(&self, cx: &mut Context<'_>) {
        if !self.over.get() && Pin::new(&mut *self.connection.borrow_mut()).poll(cx).is_ready() {
            self.over.set(true);
        }
    }

    /// Whether another request may be sent, as far as the upstream was heard.
    pub(super) fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.over.get() && !matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Looks after it while it waits for another request; whether it may go on waiting.
    pub(super) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.is_open()
    }
}
