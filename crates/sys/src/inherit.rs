//! Listening sockets handed to a new binary in the environment: `NGINX=6;7;`.
//!
//! <https://nginx.org/en/docs/control.html#upgrade>
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::FdFlags;

use crate::listen::{ListenAddr, SocketKind};
use crate::socket::{self, Addr};

/// The variable's name.
pub const VARIABLE: &str = "NGINX";

/// A listening socket that was open before this program began.
#[derive(Debug)]
pub struct Inherited {
    pub addr: ListenAddr,
    pub kind: SocketKind,
    pub reuseport: bool,
    pub fd: OwnedFd,
}

/// What the variable held.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    pub sockets: Vec<Inherited>,
    /// Messages in nginx's words for what could not be used.
    pub problems: Vec<String>,
}

/// Takes over the sockets that the variable names. Numbers that are no inherited listening or datagram socket are
/// reported and left alone, so a stray variable does no harm.
pub fn inherited_listeners(variable: &[u8]) -> InheritedListeners {
    let mut found = InheritedListeners::default();
    let mut rest = variable;
    while let Some(end) = rest.iter().position(|&byte| byte == b';' || byte == b':') {
        let Some(number) = parse(&rest[..end]) else {
            found.problems.push(format!(
                "invalid socket number \"{}\" in {VARIABLE} environment variable, \
                 ignoring the rest of the variable",
                String::from_utf8_lossy(rest)
            ));
            return found;
        };
        match adopt(number) {
            Ok(socket) => found.sockets.push(socket),
            Err(error) => found.problems.push(format!(
                "getsockname() of the inherited socket #{number} failed ({})",
                crate::errno::describe(&error)
            )),
        }
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        found.problems.push(format!(
            "invalid socket number \"{}\" in {VARIABLE} environment variable, ignoring",
            String::from_utf8_lossy(rest)
        ));
    }
    found
}

/// The variable, name included, for these sockets. The sockets themselves are handed over by
/// [`exec::spawn_binary`](crate::exec::spawn_binary).
pub fn variable<'a>(sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> String {
    let mut text = format!("{VARIABLE}=");
    for socket in sockets {
        text.push_str(&socket.as_raw_fd().to_string());
        text.push(';');
    }
    text
}

fn parse(digits: &[u8]) -> Option<RawFd> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |number: RawFd, digit| {
        let value = digit.is_ascii_digit().then(|| RawFd::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

fn adopt(number: RawFd) -> io::Result<Inherited> {
    let fd = take(number)?;
    let addr = match socket::local_addr(&fd)? {
        Addr::Inet(addr) => ListenAddr::Inet(addr),
        Addr::Unix(path) => ListenAddr::Unix(path),
        Addr::Unnamed => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    let kind = match rustix::net::sockopt::socket_type(&fd)? {
        rustix::net::SocketType::STREAM => SocketKind::Tcp,
        rustix::net::SocketType::DGRAM => SocketKind::Udp,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let reuseport = socket::reuseport(&fd).unwrap_or(false);
    // nginx's are not close-on-exec and may, with another server, block.
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Inherited { addr, kind, reuseport, fd })
}

/// Takes a descriptor that came through `exec`: one that is not close-on-exec. All that this program opens is.
fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the borrow is used for calls that only look at the descriptor and fail if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    rustix::net::sockopt::socket_type(borrowed.as_fd())?;
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: open, and owned by nobody: every descriptor that Rust code opens is close-on-exec, this one was not
    // until the line above, which also keeps it from being taken twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::scratch::Scratch;

    /// As `exec` would leave it.
    fn leave_open(fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
        fd.into_raw_fd()
    }

    #[test]
    fn sockets_come_back_with_their_addresses() {
        let dir = Scratch::new();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let unix = UnixDatagram::bind(dir.path("s")).unwrap();
        let text = variable([tcp.as_fd(), unix.as_fd()]);
        let numbers = text.strip_prefix("NGINX=").unwrap();
        let (tcp, unix) = (leave_open(tcp), leave_open(unix));
        assert_eq!(numbers, format!("{tcp};{unix};"));

        let found = inherited_listeners(numbers.as_bytes());
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        assert_eq!(found.sockets[0].addr, ListenAddr::Inet(addr));
        assert_eq!(found.sockets[0].kind, SocketKind::Tcp);
        assert_eq!(found.sockets[1].addr, ListenAddr::Unix(dir.join("s")));
        assert_eq!(found.sockets[1].kind, SocketKind::Udp);

        let again = inherited_listeners(numbers.as_bytes());
        assert!(again.sockets.is_empty() && again.problems.len() == 2, "a socket is taken once");
    }

    #[test]
    fn what_is_no_inherited_socket_is_left_alone() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = own.as_raw_fd();
        let plain = leave_open(std::fs::File::open("/dev/null").unwrap());
        let found = inherited_listeners(format!("0;{own};{plain};99999;").as_bytes());
        assert!(found.sockets.is_empty());
        assert_eq!(found.problems.len(), 4);
        assert!(found.problems[3].contains("socket #99999 failed (9: Bad file descriptor)"));
    }

    #[test]
    fn nonsense_is_reported_as_nginx_does() {
        let problems = |text: &str| inherited_listeners(text.as_bytes()).problems.join("|");
        assert_eq!(problems(""), "");
        assert_eq!(
            problems("x6;7;"),
            "invalid socket number \"x6;7;\" in NGINX environment variable, ignoring the rest of the variable"
        );
        assert_eq!(problems("7"), "invalid socket number \"7\" in NGINX environment variable, ignoring");
        assert!(problems(";").contains("ignoring the rest"));
        assert!(problems("99999999999999;").contains("ignoring the rest"));
    }
}
