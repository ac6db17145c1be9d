//! Connecting to peers without blocking: TCP, unix sockets, and datagrams.

use crate::{
    addr::Addr,
    io::{Io, Socket as Watched},
    timer::Timeout,
};
use moonrest_rt::Interest;
use moonrest_sys::socket;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::{
    ffi::OsStr,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    task::{Context, Poll},
};

/// The address of this machine that a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Port 0 lets the system choose.
    pub addr: SocketAddr,
    /// It may be an address that the machine does not have (`proxy_bind … transparent`).
    pub transparent: bool,
}

/// A connection on its way.
pub struct Connecting {
    io: Io,
    done: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("connect timed out")]
    TimedOut,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Begins to connect.
///
/// # Errors
/// Those of `socket`, `bind` and `connect`, but not that it takes time.
pub fn start(to: &Addr, from: Option<&Local>) -> io::Result<Connecting> {
    start_with(open(&sock_addr(to)?, Type::STREAM, from)?.into(), to)
}

/// A socket for a stream to `to`, for somebody who has options to set before he [begins](start_with) to connect it.
///
/// # Errors
/// Those of `socket`.
pub fn stream_for(to: &Addr) -> io::Result<OwnedFd> {
    Ok(open(&sock_addr(to)?, Type::STREAM, None)?.into())
}

/// Has `socket` come from an address of this machine.
///
/// # Errors
/// Those of `bind`.
pub fn bind(socket: impl AsFd, from: SocketAddr) -> io::Result<()> {
    SockRef::from(&socket).bind(&from.into())
}

/// Begins to connect a socket that does not wait.
///
/// # Errors
/// Those of `connect`, but not that it takes time.
pub fn start_with(socket: OwnedFd, to: &Addr) -> io::Result<Connecting> {
    let target = sock_addr(to)?;
    let done = match SockRef::from(&socket).connect(&target) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => false,
        Err(error) => return Err(error),
    };
    // Not before: a socket without a connection is one whose connection has ended.
    Ok(Connecting { io: Io::connecting(socket, target.is_unix())?, done })
}

/// `EINPROGRESS`.
const IN_PROGRESS: i32 = 115;

impl Connecting {
    /// Whether the connection is there already.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Ready when the connection is there, or cannot be made.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        std::task::ready!(self.io.poll_writable(cx))?;
        if let Some(error) = self.io.with_fd(|fd| socket::take_error(fd))? {
            return Poll::Ready(Err(error));
        }
        self.done = true;
        Poll::Ready(Ok(()))
    }

    /// The stream.
    pub fn into_io(self) -> Io {
        self.io
    }
}

/// Connects within `timeout` milliseconds.
///
/// # Errors
/// [`ConnectError::TimedOut`], or the system's.
pub async fn connect(to: &Addr, from: Option<&Local>, timeout: u64) -> Result<Io, ConnectError> {
    let mut connecting = start(to, from)?;
    let timer = Timeout::new();
    timer.set(timeout);
    poll_fn(|cx| match connecting.poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(ConnectError::Io)),
        Poll::Pending => timer.poll(cx).map(|()| Err(ConnectError::TimedOut)),
    })
    .await?;
    Ok(connecting.into_io())
}

fn open(target: &SockAddr, kind: Type, from: Option<&Local>) -> io::Result<Socket> {
    let protocol = match (target.is_unix(), kind == Type::STREAM) {
        (true, _) => None,
        (false, true) => Some(Protocol::TCP),
        (false, false) => Some(Protocol::UDP),
    };
    let socket = Socket::new(target.domain(), kind.nonblocking().cloexec(), protocol)?;
    let Some(local) = from else { return Ok(socket) };
    if local.transparent {
        socket::set_transparent(&socket, target.domain() == Domain::IPV6)?;
    }
    if local.addr.port() == 0 && kind == Type::STREAM {
        // Ports are then told apart by the peer; an old kernel does without.
        let _ = socket::set_bind_address_no_port(&socket);
    }
    socket.bind(&local.addr.into())?;
    Ok(socket)
}

fn sock_addr(addr: &Addr) -> io::Result<SockAddr> {
    match addr {
        Addr::Inet(addr) => Ok((*addr).into()),
        Addr::Unix(path) => SockAddr::unix(OsStr::from_bytes(path)),
    }
}

/// A datagram socket that talks to one peer.
pub struct Datagrams(Watched);

impl Datagrams {
    /// A socket for `to`. On unix sockets it gets a name of its own, so that the peer can answer.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `connect`.
    pub fn connect(to: &Addr, from: Option<&Local>) -> io::Result<Self> {
        let target = sock_addr(to)?;
        let socket = open(&target, Type::DGRAM, from)?;
        if target.is_unix() {
            socket::bind_any_name(&socket)?;
        }
        socket.connect(&target)?;
        Ok(Self(Watched::new(socket.into(), Interest::READ)?))
    }

    /// Sends one datagram, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; the system's.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        socket::send(&self.0, &[io::IoSlice::new(data)], false)
    }

    /// Receives one datagram if one is there. What does not fit is lost.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(|socket| socket::recv(socket, buffer))
    }

    /// Receives one datagram.
    ///
    /// # Errors
    /// The system's: also what the network said about a datagram that was sent.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.readable().await?;
            match self.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_rt::block_on as run;
    use std::{io::Read, net::TcpListener};

    #[test]
    fn a_stream_comes_from_the_address_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Addr::Inet(listener.local_addr().unwrap());
        let from = Local { addr: "127.0.0.7:0".parse().unwrap(), transparent: false };
        run(async {
            let io = connect(&to, Some(&from), 2_000).await.unwrap();
            assert_eq!(io.try_write(&[io::IoSlice::new(b"hello")], false).unwrap(), 5);
        });
        let (mut peer, addr) = listener.accept().unwrap();
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), addr.ip().to_string().as_str()), ("hello", "127.0.0.7"));
    }

    #[test]
    fn refusals_are_errors_of_the_system() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        run(async {
            let Err(ConnectError::Io(error)) = connect(&Addr::Inet(free), None, 2_000).await else {
                panic!()
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let path = Addr::Unix(b"/nonexistent/socket"[..].into());
            let Err(ConnectError::Io(error)) = connect(&path, None, 2_000).await else { panic!() };
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn datagrams_to_nobody_are_errors() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        run(async {
            let socket = Datagrams::connect(&Addr::Inet(free), None).unwrap();
            socket.send(b"ping").unwrap();
            let error = socket.recv(&mut [0; 16]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn datagrams_over_unix_sockets_are_answered() {
        let dir = std::env::temp_dir().join(format!("moonrest-dgram-{}", std::process::id()));
        let _ = std::fs::remove_file(&dir);
        let peer = std::os::unix::net::UnixDatagram::bind(&dir).unwrap();
        run(async {
            let socket = Datagrams::connect(&Addr::Unix(dir.as_os_str().as_bytes().into()), None).unwrap();
            socket.send(b"ping").unwrap();
            let mut buffer = [0; 16];
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"ping");
            use std::os::linux::net::SocketAddrExt;
            assert!(from.as_abstract_name().is_some());
            peer.send_to_addr(b"pong", &from).unwrap();
            let len = socket.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..len], b"pong");
        });
        let _ = std::fs::remove_file(&dir);
    }
}
