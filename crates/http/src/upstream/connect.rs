//! Connections to upstreams: made, with the options that the location wants.

use super::{Conf, http2::Session, tls::Link};
use moonrest_core::Level;
use moonrest_net::{
    addr::Addr,
    connect::{bind, start_with, stream_for},
    io::Io,
    timer::Timeout,
};
use moonrest_rt::clock::monotonic_ms;
use moonrest_sys::socket;
use std::{future::poll_fn, io, net::SocketAddr, os::fd::OwnedFd, rc::Rc};

/// A connection to a peer, new or used before.
pub(super) struct Conn {
    pub io: Rc<Io>,
    /// In which way it was made.
    pub link: Link,
    /// What HTTP/2 has of it, once it was begun.
    pub http2: Option<Box<Session>>,
    pub timeout: Timeout,
    /// Requests sent over it.
    pub requests: u64,
    /// Monotonic milliseconds.
    pub started: u64,
    /// It was taken from the pool.
    pub reused: bool,
}

/// Why no connection could be made.
pub(super) struct ConnectError {
    pub level: Level,
    pub message: String,
    /// Nobody else need be asked: it is our own fault.
    pub ours: bool,
}

impl ConnectError {
    fn ours(call: &str, error: &io::Error) -> Self {
        let message = format!("{call} failed ({})", moonrest_core::env::os_error(error));
        Self { level: Level::Crit, message, ours: true }
    }
}

impl Conn {
    pub(super) fn new(io: Io, link: Link) -> Box<Self> {
        Box::new(Self {
            io: Rc::new(io),
            link,
            http2: None,
            timeout: Timeout::new(),
            requests: 0,
            started: monotonic_ms(),
            reused: false,
        })
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.io.close();
    }
}

/// Connects to `addr`, from `local` if given.
pub(super) async fn connect(
    options: &Options,
    addr: &Addr,
    local: Option<SocketAddr>,
) -> Result<Io, ConnectError> {
    let socket = open(options, addr, local)?;
    let mut connecting = start_with(socket, addr).map_err(|error| refused(addr, &error))?;
    poll_fn(|cx| connecting.poll(cx)).await.map_err(|error| refused(addr, &error))?;
    let io = connecting.into_io();
    if matches!(addr, Addr::Inet(_)) {
        // What is written is complete: nothing is gained by holding back the end of a request.
        let _ = io.with_fd(|fd| socket::set_nodelay(fd, true));
    }
    Ok(io)
}

/// A connection for a module that speaks a protocol of its own.
///
/// # Errors
/// What to log, and at which level.
pub async fn dial(addr: &Addr) -> Result<Io, (Level, String)> {
    connect(&Options::default(), addr, None).await.map_err(|error| (error.level, error.message))
}

/// The socket options of a location.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    keepalive: bool,
    rcvbuf: Option<usize>,
    sndbuf: Option<usize>,
    transparent: bool,
}

impl Options {
    pub(super) fn new(conf: &Conf) -> Self {
        Self {
            keepalive: conf.socket_keepalive,
            rcvbuf: conf.socket_rcvbuf,
            sndbuf: conf.socket_sndbuf,
            transparent: conf.bind.as_ref().is_some_and(|bind| bind.transparent),
        }
    }
}

fn open(options: &Options, addr: &Addr, local: Option<SocketAddr>) -> Result<OwnedFd, ConnectError> {
    let failed = |call: &'static str| {
        move |error: io::Error| ConnectError { level: Level::Alert, ..ConnectError::ours(call, &error) }
    };
    let tcp = stream_for(addr).map_err(failed("socket()"))?;
    if matches!(addr, Addr::Unix(_)) {
        return Ok(tcp);
    }
    if options.keepalive {
        socket::set_keepalive(&tcp, true).map_err(failed("setsockopt(SO_KEEPALIVE)"))?;
    }
    if let Some(size) = options.rcvbuf {
        socket::set_rcvbuf(&tcp, size).map_err(failed("setsockopt(SO_RCVBUF)"))?;
    }
    if let Some(size) = options.sndbuf {
        socket::set_sndbuf(&tcp, size).map_err(failed("setsockopt(SO_SNDBUF)"))?;
    }
    if let Some(local) = local {
        if options.transparent {
            socket::set_transparent(&tcp, local.is_ipv6()).map_err(failed("setsockopt(IP_TRANSPARENT)"))?;
        }
        if local.port() == 0 {
            // Old kernels choose the port when binding.
            let _ = socket::set_bind_address_no_port(&tcp);
        }
        bind(&tcp, local).map_err(|error| ConnectError::ours(&format!("bind({})", local.ip()), &error))?;
    }
    Ok(tcp)
}

/// nginx's words, which tell a failure that is known at once from one that the network reports later.
fn refused(addr: &Addr, error: &io::Error) -> ConnectError {
    use io::ErrorKind as Kind;
    let usual = matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::WouldBlock
            | Kind::ConnectionReset
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::TimedOut
            | Kind::BrokenPipe
            | Kind::NotConnected
    );
    let at_once = matches!(addr, Addr::Unix(_))
        || !matches!(
            error.kind(),
            Kind::ConnectionRefused | Kind::ConnectionReset | Kind::TimedOut | Kind::HostUnreachable
        );
    let reason = moonrest_core::env::os_error(error);
    let message = if at_once {
        let mut name = Vec::new();
        addr.append_with_port(&mut name);
        format!("connect() to {} failed ({reason})", String::from_utf8_lossy(&name))
    } else {
        format!("connect() failed ({reason})")
    };
    ConnectError { level: if usual { Level::Error } else { Level::Crit }, message, ours: false }
}
