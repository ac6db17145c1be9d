//! What nobody can do without: a loop that receives a request and sends a fixed answer, without looking at either.
//!
//! Its row says how much of the others is the kernel's, and so how far any server could get.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// The word with which this program becomes the loop.
pub(crate) const WORD: &str = "bench-floor";

/// As long as the answer that `return 200` gives.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: floor/0.0.00\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\nhello, world\n";

/// The token of the listening socket; connections have their index.
const LISTENER: u64 = u64::MAX;

/// The loop as a process of its own.
pub(crate) struct Floor {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Floor {
    /// Starts it on the first processor.
    pub(crate) fn start() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the bare loop: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .arg(WORD)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let addr = line.trim().parse().map_err(|_| format!("the bare loop says \"{}\"", line.trim()))?;
        Ok(Self { child, addr })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says where it listens and serves until it is killed.
pub(crate) fn serve() -> Result<(), String> {
    run().map_err(|error| error.to_string())
}

fn run() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    let queue = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&queue, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut open: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = Vec::with_capacity(512);
    let mut room = [0; 1024];
    loop {
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                    epoll::add(&queue, &stream, EventData::new_u64(open.len() as u64), flags)?;
                    open.push(Some(stream.into()));
                }
                continue;
            }
            let Some(place) = usize::try_from(token).ok().and_then(|at| open.get_mut(at)) else { continue };
            let Some(socket) = place else { continue };
            let answered = match recv(socket.as_fd(), &mut room, RecvFlags::empty()) {
                Ok((1.., _)) => send(socket.as_fd(), ANSWER, SendFlags::NOSIGNAL).is_ok(),
                Err(rustix::io::Errno::AGAIN) => true,
                _ => false,
            };
            if !answered {
                *place = None;
            }
        }
    }
}
