//! A client's stream: TCP or unix socket, or TLS over one of them.

use crate::{addr::Addr, tls};
use moonrest_rt::{Interest, Watched};
use moonrest_sys::socket;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    task::{Context, Poll, Waker, ready},
};

/// A socket that the event loop watches.
pub type Socket = Watched<OwnedFd>;

/// A byte stream to a peer.
pub enum Io {
    Tcp(Socket),
    Unix(Socket),
    /// What arrived at a socket for TLS.
    Tls(Box<tls::Stream>),
    /// A TLS session to a server.
    Client(Box<tls::client::Client>),
}

impl From<tls::client::Client> for Io {
    fn from(client: tls::client::Client) -> Self {
        Self::Client(Box::new(client))
    }
}

impl Io {
    /// A connection that was just accepted; `unix`: of that kind. Most often its first bytes are there already.
    pub fn accepted(socket: OwnedFd, unix: bool) -> Self {
        let socket = Socket::lazy(socket);
        if unix { Self::Unix(socket) } else { Self::Tcp(socket) }
    }

    /// A socket that is about to be connected: writable when it is.
    pub(crate) fn connecting(socket: OwnedFd, unix: bool) -> io::Result<Self> {
        let socket = Socket::new(socket, Interest::BOTH)?;
        Ok(if unix { Self::Unix(socket) } else { Self::Tcp(socket) })
    }

    /// The socket at the bottom.
    fn socket(&self) -> &Socket {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => socket,
            Self::Tls(stream) => stream.io().socket(),
            Self::Client(client) => client.io().socket(),
        }
    }

    /// Ready when a read may give something, the end included.
    ///
    /// # Errors
    /// When the event loop cannot watch the socket.
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_readable(cx)
    }

    /// Whether a read may give something, as far as the event loop knows; none where what has been read already may wait
    /// to be decrypted.
    #[inline]
    pub fn is_readable(&self) -> Option<bool> {
        match self {
            Self::Tcp(socket) | Self::Unix(socket) => Some(socket.is_readable()),
            Self::Tls(_) | Self::Client(_) => None,
        }
    }

    /// Ready when a write may take something.
    ///
    /// # Errors
    /// When the event loop cannot watch the socket.
    #[inline]
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_writable(cx)
    }

    /// One read from the socket. What does not fill the room tells the event loop that the socket is empty.
    #[inline]
    fn recv(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let read = socket.try_read(|fd| socket::recv_more(fd, buffer));
        if read.as_ref().is_ok_and(|n| 0 < *n && *n < room) {
            socket.drained();
        }
        read
    }

    /// Reads into the buffer's spare room, waiting for the first byte. 0 is the end of the stream.
    ///
    /// A read that does not fill the room tells the event loop that the socket is empty, which saves the read that
    /// would find out.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = match self {
            Self::Tls(stream) => return stream.poll_read(buffer, cx),
            Self::Client(client) => return client.poll_read(buffer, cx),
            Self::Tcp(socket) | Self::Unix(socket) => socket,
        };
        loop {
            ready!(socket.poll_readable(cx))?;
            match Self::recv(socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads into the buffer's spare room what is there, without waiting and without asking to be woken. As in
    /// [`Self::poll_read`], nothing is tried when the event loop knows that the socket is empty.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if let Self::Tcp(socket) | Self::Unix(socket) = self {
            return Self::recv(socket, buffer);
        }
        match self.poll_read(buffer, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes all of it, waiting for room where there is none.
    ///
    /// # Errors
    /// The system's.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.try_write(&[IoSlice::new(data)], false) {
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.poll_writable(cx)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks whether something has come and leaves it there: 1, or 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_peek(&self) -> io::Result<usize> {
        self.socket().try_read(|fd| socket::peek(fd, &mut [0]))
    }

    /// Whether a read would give nothing, not even the end of the stream; the event loop is told.
    pub fn peek_is_empty(&self) -> bool {
        self.try_peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether a read would have given nothing, not even the end of the stream, when the event loop last looked
    /// ([`moonrest_rt::looks`]). Asks nobody.
    #[inline]
    pub fn is_known_empty(&self) -> bool {
        self.socket().is_known_empty()
    }

    /// As [`Io::peek_is_empty`], asked of the kernel although the event loop knows of nothing.
    pub fn is_silent(&self) -> bool {
        self.peek_now().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`Io::try_peek`], asked of the kernel although the event loop knows of nothing.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn peek_now(&self) -> io::Result<usize> {
        socket::peek(self.socket(), &mut [0])
    }

    /// Writes what the socket takes at once; `more` says that more follows immediately.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_write(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let socket = match self {
            Self::Tls(stream) => return stream.try_write(slices, more),
            Self::Client(client) => return client.try_write(slices),
            Self::Tcp(socket) | Self::Unix(socket) => socket,
        };
        // Not asking the event loop first: most often there is room.
        socket::send(socket, slices, more).inspect_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                socket.clear_write();
            }
        })
    }

    /// Whether files must be read to be sent, as what is encrypted cannot go from file to socket.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_encrypted(),
            Self::Client(_) => true,
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// Whether something that was taken by [`Io::try_write`] has not left yet.
    pub fn has_pending(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.has_pending(),
            Self::Client(client) => client.has_pending(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// Sends what [`Io::try_write`] has taken. Ready when all of it has left.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => stream.poll_flush(cx),
            Self::Client(client) => client.poll_flush(cx),
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more will be sent, where the protocol has words for that. Never waits.
    pub fn close(&self) {
        match self {
            Self::Tls(stream) => stream.close(),
            Self::Client(client) => client.close(),
            Self::Tcp(_) | Self::Unix(_) => {}
        }
    }

    /// The session to a server, if it is one.
    pub fn client(&self) -> Option<&tls::client::Client> {
        match self {
            Self::Client(client) => Some(client),
            _ => None,
        }
    }

    /// The encrypted stream, if it is one or could have become one.
    pub fn tls(&self) -> Option<&tls::Stream> {
        match self {
            Self::Tls(stream) => Some(stream),
            _ => None,
        }
    }

    /// Sends a range of a file as it is; `offset` moves by what was taken.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_sendfile(&self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> io::Result<usize> {
        self.socket().try_write(|fd| moonrest_sys::file::sendfile(fd, file, offset, count))
    }

    /// The address this end has.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Addr> {
        Ok(match socket::local_addr(self.socket())? {
            socket::Addr::Inet(addr) => Addr::Inet(addr),
            // Abstract names are none that could be shown.
            socket::Addr::Unix(path) if path.first() != Some(&0) => Addr::Unix(path.into()),
            socket::Addr::Unix(_) | socket::Addr::Unnamed => Addr::Unix(Box::default()),
        })
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// The system's.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.close();
        self.with_fd(|fd| socket2::SockRef::from(&fd).shutdown(std::net::Shutdown::Write))
    }

    /// The descriptor's number.
    pub fn raw_fd(&self) -> RawFd {
        self.socket().as_fd().as_raw_fd()
    }

    /// Calls `f` with the descriptor.
    pub fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        f(self.socket().as_fd())
    }
}
