//! A client's stream: TCP or unix socket, or TLS over one of them.

use crate::{addr::Addr, tls};
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// A byte stream to a peer.
pub enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
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

impl From<TcpStream> for Io {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Io {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Io {
    /// Ready when a read may give something, the end included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.io().poll_readable(cx),
            Self::Client(client) => client.io().poll_readable(cx),
        }
    }

    /// Ready when a write may take something.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.io().poll_writable(cx),
            Self::Client(client) => client.io().poll_writable(cx),
        }
    }

    /// One read from the socket. What does not fill the room tells the event loop that the socket is empty.
    #[inline]
    fn recv(&self, buffer: &mut Vec<u8>) -> (Option<usize>, io::Result<()>) {
        let room = buffer.capacity() - buffer.len();
        let mut read = None;
        let tried = self.try_io(Interest::READABLE, |fd| {
            let n = moonrest_sys::socket::recv_more(fd, buffer)?;
            read = Some(n);
            if 0 < n && n < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        (read, tried)
    }

    /// Reads into the buffer's spare room, waiting for the first byte. 0 is the end of the stream.
    ///
    /// A read that does not fill the room tells the event loop that the socket is empty, which saves the read that
    /// would find out.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tls(stream) => return stream.poll_read(buffer, cx),
            Self::Client(client) => return client.poll_read(buffer, cx),
            Self::Tcp(_) | Self::Unix(_) => {}
        }
        loop {
            ready!(self.poll_readable(cx))?;
            let (read, tried) = self.recv(buffer);
            match (read, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }

    /// Reads into the buffer's spare room what is there, without waiting and without asking to be woken. As in
    /// [`Self::poll_read`], nothing is tried when the event loop knows that the socket is empty.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if matches!(self, Self::Tls(_) | Self::Client(_)) {
            return match self.poll_read(buffer, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(read) => read,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let (read, tried) = self.recv(buffer);
        match read {
            Some(n) => Ok(n),
            None => tried.map(|()| 0),
        }
    }

    /// Looks whether something has come and leaves it there: 1, or 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_peek(&self) -> io::Result<usize> {
        self.try_io(Interest::READABLE, |fd| moonrest_sys::socket::peek(fd, &mut [0]))
    }

    /// Whether a read would give nothing, not even the end of the stream; the event loop is told.
    pub fn peek_is_empty(&self) -> bool {
        self.try_io(Interest::READABLE, |fd| moonrest_sys::socket::peek(fd, &mut [0]))
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the kernel although the event loop knows of nothing.
    pub fn is_silent(&self) -> bool {
        self.peek_now().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`Io::try_peek`], asked of the kernel although the event loop knows of nothing.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn peek_now(&self) -> io::Result<usize> {
        self.with_fd(|fd| moonrest_sys::socket::peek(fd, &mut [0]))
    }

    /// Writes what the socket takes at once; `more` says that more follows immediately.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_write(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match self {
            Self::Tls(stream) => return stream.try_write(slices, more),
            Self::Client(client) => return client.try_write(slices),
            Self::Tcp(_) | Self::Unix(_) => {}
        }
        // Not asking the event loop first: most often there is room.
        match self.with_fd(|fd| moonrest_sys::socket::send(fd, slices, more)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.try_io(Interest::WRITABLE, |_| Err(io::ErrorKind::WouldBlock.into()))
            }
            done => done,
        }
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
        self.try_io(Interest::WRITABLE, |fd| moonrest_sys::file::sendfile(fd, file, offset, count))
    }

    fn try_io<R>(
        &self,
        interest: Interest,
        f: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, || f(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(interest, || f(stream.as_fd())),
            Self::Tls(stream) => stream.io().try_io(interest, f),
            Self::Client(client) => client.io().try_io(interest, f),
        }
    }

    /// The address this end has.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Addr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(Addr::from),
            Self::Unix(stream) => {
                use std::os::unix::ffi::OsStrExt;
                let addr = stream.local_addr()?;
                Ok(Addr::Unix(
                    addr.as_pathname().map(|p| p.as_os_str().as_bytes().into()).unwrap_or_default(),
                ))
            }
            Self::Tls(stream) => stream.io().local_addr(),
            Self::Client(client) => client.io().local_addr(),
        }
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
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.io().raw_fd(),
            Self::Client(client) => client.io().raw_fd(),
        }
    }

    /// Calls `f` with the descriptor.
    pub fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        match self {
            Self::Tcp(stream) => f(stream.as_fd()),
            Self::Unix(stream) => f(stream.as_fd()),
            Self::Tls(stream) => stream.io().with_fd(f),
            Self::Client(client) => client.io().with_fd(f),
        }
    }
}
