//! Keep-alive connections of a worker, by key, and the queue for places where their number is limited.
//! <https://github.com/openresty/lua-nginx-module#tcpsocksetkeepalive>
//!
//! ```text
//! connect ── idle one? ──→ taken
//!         └─ pool with a backlog and no place free? ──→ waits in line ──→ (a place, or an idle connection)
//! setkeepalive ──→ idle (front), watched: closed by the peer, unexpected data, too old → closed
//! ```

use super::{
    Journal,
    connection::Connection,
    fail,
    options::Settings,
    stream::{self, Side, Stream},
};
use hashbrown::HashMap;
use moonrest_core::Level;
use moonrest_luajit::{Call, LuaError, LuaResult, Return};
use moonrest_net::timer::Timeout;
use moonrest_sys::time::monotonic_coarse_ms;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// The pool of one key.
pub(super) struct Pool {
    pub key: Rc<[u8]>,
    /// How many connections are kept, and with a backlog how many there may be.
    size: usize,
    /// How many may wait for a place.
    backlog: Option<usize>,
    /// Places taken: connections in use, idle and being made, and those in line.
    places: Cell<usize>,
    /// The one used last is at the front.
    idle: RefCell<VecDeque<Idle>>,
    line: RefCell<VecDeque<Rc<Turn>>>,
}

struct Idle {
    connection: Box<Connection>,
    /// Monotonic milliseconds.
    until: u64,
}

/// One who waits in line.
#[derive(Default)]
pub(super) struct Turn {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place in a pool. Giving it up calls the next in line; the last one takes the pool with it.
pub(super) struct Seat {
    pool: Rc<Pool>,
    /// Nobody is called when it falls free.
    quietly: bool,
}

#[derive(Default)]
struct Pools {
    by_key: RefCell<HashMap<Rc<[u8]>, Rc<Pool>>>,
    /// Who looks after idle connections.
    watcher: RefCell<Option<Waker>>,
    watched: Timeout,
    /// When the watcher wakes next; monotonic milliseconds.
    next: Cell<u64>,
    running: Cell<bool>,
    quitting: RefCell<Option<Arc<AtomicBool>>>,
}

thread_local! {
    static POOLS: Rc<Pools> = Rc::default();
}

/// A worker begins to serve; `quitting` tells when it drains.
pub(crate) fn start(quitting: Arc<AtomicBool>) {
    POOLS.with(|pools| *pools.quitting.borrow_mut() = Some(quitting));
}

/// Closes all idle connections: the worker ends.
pub(crate) fn stop() {
    POOLS.with(|pools| pools.close_all());
}

fn is_quitting() -> bool {
    POOLS.with(|pools| pools.quitting.borrow().as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)))
}

/// The pool of a key; made if `size` is given.
pub(super) fn find(key: &[u8], size: Option<(usize, Option<usize>)>) -> Option<Rc<Pool>> {
    POOLS.with(|pools| {
        let mut by_key = pools.by_key.borrow_mut();
        if let Some(pool) = by_key.get(key) {
            return Some(pool.clone());
        }
        let (size, backlog) = size?;
        let key: Rc<[u8]> = key.into();
        let pool = Rc::new(Pool {
            key: key.clone(),
            size,
            backlog,
            places: Cell::new(0),
            idle: RefCell::default(),
            line: RefCell::default(),
        });
        by_key.insert(key, pool.clone());
        Some(pool)
    })
}

/// The pool of a key, made if there is none.
pub(super) fn open(
    call: &Call<'_>,
    key: &[u8],
    size: usize,
    backlog: Option<usize>,
) -> LuaResult<Option<Rc<Pool>>> {
    if let Some(pool) = find(key, None) {
        return Ok(Some(pool));
    }
    let shown = String::from_utf8_lossy(key);
    Journal::of(call)?.write(
        Level::Debug,
        format_args!("lua tcp socket keepalive create connection pool for key \"{shown}\""),
    );
    Ok(find(key, Some((size, backlog))))
}

impl Pool {
    /// An idle connection that is still good.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop_front()?;
            if idle.connection.is_quiet() {
                idle.connection.reused += 1;
                return Some(idle.connection);
            }
            // It was closed, or talks out of turn; its place falls free.
        }
    }

    /// A place, whether there is room or not.
    pub(super) fn seat(self: &Rc<Self>) -> Seat {
        self.places.set(self.places.get() + 1);
        Seat { pool: self.clone(), quietly: false }
    }

    /// How a new connection gets its place.
    pub(super) fn enter(self: &Rc<Self>) -> Entry {
        let seat = self.seat();
        let Some(backlog) = self.backlog else { return Entry::Now(seat) };
        let places = self.places.get();
        if places > self.size.saturating_add(backlog) {
            seat.leave();
            Entry::Refused
        } else if places > self.size {
            let turn = Rc::new(Turn::default());
            self.line.borrow_mut().push_back(turn.clone());
            Entry::Wait(InLine { turn, seat: Some(seat) })
        } else {
            Entry::Now(seat)
        }
    }

    fn call_next(&self) {
        let next = self.line.borrow_mut().pop_front();
        if let Some(turn) = next {
            turn.called.set(true);
            if let Some(waker) = turn.waker.take() {
                waker.wake();
            }
        }
    }

    fn discard(&self) {
        // The thread may be ending, its pools gone.
        let _ = POOLS.try_with(|pools| {
            let mut by_key = pools.by_key.borrow_mut();
            if by_key.get(&self.key).is_some_and(|known| std::ptr::eq(&**known, self)) {
                by_key.remove(&self.key)
            } else {
                None
            }
        });
    }
}

/// What [`Pool::enter`] found.
pub(super) enum Entry {
    Now(Seat),
    Wait(InLine),
    /// Too many are waiting.
    Refused,
}

/// A wait for a place. Dropped before its turn, it leaves the line; called but dropped, it calls the next one.
pub(super) struct InLine {
    turn: Rc<Turn>,
    seat: Option<Seat>,
}

impl InLine {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn.called.get() {
            return Poll::Ready(());
        }
        *self.turn.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Its turn has come: an idle connection, or the place for a new one.
    pub(super) fn take_turn(mut self) -> Result<Box<Connection>, Seat> {
        let seat = self.seat.take().unwrap_or_else(|| unreachable!("a seat is taken once"));
        match seat.pool.take() {
            Some(connection) => {
                seat.leave();
                Ok(connection)
            }
            None => Err(seat),
        }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        if self.turn.called.get() {
            drop(seat);
            return;
        }
        seat.pool.line.borrow_mut().retain(|turn| !Rc::ptr_eq(turn, &self.turn));
        seat.leave();
    }
}

impl Seat {
    /// Gives the place up without calling anybody: it was one in line, or too many.
    fn leave(mut self) {
        self.quietly = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let pool = &self.pool;
        pool.places.set(pool.places.get().saturating_sub(1));
        if pool.places.get() == 0 {
            pool.discard();
        } else if !self.quietly {
            pool.call_next();
        }
    }
}

impl Connection {
    /// Whether nothing came and the peer is there, as far as that is known.
    fn is_quiet(&self) -> bool {
        matches!(self.peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// `sock:setkeepalive(timeout?, size?)`.
pub(super) fn set_keepalive(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if !(1..=3).contains(&given) {
        let text = format!("expecting 1 to 3 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    let handle = stream::of(call)?;
    let owner = super::owner(call)?;
    let timeout: Option<f64> = call.arg(2)?;
    let size: Option<f64> = call.arg(3)?;
    let timeout = timeout.map_or_else(|| Settings::here(call).keepalive_timeout, |ms| ms.max(0.0) as u64);
    let size = size.map_or_else(|| Settings::here(call).pool_size, |size| size as i64);
    let Some(stream) = handle.as_ref().map(|handle| &handle.0) else { return fail(call, "closed") };
    if !stream.is_open() || stream.read_closed.get() || stream.write_closed.get() {
        return fail(call, stream.busy(false, false).unwrap_or("closed"));
    }
    stream.check_owner(owner)?;
    if let Some(busy) = stream.busy(true, true) {
        return fail(call, busy);
    }
    let key = stream.key.borrow().clone();
    let (Some(key), false) = (key, stream.is_client()) else { return fail(call, "key not found") };
    if !stream.inbox.borrow().is_empty() {
        return fail(call, "unread data in buffer");
    }
    if stream.inbox.borrow().eof {
        return fail(call, "closed");
    }
    if let Some(answer) = examine(call, stream)? {
        return Ok(answer);
    }
    if is_quitting() {
        stream.finalize();
        return call.ret(1);
    }
    let pool = match home(stream, &key).or_else(|| find(&key, None)) {
        Some(pool) => Some(pool),
        None if size <= 0 => {
            return Err(LuaError::argument(
                u32::try_from(given).unwrap_or(3),
                format!("bad \"pool_size\" option value: {size}"),
            ));
        }
        None => open(call, &key, usize::try_from(size).unwrap_or(1), None)?,
    };
    if let (Some(pool), Side::Peer(connection)) = (pool, stream.side.take()) {
        keep(&pool, connection, timeout);
    }
    stream.finalize();
    call.ret(1)
}

/// The pool that the connection has a place in already, if it is the one of this key.
fn home(stream: &Stream, key: &Rc<[u8]>) -> Option<Rc<Pool>> {
    match &*stream.side.borrow() {
        Side::Peer(connection) => connection
            .seat
            .as_ref()
            .map(|seat| &seat.pool)
            .filter(|pool| Rc::ptr_eq(&pool.key, key) || pool.key == *key)
            .cloned(),
        _ => None,
    }
}

/// What stands against keeping the connection: the peer has closed it, or sent what nobody asked for.
fn examine(call: &Call<'_>, stream: &Stream) -> LuaResult<Option<Return>> {
    let readable = match &*stream.side.borrow() {
        Side::Peer(connection) => Some(connection.peek()),
        _ => None,
    };
    match readable {
        None => Ok(None),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Some(Ok(0)) => fail(call, "closed").map(Some),
        Some(Ok(_) | Err(_)) => {
            stream.finalize();
            fail(call, "connection in dubious state").map(Some)
        }
    }
}

/// Puts a connection among the idle ones, in the place of the one that was idle longest if they are too many.
fn keep(pool: &Rc<Pool>, mut connection: Box<Connection>, timeout: u64) {
    let until = match timeout {
        0 => u64::MAX,
        ms => monotonic_coarse_ms().saturating_add(ms),
    };
    if !connection.seat.as_ref().is_some_and(|seat| Rc::ptr_eq(&seat.pool, pool)) {
        connection.seat = Some(pool.seat());
    }
    let oldest = {
        let mut idle = pool.idle.borrow_mut();
        if idle.len() >= pool.size { idle.pop_back() } else { None }
    };
    drop(oldest);
    POOLS.with(|pools| pools.watch(&connection, until));
    pool.idle.borrow_mut().push_front(Idle { connection, until });
    pool.call_next();
}

impl Pools {
    /// Makes sure that the watcher hears of this connection.
    fn watch(self: &Rc<Self>, connection: &Connection, until: u64) {
        if !self.running.replace(true) {
            self.next.set(u64::MAX);
            moonrest_rt::spawn(watch(self.clone()));
            return; // it begins with a look at everything
        }
        if let Some(waker) = &*self.watcher.borrow() {
            // Its readiness was found out just before: it is not ready.
            let _ = connection.io.poll_readable(&mut Context::from_waker(waker));
            if until < self.next.get() {
                waker.wake_by_ref();
            }
        }
    }

    /// Closes what is dead or too old; the time until which all others are good.
    fn sweep(&self, cx: &mut Context<'_>) -> u64 {
        let now = monotonic_coarse_ms();
        let quitting = self.quitting.borrow().as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        let pools: Vec<Rc<Pool>> = self.by_key.borrow().values().cloned().collect();
        let (mut next, mut gone) = (u64::MAX, Vec::new());
        for pool in pools {
            let mut idle = pool.idle.borrow_mut();
            let mut at = 0;
            while let Some(entry) = idle.get(at) {
                if quitting || entry.until <= now || !entry.connection.stays_quiet(cx) {
                    gone.extend(idle.remove(at));
                } else {
                    next = next.min(entry.until);
                    at += 1;
                }
            }
        }
        // Their places fall free: nothing is borrowed then.
        drop(gone);
        next
    }

    fn close_all(&self) {
        let pools: Vec<Rc<Pool>> = self.by_key.borrow_mut().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            let idle = pool.idle.take();
            drop(idle);
        }
    }
}

impl Connection {
    /// As [`Self::is_quiet`], and wakes `cx` when it ends.
    fn stays_quiet(&self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.io.poll_readable(cx) {
                Poll::Pending => return true,
                Poll::Ready(Err(_)) => return false,
                Poll::Ready(Ok(())) => match self.peek() {
                    // A false alarm: its readiness is gone now.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return false,
                },
            }
        }
    }
}

/// The longest that nobody looks after idle connections.
const HOUR_MS: u64 = 3_600_000;

/// Looks after idle connections for as long as the worker lives.
async fn watch(pools: Rc<Pools>) {
    poll_fn(|cx| {
        *pools.watcher.borrow_mut() = Some(cx.waker().clone());
        loop {
            let next = pools.sweep(cx);
            pools.next.set(next);
            // A worker that drains wakes everybody who waits for some time, so there always is one.
            pools.watched.set(next.saturating_sub(monotonic_coarse_ms()).min(HOUR_MS));
            if pools.watched.poll(cx).is_pending() {
                return Poll::<()>::Pending;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(key: &str, size: usize, backlog: usize) -> Rc<Pool> {
        find(key.as_bytes(), Some((size, Some(backlog)))).unwrap()
    }

    #[test]
    fn places_beyond_the_size_wait_and_beyond_the_backlog_are_refused() {
        let pool = pool("a", 1, 1);
        let Entry::Now(first) = pool.enter() else { panic!() };
        let Entry::Wait(mut second) = pool.enter() else { panic!() };
        assert!(matches!(pool.enter(), Entry::Refused));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.poll(&mut cx).is_pending());
        drop(first);
        assert!(second.poll(&mut cx).is_ready());
        let Err(seat) = second.take_turn() else { panic!() };
        assert_eq!(pool.places.get(), 1);
        drop(seat);
        assert!(find(b"a", None).is_none(), "the last one takes the pool with it");
    }

    #[test]
    fn who_leaves_the_line_leaves_no_trace() {
        let pool = pool("b", 1, 2);
        let Entry::Now(first) = pool.enter() else { panic!() };
        let Entry::Wait(second) = pool.enter() else { panic!() };
        let Entry::Wait(mut third) = pool.enter() else { panic!() };
        drop(second);
        assert_eq!((pool.places.get(), pool.line.borrow().len()), (2, 1));
        drop(first);
        assert!(third.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        // Called, but gone before it could use its turn.
        drop(third);
        assert_eq!(pool.places.get(), 0);
    }
}
