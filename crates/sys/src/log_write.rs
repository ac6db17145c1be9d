//! Where log lines go: files that are appended to, and syslog.
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::errno::retry;
use crate::file::{self, WriteMode};
use crate::listen::ListenAddr;

/// Opens a log: created if missing, readable by all (less the umask), every write at its end. A pipe whose reader does
/// not keep up loses lines; the server does not wait for it.
///
/// # Errors
/// Those of `open`.
pub fn open(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = file::open_write(name, WriteMode::Append, 0o644)?;
    if file::fstat(&fd)?.kind == file::FileKind::Other {
        rustix::io::ioctl_fionbio(&fd, true)?;
    }
    Ok(fd)
}

/// Writes one line, or several, whole. One call to the system unless it takes only a part, so lines of several
/// processes do not mix.
///
/// # Errors
/// Those of `write`: the disk is full, the pipe is closed (an error, not a signal: the server ignores SIGPIPE).
/// `WouldBlock` from a pipe or terminal that takes no more: the rest of the line is lost, the server does not wait.
pub fn write_line(fd: impl AsFd, line: &[u8]) -> io::Result<()> {
    let fd = fd.as_fd();
    let mut rest = line;
    while !rest.is_empty() {
        match retry(|| rustix::io::write(fd, rest))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = &rest[n..],
        }
    }
    Ok(())
}

/// A connection to a syslog server; datagrams, never waited for.
#[derive(Debug)]
pub struct Syslog {
    fd: OwnedFd,
}

impl Syslog {
    /// Connects to a server: a UDP address, or a unix datagram socket such as `/dev/log`.
    ///
    /// # Errors
    /// Those of `socket` and `connect`.
    pub fn connect(server: &ListenAddr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = |family| rustix::net::socket_with(family, SocketType::DGRAM, flags, None);
        let fd = match server {
            ListenAddr::Inet(addr) => {
                let fd = open(match addr {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                })?;
                rustix::net::connect(&fd, addr)?;
                fd
            }
            ListenAddr::Unix(path) => {
                let fd = open(AddressFamily::UNIX)?;
                rustix::net::connect(&fd, &SocketAddrUnix::new(path.as_slice())?)?;
                fd
            }
        };
        Ok(Self { fd })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `WouldBlock` when the server does not keep up: the message is lost. `ConnectionRefused`, `NotConnected` and the
    /// like when the server is gone: connect again.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        retry(|| rustix::net::send(&self.fd, message, flags)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn lines_of_several_writers_follow_each_other() {
        let dir = Scratch::new();
        let (a, b) = (open(&dir.join("log")).unwrap(), open(&dir.join("log")).unwrap());
        for (fd, line) in [(&a, "one\n"), (&b, "two\n"), (&a, "three\n")] {
            write_line(fd, line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read(dir.path("log")).unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(open(&dir.join("no/log")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_full_or_closed_pipe_is_an_error() {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let line = vec![b'x'; 1 << 22];
        assert_eq!(write_line(&a, &line).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(b);
        assert_eq!(write_line(&a, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_pipe_that_nobody_empties_does_not_stop_the_writer() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        let log = open(name.as_bytes()).unwrap();
        let line = [b'x'; 4096];
        let error = loop {
            if let Err(error) = write_line(&log, &line) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // Whoever has the pipe otherwise is not affected.
        assert!(!rustix::fs::fcntl_getfl(&writer).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        drop(reader);
    }

    #[test]
    fn syslog_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let syslog = Syslog::connect(&ListenAddr::Inet(server.local_addr().unwrap())).unwrap();
        syslog.send(b"<190>Oct  1 00:00:00 host nginx: hello").unwrap();
        let mut buf = [0; 100];
        let n = server.recv(&mut buf).unwrap();
        assert!(buf[..n].ends_with(b"nginx: hello"));
    }

    #[test]
    fn syslog_over_a_unix_socket_drops_what_does_not_fit() {
        let dir = Scratch::new();
        let addr = ListenAddr::Unix(dir.join("log"));
        assert_eq!(Syslog::connect(&addr).unwrap_err().kind(), io::ErrorKind::NotFound);
        let server = UnixDatagram::bind(dir.path("log")).unwrap();
        let syslog = Syslog::connect(&addr).unwrap();
        syslog.send(b"hello").unwrap();
        let mut buf = [0; 9];
        assert_eq!(server.recv(&mut buf).unwrap(), 5);
        let error = loop {
            if let Err(error) = syslog.send(&[b'x'; 1000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(server);
        assert_eq!(syslog.send(b"x").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
