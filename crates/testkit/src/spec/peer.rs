//! The servers a block puts beside the one under test: `tcp_listen`, `udp_listen`.
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::block::Block;
use super::value::Value;
use crate::process::{TICK, poll};

/// How long a peer waits for its one connection or datagram.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer of one block: it serves one connection, or one datagram, and ends.
#[derive(Debug)]
pub(super) struct Peer {
    ending: Arc<AtomicBool>,
    query: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct TcpScript {
    reply: Vec<Vec<u8>>,
    delay: Duration,
    shutdown: Option<Shutdown>,
    query_len: usize,
    stay: bool,
}

impl Peer {
    /// The peer a block asks for with `tcp_listen`; `target` is a port or the path of a socket.
    pub(super) fn tcp(block: &Block, target: &str) -> Result<Self, String> {
        let socket = listen(target).map_err(|error| format!("tcp_listen {target}: {error}"))?;
        let query_len = block.get("tcp_query_len").and_then(Value::number);
        let script = TcpScript {
            reply: replies(block.get("tcp_reply"))?,
            delay: block.time("tcp_reply_delay")?.unwrap_or_default(),
            shutdown: block.text("tcp_shutdown").as_deref().map(shutdown_of).transpose()?,
            query_len: query_len.or(block.text("tcp_query").map(|query| query.len())).unwrap_or(1),
            stay: block.has("tcp_no_close"),
        };
        let (ending, query) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = std::thread::spawn({
            let (ending, query) = (Arc::clone(&ending), Arc::clone(&query));
            move || serve_tcp(&socket, &script, &ending, &query)
        });
        Ok(Self { ending, query, thread: Some(thread) })
    }

    /// The peer a block asks for with `udp_listen`.
    pub(super) fn udp(block: &Block, target: &str) -> Result<Self, String> {
        let reply = replies(block.get("udp_reply"))?;
        let delay = block.time("udp_reply_delay")?.unwrap_or_default();
        let failed = |error| format!("udp_listen {target}: {error}");
        let socket = match target.parse::<u16>() {
            Ok(port) => Datagrams::Udp(UdpSocket::bind(("0.0.0.0", port)).map_err(failed)?),
            Err(_) => {
                let _ = std::fs::remove_file(target);
                Datagrams::Unix(UnixDatagram::bind(target).map_err(failed)?)
            }
        };
        let (ending, query) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = std::thread::spawn({
            let (ending, query) = (Arc::clone(&ending), Arc::clone(&query));
            move || serve_udp(&socket, &reply, delay, &ending, &query)
        });
        Ok(Self { ending, query, thread: Some(thread) })
    }

    /// What it was sent, waiting until it has `len` bytes.
    pub(super) fn query(&self, len: usize) -> Vec<u8> {
        let got = || self.query.lock().unwrap_or_else(PoisonError::into_inner).clone();
        poll(Duration::from_secs(1), || Some(got()).filter(|query| query.len() >= len)).unwrap_or_else(got)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `0`, `1`, `2` as the system call `shutdown` has them.
pub(super) fn shutdown_of(text: &str) -> Result<Shutdown, String> {
    match text.trim() {
        "0" => Ok(Shutdown::Read),
        "" | "1" => Ok(Shutdown::Write),
        "2" => Ok(Shutdown::Both),
        other => Err(format!("\"{other}\" is no way to shut down")),
    }
}

fn replies(value: Option<&Value>) -> Result<Vec<Vec<u8>>, String> {
    let values = value.map(Value::elements).unwrap_or_default();
    values.into_iter().map(|reply| Ok(reply.bytes().ok_or("a reply must be a string")?.to_vec())).collect()
}

fn listen(target: &str) -> std::io::Result<Socket> {
    let socket = match target.parse::<u16>() {
        Ok(port) => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
            socket
        }
        Err(_) => {
            let _ = std::fs::remove_file(target);
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(target)?)?;
            socket
        }
    };
    socket.listen(5)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn serve_tcp(socket: &Socket, script: &TcpScript, ending: &AtomicBool, query: &Mutex<Vec<u8>>) {
    let accepted = poll(PATIENCE, || {
        if ending.load(Ordering::Relaxed) {
            Some(None)
        } else {
            socket.accept().ok().map(|(stream, _)| Some(stream))
        }
    });
    let Some(mut stream) = accepted.flatten() else { return };
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    if let Some(how) = script.shutdown {
        let _ = stream.shutdown(how);
    }
    if !matches!(script.shutdown, Some(Shutdown::Read | Shutdown::Both)) {
        read_query(&mut stream, script.query_len, ending, query);
    }
    let _ = poll(script.delay, || ending.load(Ordering::Relaxed).then_some(()));
    if !matches!(script.shutdown, Some(Shutdown::Write | Shutdown::Both)) {
        for reply in &script.reply {
            let _ = stream.write_all(reply);
        }
    }
    while script.stay && !ending.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
    }
}

fn read_query(stream: &mut Socket, len: usize, ending: &AtomicBool, query: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while !ending.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let mut query = query.lock().unwrap_or_else(PoisonError::into_inner);
                query.extend_from_slice(&buffer[..read]);
                if query.len() >= len {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

enum Datagrams {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

fn serve_udp(
    socket: &Datagrams,
    reply: &[Vec<u8>],
    delay: Duration,
    ending: &AtomicBool,
    query: &Mutex<Vec<u8>>,
) {
    let mut buffer = [0; 4096];
    let wait = Some(Duration::from_millis(20));
    let keep = |bytes: &[u8]| query.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    while !ending.load(Ordering::Relaxed) {
        match socket {
            Datagrams::Udp(socket) => {
                let _ = socket.set_read_timeout(wait);
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                keep(&buffer[..len]);
                std::thread::sleep(delay);
                reply.iter().for_each(|reply| drop(socket.send_to(reply, from)));
            }
            Datagrams::Unix(socket) => {
                let _ = socket.set_read_timeout(wait);
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                keep(&buffer[..len]);
                std::thread::sleep(delay);
                if let Some(path) = from.as_pathname() {
                    reply.iter().for_each(|reply| drop(socket.send_to(reply, path)));
                }
            }
        }
        return;
    }
}
