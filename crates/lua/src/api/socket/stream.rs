//! A stream as Lua holds it: what it leads to, what has been received, and who waits.

use super::{
    CELL, Close, Journal, Owned, Owner,
    connection::{Connection, Timers},
    handshake::Handshake,
    inbox::{Inbox, Reading, Taken},
    options::{Settings, Timeouts},
};
use moonrest_http::{Request, exchange::BodyRead};
use moonrest_luajit::{Borrowed, Call, LuaResult, Nil, Ref, Return, Table};
use moonrest_net::{connect::Local, timer::Timer};
use moonrest_sys::socket::{self, SocketOption};
use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
};

/// The userdata in a socket's table.
pub(crate) struct Handle(pub(super) Rc<Stream>);

/// Both sides of a stream; each waits, fails and closes on its own.
#[derive(Default)]
pub(crate) struct Stream {
    /// The request that connected it, which alone may use it.
    pub(super) owner: RefCell<Owner>,
    pub(super) side: RefCell<Side>,
    pub(super) inbox: RefCell<Inbox>,
    /// A `connect` waits: for an address, for its turn, or for the connection.
    pub(super) connecting: Cell<bool>,
    /// It waits for the connection.
    pub(super) dialing: Cell<bool>,
    pub(super) reading: Cell<bool>,
    pub(super) writing: Cell<bool>,
    pub(super) read_closed: Cell<bool>,
    pub(super) write_closed: Cell<bool>,
    pub(super) timeouts: Timeouts,
    /// As they were when it was connected.
    pub(super) settings: Cell<Settings>,
    pub(super) bound: Cell<Option<Local>>,
    /// Under which its connection is kept.
    pub(super) key: RefCell<Option<Rc<[u8]>>>,
    /// What its last handshake came to.
    pub(super) handshake: RefCell<Handshake>,
    /// It is on its owner's list.
    pub(super) listed: Cell<bool>,
}

/// What a stream leads to.
#[derive(Default)]
pub(super) enum Side {
    #[default]
    None,
    Peer(Box<Connection>),
    /// The client's request body.
    Body(Weak<Request>, Timers),
    /// The client's connection, past HTTP.
    Raw(Weak<Request>, Timers),
}

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Failure {
    Timeout,
    Closed,
    ClientAborted,
    System(io::Error),
}

impl Failure {
    /// What Lua is told.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Timeout => "timeout".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::ClientAborted => "client aborted".to_owned(),
            Self::System(error) => super::error_text(error),
        }
    }
}

/// `ngx.socket.tcp()`.
pub(super) fn new_socket(call: &mut Call<'_>, metatable: &Ref) -> LuaResult<Return> {
    if call.args_len() != 0 {
        return Err(format!("expecting zero arguments, but got {}", call.args_len()).into());
    }
    super::owner(call)?;
    let metatable = call.put(metatable)?.as_table();
    let object = make_object(call, metatable, Rc::default())?;
    call.ret(object)
}

/// The table that Lua sees, around a stream.
pub(super) fn make_object<'c>(
    call: &Call<'c>,
    metatable: Option<Table<'_>>,
    stream: Rc<Stream>,
) -> LuaResult<Table<'c>> {
    let object = call.table(TABLE_SIZE, 0)?;
    let handle = call.userdata(Handle(stream))?;
    object.set_index(call, CELL, handle)?;
    object.set_metatable(call, metatable)?;
    Ok(object)
}

/// Room for upstream's numbered fields.
const TABLE_SIZE: usize = 10;

/// The stream of the socket that is the first argument.
#[inline]
pub(super) fn of<'c>(call: &Call<'c>) -> LuaResult<Option<Borrowed<'c, Handle>>> {
    call.arg_element(1, CELL)
}

impl Close for Stream {
    fn close(&self) {
        self.listed.set(false);
        // Most often it was closed, or its connection put away, before.
        if self.is_open() {
            self.finalize();
        }
    }
}

impl Stream {
    /// Whether it leads anywhere.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.side.borrow(), Side::None)
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(*self.side.borrow(), Side::Body(..) | Side::Raw(..))
    }

    /// Refuses the use by another request than the one it belongs to.
    pub(super) fn check_owner(&self, owner: usize) -> LuaResult<()> {
        if self.owner.borrow().id == owner { Ok(()) } else { Err("bad request".into()) }
    }

    /// Whether this owner can read it now.
    #[inline]
    pub(super) fn may_read(&self, owner: usize) -> bool {
        let idle = !(self.read_closed.get() | self.dialing.get() | self.reading.get());
        idle && self.is_open() && self.owner.borrow().id == owner
    }

    /// What it is busy with, of the things that would be disturbed.
    pub(super) fn busy(&self, read: bool, write: bool) -> Option<&'static str> {
        if self.dialing.get() {
            Some("socket busy connecting")
        } else if read && self.reading.get() {
            Some("socket busy reading")
        } else if write && self.writing.get() {
            Some("socket busy writing")
        } else {
            None
        }
    }

    /// Makes it the property of the request that runs now, which closes it when it ends.
    pub(super) fn adopt(self: &Rc<Self>, call: &Call<'_>, owner: usize) -> LuaResult<()> {
        if self.listed.get() && self.owner.borrow().id == owner {
            return Ok(());
        }
        *self.owner.borrow_mut() = Owner::here(call)?;
        self.listed.set(true);
        let this: Rc<dyn Close> = self.clone();
        Owned::add(call, &this);
        Ok(())
    }

    pub(super) fn read_timeout(&self) -> u64 {
        match self.timeouts.read.get() {
            0 => self.settings.get().read_timeout,
            set => set,
        }
    }

    pub(super) fn send_timeout(&self) -> u64 {
        match self.timeouts.send.get() {
            0 => self.settings.get().send_timeout,
            set => set,
        }
    }

    pub(super) fn connect_timeout(&self) -> u64 {
        match self.timeouts.connect.get() {
            0 => self.settings.get().connect_timeout,
            set => set,
        }
    }

    /// `, upstream: …` for log lines; nothing for the client's connection.
    pub(super) fn peer(&self) -> String {
        match &*self.side.borrow() {
            Side::Peer(connection) => connection.peer.describe(),
            _ => String::new(),
        }
    }

    /// Closes both directions and lets go of what it led to.
    pub(super) fn finalize(&self) {
        self.close_reading();
        self.write_closed.set(true);
        let side = self.side.take();
        drop(side);
    }

    pub(super) fn close_reading(&self) {
        self.read_closed.set(true);
        self.inbox.borrow_mut().clear();
    }

    /// Whether nothing is at hand, and nothing has come as far as the event loop knows.
    fn is_silent(&self) -> bool {
        let inbox = self.inbox.borrow();
        inbox.is_empty()
            && !inbox.eof
            && match &*self.side.borrow() {
                Side::Peer(connection) => connection.io.is_readable() == Some(false),
                Side::Raw(r, _) => {
                    let r = r.upgrade();
                    let raw = r.as_ref().and_then(|r| r.exchange.raw());
                    raw.is_some_and(|raw| raw.is_readable() == Some(false))
                }
                Side::None | Side::Body(..) => false,
            }
    }

    /// Reads until the call can be answered, as far as that is possible without waiting.
    pub(super) fn read_now(&self, reading: &mut Reading) -> Option<Result<Taken, Failure>> {
        if self.is_silent() {
            return None;
        }
        match self.read_on(reading, true, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Reads until the call can be answered.
    pub(super) fn poll_read(
        &self,
        reading: &mut Reading,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Taken, Failure>> {
        self.read_on(reading, false, cx)
    }

    fn read_on(
        &self,
        reading: &mut Reading,
        now: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Taken, Failure>> {
        loop {
            {
                let inbox = self.inbox.borrow();
                if let Some(taken) = inbox.advance(reading) {
                    return Poll::Ready(Ok(taken));
                }
                if inbox.eof {
                    return Poll::Ready(Err(Failure::Closed));
                }
            }
            ready!(self.fill(reading, now, cx))?;
        }
    }

    /// Receives more.
    fn fill(&self, reading: &Reading, now: bool, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let size = self.settings.get().buffer_size;
        let mut side = self.side.borrow_mut();
        let mut inbox = self.inbox.borrow_mut();
        let read = match &mut *side {
            Side::None => return Poll::Ready(Err(Failure::Closed)),
            Side::Peer(connection) => {
                // Room is made when there is something for it.
                if connection.io.is_readable() == Some(false) {
                    if now {
                        return Poll::Pending;
                    }
                    ready!(connection.io.poll_readable(cx)).map_err(Failure::System)?;
                }
                let room = inbox.room(reading, size);
                if now {
                    match connection.io.try_read(room) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                        result => result,
                    }
                } else {
                    ready!(connection.io.poll_read(room, cx))
                }
            }
            Side::Body(r, _) => {
                let Some(r) = r.upgrade() else { return Poll::Ready(Err(Failure::Closed)) };
                match ready!(r.exchange.poll_body_unhurried(&r, cx)) {
                    Ok(BodyRead::Data(data)) => {
                        inbox.push(reading, &data);
                        r.body.borrow_mut().received += data.len() as u64;
                        Ok(data.len())
                    }
                    Ok(BodyRead::End) => Ok(0),
                    Err(_) => return Poll::Ready(Err(Failure::ClientAborted)),
                }
            }
            Side::Raw(r, _) => {
                let Some(r) = r.upgrade() else { return Poll::Ready(Err(Failure::Closed)) };
                let Some(raw) = r.exchange.raw() else { return Poll::Ready(Err(Failure::Closed)) };
                if raw.is_readable() == Some(false) {
                    if now {
                        return Poll::Pending;
                    }
                    ready!(raw.poll_readable(cx)).map_err(Failure::System)?;
                }
                ready!(raw.poll_read(inbox.room(reading, size), cx))
            }
        };
        match read {
            Ok(0) if matches!(*side, Side::Raw(..)) && self.settings.get().check_abort => {
                return Poll::Ready(Err(Failure::ClientAborted));
            }
            Ok(0) => inbox.eof = true,
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(Failure::System(error))),
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is taken at once.
    pub(super) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match &mut *self.side.borrow_mut() {
            Side::Peer(connection) => connection.try_write(data),
            Side::Raw(r, _) => match r.upgrade() {
                Some(r) => match r.exchange.raw() {
                    Some(raw) => raw.try_write(data),
                    None => Err(io::ErrorKind::BrokenPipe.into()),
                },
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
            Side::None | Side::Body(..) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    pub(super) fn poll_write(&self, data: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Side::Peer(connection) = &mut *self.side.borrow_mut() {
            return connection.poll_write(data, cx);
        }
        loop {
            match self.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            let r = match &*self.side.borrow() {
                Side::Raw(r, _) => r.upgrade(),
                _ => None,
            };
            let Some(r) = r else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
            let Some(raw) = r.exchange.raw() else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            ready!(raw.poll_writable(cx))?;
        }
    }

    /// Whether something that was taken has not left.
    pub(super) fn has_pending(&self) -> bool {
        matches!(&*self.side.borrow(), Side::Peer(connection) if connection.io.has_pending())
    }

    /// Ready when everything that was taken has left.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.side.borrow() {
            Side::Peer(connection) => connection.io.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The timer of the receiving direction.
    pub(super) fn read_timer(&self) -> Rc<Timer> {
        match &*self.side.borrow() {
            Side::Peer(connection) => connection.timers.read.clone(),
            Side::Body(_, timers) | Side::Raw(_, timers) => timers.read.clone(),
            Side::None => Rc::default(),
        }
    }

    /// The timer of the sending direction.
    pub(super) fn write_timer(&self) -> Rc<Timer> {
        match &*self.side.borrow() {
            Side::Peer(connection) => connection.timers.write.clone(),
            Side::Body(_, timers) | Side::Raw(_, timers) => timers.write.clone(),
            Side::None => Rc::default(),
        }
    }

    /// The system's word on a failed call, which goes to the error log as it comes.
    pub(super) fn log_failure(&self, journal: &Journal, call: &str, failure: &Failure) {
        let Failure::System(error) = failure else { return };
        if self.settings.get().log_errors && error.raw_os_error().is_some() {
            let error = moonrest_core::env::os_error(error);
            journal.error(format_args!("{call} failed ({error})"));
        }
    }
}

/// The answer to the use of a stream that leads nowhere, or no more in this direction.
pub(super) fn closed(call: &Call<'_>, stream: Option<&Stream>, doing: &str) -> LuaResult<Return> {
    if Settings::here(call).log_errors {
        let address = stream.map_or(0, |stream| std::ptr::from_ref(stream).addr());
        let open = stream.is_some_and(Stream::is_open);
        let eof = stream.is_some_and(|stream| stream.inbox.borrow().eof);
        let peer = stream.map(Stream::peer).unwrap_or_default();
        let shown = if open { address } else { 0 };
        Journal::of(call)?.error(format_args!(
            "attempt to {doing} data on a closed socket: u:{address:016X}, c:{shown:016X}, ft:0 eof:{}{peer}",
            u8::from(eof)
        ));
    }
    call.ret((Nil, "closed"))
}

impl Handle {
    /// Reads an option of the socket; `None` when it is closed.
    pub(crate) fn option(&self, option: SocketOption) -> Option<io::Result<i32>> {
        self.0.with_fd(|fd| socket::option(fd, option))
    }

    /// Sets one.
    pub(crate) fn set_option(&self, option: SocketOption, value: i32) -> Option<io::Result<()>> {
        self.0.with_fd(|fd| socket::set_option(fd, option, value))
    }

    /// The number of the descriptor.
    pub(crate) fn raw_fd(&self) -> Option<RawFd> {
        self.0.with_fd(|fd| fd.as_raw_fd())
    }
}

impl Stream {
    fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        match &*self.side.borrow() {
            Side::None => None,
            Side::Peer(connection) => Some(connection.io.with_fd(f)),
            Side::Body(r, _) | Side::Raw(r, _) => {
                let r = r.upgrade()?;
                let raw = r.exchange.raw()?;
                let (mut f, mut answer) = (Some(f), None);
                raw.with_fd(&mut |fd| answer = f.take().map(|f| f(fd)));
                answer
            }
        }
    }
}
