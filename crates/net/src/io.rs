//! A client's stream: TCP or unix socket, later TLS over one of them.

use crate::addr::Addr;
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    task::{Context, Poll, ready},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// A byte stream to a peer.
pub enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Io {
    /// Ready when a read may give something, the end included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Ready when a write may take something.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Reads into the buffer's spare room, without waiting. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Reads into the buffer's spare room, waiting for the first byte.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Writes what the socket takes at once; `more` says that more follows immediately.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_write(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || moonrest_sys::socket::send(self.as_fd(), slices, more))
    }

    /// Sends a range of a file; `offset` moves by what was taken.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_sendfile(&self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || moonrest_sys::file::sendfile(self.as_fd(), file, offset, count))
    }

    fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, f),
            Self::Unix(stream) => stream.try_io(interest, f),
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
        }
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// The system's.
    pub fn shutdown_write(&self) -> io::Result<()> {
        rustix_shutdown(self.as_fd())
    }

    /// The descriptor's number.
    pub fn raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn rustix_shutdown(fd: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&fd).shutdown(std::net::Shutdown::Write)
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
