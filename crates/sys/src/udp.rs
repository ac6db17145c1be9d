//! Datagrams with the address they were sent to, so that answers leave from it.
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of, size_of_val, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr;

use socket2::SockAddr;

use crate::socket::Addr;

/// A received datagram; its bytes are in the caller's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub len: usize,
    /// The buffer was too small and the rest is lost.
    pub truncated: bool,
    pub peer: Addr,
    /// The address it was sent to, where the socket was opened for it: a wildcard listener.
    pub local: Option<IpAddr>,
}

/// Room for one address with its header, aligned for it.
type Control = [u64; 16];

/// Receives one datagram without waiting.
///
/// # Errors
/// `WouldBlock` when none is there; those of `recvmsg` otherwise.
pub fn recv_from(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Datagram> {
    let fd = fd.as_fd().as_raw_fd();
    let mut control: Control = [0; 16];
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: a zeroed `msghdr` is valid; below, its pointers lead to live, exclusively borrowed memory of the
    // lengths given, and `SockAddr` is filled by the kernel, which sets its length.
    let ((len, msg), peer) = unsafe {
        SockAddr::try_init(|storage, storage_len| {
            let mut msg: libc::msghdr = zeroed();
            msg.msg_name = storage.cast();
            msg.msg_namelen = *storage_len;
            msg.msg_iov = &mut iov;
            msg.msg_iovlen = 1;
            msg.msg_control = control.as_mut_ptr().cast();
            msg.msg_controllen = size_of_val(&control) as _;
            let len = loop {
                match libc::recvmsg(fd, &mut msg, libc::MSG_DONTWAIT) {
                    -1 => {
                        let error = io::Error::last_os_error();
                        if error.kind() != io::ErrorKind::Interrupted {
                            return Err(error);
                        }
                    }
                    len => break len,
                }
            };
            *storage_len = msg.msg_namelen;
            Ok((len, msg))
        })?
    };
    let peer = match (peer.as_socket(), peer.as_pathname()) {
        (Some(addr), _) => Addr::Inet(addr),
        (None, Some(path)) => Addr::Unix(crate::path::to_bytes(path).to_vec()),
        (None, None) => Addr::Unnamed,
    };
    Ok(Datagram {
        len: usize::try_from(len).unwrap_or(0).min(buf.len()),
        truncated: msg.msg_flags & libc::MSG_TRUNC != 0,
        peer,
        // SAFETY: the kernel filled `control`, which is alive, and set the length in `msg`.
        local: unsafe { local_of(&msg) },
    })
}

/// # Safety
/// `msg` was filled by `recvmsg` and its control buffer is alive.
unsafe fn local_of(msg: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: by contract the macros walk a well-formed list; the data is read unaligned, and of a type that the
    // level and type of the header tell.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(msg);
        while let Some(cmsg) = header.as_ref() {
            let data = libc::CMSG_DATA(cmsg);
            match (cmsg.cmsg_level, cmsg.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => header = libc::CMSG_NXTHDR(msg, cmsg),
            }
        }
        None
    }
}

/// Sends one datagram without waiting, from the given address of this machine if any.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing; those of `sendmsg` otherwise.
pub fn send_to(
    fd: impl AsFd,
    pieces: &[IoSlice<'_>],
    peer: &SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    let peer = SockAddr::from(*peer);
    let mut control: Control = [0; 16];
    // SAFETY: a zeroed `msghdr` is valid, and so are its pointers below for as long as the call takes. `IoSlice` has
    // the layout of `iovec`; the kernel only reads through it.
    unsafe {
        let mut msg: libc::msghdr = zeroed();
        msg.msg_name = peer.as_ptr().cast_mut().cast();
        msg.msg_namelen = peer.len();
        msg.msg_iov = pieces.as_ptr().cast_mut().cast();
        msg.msg_iovlen = pieces.len() as _;
        match from {
            None => {}
            Some(IpAddr::V4(addr)) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(addr.octets());
                put(&mut msg, &mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(addr)) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = addr.octets();
                put(&mut msg, &mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
        loop {
            let sent = libc::sendmsg(fd, &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Makes `info` the one control message of `msg`.
fn put<T>(msg: &mut libc::msghdr, control: &mut Control, level: i32, kind: i32, info: T) {
    let size = size_of::<T>() as u32;
    // SAFETY: `control` is aligned for a header and, checked here, large enough for header and data; the caller
    // keeps it alive while `msg` is used.
    unsafe {
        assert!(libc::CMSG_SPACE(size) as usize <= size_of::<Control>());
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(msg);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<MaybeUninit<T>>(), MaybeUninit::new(info));
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::listen::{self, ListenAddr, ListenSpec, Purpose, SocketKind};

    fn listener(addr: &str) -> Option<UdpSocket> {
        let mut spec = ListenSpec::new(ListenAddr::Inet(addr.parse().unwrap()));
        spec.kind = SocketKind::Udp;
        let fd = listen::open(&spec, Purpose::Serve).ok()?;
        assert!(listen::apply_options(&fd, &spec).is_empty());
        Some(fd.into())
    }

    fn receive(fd: &UdpSocket, buf: &mut [u8]) -> Datagram {
        loop {
            match recv_from(fd, buf) {
                Ok(datagram) => return datagram,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    fn check(listen: &str, client: &str, asked: &str) {
        let Some(server) = listener(listen) else { return }; // a machine without IPv6
        let Ok(client) = UdpSocket::bind(client) else { return };
        let asked: IpAddr = asked.parse().unwrap();
        client.send_to(b"question", (asked, server.local_addr().unwrap().port())).unwrap();
        let mut buf = [0; 64];
        let datagram = receive(&server, &mut buf);
        assert_eq!(&buf[..datagram.len], b"question");
        assert_eq!((datagram.local, datagram.truncated), (Some(asked), false));
        let peer = client.local_addr().unwrap();
        assert_eq!(datagram.peer, Addr::Inet(peer));
        let pieces = [IoSlice::new(b"ans"), IoSlice::new(b"wer")];
        assert_eq!(send_to(&server, &pieces, &peer, datagram.local).unwrap(), 6);
        let (len, from) = client.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..len], from.ip()), (b"answer".as_slice(), asked));
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        check("0.0.0.0:0", "127.0.0.1:0", "127.0.0.3");
        check("[::]:0", "[::1]:0", "::1");
    }

    #[test]
    fn a_bound_socket_needs_no_address() {
        let server = listener("127.0.0.1:0").unwrap();
        let mut buf = [0; 4];
        assert_eq!(recv_from(&server, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            send_to(&client, &[IoSlice::new(b"too long")], &server.local_addr().unwrap(), None).unwrap(),
            8
        );
        let datagram = receive(&server, &mut buf);
        assert_eq!((datagram.len, datagram.truncated, datagram.local), (4, true, None));
    }

    #[test]
    fn unix_datagrams_have_unnamed_senders() {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(b"x").unwrap();
        let datagram = recv_from(&b, &mut [0; 4]).unwrap();
        assert_eq!((datagram.len, datagram.peer), (1, Addr::Unnamed));
    }
}
