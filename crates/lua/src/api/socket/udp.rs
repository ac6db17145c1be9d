//! `ngx.socket.udp`. <https://github.com/openresty/lua-nginx-module#ngxsocketudp>

use super::{
    Close, Journal, Owned, Owner,
    connect::split_port,
    connection::Peer,
    fail,
    options::{self, Settings},
    send::gather,
};
use crate::scheduler::{Item, Operation, Values};
use moonrest_core::{Level, env::os_error};
use moonrest_luajit::{Borrowed, Call, LuaResult, Nil, Ref, Return, Stack, Table, Value};
use moonrest_net::{
    addr::Addr,
    connect::{Datagrams, Local},
    resolver, timer,
};
use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
};

/// The largest datagram received.
const MAX_DATAGRAM: usize = 65536;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Handle(Rc<Socket>);

/// A datagram socket as Lua holds it.
#[derive(Default)]
struct Socket {
    owner: RefCell<Owner>,
    open: RefCell<Option<Rc<Open>>>,
    waiting: Cell<bool>,
    /// Milliseconds; 0 for the location's.
    timeout: Cell<u64>,
    settings: Cell<Settings>,
    bound: Cell<Option<Local>>,
}

struct Open {
    datagrams: Datagrams,
    peer: Peer,
}

pub(super) fn install(stack: &mut Stack<'_>, socket: Table<'_>) -> LuaResult<()> {
    let methods: [(&str, moonrest_luajit::Native); 6] = [
        ("setpeername", moonrest_luajit::Native::new(set_peer_name)),
        ("send", moonrest_luajit::Native::new(send)),
        ("receive", moonrest_luajit::Native::new(receive)),
        ("settimeout", moonrest_luajit::Native::new(set_timeout)),
        ("close", moonrest_luajit::Native::new(close)),
        ("bind", moonrest_luajit::Native::new(bind)),
    ];
    let metatable = stack.table(0, 8)?;
    super::define_native(stack, metatable, &methods)?;
    metatable.raw_set(stack, "__index", metatable)?;
    let kept = stack.keep(metatable)?;
    let make = stack.function_with(kept, new_socket)?;
    socket.set(stack, "udp", make)
}

fn new_socket(call: &mut Call<'_>, metatable: &Ref) -> LuaResult<Return> {
    if call.args_len() != 0 {
        return Err(format!("expecting zero arguments, but got {}", call.args_len()).into());
    }
    super::owner(call)?;
    let metatable = call.put(metatable)?.as_table();
    let object = call.table(super::CELL, 1)?;
    let handle = call.userdata(Handle(Rc::new(Socket::default())))?;
    object.set_index(call, super::CELL, handle)?;
    object.set_metatable(call, metatable)?;
    call.ret(object)
}

fn of<'c>(call: &Call<'c>) -> LuaResult<Option<Borrowed<'c, Handle>>> {
    let object: Table<'c> = call.arg(1)?;
    match object.raw_index(call, super::CELL)? {
        Value::Userdata(userdata) => Ok(userdata.get::<Handle>(call)),
        _ => Ok(None),
    }
}

impl Close for Socket {
    fn close(&self) {
        let open = self.open.take();
        drop(open);
    }
}

impl Socket {
    fn check(&self, call: &Call<'_>) -> LuaResult<Option<&'static str>> {
        if self.owner.borrow().id != super::owner(call)? {
            return Err("bad request".into());
        }
        Ok(self.waiting.get().then_some("socket busy"))
    }

    fn read_timeout(&self) -> u64 {
        match self.timeout.get() {
            0 => self.settings.get().read_timeout,
            set => set,
        }
    }
}

/// `sock:setpeername(host, port?)`.
fn set_peer_name(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 && given != 3 {
        return Err(format!(
            "ngx.socket.udp setpeername: expecting 2 or 3 arguments (including the object), but seen {given}"
        )
        .into());
    }
    super::owner(call)?;
    let handle = of(call)?;
    let host: &[u8] = call.arg(2)?;
    let port = if given == 3 {
        let port: f64 = call.arg(3)?;
        match u16::try_from(port as i64) {
            Ok(port) => port,
            Err(_) => return fail(call, &format!("bad port number: {}", port as i64)),
        }
    } else {
        0
    };
    let Some(socket) = handle.as_ref().map(|handle| handle.0.clone()) else { return fail(call, "closed") };
    if !socket.owner.borrow().is_none()
        && let Some(busy) = socket.check(call)?
    {
        return fail(call, busy);
    }
    socket.close();
    if socket.owner.borrow().is_none() {
        *socket.owner.borrow_mut() = Owner::here(call)?;
        let this: Rc<dyn Close> = socket.clone();
        Owned::add(call, &this);
    }
    socket.settings.set(Settings::here(call));
    let journal = Journal::of(call)?;
    let shown = String::from_utf8_lossy(host);
    if let Some((scheme, path)) = host.split_at_checked(5)
        && scheme.eq_ignore_ascii_case(b"unix:")
    {
        if path.is_empty() || path.len() > 107 {
            let why = if path.is_empty() { "no path" } else { "too long path" };
            return fail(
                call,
                &format!("failed to parse host name \"{shown}\": {why} in the unix domain socket"),
            );
        }
        return open_now(call, &socket, &journal, Peer { host: host.into(), addr: Addr::Unix(path.into()) });
    }
    let (name, port) = match split_port(host, port) {
        Ok(split) => split,
        Err(why) => return fail(call, &format!("failed to parse host name \"{shown}\": {why}")),
    };
    if let Some(ip) = resolver::literal(name) {
        let addr = Addr::Inet(SocketAddr::new(ip, port));
        return open_now(call, &socket, &journal, Peer { host: name.into(), addr });
    }
    let Some((resolver, timeout)) = options::resolver(call) else {
        return fail(call, &format!("no resolver defined to resolve \"{}\"", String::from_utf8_lossy(name)));
    };
    let name = name.to_vec();
    let busy = Busy::begin(&socket);
    let wait = async move {
        let addrs = resolver.resolve(&name, port, timeout).await;
        let addr = match addrs {
            Ok(addrs) => addrs.first().copied(),
            Err(error) => return Values::error(&error.line(&name)),
        };
        let Some(addr) = addr else { return Values::error("resolver not working") };
        match open(&busy.0, &journal, Peer { host: name.into(), addr: Addr::Inet(addr) }) {
            Ok(()) => Values::one(Item::Number(1.0)),
            Err(error) => Values::error(&super::error_text(&error)),
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn open_now(call: &Call<'_>, socket: &Socket, journal: &Journal, peer: Peer) -> LuaResult<Return> {
    match open(socket, journal, peer) {
        Ok(()) => call.ret(1),
        Err(error) => fail(call, &super::error_text(&error)),
    }
}

fn open(socket: &Socket, journal: &Journal, peer: Peer) -> io::Result<()> {
    let bound = socket.bound.get();
    let opened = Datagrams::connect(&peer.addr, bound.as_ref()).inspect_err(|error| {
        let peer = peer.describe();
        journal.write(Level::Crit, format_args!("connect() failed ({}){peer}", os_error(error)));
    })?;
    *socket.open.borrow_mut() = Some(Rc::new(Open { datagrams: opened, peer }));
    Ok(())
}

/// `sock:send(data)`.
fn send(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 {
        let text = format!("expecting 2 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    super::owner(call)?;
    let handle = of(call)?;
    let socket = handle.as_ref().map(|handle| &handle.0);
    let Some((socket, open)) = open_of(socket) else { return closed(call, socket, "send") };
    if let Some(busy) = socket.check(call)? {
        return fail(call, busy);
    }
    let value = call.value(2);
    let mut data = Vec::new();
    gather(call, value, &mut data)?;
    match open.datagrams.send(&data) {
        Ok(n) if n == data.len() => call.ret(1),
        Ok(_) => fail(call, "partial write"),
        Err(error) => {
            if socket.settings.get().log_errors {
                let peer = open.peer.describe();
                Journal::of(call)?.error(format_args!("send() failed ({}){peer}", os_error(&error)));
            }
            fail(call, &super::error_text(&error))
        }
    }
}

fn open_of(socket: Option<&Rc<Socket>>) -> Option<(&Rc<Socket>, Rc<Open>)> {
    let socket = socket?;
    let open = socket.open.borrow().clone()?;
    Some((socket, open))
}

fn closed(call: &Call<'_>, socket: Option<&Rc<Socket>>, doing: &str) -> LuaResult<Return> {
    if Settings::here(call).log_errors {
        let address = socket.map_or(0, |socket| Rc::as_ptr(socket).addr());
        Journal::of(call)?.error(format_args!(
            "attempt to {doing} data on a closed socket: u:{address:016X}, c:{:016X}",
            0
        ));
    }
    call.ret((Nil, "closed"))
}

/// `sock:receive(size?)`.
fn receive(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 && given != 2 {
        let text = format!("expecting 1 or 2 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    super::owner(call)?;
    let handle = of(call)?;
    let socket = handle.as_ref().map(|handle| &handle.0);
    let Some((socket, open)) = open_of(socket) else { return closed(call, socket, "receive") };
    if let Some(busy) = socket.check(call)? {
        return fail(call, busy);
    }
    let size: Option<f64> = call.arg(2)?;
    let size = size.map_or(MAX_DATAGRAM, |size| (size.max(0.0) as usize).min(MAX_DATAGRAM));
    match try_receive(&open, size) {
        Ok(data) => return call.ret(data),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return fail(call, &receive_failed(socket, &open, &Journal::of(call)?, &error)),
    }
    let (busy, journal) = (Busy::begin(socket), Journal::of(call)?);
    let wait = async move {
        let mut buffer = vec![0; size];
        let received = timer::exactly_within(busy.0.read_timeout(), open.datagrams.recv(&mut buffer)).await;
        match received {
            Some(Ok(len)) => {
                buffer.truncate(len);
                Values::one(Item::Text(buffer))
            }
            Some(Err(error)) => Values::error(&receive_failed(&busy.0, &open, &journal, &error)),
            None => {
                if busy.0.settings.get().log_errors {
                    let peer = open.peer.describe();
                    journal.error(format_args!("lua udp socket read timed out{peer}"));
                }
                Values::error("timeout")
            }
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn try_receive(open: &Open, size: usize) -> io::Result<Vec<u8>> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(MAX_DATAGRAM, 0);
        let room = buffer.get_mut(..size).unwrap_or_default();
        let len = open.datagrams.try_recv(room)?;
        Ok(room.get(..len).unwrap_or_default().to_vec())
    })
}

fn receive_failed(socket: &Socket, open: &Open, journal: &Journal, error: &io::Error) -> String {
    if socket.settings.get().log_errors {
        let peer = open.peer.describe();
        journal.error(format_args!("recv() failed ({}){peer}", os_error(error)));
    }
    super::error_text(error)
}

/// `sock:settimeout(ms)`.
fn set_timeout(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 {
        return Err(format!(
            "ngx.socket settimeout: expecting at least 2 arguments (including the object) but seen {given}"
        )
        .into());
    }
    let timeout = call.arg::<f64>(2).unwrap_or(0.0);
    if let Some(handle) = of(call)? {
        handle.0.timeout.set(timeout.max(0.0) as u64);
    }
    call.ret(())
}

/// `sock:close()`.
fn close(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 {
        return Err(format!("expecting 1 argument (including the object) but seen {given}").into());
    }
    super::owner(call)?;
    let handle = of(call)?;
    let Some((socket, _)) = open_of(handle.as_ref().map(|handle| &handle.0)) else {
        return fail(call, "closed");
    };
    if let Some(busy) = socket.check(call)? {
        return fail(call, busy);
    }
    socket.close();
    call.ret(1)
}

/// `sock:bind(address)`.
fn bind(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 {
        return Err(format!("expecting 2 arguments, but got {given}").into());
    }
    super::owner(call)?;
    let handle = of(call)?;
    let Some(ip) = resolver::literal(call.arg(2)?) else { return fail(call, "bad address") };
    if let Some(handle) = handle {
        handle.0.bound.set(Some(Local { addr: SocketAddr::new(ip, 0), transparent: false }));
    }
    call.ret(1)
}

/// A socket that waits.
struct Busy(Rc<Socket>);

impl Busy {
    fn begin(socket: &Rc<Socket>) -> Self {
        socket.waiting.set(true);
        Self(socket.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.waiting.set(false);
    }
}
