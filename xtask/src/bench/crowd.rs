//! A load generator for several servers at once: every connection's request follows its last answer, and neighbouring
//! connections belong to different servers.
//!
//! With a generator for each server, each would find its own rhythm with its own server, which a server of two workers
//! cannot have with two generators; what that is worth would be taken for the cost of the second worker.
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::cases::Request;

/// A connection and what has come of its present answer.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// Asks for so long, from two threads, over so many connections in all; the number of answers.
pub(crate) fn ask(
    addrs: &[SocketAddr],
    request: Request,
    connections: u32,
    time: Duration,
) -> Result<f64, String> {
    let half = (connections as usize / 2).max(1);
    let answered = std::thread::scope(|scope| {
        let threads = [0, 1].map(|at| {
            let addrs = (0..half).filter_map(move |number| addrs.get((number + at) % addrs.len())).copied();
            scope.spawn(move || part(addrs, request, time))
        });
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
    });
    let counts = answered.into_iter().collect::<io::Result<Vec<u64>>>();
    Ok(counts.map_err(|error| format!("asking: {error}"))?.iter().sum::<u64>() as f64)
}

fn part(addrs: impl Iterator<Item = SocketAddr>, request: Request, time: Duration) -> io::Result<u64> {
    let text = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", request.path);
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    let mut open = Vec::new();
    for addr in addrs {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&queue, &stream, EventData::new_u64(open.len() as u64), EventFlags::IN)?;
        stream.write_all(text.as_bytes())?;
        open.push(Connection { stream, answer: Vec::new() });
    }
    let mut events = Vec::with_capacity(open.len().max(1));
    let mut answered = 0;
    let end = Instant::now() + time;
    while Instant::now() < end {
        events.clear();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&second))?;
        for event in &events {
            let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(connection) = open.get_mut(at) else { continue };
            if connection.receive()? {
                answered += 1;
                connection.stream.write_all(text.as_bytes())?;
            }
        }
    }
    Ok(answered)
}

impl Connection {
    /// Takes what has come; whether that was the answer's end.
    fn receive(&mut self) -> io::Result<bool> {
        let mut room = [0; 4096];
        let len = self.stream.read(&mut room)?;
        self.answer.extend_from_slice(room.get(..len).unwrap_or_default());
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = is_whole(&self.answer)?;
        if whole {
            self.answer.clear();
        }
        Ok(whole)
    }
}

/// Whether this is an answer from its first to its last byte; an error unless it says 200.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(head.into_owned()));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    Ok(match length {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_an_end() {
        let whole = |text: &str| is_whole(text.as_bytes()).map_err(|_| ());
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), Ok(false));
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1"), Ok(false));
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n12"), Ok(true));
        assert_eq!(whole("HTTP/1.1 200 OK\r\nX: y\r\n\r\n1\r\n1\r\n"), Ok(false));
        assert_eq!(whole("HTTP/1.1 200 OK\r\nX: y\r\n\r\n1\r\n1\r\n0\r\n\r\n"), Ok(true));
        assert_eq!(whole("HTTP/1.1 503 Gone\r\n\r\n"), Err(()));
    }
}
