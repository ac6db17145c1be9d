//! Sockets in use: options, addresses, and the calls the event loop makes on them.
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, UCred, sockopt,
};

use crate::errno::{check, retry};

/// One end of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Addr {
    Inet(SocketAddr),
    /// A path, or an abstract name with its leading NUL.
    Unix(Vec<u8>),
    /// A unix socket without a name: most clients.
    Unnamed,
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", String::from_utf8_lossy(path)),
            Self::Unnamed => f.write_str("unix:"),
        }
    }
}

/// Who is at the other end of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// The fields of `TCP_INFO` that nginx has variables for.
///
/// <https://nginx.org/en/docs/http/ngx_http_core_module.html#var_tcpinfo_>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Microseconds.
    pub rtt: u32,
    /// Microseconds.
    pub rttvar: u32,
    /// Segments.
    pub snd_cwnd: u32,
    /// Bytes.
    pub rcv_space: u32,
}

/// The address of this end.
///
/// # Errors
/// Those of `getsockname`; `Unsupported` for a socket that is neither internet nor unix.
pub fn local_addr(fd: impl AsFd) -> io::Result<Addr> {
    address(rustix::net::getsockname(fd)?)
}

/// The address of the other end.
///
/// # Errors
/// Those of `getpeername`: `NotConnected`. `Unsupported` as for [`local_addr`].
pub fn peer_addr(fd: impl AsFd) -> io::Result<Addr> {
    rustix::net::getpeername(fd)?.map_or(Ok(Addr::Unnamed), address)
}

/// Who connected to a unix socket.
///
/// # Errors
/// Those of `getsockopt(SO_PEERCRED)`.
pub fn peer_credentials(fd: impl AsFd) -> io::Result<PeerCredentials> {
    let UCred { pid, uid, gid } = sockopt::socket_peercred(fd)?;
    Ok(PeerCredentials { pid: pid.as_raw_nonzero().get(), uid: uid.as_raw(), gid: gid.as_raw() })
}

pub(crate) fn address(addr: SocketAddrAny) -> io::Result<Addr> {
    if let Ok(inet) = SocketAddr::try_from(addr.clone()) {
        return Ok(Addr::Inet(inet));
    }
    let unix = SocketAddrUnix::try_from(addr).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
    if let Some(path) = unix.path_bytes() {
        return Ok(Addr::Unix(path.to_vec()));
    }
    let abstract_name = unix.abstract_name().filter(|name| !name.is_empty());
    Ok(abstract_name.map_or(Addr::Unnamed, |name| Addr::Unix([b"\0", name].concat())))
}

/// Takes a connection from a listening socket, with the address of its other end (none on unix sockets). It never waits,
/// nor does what is done with the connection.
///
/// # Errors
/// `WouldBlock` when there is none, if the listening socket does not wait; those of `accept4` otherwise.
pub fn accept(fd: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let fd = fd.as_fd();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (connection, addr) = retry(|| rustix::net::acceptfrom_with(fd, flags))?;
    Ok((connection, addr.and_then(|addr| SocketAddr::try_from(addr).ok())))
}

/// Sends without waiting and without a signal when the peer has gone; `more` tells that more follows at once
/// (`MSG_MORE`). At most [`IOV_MAX`](crate::file::IOV_MAX) pieces are looked at.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing; those of `sendmsg` otherwise.
pub fn send(fd: impl AsFd, pieces: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let flags =
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT | if more { SendFlags::MORE } else { SendFlags::empty() };
    let fd = fd.as_fd();
    if let [piece] = pieces {
        return retry(|| rustix::net::send(fd, piece, flags));
    }
    let pieces = &pieces[..pieces.len().min(crate::file::IOV_MAX)];
    retry(|| rustix::net::sendmsg(fd, pieces, &mut SendAncillaryBuffer::default(), flags))
}

/// Receives without waiting. Zero is the end of a stream.
///
/// # Errors
/// `WouldBlock` when nothing is there; those of `recv` otherwise.
pub fn recv(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    recv_flags(fd, buf, RecvFlags::DONTWAIT)
}

/// Receives without waiting into the spare room of `buffer`, whose length grows by what came. Zero is the end of a
/// stream, or no room.
///
/// # Errors
/// As [`recv`].
pub fn recv_more(fd: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let fd = fd.as_fd();
    retry(|| rustix::net::recv(fd, rustix::buffer::spare_capacity(buffer), RecvFlags::DONTWAIT))
        .map(|(n, _)| n)
}

/// Looks at what would be received and leaves it there: how a client's departure is noticed.
///
/// # Errors
/// As [`recv`].
pub fn peek(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    recv_flags(fd, buf, RecvFlags::DONTWAIT | RecvFlags::PEEK)
}

fn recv_flags(fd: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let fd = fd.as_fd();
    retry(|| rustix::net::recv(fd, &mut *buf, flags)).map(|(n, _)| n)
}

/// Closes one or both directions.
///
/// # Errors
/// `NotConnected` when the peer has gone first.
pub fn shutdown(fd: impl AsFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(fd, how)?)
}

/// Makes `close` send a reset and drop what is queued: `return 444`, `reset_timedout_connection`.
///
/// # Errors
/// Those of `setsockopt(SO_LINGER)`.
pub fn reset_on_close(fd: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(fd, Some(Duration::ZERO))?)
}

/// The error a non-blocking connect ended with, if any; asking clears it.
///
/// # Errors
/// Those of `getsockopt(SO_ERROR)`.
pub fn take_error(fd: impl AsFd) -> io::Result<Option<io::Error>> {
    Ok(sockopt::socket_error(fd)?.err().map(io::Error::from))
}

/// Switches Nagle's algorithm off, or on.
///
/// # Errors
/// Those of `setsockopt(TCP_NODELAY)`: `EINVAL` after a reset.
pub fn set_nodelay(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(fd, on)?)
}

/// Holds back partial segments, or lets them go: `tcp_nopush`.
///
/// # Errors
/// Those of `setsockopt(TCP_CORK)`.
pub fn set_cork(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_cork(fd, on)?)
}

/// Switches keep-alive probes.
///
/// # Errors
/// Those of `setsockopt(SO_KEEPALIVE)`.
pub fn set_keepalive(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_keepalive(fd, on)?)
}

/// Lets several sockets share an address.
///
/// # Errors
/// Those of `setsockopt(SO_REUSEPORT)`.
pub fn set_reuseport(fd: impl AsFd, on: bool) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, i32::from(on))
}

/// Whether several sockets may share the address.
///
/// # Errors
/// Those of `getsockopt(SO_REUSEPORT)`.
pub fn reuseport(fd: impl AsFd) -> io::Result<bool> {
    Ok(int(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT)? != 0)
}

/// Sets the size of the receive buffer (the kernel doubles it).
///
/// # Errors
/// Those of `setsockopt(SO_RCVBUF)`.
pub fn set_rcvbuf(fd: impl AsFd, size: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size(fd, size)?)
}

/// Sets the size of the send buffer (the kernel doubles it).
///
/// # Errors
/// Those of `setsockopt(SO_SNDBUF)`.
pub fn set_sndbuf(fd: impl AsFd, size: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(fd, size)?)
}

/// `send_lowat` has no effect on Linux; this bounds what waits unsent in the kernel instead.
///
/// # Errors
/// Those of `setsockopt(TCP_NOTSENT_LOWAT)`.
pub fn set_notsent_lowat(fd: impl AsFd, bytes: i32) -> io::Result<()> {
    set_tcp(fd, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// Lets a socket bind to an address that is not the machine's: `proxy_bind … transparent`.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_RAW`.
pub fn set_transparent(fd: impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1)
    } else {
        set_int(fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)
    }
}

/// Gives a unix socket an abstract name that nobody else has, so that datagrams to its peer can be answered.
///
/// # Errors
/// Those of `bind`.
pub fn bind_any_name(fd: impl AsFd) -> io::Result<()> {
    let family = libc::AF_UNIX as libc::sa_family_t;
    // SAFETY: an address of a unix socket that is nothing but its family asks the kernel for a name; the kernel only
    // reads the two bytes.
    unsafe {
        check(libc::bind(
            fd.as_fd().as_raw_fd(),
            (&raw const family).cast(),
            size_of::<libc::sa_family_t>() as libc::socklen_t,
        ))?;
    }
    Ok(())
}

/// Chooses the port only when connecting, so that many connections to different peers can share one.
///
/// # Errors
/// Those of `setsockopt(IP_BIND_ADDRESS_NO_PORT)`.
pub fn set_bind_address_no_port(fd: impl AsFd) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// An option of a socket whose value is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOption {
    Keepalive,
    ReuseAddr,
    NoDelay,
    SendBuffer,
    ReceiveBuffer,
    /// Seconds between probes.
    KeepaliveInterval,
    KeepaliveProbes,
}

impl SocketOption {
    fn place(self) -> (i32, i32) {
        match self {
            Self::Keepalive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            Self::ReuseAddr => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            Self::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            Self::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
            Self::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
            Self::KeepaliveInterval => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
            Self::KeepaliveProbes => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        }
    }
}

/// Sets an option.
///
/// # Errors
/// Those of `setsockopt`.
pub fn set_option(fd: impl AsFd, option: SocketOption, value: i32) -> io::Result<()> {
    let (level, name) = option.place();
    set_int(fd, level, name, value)
}

/// Reads an option.
///
/// # Errors
/// Those of `getsockopt`.
pub fn option(fd: impl AsFd, option: SocketOption) -> io::Result<i32> {
    let (level, name) = option.place();
    int(fd, level, name)
}

/// What the kernel knows of a TCP connection.
///
/// # Errors
/// Those of `getsockopt(TCP_INFO)`: not a TCP socket.
pub fn tcp_info(fd: impl AsFd) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `info`, which is that large; all bit patterns are valid.
    let info = unsafe {
        check(libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        ))?;
        info.assume_init()
    };
    Ok(TcpInfo {
        rtt: info.tcpi_rtt,
        rttvar: info.tcpi_rttvar,
        snd_cwnd: info.tcpi_snd_cwnd,
        rcv_space: info.tcpi_rcv_space,
    })
}

pub(crate) fn set_tcp(fd: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, option, value)
}

pub(crate) fn tcp(fd: impl AsFd, option: i32) -> io::Result<i32> {
    int(fd, libc::IPPROTO_TCP, option)
}

/// Sets an option whose value is an integer and for which no crate has a name.
pub(crate) fn set_int(fd: impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`.
    let result =
        unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), len) };
    check(result).map(drop)
}

/// Reads such an option.
pub(crate) fn int(fd: impl AsFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    let result =
        unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), level, option, (&raw mut value).cast(), &mut len) };
    check(result).map(|_| value)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::scratch::Scratch;

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn pieces_are_sent_in_one_call() {
        let (a, mut b) = tcp_pair();
        assert_eq!(send(&a, &[IoSlice::new(b"head"), IoSlice::new(b"body")], true).unwrap(), 8);
        assert_eq!(send(&a, &[IoSlice::new(b"!")], false).unwrap(), 1);
        assert_eq!(send(&a, &[], false).unwrap(), 0);
        let mut got = [0; 9];
        b.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"headbody!");
    }

    #[test]
    fn a_full_socket_says_so_and_a_gone_peer_raises_no_signal() {
        let (a, b) = UnixStream::pair().unwrap();
        let block = vec![0; 1 << 16];
        let error = loop {
            if let Err(error) = send(&a, &[IoSlice::new(&block), IoSlice::new(&block)], false) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(b);
        assert_eq!(send(&a, &[IoSlice::new(b"x")], false).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn more_pieces_than_the_system_takes_are_no_error() {
        let (a, _b) = UnixStream::pair().unwrap();
        let pieces = vec![IoSlice::new(b"x"); 2000];
        assert_eq!(send(&a, &pieces, false).unwrap(), 1024);
    }

    #[test]
    fn peeking_takes_nothing() {
        let (a, mut b) = tcp_pair();
        let mut buf = [0; 8];
        assert_eq!(peek(&a, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        b.write_all(b"abc").unwrap();
        while peek(&a, &mut buf).is_err() {}
        assert_eq!(peek(&a, &mut buf).unwrap(), 3);
        assert_eq!(recv(&a, &mut buf).unwrap(), 3);
        assert_eq!(recv(&a, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        shutdown(&b, Shutdown::Write).unwrap();
        while peek(&a, &mut buf).is_err() {}
        assert_eq!(peek(&a, &mut buf).unwrap(), 0, "half-closed");
        assert!(send(&a, &[IoSlice::new(b"still")], false).is_ok());
    }

    #[test]
    fn a_reset_is_what_the_peer_sees() {
        let (a, mut b) = tcp_pair();
        reset_on_close(&a).unwrap();
        drop(a);
        assert_eq!(b.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(take_error(&b).unwrap().is_none());
    }

    #[test]
    fn options_are_set() {
        let (a, _b) = tcp_pair();
        set_nodelay(&a, true).unwrap();
        assert!(a.nodelay().unwrap());
        set_cork(&a, true).unwrap();
        assert!(sockopt::tcp_cork(&a).unwrap());
        set_keepalive(&a, true).unwrap();
        assert!(sockopt::socket_keepalive(&a).unwrap());
        set_notsent_lowat(&a, 16_384).unwrap();
        assert_eq!(tcp(&a, libc::TCP_NOTSENT_LOWAT).unwrap(), 16_384);
        set_reuseport(&a, true).unwrap();
        assert!(reuseport(&a).unwrap());
        set_rcvbuf(&a, 40_000).unwrap();
        set_sndbuf(&a, 40_000).unwrap();
        assert_eq!(sockopt::socket_send_buffer_size(&a).unwrap(), 80_000);
        set_bind_address_no_port(&a).unwrap();
        match set_transparent(&a, false) {
            Ok(()) => assert_eq!(int(&a, libc::IPPROTO_IP, libc::IP_TRANSPARENT).unwrap(), 1),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn tcp_info_has_live_numbers() {
        let (mut a, mut b) = tcp_pair();
        a.write_all(b"x").unwrap();
        b.read_exact(&mut [0]).unwrap();
        let info = tcp_info(&a).unwrap();
        assert!(info.rtt > 0 && info.snd_cwnd > 0 && info.rcv_space > 0, "{info:?}");
        assert!(tcp_info(UnixStream::pair().unwrap().0).is_err());
    }

    #[test]
    fn addresses_of_both_families() {
        let (a, b) = tcp_pair();
        assert_eq!(local_addr(&a).unwrap(), peer_addr(&b).unwrap());
        assert_eq!(local_addr(&a).unwrap(), Addr::Inet(a.local_addr().unwrap()));
        let dir = Scratch::new();
        let listener = UnixListener::bind(dir.path("s")).unwrap();
        assert_eq!(local_addr(&listener).unwrap(), Addr::Unix(dir.join("s")));
        let client = UnixStream::connect(dir.path("s")).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(peer_addr(&client).unwrap(), Addr::Unix(dir.join("s")));
        assert_eq!(peer_addr(&server).unwrap(), Addr::Unnamed);
        assert_eq!(peer_addr(&server).unwrap().to_string(), "unix:");
        assert!(peer_addr(&listener).is_err());
    }

    #[test]
    fn a_unix_peer_is_known() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&a).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
    }

    #[test]
    fn a_failed_connect_leaves_its_error() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let to: SocketAddr = ([127, 0, 0, 1], port).into();
        if rustix::net::connect(&socket, &to) == Err(rustix::io::Errno::INPROGRESS) {
            let mut fds = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT)];
            rustix::event::poll(&mut fds, None).unwrap();
            let error = take_error(&socket).unwrap().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(take_error(&socket).unwrap().is_none());
        }
    }
}
