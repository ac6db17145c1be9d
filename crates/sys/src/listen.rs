//! Listening sockets: what the parameters of `listen` ask of the system.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#listen>
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};

use crate::errno::describe;
use crate::{file, socket};

/// Where to listen. `Display` is nginx's notation: `127.0.0.1:80`, `[::1]:80`, `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    Inet(SocketAddr),
    /// The path of a unix socket.
    Unix(Vec<u8>),
}

impl ListenAddr {
    /// True for the address that stands for all of the machine.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Inet(addr) if addr.ip().is_unspecified())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", String::from_utf8_lossy(path)),
        }
    }
}

/// Streams or datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    Tcp,
    Udp,
}

/// `so_keepalive=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    Off,
    On,
    /// `idle:interval:count`, where each may be left to the system.
    Tuned {
        /// Idle time before the first probe.
        idle: Option<Duration>,
        /// Time between probes.
        interval: Option<Duration>,
        /// Probes without an answer before the connection is dropped.
        count: Option<u32>,
    },
}

/// A listening socket to open: one `listen` with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSpec {
    pub addr: ListenAddr,
    pub kind: SocketKind,
    /// Length of the queue of connections to accept; −1 is the system's limit.
    pub backlog: i32,
    pub rcvbuf: Option<usize>,
    pub sndbuf: Option<usize>,
    /// `fastopen=`: length of the queue of connections that have not finished the handshake.
    pub fastopen: Option<i32>,
    /// `deferred`: accept a connection only with its first bytes.
    pub deferred: bool,
    /// `None`: nginx's default, on.
    pub ipv6only: Option<bool>,
    /// Several sockets for one address, between which the kernel distributes.
    pub reuseport: bool,
    /// `None` leaves the system's setting.
    pub keepalive: Option<KeepAlive>,
    /// `multipath`: MPTCP.
    pub multipath: bool,
    /// Datagrams that may not be fragmented, as QUIC wants them.
    pub quic: bool,
}

/// nginx's default for `backlog=` on Linux.
pub const DEFAULT_BACKLOG: i32 = 511;

/// The mode of a unix socket.
const SOCKET_MODE: u32 = 0o666;

impl ListenSpec {
    /// A TCP listener with nginx's defaults.
    pub fn new(addr: ListenAddr) -> Self {
        Self {
            addr,
            kind: SocketKind::Tcp,
            backlog: DEFAULT_BACKLOG,
            rcvbuf: None,
            sndbuf: None,
            fastopen: None,
            deferred: false,
            ipv6only: None,
            reuseport: false,
            keepalive: None,
            multipath: false,
            quic: false,
        }
    }
}

/// What a listening socket is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Serve,
    /// `-t`: nothing stays behind, and a port in use is no fault (see [`ListenError::in_use`]).
    Test,
}

/// A socket that cannot be opened. `Display` is nginx's line: `bind() to 0.0.0.0:80 failed (98: Address already in use)`.
#[derive(Debug)]
pub struct ListenError {
    /// `socket()`, `bind() to`, …
    pub call: &'static str,
    pub addr: ListenAddr,
    /// `, backlog 511` for `listen()`.
    detail: String,
    pub error: io::Error,
}

impl ListenError {
    /// Another process listens there: worth another attempt when serving, fine when testing.
    pub fn in_use(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EADDRINUSE)
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{} failed ({})", self.call, self.addr, self.detail, describe(&self.error))
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        Self::new(error.error.kind(), error)
    }
}

/// An option that could not be set, which nginx logs and ignores:
/// `setsockopt(SO_RCVBUF, 4096) 0.0.0.0:80 failed, ignored (…)`.
#[derive(Debug)]
pub struct OptionFailure {
    /// `setsockopt(SO_RCVBUF, 4096)`
    pub call: String,
    pub addr: ListenAddr,
    pub error: io::Error,
}

impl fmt::Display for OptionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed, ignored ({})", self.call, self.addr, describe(&self.error))
    }
}

/// Opens, binds and listens; the socket does not block. Follow it with [`apply_options`], as for an inherited socket.
///
/// A unix socket that nobody answers is taken for the rest of a crashed server and replaced.
///
/// # Errors
/// See [`ListenError`]. nginx tries a port in use five times, 500 ms apart.
pub fn open(spec: &ListenSpec, purpose: Purpose) -> Result<OwnedFd, ListenError> {
    let failed = |call| {
        move |error: io::Error| ListenError { call, addr: spec.addr.clone(), detail: String::new(), error }
    };
    let fd = create(spec).map_err(failed("socket()"))?;
    // nginx: a test of the configuration does not join the datagrams of the running server.
    if spec.kind == SocketKind::Tcp || purpose == Purpose::Serve {
        sockopt::set_socket_reuseaddr(&fd, true)
            .map_err(|error| failed("setsockopt(SO_REUSEADDR)")(error.into()))?;
    }
    if spec.reuseport && purpose == Purpose::Serve {
        socket::set_reuseport(&fd, true).map_err(failed("setsockopt(SO_REUSEPORT)"))?;
    }
    if matches!(spec.addr, ListenAddr::Inet(SocketAddr::V6(_))) {
        let only = spec.ipv6only.unwrap_or(true);
        sockopt::set_ipv6_v6only(&fd, only)
            .map_err(|error| failed("setsockopt(IPV6_V6ONLY)")(error.into()))?;
    }
    bind(&fd, spec).map_err(failed("bind() to"))?;
    if let ListenAddr::Unix(path) = &spec.addr {
        file::chmod(path, SOCKET_MODE).map_err(failed("chmod()"))?;
        if purpose == Purpose::Test {
            file::remove(path).map_err(failed("unlink()"))?;
        }
    }
    if spec.kind == SocketKind::Tcp {
        rustix::net::listen(&fd, spec.backlog).map_err(|error| ListenError {
            detail: format!(", backlog {}", spec.backlog),
            ..failed("listen() to")(error.into())
        })?;
    }
    Ok(fd)
}

/// Sets what may be set on an open socket, inherited ones included, and the backlog.
pub fn apply_options(fd: impl AsFd, spec: &ListenSpec) -> Vec<OptionFailure> {
    let fd = fd.as_fd();
    let mut setter = Setter { spec, failures: Vec::new() };
    if let Some(size) = spec.rcvbuf {
        setter.set("SO_RCVBUF", size, sockopt::set_socket_recv_buffer_size(fd, size));
    }
    if let Some(size) = spec.sndbuf {
        setter.set("SO_SNDBUF", size, sockopt::set_socket_send_buffer_size(fd, size));
    }
    if let Some(keepalive) = spec.keepalive {
        setter.keepalive(fd, keepalive);
    }
    if let Some(length) = spec.fastopen {
        setter.set("TCP_FASTOPEN", length, socket::set_tcp(fd, libc::TCP_FASTOPEN, length));
    }
    let inet = matches!(spec.addr, ListenAddr::Inet(_));
    if spec.kind == SocketKind::Tcp {
        if let Err(error) = rustix::net::listen(fd, spec.backlog) {
            setter.failures.push(OptionFailure {
                call: format!("listen() backlog {} to", spec.backlog),
                addr: spec.addr.clone(),
                error: error.into(),
            });
        }
        // One second: how long a connection has waited cannot be known, and some come without data after all.
        if inet && (spec.deferred || socket::tcp(fd, libc::TCP_DEFER_ACCEPT).is_ok_and(|secs| secs != 0)) {
            let secs = i32::from(spec.deferred);
            setter.set("TCP_DEFER_ACCEPT", secs, socket::set_tcp(fd, libc::TCP_DEFER_ACCEPT, secs));
        }
    } else {
        setter.datagrams(fd);
    }
    setter.failures
}

struct Setter<'a> {
    spec: &'a ListenSpec,
    failures: Vec<OptionFailure>,
}

impl Setter<'_> {
    fn set<E: Into<io::Error>>(&mut self, option: &str, value: impl fmt::Display, result: Result<(), E>) {
        if let Err(error) = result {
            self.failures.push(OptionFailure {
                call: format!("setsockopt({option}, {value})"),
                addr: self.spec.addr.clone(),
                error: error.into(),
            });
        }
    }

    fn keepalive(&mut self, fd: std::os::fd::BorrowedFd<'_>, keepalive: KeepAlive) {
        let on = keepalive != KeepAlive::Off;
        self.set("SO_KEEPALIVE", i32::from(on), sockopt::set_socket_keepalive(fd, on));
        let KeepAlive::Tuned { idle, interval, count } = keepalive else { return };
        if let Some(idle) = idle {
            self.set("TCP_KEEPIDLE", idle.as_secs(), sockopt::set_tcp_keepidle(fd, idle));
        }
        if let Some(interval) = interval {
            self.set("TCP_KEEPINTVL", interval.as_secs(), sockopt::set_tcp_keepintvl(fd, interval));
        }
        if let Some(count) = count {
            self.set("TCP_KEEPCNT", count, sockopt::set_tcp_keepcnt(fd, count));
        }
    }

    fn datagrams(&mut self, fd: std::os::fd::BorrowedFd<'_>) {
        let ListenAddr::Inet(addr) = &self.spec.addr else { return };
        if addr.ip().is_unspecified() {
            // An answer must leave from the address that was asked.
            if addr.is_ipv4() {
                self.set("IP_PKTINFO", 1, socket::set_int(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1));
            } else {
                let result = socket::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
                self.set("IPV6_RECVPKTINFO", 1, result);
            }
        }
        if self.spec.quic {
            if addr.is_ipv4() {
                let result = sockopt::set_ip_mtu_discover(fd, sockopt::Ipv4PathMtuDiscovery::DO);
                self.set("IP_MTU_DISCOVER", 2, result);
            } else {
                let result = sockopt::set_ipv6_mtu_discover(fd, sockopt::Ipv6PathMtuDiscovery::DO);
                self.set("IPV6_MTU_DISCOVER", 2, result);
            }
        }
    }
}

fn create(spec: &ListenSpec) -> io::Result<OwnedFd> {
    let family = match &spec.addr {
        ListenAddr::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
        ListenAddr::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
        ListenAddr::Unix(_) => AddressFamily::UNIX,
    };
    let protocol = spec.multipath.then_some(ipproto::MPTCP);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, socket_type(spec.kind), flags, protocol)?)
}

fn socket_type(kind: SocketKind) -> SocketType {
    match kind {
        SocketKind::Tcp => SocketType::STREAM,
        SocketKind::Udp => SocketType::DGRAM,
    }
}

fn bind(fd: &OwnedFd, spec: &ListenSpec) -> io::Result<()> {
    let path = match &spec.addr {
        ListenAddr::Inet(addr) => return Ok(rustix::net::bind(fd, addr)?),
        ListenAddr::Unix(path) => path,
    };
    let addr = SocketAddrUnix::new(path.as_slice())?;
    match rustix::net::bind(fd, &addr) {
        Err(rustix::io::Errno::ADDRINUSE) if is_abandoned(path, &addr, spec.kind) => {
            file::remove(path)?;
            Ok(rustix::net::bind(fd, &addr)?)
        }
        bound => Ok(bound?),
    }
}

/// True for a socket, and only a socket, that refuses a connection.
fn is_abandoned(path: &[u8], addr: &SocketAddrUnix, kind: SocketKind) -> bool {
    let is_socket = rustix::fs::lstat(path)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    is_socket
        && rustix::net::socket_with(AddressFamily::UNIX, socket_type(kind), flags, None)
            .is_ok_and(|probe| rustix::net::connect(&probe, addr) == Err(rustix::io::Errno::CONNREFUSED))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;
    use crate::scratch::Scratch;

    fn spec(addr: &str) -> ListenSpec {
        ListenSpec::new(ListenAddr::Inet(addr.parse().unwrap()))
    }

    fn serve(spec: &ListenSpec) -> OwnedFd {
        open(spec, Purpose::Serve).unwrap()
    }

    #[test]
    fn a_listener_accepts_and_does_not_block() {
        let fd = serve(&spec("127.0.0.1:0"));
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let listener = TcpListener::from(fd);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn a_port_in_use_is_reported_in_nginx_words() {
        let listener = TcpListener::from(serve(&spec("127.0.0.1:0")));
        let addr = listener.local_addr().unwrap();
        let error = open(&spec(&addr.to_string()), Purpose::Serve).unwrap_err();
        assert!(error.in_use());
        assert_eq!(error.to_string(), format!("bind() to {addr} failed (98: Address already in use)"));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn reuseport_shares_a_port() {
        let mut shared = spec("127.0.0.1:0");
        shared.reuseport = true;
        let first = TcpListener::from(serve(&shared));
        shared.addr = ListenAddr::Inet(first.local_addr().unwrap());
        let _second = serve(&shared);
        assert!(open(&shared, Purpose::Test).unwrap_err().in_use());
    }

    #[test]
    fn options_reach_the_socket() {
        let mut spec = spec("127.0.0.1:0");
        spec.rcvbuf = Some(40_000);
        spec.sndbuf = Some(50_000);
        spec.fastopen = Some(7);
        spec.deferred = true;
        spec.keepalive =
            Some(KeepAlive::Tuned { idle: Some(Duration::from_secs(30)), interval: None, count: Some(4) });
        let fd = serve(&spec);
        assert!(apply_options(&fd, &spec).is_empty());
        // The kernel doubles the sizes for its own bookkeeping.
        assert_eq!(sockopt::socket_recv_buffer_size(&fd).unwrap(), 80_000);
        assert_eq!(sockopt::socket_send_buffer_size(&fd).unwrap(), 100_000);
        assert_eq!(socket::tcp(&fd, libc::TCP_FASTOPEN).unwrap(), 7);
        assert_ne!(socket::tcp(&fd, libc::TCP_DEFER_ACCEPT).unwrap(), 0);
        assert!(sockopt::socket_keepalive(&fd).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&fd).unwrap(), Duration::from_secs(30));
        assert_eq!(sockopt::tcp_keepcnt(&fd).unwrap(), 4);
        // As after a reload that has dropped them.
        spec.deferred = false;
        spec.keepalive = Some(KeepAlive::Off);
        assert!(apply_options(&fd, &spec).is_empty());
        assert_eq!(socket::tcp(&fd, libc::TCP_DEFER_ACCEPT).unwrap(), 0);
        assert!(!sockopt::socket_keepalive(&fd).unwrap());
    }

    #[test]
    fn a_refused_option_is_named_and_harmless() {
        let dir = Scratch::new();
        let mut spec = ListenSpec::new(ListenAddr::Unix(dir.join("s")));
        spec.fastopen = Some(3);
        let failures = apply_options(serve(&spec), &spec);
        let line = failures[0].to_string();
        assert!(line.starts_with("setsockopt(TCP_FASTOPEN, 3) unix:/"), "{line}");
        assert!(line.ends_with("/s failed, ignored (95: Operation not supported)"), "{line}");
    }

    #[test]
    fn ipv6_sockets_leave_ipv4_alone_unless_told() {
        let Ok(fd) = open(&spec("[::]:0"), Purpose::Serve) else { return }; // a machine without IPv6
        assert!(sockopt::ipv6_v6only(&fd).unwrap());
        let mut both = spec("[::]:0");
        both.ipv6only = Some(false);
        assert!(!sockopt::ipv6_v6only(serve(&both)).unwrap());
    }

    #[test]
    fn datagrams_arrive() {
        let mut spec = spec("0.0.0.0:0");
        spec.kind = SocketKind::Udp;
        spec.quic = true;
        assert!(spec.addr.is_wildcard());
        let fd = serve(&spec);
        assert!(apply_options(&fd, &spec).is_empty());
        assert_eq!(sockopt::ip_mtu_discover(&fd).unwrap(), sockopt::Ipv4PathMtuDiscovery::DO);
        assert_eq!(socket::int(&fd, libc::IPPROTO_IP, libc::IP_PKTINFO).unwrap(), 1);
        let socket = UdpSocket::from(fd);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.1", socket.local_addr().unwrap().port())).unwrap();
        let mut buf = [0; 9];
        assert_eq!(socket.recv(&mut buf).unwrap(), 5);
    }

    #[test]
    fn a_unix_socket_is_for_everybody() {
        let dir = Scratch::new();
        let spec = ListenSpec::new(ListenAddr::Unix(dir.join("s")));
        let _fd = serve(&spec);
        let mode = std::fs::metadata(dir.path("s")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        UnixStream::connect(dir.path("s")).unwrap();
    }

    #[test]
    fn a_living_unix_socket_is_left_alone_and_a_dead_one_replaced() {
        let dir = Scratch::new();
        for kind in [SocketKind::Tcp, SocketKind::Udp] {
            let mut spec = ListenSpec::new(ListenAddr::Unix(dir.join("s")));
            spec.kind = kind;
            let alive = serve(&spec);
            assert!(open(&spec, Purpose::Serve).unwrap_err().in_use());
            drop(alive);
            let _again = serve(&spec);
            if kind == SocketKind::Udp {
                UnixDatagram::unbound().unwrap().send_to(b"x", dir.path("s")).unwrap();
            }
            file::remove(&dir.join("s")).unwrap();
        }
        std::fs::write(dir.path("s"), "precious").unwrap();
        let spec = ListenSpec::new(ListenAddr::Unix(dir.join("s")));
        assert!(open(&spec, Purpose::Serve).unwrap_err().in_use(), "a plain file is never removed");
    }

    #[test]
    fn a_test_leaves_nothing_behind() {
        let dir = Scratch::new();
        let spec = ListenSpec::new(ListenAddr::Unix(dir.join("s")));
        open(&spec, Purpose::Test).unwrap();
        assert!(!dir.path("s").exists());
    }

    #[test]
    fn a_unix_path_too_long_for_the_system_is_refused() {
        let spec = ListenSpec::new(ListenAddr::Unix(vec![b'x'; 200]));
        assert_eq!(open(&spec, Purpose::Serve).unwrap_err().call, "bind() to");
    }

    #[test]
    fn multipath_sockets_open_where_the_kernel_has_them() {
        let mut spec = spec("127.0.0.1:0");
        spec.multipath = true;
        match open(&spec, Purpose::Serve) {
            Ok(fd) => assert_eq!(sockopt::socket_protocol(fd).unwrap(), Some(ipproto::MPTCP)),
            Err(error) => assert_eq!(error.call, "socket()"),
        }
    }
}
