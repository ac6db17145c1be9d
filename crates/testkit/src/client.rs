//! A raw client: sends exactly the bytes it is told to, as slowly or rudely as a test needs.
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::process;
use crate::response::{Context, Malformed, Response};

/// How long a read waits for bytes unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// One connection to a server. Its methods stop the test when the connection does not do what is asked.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    timeout: Duration,
    received: Vec<u8>,
    at_end: bool,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, TIMEOUT).expect("the server accepts a connection");
        stream.set_nodelay(true).expect("a connected socket takes TCP_NODELAY");
        Self { stream, timeout: TIMEOUT, received: Vec::new(), at_end: false }
    }

    /// Changes how long a read waits.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client's own address.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends bytes. A server that closed already is no failure here: the answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends bytes in pieces of `size` with a pause between them.
    pub fn send_slowly(&mut self, bytes: impl AsRef<[u8]>, size: usize, pause: Duration) -> &mut Self {
        for piece in bytes.as_ref().chunks(size.max(1)) {
            self.send(piece);
            std::thread::sleep(pause);
        }
        self
    }

    /// Waits until the server has accepted the connection and read everything that was sent.
    #[track_caller]
    pub fn wait_until_read(&mut self) -> &mut Self {
        let read = process::poll(self.timeout, || self.is_read().then_some(()));
        assert!(read.is_some(), "the server does not read what it was sent");
        self
    }

    /// Whether the kernel holds nothing of what was sent any more: neither for sending nor for the server to read.
    /// A connection that waits to be accepted has no inode yet.
    fn is_read(&self) -> bool {
        let (Ok(SocketAddr::V4(ours)), Ok(SocketAddr::V4(theirs))) =
            (self.stream.local_addr(), self.stream.peer_addr())
        else {
            panic!("only IPv4 connections can be looked up");
        };
        let sockets = fs::read_to_string("/proc/net/tcp").expect("the list of sockets");
        // number, local address, remote address, state, sending:receiving, …, inode in the tenth field
        let find = |local: SocketAddrV4, remote: SocketAddrV4| {
            let (local, remote) = (in_proc(local), in_proc(remote));
            sockets.lines().find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let found = fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
                let (sending, receiving) = fields.get(4)?.split_once(':')?;
                let (state, inode) = (*fields.get(3)?, *fields.get(9)?);
                // One that was closed has none any more.
                let accepted = inode != "0" || state != ESTABLISHED;
                found.then(|| (sending == "00000000", receiving == "00000000", accepted))
            })
        };
        let sent = find(ours, theirs).is_some_and(|(sent, _, _)| sent);
        // A server that has closed reads no more.
        sent && find(theirs, ours).is_none_or(|(_, read, accepted)| read && accepted)
    }

    /// Waits until this many bytes of the answer have come; they are still there to be read.
    #[track_caller]
    pub fn wait_for_bytes(&mut self, count: usize) -> &mut Self {
        while self.received.len() < count {
            let more = !self.at_end && self.read_some(self.timeout);
            assert!(more, "no answer in time: {}", self.shown());
        }
        self
    }

    /// Reads the next response; answers may stand behind one another on the connection.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.next_response(false)
    }

    /// Reads the next response, which answers a HEAD request.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        self.next_response(true)
    }

    /// Reads until the server closes, and returns what came.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while !self.at_end {
            assert!(self.read_some(self.timeout), "the server does not close: {}", self.shown());
        }
        std::mem::take(&mut self.received)
    }

    /// Stops the test unless the server closes without sending anything more.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let left = self.read_to_end();
        assert_eq!(String::from_utf8_lossy(&left), "", "bytes before the server closed");
    }

    /// Stops the test if the server sends or closes within this time.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) -> &mut Self {
        let heard = !self.received.is_empty() || self.read_some(time);
        assert!(!heard, "the server was to stay silent: {}", self.shown());
        self
    }

    /// Says that no more bytes will come, and goes on reading.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Closes in the ordinary way.
    pub fn close(self) {
        drop(self);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    #[track_caller]
    fn next_response(&mut self, head_request: bool) -> Response {
        loop {
            match Response::parse(&self.received, Context { head_request, at_end: self.at_end }) {
                Ok(mut response) => {
                    self.received = std::mem::take(&mut response.rest);
                    return response;
                }
                Err(Malformed::Incomplete) if !self.at_end => {
                    assert!(self.read_some(self.timeout), "no response in time: {}", self.shown());
                }
                Err(error) => panic!("{error}: {}", self.shown()),
            }
        }
    }

    /// Waits for bytes or the end; false when neither came in time.
    fn read_some(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.at_end = true,
                Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => self.at_end = true,
            }
            return true;
        }
    }

    fn shown(&self) -> String {
        format!("received {:?}", String::from_utf8_lossy(&self.received))
    }
}

/// The state of a connection that neither side has closed, in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// An address as it stands in `/proc/net/tcp`.
fn in_proc(addr: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_the_server_has_read_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap());
        assert!(!client.is_read(), "nobody has accepted it");
        client.send("hello");
        let (mut server, _) = listener.accept().unwrap();
        assert!(!client.is_read(), "nobody has read it");
        server.read_exact(&mut [0; 3]).unwrap();
        assert!(!client.is_read(), "not all of it");
        server.read_exact(&mut [0; 2]).unwrap();
        client.wait_until_read();
        server.write_all(b"good bye").unwrap();
        client.wait_for_bytes(4);
        drop(server);
        assert_eq!(client.wait_until_read().read_to_end(), b"good bye");
    }
}
