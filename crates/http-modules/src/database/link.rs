//! Connections to database servers: made, used by one request at a time, kept for the next one.

use super::Group;
use moonrest_core::upstream::Peer;
use moonrest_http::{Level, RequestError, RequestRef, upstream};
use moonrest_net::{io::Io, timer::Timeout};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io::IoSlice,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

/// Why a server could not be used.
pub(crate) enum Failure {
    /// It took too long.
    Timeout,
    /// The connection, or what came over it, is no good: what to log.
    Broken(Level, String),
    /// There are as many connections as there may be.
    Busy,
    /// Whatever was wrong is logged already: the status to answer.
    Status(u16),
    /// Nobody else need be asked.
    Fatal(RequestError),
}

impl Failure {
    /// What came is no message.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::Broken(Level::Error, message.into())
    }
}

/// Bytes that are read at once.
const ROOM: usize = 16 * 1024;

/// A connection to a server.
pub(crate) struct Link {
    io: Io,
    timeout: Timeout,
    /// What was read; all before `at` is used.
    input: Vec<u8>,
    at: usize,
    /// The server's number for the connection.
    pub id: u64,
    /// Requests it has served.
    pub used: u64,
    /// Something has come since the last request was sent.
    pub heard: bool,
}

impl Link {
    fn new(io: Io) -> Self {
        Self { io, timeout: Timeout::new(), input: Vec::new(), at: 0, id: 0, used: 0, heard: false }
    }

    /// What has come and is not used.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// So many bytes of it are used now.
    pub(crate) fn consume(&mut self, len: usize) {
        self.at = (self.at + len).min(self.input.len());
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
            self.input.shrink_to(4 * ROOM);
        }
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, r: &RequestRef, bytes: &[u8], ms: u64) -> Result<(), Failure> {
        self.timeout.set(ms);
        self.heard = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = poll_fn(|cx| self.poll_write(r, rest, cx)).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        self.timeout.clear();
        Ok(())
    }

    fn poll_write(&self, r: &RequestRef, bytes: &[u8], cx: &mut Context<'_>) -> Poll<Result<usize, Failure>> {
        loop {
            match self.io.try_write(&[IoSlice::new(bytes)], false) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    match self.io.poll_writable(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(failed("send()", &error))),
                        Poll::Pending => return self.poll_given_up(r, cx).map(Err),
                    }
                }
                Err(error) => return Poll::Ready(Err(failed("send()", &error))),
            }
        }
    }

    /// Waits until more has come.
    pub(crate) async fn more(&mut self, r: &RequestRef, ms: u64) -> Result<(), Failure> {
        if self.at > ROOM {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.reserve(ROOM);
        self.timeout.set(ms);
        let read = poll_fn(|cx| match self.io.poll_read(&mut self.input, cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Failure::broken("upstream prematurely closed connection"))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(failed("recv()", &error))),
            Poll::Pending => self.poll_given_up(r, cx).map(Err),
        })
        .await;
        self.timeout.clear();
        self.heard |= read.is_ok();
        read
    }

    /// Ready when there is no point in waiting any longer.
    fn poll_given_up(&self, r: &RequestRef, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.timeout.poll(cx).is_ready() {
            return Poll::Ready(Failure::Timeout);
        }
        r.exchange.poll_closed(cx).map(|()| Failure::Fatal(RequestError::client_gone()))
    }
}

fn failed(call: &str, error: &std::io::Error) -> Failure {
    Failure::broken(format!("{call} failed ({})", moonrest_core::env::os_error(error)))
}

/// One worker's connections to a group.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    /// Connections that are open, waiting ones included.
    open: Cell<usize>,
    /// Whose turn it is.
    next: Cell<usize>,
}

struct Idle {
    link: Box<Link>,
    peer: usize,
    database: Vec<u8>,
}

impl Pool {
    /// How many connections are in use or wait.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// How often each connection that waits was used.
    pub(crate) fn used(&self) -> Vec<u64> {
        self.idle.borrow().iter().map(|idle| idle.link.used).collect()
    }

    /// A connection that waits and is still good.
    fn take(&self, group: &Group, peer: usize, database: &[u8]) -> Option<(Box<Link>, usize)> {
        let mut idle = self.idle.borrow_mut();
        let mut at = 0;
        while let Some(entry) = idle.get(at) {
            if !group.keepalive.single && (entry.peer != peer || entry.database != database) {
                at += 1;
                continue;
            }
            let Some(entry) = idle.remove(at) else { break };
            // Whatever a server says unasked, its goodbye included, ends the connection.
            if entry.link.io.is_silent() {
                return Some((entry.link, entry.peer));
            }
            self.open.set(self.open.get().saturating_sub(1));
        }
        None
    }
}

/// A connection that one request uses. Dropped, it is closed.
pub(crate) struct Lease {
    link: Option<Box<Link>>,
    pool: Rc<Pool>,
    group: Arc<Group>,
    /// The number of its peer.
    pub peer: usize,
    database: Vec<u8>,
    /// It has served other requests, and is logged in.
    pub reused: bool,
}

impl Lease {
    /// A connection to the group for this database: one that waits, unless only a new one will do.
    pub(crate) async fn take(
        r: &RequestRef,
        group: &Arc<Group>,
        database: &[u8],
        fresh: bool,
        begin: &mut dyn FnMut(&Arc<Peer>),
        ms: u64,
    ) -> Result<Self, Failure> {
        let pool = super::pool(group);
        let turn = pool.next.get() % group.peers.len().max(1);
        let lease = |link, peer, reused| Self {
            link,
            pool: pool.clone(),
            group: group.clone(),
            peer,
            database: database.to_vec(),
            reused,
        };
        let taken = if fresh { None } else { pool.take(group, turn, database) };
        if let Some((link, peer)) = taken {
            if let Some((shown, _)) = group.peers.get(peer) {
                begin(shown);
            }
            return Ok(lease(Some(link), peer, true));
        }
        if group.keepalive.reject && pool.open() >= group.keepalive.max {
            // A waiting connection to somebody else makes room.
            let other = pool.idle.borrow_mut().pop_back();
            if other.is_none() {
                moonrest_http::info!(r, "connection pool full, rejecting request to upstream");
                return Err(Failure::Busy);
            }
            pool.open.set(pool.open().saturating_sub(1));
        }
        let Some((peer, _)) = group.peers.get(turn) else {
            return Err(Failure::broken("no live upstreams"));
        };
        pool.next.set(turn + 1);
        begin(peer);
        pool.open.set(pool.open() + 1);
        let mut made = lease(None, turn, false);
        made.link = Some(Box::new(dial(r, peer, ms).await?));
        Ok(made)
    }

    /// The connection.
    pub(crate) fn link(&mut self) -> Result<&mut Link, Failure> {
        self.link.as_deref_mut().ok_or_else(|| Failure::broken("no connection"))
    }

    /// Keeps the connection for another request, if there is room and nothing unread.
    pub(crate) fn keep(mut self) {
        let max = self.group.keepalive.max;
        let Some(mut link) = self.link.take() else { return };
        link.used += 1;
        if max == 0 || !link.input().is_empty() {
            self.link = Some(link);
            return;
        }
        let mut idle = self.pool.idle.borrow_mut();
        while idle.len() >= max {
            idle.pop_back();
            self.pool.open.set(self.pool.open().saturating_sub(1));
        }
        let database = std::mem::take(&mut self.database);
        idle.push_front(Idle { link, peer: self.peer, database });
        // It is no longer this lease's to close.
        self.pool.open.set(self.pool.open() + 1);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open().saturating_sub(1));
    }
}

async fn dial(r: &RequestRef, peer: &Arc<Peer>, ms: u64) -> Result<Link, Failure> {
    let timeout = Timeout::new();
    timeout.set(ms);
    let mut connecting = pin!(upstream::dial(&peer.addr));
    let connected = poll_fn(|cx| {
        if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
            return Poll::Ready(Ok(connected));
        }
        if timeout.poll(cx).is_ready() {
            return Poll::Ready(Err(Failure::Timeout));
        }
        r.exchange.poll_closed(cx).map(|()| Err(Failure::Fatal(RequestError::client_gone())))
    })
    .await?;
    connected.map(Link::new).map_err(|(level, message)| Failure::Broken(level, message))
}
