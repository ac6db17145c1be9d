//! Connections of one worker that wait for another request (`keepalive`).
//!
//! A connection comes here only when its last message ended exactly and nothing is unread; whatever arrives while it
//! waits, its end included, closes it.

use super::{connect::Conn, tls::Link};
use moonrest_net::{addr::Addr, timer::Timeout};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

/// Waiting connections of one upstream, most recently used first.
#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
}

struct Idle {
    conn: Box<Conn>,
    addr: Addr,
    /// The location that it was made for, when they do not share connections.
    tag: usize,
    lane: Lane,
    /// How often the event loop had looked at its descriptors when this connection came.
    looks: u64,
}

/// What a connection is wanted for.
pub(super) struct Wanted<'a> {
    pub addr: &'a Addr,
    /// In which way it was made.
    pub link: &'a Link,
    /// The location, when locations do not share connections.
    pub tag: Option<usize>,
    pub lane: &'a Lane,
}

impl Wanted<'_> {
    #[inline(always)]
    fn fits(&self, entry: &Idle) -> bool {
        entry.addr == *self.addr
            && entry.conn.link == *self.link
            && entry.lane == *self.lane
            && self.tag.is_none_or(|tag| tag == entry.tag)
    }

    /// The kernel may know of bytes that the event loop has not seen yet: it is asked.
    #[cold]
    fn take_silent(&self, idle: &mut VecDeque<Idle>) -> Option<Box<Conn>> {
        while let Some(at) = idle.iter().position(|entry| self.fits(entry)) {
            let entry = idle.remove(at)?;
            if is_silent(&entry.conn) {
                return Some(entry.reuse());
            }
        }
        None
    }
}

/// What else connections to one address are kept apart by, when a balancer of its own named the peer.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Lane {
    /// In lower case.
    pub host: Box<[u8]>,
    pub local: Option<SocketAddr>,
}

impl Pool {
    /// A connection that fits and is still good.
    pub(super) fn take(&self, wanted: &Wanted<'_>) -> Option<Box<Conn>> {
        let idle = &mut *self.idle.borrow_mut();
        let looks = moonrest_rt::looks();
        // Most often one waits that the event loop has looked at since it came: the kernel need not be asked.
        let known = idle
            .iter()
            .position(|entry| entry.looks != looks && wanted.fits(entry) && entry.is_known_quiet());
        match known {
            Some(0) => idle.pop_front().map(Idle::reuse),
            Some(at) => idle.remove(at).map(Idle::reuse),
            None => wanted.take_silent(idle),
        }
    }

    /// Keeps a connection; the one that was not used for the longest time gives way when there are `max`.
    pub(super) fn put(&self, conn: Box<Conn>, addr: Addr, tag: usize, lane: Lane, max: usize) {
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= max.max(1) {
            idle.pop_back();
        }
        idle.push_front(Idle { conn, addr, tag, lane, looks: moonrest_rt::looks() });
    }

    /// Closes what has ended or waited too long.
    fn sweep(&self, cx: &mut Context<'_>) {
        self.idle
            .borrow_mut()
            .retain(|entry| is_quiet(&entry.conn, cx) && entry.conn.timeout.poll(cx).is_pending());
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

impl Idle {
    fn reuse(mut self) -> Box<Conn> {
        self.conn.timeout.clear();
        self.conn.reused = true;
        self.conn
    }

    /// Whether nothing had come when the event loop last looked, as far as that is all there is to know.
    fn is_known_quiet(&self) -> bool {
        self.conn.io.is_known_empty()
            && self
                .conn
                .http2
                .as_ref()
                .is_none_or(|session| session.is_quiet(&mut Context::from_waker(Waker::noop())))
    }
}

/// Whether nothing has come on a connection that its user has not seen, asked of the kernel.
pub(super) fn is_silent(conn: &Conn) -> bool {
    let silent = conn.io.is_silent();
    if let Some(session) = &conn.http2 {
        // The other side may say something at any time, as long as it is not the end.
        return (silent || conn.io.peek_now().is_ok_and(|n| n > 0))
            && session.is_quiet(&mut Context::from_waker(Waker::noop()));
    }
    if silent || conn.io.client().is_none() {
        return silent;
    }
    // Not all that comes over TLS is data: servers hand out tickets.
    is_quiet(conn, &mut Context::from_waker(Waker::noop())) && conn.io.is_silent()
}

/// Whether nothing has come on a connection, not even its end.
fn is_quiet(conn: &Conn, cx: &mut Context<'_>) -> bool {
    if let Some(session) = &conn.http2 {
        return session.is_quiet(cx);
    }
    if conn.io.client().is_some() {
        return conn.io.poll_read(&mut Vec::with_capacity(1), cx).is_pending();
    }
    loop {
        match conn.io.poll_readable(cx) {
            Poll::Pending => return true,
            Poll::Ready(Err(_)) => return false,
            // The event loop may only not have noticed yet that all was read.
            Poll::Ready(Ok(())) => {
                if conn.io.peek_is_empty() {
                    continue;
                }
                return false;
            }
        }
    }
}

/// Milliseconds until a connection that waits is watched: most are used again before, and what came meanwhile is seen
/// when they are.
const UNWATCHED: u64 = 250;

/// Watches a worker's waiting connections: one task for all of them.
#[derive(Default)]
pub(super) struct Keeper {
    waker: RefCell<Option<Waker>>,
    running: Cell<bool>,
    /// When to look at those that are not watched yet.
    look: Timeout,
}

impl Keeper {
    /// Has the connections that were put into pools watched, before long; `now` if there may be something to send.
    pub(super) fn watch(&self, local: &Rc<super::Local>, now: bool) {
        if !self.look.is_armed() {
            self.look.set(UNWATCHED);
        }
        if now && let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
        if !self.running.replace(true) {
            let local = Rc::downgrade(local);
            moonrest_rt::spawn(std::future::poll_fn(move |cx| sweep(&local, cx)));
        }
    }
}

fn sweep(local: &Weak<super::Local>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(local) = local.upgrade() else { return Poll::Ready(()) };
    let known = local.keeper.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
    if !known {
        *local.keeper.waker.borrow_mut() = Some(cx.waker().clone());
    }
    let look = &local.keeper.look;
    if look.poll(cx).is_ready() {
        look.clear();
        // Asks to be woken when it is set again.
        let _ = look.poll(cx);
    }
    let quitting = local.is_quitting();
    local.pools(|pool| {
        if quitting {
            pool.clear()
        } else if !pool.is_empty() {
            pool.sweep(cx)
        }
    });
    Poll::Pending
}
