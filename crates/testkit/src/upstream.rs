//! A mock upstream: a TCP server that follows a script and records what it is sent.
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::process::{TICK, poll};
use crate::response::find;

/// How long the upstream waits for bytes its script asks for.
const PATIENCE: Duration = Duration::from_secs(10);

/// One step of the script for a connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Read a request: head, and body as its `Content-Length` or chunked coding says.
    ReadRequest,
    /// Read until these bytes were received.
    ReadUntil(Vec<u8>),
    /// Read this many bytes.
    Read(usize),
    /// Send bytes.
    Send(Vec<u8>),
    /// Do nothing for a while.
    Wait(Duration),
    /// Close the sending side.
    HalfClose,
    /// Close with a reset.
    Reset,
    /// Keep the connection open and silent until the peer closes it.
    Hold,
}

impl Act {
    /// Sends text.
    pub fn send(text: impl Into<Vec<u8>>) -> Self {
        Self::Send(text.into())
    }
}

/// What was received on one connection, in the order of the connections.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// All bytes received.
    pub bytes: Vec<u8>,
    /// The peer closed, or the script ended.
    pub done: bool,
}

impl Recorded {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

type Log = Arc<Mutex<Vec<Recorded>>>;

/// The server; it stops with this value.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    log: Log,
    ending: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Follows the first script on the first connection and so on; the last one serves all later connections.
    #[track_caller]
    pub fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a listening socket can be non-blocking");
        let addr = listener.local_addr().expect("a listening socket has an address");
        let (log, ending) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let acceptor = std::thread::spawn({
            let (log, ending) = (Arc::clone(&log), Arc::clone(&ending));
            move || accept(&listener, &scripts, &log, &ending)
        });
        Self { addr, log, ending, acceptor: Some(acceptor) }
    }

    /// Answers each request on each connection with these bytes.
    #[track_caller]
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(vec![[Act::ReadRequest, Act::Send(response)].into_iter().cycle().take(200).collect()])
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has been received so far, a record per connection.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what was received on some connection contains these bytes.
    #[track_caller]
    pub fn wait_for(&self, bytes: impl AsRef<[u8]>) -> Recorded {
        let found = poll(PATIENCE, || {
            self.recorded().into_iter().find(|record| find(&record.bytes, bytes.as_ref()).is_some())
        });
        found.unwrap_or_else(|| {
            panic!("the upstream was not sent {:?}", String::from_utf8_lossy(bytes.as_ref()))
        })
    }

    /// Waits until this many connections came.
    #[track_caller]
    pub fn wait_for_connections(&self, count: usize) {
        let came = poll(PATIENCE, || (self.recorded().len() >= count).then_some(()));
        assert!(came.is_some(), "{} connections instead of {count}", self.recorded().len());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, scripts: &[Vec<Act>], log: &Log, ending: &Arc<AtomicBool>) {
    let mut connections = Vec::new();
    while !ending.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(TICK);
            continue;
        };
        let Some(script) = scripts.get(connections.len()).or(scripts.last()).cloned() else { continue };
        let number = connections.len();
        log.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded::default());
        let (log, ending) = (Arc::clone(log), Arc::clone(ending));
        connections.push(std::thread::spawn(move || {
            Connection { stream, number, log, ending, unread: Vec::new(), peer_closed: false }
                .follow(&script);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

struct Connection {
    stream: TcpStream,
    number: usize,
    log: Log,
    ending: Arc<AtomicBool>,
    /// Received and recorded, not yet asked for by the script.
    unread: Vec<u8>,
    peer_closed: bool,
}

impl Connection {
    fn follow(mut self, script: &[Act]) {
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(20)));
        for act in script {
            if !self.perform(act) {
                break;
            }
        }
        self.record(&[], true);
    }

    /// Does one step; false when the connection is over.
    fn perform(&mut self, act: &Act) -> bool {
        match act {
            Act::ReadRequest => self.read_until(request_len),
            Act::ReadUntil(bytes) => self.read_until(|got| find(got, bytes).map(|at| at + bytes.len())),
            Act::Read(len) => self.read_until(|got| (got.len() >= *len).then_some(*len)),
            Act::Send(bytes) => self.stream.write_all(bytes).is_ok(),
            Act::Wait(time) => {
                let _ = poll(*time, || self.ending.load(Ordering::Relaxed).then_some(()));
                true
            }
            Act::HalfClose => self.stream.shutdown(Shutdown::Write).is_ok(),
            Act::Reset => {
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                false
            }
            Act::Hold => {
                while self.read_more() {}
                false
            }
        }
    }

    /// Reads until `len` says how many of the unread bytes the step takes.
    fn read_until(&mut self, len: impl Fn(&[u8]) -> Option<usize>) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(len) = len(&self.unread) {
                self.unread.drain(..len.min(self.unread.len()));
                return true;
            }
            if Instant::now() >= end || !self.read_more() {
                return false;
            }
        }
    }

    /// Waits a moment for bytes; false at the end of the connection or of the upstream.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.peer_closed = true,
            Ok(len) => {
                self.unread.extend_from_slice(&buffer[..len]);
                self.record(&buffer[..len], false);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => self.peer_closed = true,
        }
        !self.peer_closed && !self.ending.load(Ordering::Relaxed)
    }

    fn record(&self, bytes: &[u8], done: bool) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = log.get_mut(self.number) {
            record.bytes.extend_from_slice(bytes);
            record.done |= done;
        }
    }
}

/// The length of the request at the beginning of `bytes`, once it is complete.
fn request_len(bytes: &[u8]) -> Option<usize> {
    let head_len = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_len]).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked") {
        return find(&bytes[head_len - 2..], b"\r\n0\r\n\r\n").map(|at| head_len - 2 + at + 7);
    }
    let body_len = head
        .split_once("\r\ncontent-length:")
        .and_then(|(_, rest)| rest.lines().next()?.trim().parse::<usize>().ok())
        .unwrap_or(0);
    (bytes.len() >= head_len + body_len).then_some(head_len + body_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[test]
    fn requests_end_where_their_framing_says() {
        assert_eq!(request_len(b"GET / HTTP/1.1\r\n\r\nGET"), Some(18));
        assert_eq!(request_len(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"), None);
        assert_eq!(request_len(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabc"), Some(40));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx";
        assert_eq!(request_len(chunked), Some(chunked.len() - 1));
    }

    #[test]
    fn a_script_is_followed_and_what_came_is_recorded() {
        let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        let mut client = Client::connect(upstream.addr());
        client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
        client.response().expect_body("hi");
        client.response().expect_body("hi");
        assert!(upstream.wait_for("GET /2").text().starts_with("GET /1"));
    }
}
