//! `ngx.socket`: cosockets. <https://github.com/openresty/lua-nginx-module#ngxsockettcp>
//!
//! ```text
//! ngx.socket.tcp() → table ──[CELL]──→ userdata → Stream ──→ Connection (a peer) ⇄ Pool (idle, by key)
//!                    metatable in the registry          └──→ the client's connection (ngx.req.socket)
//! ```
//!
//! An operation is tried at once; only what would have to wait becomes a future. A stream belongs to the request that
//! connected it and is closed with it. A future that is dropped before its end closes its stream, because nobody knows
//! how much of what was sent or received.

mod connect;
mod connection;
mod exchange;
pub(crate) mod handshake;
mod inbox;
mod memcached;
mod mysql;
mod options;
mod pattern;
mod pool;
mod postgres;
mod receive;
mod redis;
mod req;
mod send;
mod setup;
mod stream;
mod udp;
mod websocket;

pub(crate) use pool::{start, stop};
pub(crate) use req::{is_raw, req_socket};
pub(crate) use stream::Handle;

use super::define_native;
use crate::host::Host;
use moonrest_core::{Level, Log};
use moonrest_http::{Request, RequestRef};
use moonrest_luajit::{Call, Form, LuaError, LuaResult, Native, Return, Stack, Table};
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
    sync::Arc,
};

/// Where a socket's table keeps the stream for libraries that ask the FFI for options; set by `connect`, as upstream.
const CONTEXT: usize = 1;
/// Where it keeps it for its own methods, from the beginning.
const CELL: usize = 8;
/// Where `setoption("ip-transparent")` of resty.core leaves its value.
const TRANSPARENT: usize = 9;

/// The metatables' names in the registry, by which resty.core finds and completes them.
const TCP: &str = "__tcp_cosocket_mt";
const REQ: &str = "__tcp_req_cosocket_mt";
const RAW_REQ: &str = "__tcp_raw_req_cosocket_mt";

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let socket = stack.table(0, 4)?;
    ngx.set(stack, "socket", socket)?;

    let reading: [(&str, Native); 5] = [
        ("receive", Native::new(receive::receive)),
        ("receiveany", Native::new(receive::receive_any)),
        ("receiveuntil", Native::new(receive::receive_until)),
        ("settimeout", Native::new(setup::set_timeout)),
        ("settimeouts", Native::new(setup::set_timeouts)),
    ];
    metatable(stack, REQ, &reading)?;
    let raw = metatable(stack, RAW_REQ, &reading)?;
    define_native(stack, raw, &[("send", Native::new(send::send))])?;
    let tcp = metatable(stack, TCP, &reading)?;
    define_native(
        stack,
        tcp,
        &[
            ("send", Native::new(send::send)),
            ("bind", Native::new(setup::bind)),
            ("connect", Native::new(connect::connect)),
            ("close", Native::new(setup::close)),
            ("shutdown", Native::new(setup::shutdown)),
            ("getreusedtimes", Native::new(setup::get_reused_times)),
            ("setkeepalive", Native::new(pool::set_keepalive)),
        ],
    )?;

    let kept = stack.keep(tcp)?;
    let make = stack.function_with(kept, stream::new_socket)?;
    socket.set(stack, "tcp", make)?;
    socket.set(stack, "stream", make)?;
    udp::install(stack, socket)?;
    redis::install(stack)?;
    memcached::install(stack)?;
    mysql::install(stack)?;
    postgres::install(stack)?;
    websocket::install(stack)?;
    super::module(
        stack,
        "moonrest.socket",
        &[
            ("connection_id", Native::new(setup::connection_id)),
            ("tls_session", Native::new(setup::tls_session)),
        ],
    )?;
    // Through `ngx.socket.tcp` as it is then: programs replace it.
    let chunk = stack.load(CONNECT, "=ngx.socket.connect", Form::Text)?;
    socket.set(stack, "connect", chunk)
}

const CONNECT: &[u8] = b"local sock = ngx.socket.tcp()
local ok, err = sock:connect(...)
if ok then return sock end
return nil, err";

/// A table of methods that is its own `__index`, in the registry under `name`.
fn metatable<'s>(stack: &mut Stack<'s>, name: &str, methods: &[(&str, Native)]) -> LuaResult<Table<'s>> {
    let table = stack.table(0, 24)?;
    define_native(stack, table, methods)?;
    table.raw_set(stack, "__index", table)?;
    stack.registry()?.raw_set(stack, name, table)?;
    Ok(table)
}

/// What tells one request (or timer, …) from another. Kept, it stays told from those to come.
#[derive(Clone, Default)]
pub(crate) struct Owner {
    id: usize,
    /// As long as somebody points there, no other request has the address.
    _place: Option<Weak<Request>>,
}

impl Owner {
    /// The request that runs now.
    fn here(call: &Call<'_>) -> LuaResult<Self> {
        let place = call.host(|host: &Host| host.request.as_ref().map(Rc::downgrade)).flatten();
        Ok(Self { id: owner(call)?, _place: place })
    }

    fn is_none(&self) -> bool {
        self.id == 0
    }
}

/// The number of the request, or of the code that runs for none.
#[inline]
fn owner(call: &Call<'_>) -> LuaResult<usize> {
    call.host(owner_of).filter(|owner| *owner != 0).ok_or_else(|| LuaError::new("no request found"))
}

#[inline]
fn owner_of(host: &Host) -> usize {
    match &host.detached {
        // Odd, as no address is.
        Some(detached) => usize::try_from(detached.number).unwrap_or(0) << 1 | 1,
        None => host.token(),
    }
}

/// Where lines about a socket go, also after the run that began the operation.
#[derive(Clone)]
pub(super) enum Journal {
    Request(RequestRef),
    /// For code that runs for no request: with its number and context.
    Detached(Arc<Log>, u64, Box<str>),
    Plain(Arc<Log>),
}

impl Journal {
    pub(super) fn of(call: &Call<'_>) -> LuaResult<Self> {
        call.host(Self::on).ok_or_else(|| LuaError::new("no request found"))
    }

    fn on(host: &Host) -> Self {
        match (&host.request, &host.detached) {
            (Some(r), _) => Self::Request(r.clone()),
            (None, Some(detached)) => {
                let context = detached.context(host.phase).into_boxed_str();
                Self::Detached(host.log_file().clone(), detached.number, context)
            }
            (None, None) => Self::Plain(host.log_file().clone()),
        }
    }

    pub(super) fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        match self {
            Self::Request(r) => r.log_at(level, line),
            Self::Detached(log, number, context) => {
                log.write(level, Some(*number), format_args!("{line}{context}"));
            }
            Self::Plain(log) => log.write(level, None, line),
        }
    }

    pub(super) fn error(&self, line: fmt::Arguments<'_>) {
        self.write(Level::Error, line);
    }
}

/// `nil, message`.
fn fail(call: &Call<'_>, message: &str) -> LuaResult<Return> {
    call.ret((moonrest_luajit::Nil, message))
}

/// The text of an error as LuaSocket words it: the system's, in lower case.
fn error_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
        }
        None => "error".to_owned(),
    }
}

/// What is closed when the request, or timer, that it belongs to ends.
trait Close {
    fn close(&self);
}

/// The sockets of one request, or timer.
#[derive(Default)]
pub(crate) struct Owned {
    list: RefCell<SmallVec<[Weak<dyn Close>; 2]>>,
    /// The request knows that it has to close them.
    known: Cell<bool>,
}

impl Owned {
    fn add(call: &Call<'_>, socket: &Rc<dyn Close>) {
        let Some(list) = call.host(|host: &Host| Self::of(host)) else { return };
        let mut list = list.list.borrow_mut();
        if list.len() >= 16 && list.len().is_power_of_two() {
            list.retain(|socket| socket.strong_count() > 0);
        }
        list.push(Rc::downgrade(socket));
    }

    fn of(host: &Host) -> Rc<Self> {
        let Some(r) = &host.request else { return host.sockets.get_or_init(Rc::default).clone() };
        // Those of subrequests live as long as the client's request.
        let r = r.main.as_ref().unwrap_or(r);
        let list = r.lasting_ctx::<Self>();
        if !list.known.replace(true) {
            let close = list.clone();
            r.at_end(move |_| close.close());
        }
        list
    }

    fn close(&self) {
        let list = self.list.take();
        list.iter().filter_map(Weak::upgrade).for_each(|socket| socket.close());
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.close();
    }
}
