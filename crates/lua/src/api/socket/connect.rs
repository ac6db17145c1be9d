//! `sock:connect`. <https://github.com/openresty/lua-nginx-module#tcpsockconnect>

use super::{
    Journal, TRANSPARENT,
    connection::{Connection, Peer},
    fail,
    options::{self, Settings},
    pool::{self, Entry, InLine, Pool, Seat},
    stream::{self, Failure, Side, Stream},
};
use crate::{
    api::output::number_text,
    scheduler::{Item, Operation, Values},
};
use moonrest_core::{Level, env::os_error};
use moonrest_http::decimal;
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Table, Value};
use moonrest_net::{
    addr::Addr,
    connect::{self, Connecting, Local},
    resolver::{self, Resolver},
    timer::Timer,
};
use smallvec::SmallVec;
use std::{future::poll_fn, io, net::SocketAddr, rc::Rc, task::Poll};

/// The name of a pool.
type Key = SmallVec<[u8; 64]>;

/// What `connect` was called with.
struct Args<'c> {
    host: &'c [u8],
    port: u16,
    pool_size: Option<usize>,
    backlog: Option<usize>,
}

/// `sock:connect(host, port, options?)`, `sock:connect("unix:/path", options?)`.
pub(super) fn connect(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if !(2..=4).contains(&given) {
        return Err(format!(
            "ngx.socket connect: expecting 2, 3, or 4 arguments (including the object), but seen {given}"
        )
        .into());
    }
    let owner = super::owner(call)?;
    let object: Table<'_> = call.arg(1)?;
    let settings = Settings::here(call);
    let mut key = Key::new();
    let args = match read_args(call, &settings, &mut key)? {
        Ok(args) => args,
        Err(message) => return fail(call, &message),
    };
    let Some(handle) = stream::of(call)? else { return fail(call, "closed") };
    let stream = &handle.0;
    if !stream.owner.borrow().is_none() {
        stream.check_owner(owner)?;
    }
    if stream.connecting.get() {
        return fail(call, "socket busy connecting");
    }
    if let Some(busy) = stream.busy(true, true) {
        return fail(call, busy);
    }
    if stream.is_client() {
        return Err("attempt to re-connect a request socket".into());
    }
    stream.renew(settings);
    stream.adopt(call, owner)?;
    let pool = match args.pool_size {
        Some(size) => pool::open(call, &key, size, args.backlog)?,
        None => pool::find(&key, None),
    };
    *stream.key.borrow_mut() = Some(match &pool {
        Some(pool) => pool.key.clone(),
        None => key[..].into(),
    });
    // Only from now on the FFI's functions of resty.core find the stream, as in upstream.
    object.copy_index(call, super::CELL, super::CONTEXT)?;
    if let Some(mut bound) = stream.bound.get() {
        bound.transparent = object.raw_index(call, TRANSPARENT)?.is_true();
        stream.bound.set(Some(bound));
    }
    let Some(pool) = pool else { return dial(call, stream, &args, None) };
    begin(call, stream, &args, &pool)
}

/// Takes an idle connection of the pool, or a place in it.
fn begin(call: &Call<'_>, stream: &Rc<Stream>, args: &Args<'_>, pool: &Rc<Pool>) -> LuaResult<Return> {
    if let Some(connection) = pool.take() {
        stream.lead_to(connection);
        return call.ret(1);
    }
    match pool.enter() {
        Entry::Now(seat) => dial(call, stream, args, Some(seat)),
        Entry::Refused => call.ret((Nil, "too many waiting connect operations")),
        Entry::Wait(turn) => {
            let journal = Journal::of(call)?;
            let plan = match Plan::of(call, args) {
                Ok(plan) => plan,
                Err(message) => return fail(call, &message),
            };
            let place = format!("{}:{}", String::from_utf8_lossy(args.host), args.port);
            let wait = in_line(Attempt::begin(stream, journal), plan, turn, place);
            call.suspend(Operation::Wait(Box::pin(wait)), ())
        }
    }
}

/// The arguments, or what Lua is told about them.
fn read_args<'c>(call: &Call<'c>, settings: &Settings, key: &mut Key) -> LuaResult<Result<Args<'c>, String>> {
    let host: &'c [u8] = call.arg(2)?;
    let mut given = call.args_len();
    let (mut pool_size, mut backlog, mut pool) = (None, None, None::<&[u8]>);
    if let Value::Table(options) = call.value(given) {
        let n = u32::try_from(given).unwrap_or(4);
        pool_size = option_number(call, options, "pool_size", 1, n)?;
        backlog = option_number(call, options, "backlog", 0, n)?;
        if backlog.is_some() && pool_size.is_none() {
            pool_size = usize::try_from(settings.pool_size).ok().filter(|size| *size > 0);
        }
        match options.get(call, "pool")? {
            Value::Nil => {}
            Value::String(text) => pool = Some(text),
            Value::Number(number) => {
                key.extend_from_slice(number_text(number).as_bytes());
                pool = Some(b"");
            }
            other => {
                let got = other.type_name();
                return Err(LuaError::argument(n, format!("bad \"pool\" option type: {got}")));
            }
        }
        given -= 1;
    }
    let unix = host.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"unix:"));
    let port = if given >= 3 { call.arg::<f64>(3).ok() } else { None };
    let port = match port {
        Some(port) => match u16::try_from(port as i64) {
            Ok(port) => Some(port),
            Err(_) => return Ok(Err(format!("bad port number: {}", port as i64))),
        },
        None if unix => None,
        None => return Ok(Err("missing the port number".to_owned())),
    };
    match pool {
        Some(name) => key.extend_from_slice(name),
        None => name_after(host, port, key),
    }
    Ok(Ok(Args { host, port: port.unwrap_or(0), pool_size, backlog }))
}

/// The pool of a peer that names none: `HOST:PORT`, or the path.
fn name_after(host: &[u8], port: Option<u16>, key: &mut Key) {
    key.extend_from_slice(host);
    if let Some(port) = port {
        key.push(b':');
        key.extend_from_slice(decimal::digits(port.into(), &mut [0; 20]));
    }
}

fn option_number(
    call: &Call<'_>,
    options: Table<'_>,
    name: &str,
    least: i64,
    n: u32,
) -> LuaResult<Option<usize>> {
    let bad = |what: &str, value: &str| {
        Err(LuaError::argument(n, format!("bad \"{name}\" option {what}: {value}")))
    };
    let value = options.get(call, name)?;
    let number = match value {
        Value::Nil => return Ok(None),
        Value::Number(number) => number as i64,
        Value::String(text) => {
            match std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<f64>().ok()) {
                Some(number) => number as i64,
                None => return if least == 0 { Ok(None) } else { bad("type", "string") },
            }
        }
        // Upstream looks at the type of the pool's size alone.
        _ if least == 0 => return Ok(None),
        other => return bad("type", other.type_name()),
    };
    match usize::try_from(number) {
        Ok(value) if number >= least => Ok(Some(value)),
        _ => bad("value", &number.to_string()),
    }
}

/// Where a connection shall lead, as far as it is known without asking anybody.
enum Plan {
    Address(Peer),
    Name { host: Vec<u8>, port: u16, resolver: Rc<Resolver>, timeout: u64 },
}

impl Plan {
    fn of(call: &Call<'_>, args: &Args<'_>) -> Result<Self, String> {
        let Args { host, port, .. } = *args;
        let shown = || String::from_utf8_lossy(host);
        let bad = |why: &str| Err(format!("failed to parse host name \"{}\": {why}", shown()));
        if let Some((scheme, path)) = host.split_at_checked(5)
            && scheme.eq_ignore_ascii_case(b"unix:")
        {
            return match path.len() {
                0 => bad("no path in the unix domain socket"),
                1..=107 => Ok(Self::Address(Peer { host: host.into(), addr: Addr::Unix(path.into()) })),
                _ => bad("too long path in the unix domain socket"),
            };
        }
        let (name, port) = match split_port(host, port) {
            Ok(split) => split,
            Err(why) => return bad(why),
        };
        if let Some(ip) = resolver::literal(name) {
            let addr = Addr::Inet(SocketAddr::new(ip, port));
            return Ok(Self::Address(Peer { host: name.into(), addr }));
        }
        match options::resolver(call) {
            Some((resolver, timeout)) => match resolver.at_hand(name, port) {
                Some(Ok(addrs)) => Ok(Self::Address(Peer { host: name.into(), addr: first(&addrs) })),
                Some(Err(error)) => Err(error.line(name)),
                None => Ok(Self::Name { host: name.to_vec(), port, resolver, timeout }),
            },
            None => Err(format!("no resolver defined to resolve \"{}\"", String::from_utf8_lossy(name))),
        }
    }
}

/// One of a name's addresses; each time they come in another order.
fn first(addrs: &[SocketAddr]) -> Addr {
    addrs.first().map_or_else(|| Addr::Unix(Box::default()), |addr| Addr::Inet(*addr))
}

/// Host and port as nginx reads an address without scheme: `host`, `host:port`, `[::1]`, `[::1]:port`.
pub(super) fn split_port(host: &[u8], port: u16) -> Result<(&[u8], u16), &'static str> {
    let number = |digits: &[u8]| {
        let number = moonrest_core::conf::value::parse_uint(digits).and_then(|port| u16::try_from(port).ok());
        number.filter(|port| *port > 0).ok_or("invalid port")
    };
    if host.starts_with(b"[") {
        let end = host.iter().position(|byte| *byte == b']').ok_or("invalid host")?;
        let (name, rest) = host.split_at(end + 1);
        return match rest {
            [] => Ok((name, port)),
            [b':', digits @ ..] => Ok((name, number(digits)?)),
            _ => Err("invalid host"),
        };
    }
    if host.iter().any(|byte| matches!(byte, b'/' | b'?')) {
        return Err("invalid host");
    }
    match host.iter().position(|byte| *byte == b':') {
        _ if host.is_empty() => Err("no host"),
        Some(0) => Err("no host"),
        Some(at) => Ok((host.get(..at).unwrap_or_default(), number(host.get(at + 1..).unwrap_or_default())?)),
        None => Ok((host, port)),
    }
}

/// Makes a new connection: at once where that is possible.
fn dial(call: &Call<'_>, stream: &Rc<Stream>, args: &Args<'_>, seat: Option<Seat>) -> LuaResult<Return> {
    let plan = match Plan::of(call, args) {
        Ok(plan) => plan,
        Err(message) => return fail(call, &message),
    };
    let journal = Journal::of(call)?;
    let Plan::Address(peer) = plan else {
        let wait = finish(Attempt::begin(stream, journal), plan, seat);
        return call.suspend(Operation::Wait(Box::pin(wait)), ());
    };
    match start(stream, &peer, &journal) {
        Err(error) => call.ret((Nil, super::error_text(&error))),
        Ok(connecting) if connecting.is_done() => {
            stream.lead_to(Box::new(Connection::new(connecting.into_io(), Rc::new(peer), seat)));
            call.ret(1)
        }
        Ok(connecting) => {
            let attempt = Attempt::begin(stream, journal);
            let wait = async move { attempt.establish(connecting, peer, seat).await };
            call.suspend(Operation::Wait(Box::pin(wait)), ())
        }
    }
}

fn start(stream: &Stream, peer: &Peer, journal: &Journal) -> io::Result<Connecting> {
    let bound: Option<Local> = stream.bound.get();
    connect::start(&peer.addr, bound.as_ref()).inspect_err(|error| {
        let mut addr = Vec::new();
        peer.addr.append_with_port(&mut addr);
        let refused = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::WouldBlock
        );
        let level = if refused { Level::Error } else { Level::Crit };
        journal.write(
            level,
            format_args!("connect() to {} failed ({})", String::from_utf8_lossy(&addr), os_error(error)),
        );
    })
}

/// A connect that waits. Given up in the middle, it leaves a stream that leads nowhere.
struct Attempt {
    stream: Rc<Stream>,
    journal: Journal,
}

impl Attempt {
    fn begin(stream: &Rc<Stream>, journal: Journal) -> Self {
        stream.connecting.set(true);
        Self { stream: stream.clone(), journal }
    }

    fn log_errors(&self) -> bool {
        self.stream.settings.get().log_errors
    }

    /// Waits until the connection is there.
    async fn establish(self, mut connecting: Connecting, peer: Peer, seat: Option<Seat>) -> Values {
        self.stream.dialing.set(true);
        let timer = Timer::of(self.stream.connect_timeout());
        let made = poll_fn(|cx| match connecting.poll(cx) {
            Poll::Ready(made) => Poll::Ready(made.map_err(Failure::System)),
            Poll::Pending => timer.poll(cx).map(|()| Err(Failure::Timeout)),
        })
        .await;
        match made {
            Ok(()) => {
                self.stream.lead_to(Box::new(Connection::new(connecting.into_io(), Rc::new(peer), seat)));
                one()
            }
            Err(failure) => {
                match &failure {
                    Failure::System(error) if self.log_errors() => {
                        self.journal.error(format_args!("connect() failed ({})", os_error(error)));
                    }
                    Failure::Timeout if self.log_errors() => {
                        let peer = peer.describe();
                        self.journal.error(format_args!("lua tcp socket connect timed out{peer}"));
                    }
                    _ => {}
                }
                Values::error(&failure.text())
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.stream.connecting.set(false);
        self.stream.dialing.set(false);
    }
}

/// Goes on where a name must be resolved first, or a turn has come.
async fn finish(attempt: Attempt, plan: Plan, seat: Option<Seat>) -> Values {
    let peer = match plan {
        Plan::Address(peer) => peer,
        Plan::Name { host, port, resolver, timeout } => match resolver.resolve(&host, port, timeout).await {
            Ok(addrs) => Peer { host: host.into(), addr: first(&addrs) },
            Err(error) => return Values::error(&error.line(&host)),
        },
    };
    match start(&attempt.stream, &peer, &attempt.journal) {
        Ok(connecting) => attempt.establish(connecting, peer, seat).await,
        Err(error) => Values::error(&super::error_text(&error)),
    }
}

async fn in_line(attempt: Attempt, plan: Plan, mut turn: InLine, place: String) -> Values {
    let timer = Timer::of(attempt.stream.connect_timeout());
    let called = poll_fn(|cx| match turn.poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => timer.poll(cx).map(|()| false),
    })
    .await;
    if !called {
        if attempt.log_errors() {
            attempt.journal.error(format_args!(
                "lua tcp socket queued connect timed out, when trying to connect to {place}"
            ));
        }
        return Values::error("timeout");
    }
    match turn.take_turn() {
        Ok(connection) => {
            attempt.stream.lead_to(connection);
            one()
        }
        Err(seat) => finish(attempt, plan, Some(seat)).await,
    }
}

/// `1`, as upstream answers.
fn one() -> Values {
    Values::one(Item::Number(1.0))
}

impl Stream {
    /// Makes it new for another connection; an old one is closed.
    fn renew(&self, settings: Settings) {
        if self.is_open() {
            self.finalize();
        }
        self.inbox.borrow_mut().eof = false;
        self.settings.set(settings);
    }

    /// From now on it leads there.
    fn lead_to(&self, connection: Box<Connection>) {
        self.read_closed.set(false);
        self.write_closed.set(false);
        self.inbox.borrow_mut().eof = false;
        *self.side.borrow_mut() = Side::Peer(connection);
    }

    /// Closes directions of the connection itself.
    pub(super) fn shutdown(&self, read: bool, write: bool) -> io::Result<()> {
        let how = match (read, write) {
            (true, true) => std::net::Shutdown::Both,
            (true, false) => std::net::Shutdown::Read,
            _ => std::net::Shutdown::Write,
        };
        match &*self.side.borrow() {
            Side::Peer(connection) => connection.io.with_fd(|fd| moonrest_sys::socket::shutdown(fd, how))?,
            _ => return Err(io::ErrorKind::NotConnected.into()),
        }
        if write {
            self.write_closed.set(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expect: Result<(&str, u16), &str>) {
        let split =
            split_port(host.as_bytes(), 80).map(|(host, port)| (std::str::from_utf8(host).unwrap(), port));
        assert_eq!(split, expect, "{host}");
    }

    #[test]
    fn pools_are_named_after_peers() {
        let check = |host: &str, port, expect: &str| {
            let mut key = Key::new();
            name_after(host.as_bytes(), port, &mut key);
            assert_eq!(key[..], *expect.as_bytes());
        };
        check("127.0.0.1", Some(6379), "127.0.0.1:6379");
        check("a", Some(0), "a:0");
        check("a", Some(65_535), "a:65535");
        check("unix:/a", None, "unix:/a");
    }

    #[test]
    fn hosts_may_carry_a_port() {
        check("example.net", Ok(("example.net", 80)));
        check("127.0.0.1:81", Ok(("127.0.0.1", 81)));
        check("[::1]", Ok(("[::1]", 80)));
        check("[::1]:81", Ok(("[::1]", 81)));
        check("", Err("no host"));
        check("/tmp/x", Err("invalid host"));
        check("a:0", Err("invalid port"));
        check("[::1", Err("invalid host"));
    }
}
