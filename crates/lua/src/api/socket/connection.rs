//! A connection to a peer, in use by a stream or idle in a pool.

use super::pool::Seat;
use moonrest_net::{addr::Addr, io::Io, timer::Timer};
use std::{
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll},
};

/// A stream over a socket, with or without a layer of encryption.
pub(super) struct Connection {
    pub io: Io,
    /// What encrypts it, once a handshake has been made.
    pub layer: Option<Box<dyn Layer>>,
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

/// What stands between the socket and the bytes that Lua sees.
pub(super) trait Layer {
    /// Reads into the spare room; 0 is the end.
    fn poll_read(&mut self, io: &Io, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
    /// Writes a beginning of the data; nothing of what was taken waits when the answer is complete.
    fn poll_write(&mut self, io: &Io, data: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
}

impl Connection {
    pub(super) fn new(io: Io, peer: Rc<Peer>, seat: Option<Seat>) -> Self {
        Self { io, layer: None, peer, reused: 0, seat, timers: Timers::default(), nodelay: false }
    }

    /// Reads what is there, without waiting.
    pub(super) fn try_read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.layer {
            None => self.io.try_read(into),
            Some(layer) => at_once(layer.poll_read(&self.io, into, &mut noop())),
        }
    }

    pub(super) fn poll_read(&mut self, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            None => self.io.poll_read(into, cx),
            Some(layer) => layer.poll_read(&self.io, into, cx),
        }
    }

    /// Writes what the socket takes at once.
    pub(super) fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            // Not asking the event loop first: most often there is room.
            None => self.io.with_fd(|fd| moonrest_sys::socket::send(fd, &[IoSlice::new(data)], false)),
            Some(layer) => at_once(layer.poll_write(&self.io, data, &mut noop())),
        }
    }

    pub(super) fn poll_write(&mut self, data: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(layer) = &mut self.layer {
            return layer.poll_write(&self.io, data, cx);
        }
        loop {
            match self.io.try_write(&[IoSlice::new(data)], false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.io.poll_writable(cx))?;
                }
                done => return Poll::Ready(done),
            }
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

fn noop() -> Context<'static> {
    Context::from_waker(std::task::Waker::noop())
}

fn at_once<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
