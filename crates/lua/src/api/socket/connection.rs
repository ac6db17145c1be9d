//! A connection to a peer, in use by a stream or idle in a pool.

use super::pool::Seat;
use moonrest_net::{addr::Addr, io::Io, timer::Timer};
use std::{
    cell::Cell,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker},
};

thread_local! {
    /// How many there have been.
    static CONNECTIONS: Cell<u64> = const { Cell::new(0) };
}

/// A stream over a socket, encrypted once a handshake has been made.
pub(super) struct Connection {
    /// Told from all others of the worker, past and to come.
    pub id: u64,
    pub io: Io,
    /// Whom it leads to, for log lines.
    pub peer: Rc<Peer>,
    /// How often it came out of a pool.
    pub reused: u64,
    /// Its place in a pool that counts connections.
    pub seat: Option<Seat>,
    pub timers: Timers,
    pub nodelay: bool,
}

/// The other end, as asked for and as found.
pub(super) struct Peer {
    pub host: Box<[u8]>,
    pub addr: Addr,
}

/// One for each direction: both may wait at once. They stay with the connection, which saves making them.
#[derive(Clone, Default)]
pub(super) struct Timers {
    pub read: Rc<Timer>,
    pub write: Rc<Timer>,
}

impl Connection {
    pub(super) fn new(io: Io, peer: Rc<Peer>, seat: Option<Seat>) -> Self {
        let id = CONNECTIONS.get() + 1;
        CONNECTIONS.set(id);
        Self { id, io, peer, reused: 0, seat, timers: Timers::default(), nodelay: false }
    }

    /// Writes what the socket takes at once.
    pub(super) fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.io {
            // Not asking the event loop first: most often there is room.
            Io::Tcp(_) | Io::Unix(_) => {
                self.io.with_fd(|fd| moonrest_sys::socket::send(fd, &[IoSlice::new(data)], false))
            }
            Io::Tls(_) | Io::Client(_) => self.io.try_write(&[IoSlice::new(data)], false),
        }
    }

    pub(super) fn poll_write(&mut self, data: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.io.try_write(&[IoSlice::new(data)], false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.io.poll_flush(cx))?;
                    std::task::ready!(self.io.poll_writable(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// Looks at what has come; 0 is the end. Costs no call when the event loop knows of nothing.
    pub(super) fn peek(&self) -> io::Result<usize> {
        if self.io.client().is_none() {
            return self.io.try_peek();
        }
        // What is no data, tickets above all, is taken in.
        let mut probe = Vec::with_capacity(1);
        match self.io.poll_read(&mut probe, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Switches Nagle's algorithm off, once.
    pub(super) fn set_nodelay(&mut self) -> io::Result<()> {
        if !self.nodelay {
            self.nodelay = true;
            if matches!(self.io, Io::Tcp(_)) {
                return self.io.with_fd(|fd| moonrest_sys::socket::set_nodelay(fd, true));
            }
        }
        Ok(())
    }
}

impl Peer {
    /// `, upstream: HOST:PORT(ADDRESS)`, which follows messages about this peer.
    pub(super) fn describe(&self) -> String {
        let host = String::from_utf8_lossy(&self.host);
        let mut address = Vec::new();
        match self.addr.port() {
            0 => {
                self.addr.append_with_port(&mut address);
                format!(", upstream: {host}({})", String::from_utf8_lossy(&address))
            }
            port => {
                self.addr.append_text(&mut address);
                format!(", upstream: {host}:{port}({})", String::from_utf8_lossy(&address))
            }
        }
    }
}
