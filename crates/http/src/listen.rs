//! `listen` and `server_name`: which sockets are opened, and which server a request belongs to.
//! <https://nginx.org/en/docs/http/request_processing.html>

mod address;

use crate::{
    args::Args,
    compile::BlockId,
    core::{CoreLoc, CoreMain},
    location::ServerId,
    phase::RequestError,
    regex::CapturingRegex,
    request::Request,
};
use hashbrown::HashMap;
use moonrest_core::{ConfResult, ConfigError, Env, Fault, Span, conf::value, regex::MatchFailure};
use moonrest_sys::listen::{KeepAlive, ListenAddr, ListenSpec};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// One `listen` as written.
#[derive(Clone)]
pub struct ListenLine {
    pub spec: ListenSpec,
    pub default_server: bool,
    pub ssl: bool,
    pub http2: bool,
    pub quic: bool,
    pub proxy_protocol: bool,
    /// A parameter was given that needs a socket of its own (`bind`, `backlog=` …).
    pub bind: bool,
    pub span: Option<Span>,
}

impl ListenLine {
    fn new(addr: ListenAddr, span: Option<Span>) -> Self {
        Self {
            spec: ListenSpec::new(addr),
            default_server: false,
            ssl: false,
            http2: false,
            quic: false,
            proxy_protocol: false,
            bind: false,
            span,
        }
    }
}

/// One name of a server.
#[derive(Clone)]
pub enum ServerName {
    /// Lower case.
    Exact(Box<[u8]>),
    /// `*.example.com`: the part behind the asterisk, beginning with a dot.
    Head(Box<[u8]>),
    /// `.example.com`: the name itself and everything below it.
    Dotted(Box<[u8]>),
    /// `www.example.*`: the part before the asterisk, ending with a dot.
    Tail(Box<[u8]>),
    Regex(CapturingRegex),
    /// `a*b`: an error, but only where names matter.
    Impossible(Box<[u8]>),
}

/// A socket and the servers behind it.
pub struct Listener {
    pub spec: ListenSpec,
    /// Servers for single addresses of a socket bound to all of them.
    addrs: Vec<(IpAddr, Arc<AddrConf>)>,
    default: Arc<AddrConf>,
}

impl Listener {
    /// Whether the connection's local address must be known to choose a server.
    pub fn by_local_address(&self) -> bool {
        !self.addrs.is_empty()
    }

    /// All of them.
    pub(crate) fn addr_confs(&self) -> impl Iterator<Item = &Arc<AddrConf>> {
        self.addrs.iter().map(|(_, conf)| conf).chain([&self.default])
    }

    /// The servers for a connection that arrived at `local`.
    pub fn addr_conf(&self, local: Option<IpAddr>) -> &Arc<AddrConf> {
        local
            .and_then(|ip| {
                self.addrs.iter().find(|(addr, _)| *addr == ip.to_canonical()).map(|(_, conf)| conf)
            })
            .unwrap_or(&self.default)
    }
}

/// What is known about one address and port: its default server, its names, its protocol.
pub struct AddrConf {
    pub default_server: ServerId,
    pub ssl: bool,
    pub http2: bool,
    pub proxy_protocol: bool,
    names: Names,
}

#[derive(Default)]
struct Names {
    exact: HashMap<Box<[u8]>, ServerId>,
    /// By `.example.com`.
    head: HashMap<Box<[u8]>, ServerId>,
    /// By `www.example.`.
    tail: HashMap<Box<[u8]>, ServerId>,
    regex: Vec<(CapturingRegex, ServerId)>,
}

/// Why a name cannot be used.
enum Problem {
    /// Another server of the address has it.
    Conflict,
    Impossible,
}

impl Names {
    fn add(&mut self, name: &ServerName, server: ServerId, report: impl Fn(Problem, &[u8])) {
        let insert = |map: &mut HashMap<Box<[u8]>, ServerId>, key: &[u8], shown: &[u8]| {
            if map.contains_key(key) {
                report(Problem::Conflict, shown);
            } else {
                map.insert(key.into(), server);
            }
        };
        match name {
            ServerName::Exact(name) => insert(&mut self.exact, name, name),
            ServerName::Head(name) => insert(&mut self.head, name, &[b"*", &**name].concat()),
            ServerName::Tail(name) => insert(&mut self.tail, name, &[&**name, b"*"].concat()),
            ServerName::Dotted(name) => {
                insert(&mut self.exact, name.get(1..).unwrap_or_default(), name);
                insert(&mut self.head, name, name);
            }
            ServerName::Regex(regex) => self.regex.push((regex.clone(), server)),
            ServerName::Impossible(name) => report(Problem::Impossible, name),
        }
    }
}

impl Names {
    /// The server that has this name, or the part of it around an asterisk.
    fn find_plain(&self, host: &[u8]) -> Option<ServerId> {
        if let Some(&server) = self.exact.get(host) {
            return Some(server);
        }
        if !self.head.is_empty() {
            for (at, _) in host.iter().enumerate().filter(|(at, b)| **b == b'.' && *at > 0) {
                if let Some(&server) = self.head.get(host.get(at..).unwrap_or_default()) {
                    return Some(server);
                }
            }
        }
        if !self.tail.is_empty() {
            for (at, _) in host.iter().enumerate().rev().filter(|(_, b)| **b == b'.') {
                if let Some(&server) = self.tail.get(host.get(..=at).unwrap_or_default()) {
                    return Some(server);
                }
            }
        }
        None
    }
}

impl AddrConf {
    /// Whether a name decides at all.
    pub fn has_names(&self) -> bool {
        let Names { exact, head, tail, regex } = &self.names;
        !(exact.is_empty() && head.is_empty() && tail.is_empty() && regex.is_empty())
    }

    /// The server for a host (lower case, without port): exact, then `*.x` longest first, then `x.*` longest first,
    /// then regular expressions in order, whose groups become the request's captures.
    ///
    /// # Errors
    /// When an expression fails.
    pub fn find(&self, r: &Request, host: &[u8]) -> Result<ServerId, RequestError> {
        if let Some(server) = self.names.find_plain(host) {
            return Ok(server);
        }
        if host.is_empty() {
            return Ok(self.default_server);
        }
        Ok(CapturingRegex::first(&self.names.regex, r, host)?.copied().unwrap_or(self.default_server))
    }
}

impl AddrConf {
    /// The server for a name from a TLS handshake (lower case), if one has it.
    ///
    /// # Errors
    /// When a regular expression fails.
    pub fn find_named(&self, name: &[u8]) -> Result<Option<ServerId>, MatchFailure> {
        if let Some(server) = self.names.find_plain(name) {
            return Ok(Some(server));
        }
        for (regex, server) in &self.names.regex {
            if regex.regex().try_is_match(name)? {
                return Ok(Some(*server));
            }
        }
        Ok(None)
    }
}

/// Sets `server_name NAME …`.
pub(crate) fn set_server_name(main: &mut CoreMain, loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    for (n, word) in args.words().iter().enumerate() {
        let text = &word.text;
        match &**text {
            [b'*', rest @ ..] if rest.len() < 2 || !rest.starts_with(b".") => {
                return Err(Fault::message(format!("server name \"{}\" is invalid", args.lossy(n))));
            }
            b"." => return Err(Fault::message("server name \".\" is invalid")),
            _ => {}
        }
        if text.contains(&b'/') {
            let message = format!("server name \"{}\" has suspicious symbols", args.lossy(n));
            args.env.warn(message, Some(word.span));
        }
        let name = match &**text {
            [b'~', pattern @ ..] => {
                if pattern.is_empty() {
                    return Err(Fault::message(format!("empty regex in server name \"{}\"", args.lossy(n))));
                }
                // nginx: caseless only when the pattern has capitals, as hosts are lower-cased.
                let caseless = pattern.iter().any(u8::is_ascii_uppercase);
                ServerName::Regex(CapturingRegex::compile(args, pattern, caseless)?)
            }
            text if text.eq_ignore_ascii_case(b"$hostname") => {
                ServerName::Exact(moonrest_sys::host::name().to_ascii_lowercase().into_bytes().into())
            }
            text => plain_name(&text.to_ascii_lowercase()),
        };
        args_name(main, loc, args, name, text);
    }
    Ok(())
}

/// A name or one with an asterisk, in lower case.
fn plain_name(text: &[u8]) -> ServerName {
    let plain = |text: &[u8]| !text.contains(&b'*') && memchr::memmem::find(text, b"..").is_none();
    match text {
        [b'*', rest @ ..] if plain(rest) => ServerName::Head(rest.into()),
        [b'.', ..] if plain(text) => ServerName::Dotted(text.into()),
        [rest @ .., b'*'] if plain(rest) && rest.ends_with(b".") && !rest.starts_with(b".") => {
            ServerName::Tail(rest.into())
        }
        _ if plain(text) => ServerName::Exact(text.into()),
        _ => ServerName::Impossible(text.into()),
    }
}

fn args_name(main: &mut CoreMain, loc: &mut CoreLoc, args: &Args<'_>, name: ServerName, text: &[u8]) {
    let shown: Box<[u8]> = match &name {
        ServerName::Exact(name) => name.clone(),
        // nginx: `.example.com` is shown without its dot.
        ServerName::Dotted(name) => name.get(1..).unwrap_or_default().into(),
        _ => text.into(),
    };
    loc.server_names.0.push(shown);
    main.names.push((args.block, name));
}

/// Sets `listen ADDRESS[:PORT] [PARAMETER …]`.
pub(crate) fn set_listen(main: &mut CoreMain, _loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let addrs = address::parse(args.bytes(0)?).map_err(|wrong| {
        Fault::message(format!("{wrong} in \"{}\" of the \"{}\" directive", args.lossy(0), args.name()))
    })?;
    for addr in addrs {
        let mut line = ListenLine::new(addr, Some(args.span()));
        for n in 1..args.len() {
            parameter(&mut line, args, n)?;
        }
        check_quic(&line, args)?;
        let twin = main.listens.iter().any(|(block, known)| {
            *block == args.block && known.spec.addr == line.spec.addr && known.quic == line.quic
        });
        if twin {
            return Err(Fault::message(format!("a duplicate listen {}", line.spec.addr)));
        }
        main.listens.push((args.block, line));
    }
    Ok(())
}

fn parameter(line: &mut ListenLine, args: &Args<'_>, n: usize) -> ConfResult {
    let word = args.str(n)?;
    let (key, text) = word.split_once('=').map_or((word, None), |(key, text)| (key, Some(text)));
    let text = text.unwrap_or_default();
    let invalid = || Fault::message(format!("invalid {key} \"{word}\""));
    let number = || {
        let number = value::parse_uint(text.as_bytes());
        number.and_then(|number| i32::try_from(number).ok()).ok_or_else(invalid)
    };
    let size = || {
        let size = value::parse_size(text.as_bytes());
        size.and_then(|size| usize::try_from(size).ok()).ok_or_else(invalid)
    };
    match (key, word.contains('=')) {
        ("default_server" | "default", false) => line.default_server = true,
        ("ssl", false) => line.ssl = true,
        ("http2", false) => {
            args.env.warn(
                "the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead"
                    .to_owned(),
                Some(args.span()),
            );
            line.http2 = true;
        }
        ("quic", false) => line.quic = true,
        ("proxy_protocol", false) => line.proxy_protocol = true,
        ("bind", false) => line.bind = true,
        ("deferred", false) => (line.spec.deferred, line.bind) = (true, true),
        ("reuseport", false) => (line.spec.reuseport, line.bind) = (true, true),
        ("multipath", false) => (line.spec.multipath, line.bind) = (true, true),
        ("backlog", true) => {
            line.spec.backlog = number().ok().filter(|n| *n != 0).ok_or_else(invalid)?;
            line.bind = true;
        }
        ("rcvbuf", true) => (line.spec.rcvbuf, line.bind) = (Some(size()?), true),
        ("sndbuf", true) => (line.spec.sndbuf, line.bind) = (Some(size()?), true),
        ("fastopen", true) => (line.spec.fastopen, line.bind) = (Some(number()?), true),
        // FreeBSD's.
        ("accept_filter", true) => args.env.warn(
            format!("accept filters \"{word}\" are not supported on this platform, ignored"),
            Some(args.span()),
        ),
        ("ipv6only", true) if text.starts_with('o') => {
            let on = match text {
                "on" => true,
                "off" => false,
                _ => return Err(Fault::message(format!("invalid ipv6only flags \"{text}\""))),
            };
            // nginx: means nothing for other addresses, but asks for a socket of its own.
            if matches!(line.spec.addr, ListenAddr::Inet(SocketAddr::V6(_))) {
                line.spec.ipv6only = Some(on);
            }
            line.bind = true;
        }
        ("so_keepalive", true) => {
            line.spec.keepalive = Some(keepalive(text)?);
            line.bind = true;
        }
        _ => return Err(args.invalid_parameter(n)),
    }
    Ok(())
}

/// Parameters of TCP that a listener for QUIC cannot have.
fn check_quic(line: &ListenLine, args: &Args<'_>) -> ConfResult {
    if !line.quic {
        return Ok(());
    }
    let given = |name: &str| {
        args.words()
            .iter()
            .skip(1)
            .any(|word| word.text.split(|b| *b == b'=').next() == Some(name.as_bytes()))
    };
    const FOREIGN: [&str; 8] =
        ["fastopen", "backlog", "deferred", "multipath", "ssl", "http2", "so_keepalive", "proxy_protocol"];
    match FOREIGN.into_iter().find(|name| given(name)) {
        Some(name) => Err(Fault::directive(format!("\"{name}\" parameter is incompatible with \"quic\""))),
        None => Ok(()),
    }
}

fn keepalive(text: &str) -> ConfResult<KeepAlive> {
    let invalid = || Fault::message(format!("invalid so_keepalive value: \"{text}\""));
    match text {
        "on" => return Ok(KeepAlive::On),
        "off" => return Ok(KeepAlive::Off),
        _ => {}
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [idle, interval, count] = parts.as_slice() else { return Err(invalid()) };
    let time = |text: &str| match text {
        "" => Ok(None),
        text => value::parse_sec(text.as_bytes()).map(|s| Some(Duration::from_secs(s))).ok_or_else(invalid),
    };
    let count = match *count {
        "" => None,
        text => {
            Some(value::parse_uint(text.as_bytes()).and_then(|n| u32::try_from(n).ok()).ok_or_else(invalid)?)
        }
    };
    let (idle, interval) = (time(idle)?, time(interval)?);
    if idle.is_none() && interval.is_none() && count.is_none() {
        return Err(invalid());
    }
    Ok(KeepAlive::Tuned { idle, interval, count })
}

/// One address with the servers that listen on it.
struct Gathered {
    line: ListenLine,
    default: Option<BlockId>,
    servers: Vec<BlockId>,
    protocols: Protocols,
}

/// How the servers of one address have agreed so far on its protocols, to warn when they do not.
#[derive(Default)]
struct Protocols {
    /// All that was asked for.
    all: u8,
    /// What the last line that differed, or agreed, asked for.
    last: Option<u8>,
    changed: bool,
}

impl Protocols {
    fn of(line: &ListenLine) -> u8 {
        u8::from(line.proxy_protocol) | u8::from(line.ssl) << 1 | u8::from(line.http2) << 2
    }

    /// Takes a further line; whether it contradicts the ones before it. `set` and `was_set` tell whether it, and any
    /// before it, has parameters of the socket: such a line speaks for the whole address.
    fn redefined_by(&mut self, line: &ListenLine, set: bool, was_set: bool) -> bool {
        let (before, now) = (self.all, Self::of(line));
        let added = now & !before != 0;
        let removed = before & !now != 0;
        let settled = |last: Option<u8>| last.is_some_and(|last| last != now);
        let warn = if added {
            (was_set && !set) || self.changed || removed
        } else if removed {
            set || settled(self.last)
        } else {
            (set && self.changed) || settled(self.last)
        };
        self.last = Some(if added { before } else { now });
        self.changed |= added || removed;
        self.all |= now;
        warn
    }
}

/// Joins the `listen`s of all servers into sockets.
///
/// # Errors
/// nginx's `duplicate listen options for …` and `a duplicate default server for …`.
pub(crate) fn group(
    main: &CoreMain,
    servers: &HashMap<BlockId, ServerId>,
    speaks_tls: &dyn Fn(BlockId) -> Speaks,
    env: &Env<'_>,
) -> Result<Vec<Listener>, ConfigError> {
    let mut gathered: Vec<Gathered> = Vec::new();
    let implied = main
        .servers
        .iter()
        .filter(|(block, _)| !main.listens.iter().any(|(known, _)| known == block))
        .map(|(block, _)| (*block, implied_line(env)));
    let all = main.listens.iter().cloned().chain(implied);
    let mut in_order: Vec<_> = all.collect();
    in_order.sort_by_key(|(block, _)| *block);
    for (block, line) in in_order {
        gather(&mut gathered, block, line, env)?;
    }
    gathered.iter().try_for_each(|entry| check_tls(entry, main, speaks_tls))?;
    let confs: Vec<Arc<AddrConf>> =
        gathered.iter().map(|entry| Arc::new(addr_conf(entry, main, servers, env))).collect();
    Ok(sockets(&gathered, &confs))
}

/// How far a server can speak TLS.
pub(crate) enum Speaks {
    No,
    /// It has certificates.
    Yes,
    /// It only turns clients away.
    Rejects,
}

/// Sockets for TLS need certificates.
fn check_tls(
    entry: &Gathered,
    main: &CoreMain,
    speaks_tls: &dyn Fn(BlockId) -> Speaks,
) -> Result<(), ConfigError> {
    let kind = if entry.line.quic { "quic" } else { "ssl" };
    let Some(default) = entry.default.or(entry.servers.first().copied()) else { return Ok(()) };
    if !entry.line.ssl && !entry.line.quic {
        return Ok(());
    }
    let lacking = match speaks_tls(default) {
        Speaks::Yes => None,
        Speaks::No => Some(default),
        // Without any in the default server, all others must have some.
        Speaks::Rejects => {
            entry.servers.iter().copied().find(|server| matches!(speaks_tls(*server), Speaks::No))
        }
    };
    let Some(lacking) = lacking else { return Ok(()) };
    let message = format!("no \"ssl_certificate\" is defined for the \"listen ... {kind}\" directive");
    let error = ConfigError::emerg(message);
    let span = main.servers.iter().find(|(block, _)| *block == lacking).map(|(_, span)| *span);
    Err(match span {
        Some(span) => error.with_span(span),
        None => error,
    })
}

/// A server without `listen` listens on `*:80`, or on `*:8000` without the rights for that.
fn implied_line(env: &Env<'_>) -> ListenLine {
    let port = if env.resources.privileged() { 80 } else { 8000 };
    ListenLine::new(ListenAddr::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)), None)
}

fn gather(
    gathered: &mut Vec<Gathered>,
    block: BlockId,
    line: ListenLine,
    env: &Env<'_>,
) -> Result<(), ConfigError> {
    let known = gathered
        .iter_mut()
        .find(|entry| entry.line.spec.addr == line.spec.addr && entry.line.quic == line.quic);
    let Some(known) = known else {
        let default = line.default_server.then_some(block);
        let protocols = Protocols { all: Protocols::of(&line), ..Protocols::default() };
        gathered.push(Gathered { line, default, servers: vec![block], protocols });
        return Ok(());
    };
    let at = |message: String| {
        let error = ConfigError::emerg(message);
        match line.span {
            Some(span) => error.with_span(span),
            None => error,
        }
    };
    let (line_set, known_set) = (line.bind, known.line.bind);
    if line.bind {
        if known.line.bind {
            return Err(at(format!("duplicate listen options for {}", line.spec.addr)));
        }
        known.line.spec = line.spec.clone();
        known.line.bind = true;
    }
    if line.default_server {
        if known.default.is_some() {
            return Err(at(format!("a duplicate default server for {}", line.spec.addr)));
        }
        known.default = Some(block);
    }
    if known.protocols.redefined_by(&line, line_set, known_set) {
        env.warn(format!("protocol options redefined for {}", line.spec.addr), line.span);
    }
    known.line.ssl |= line.ssl;
    known.line.http2 |= line.http2;
    known.line.proxy_protocol |= line.proxy_protocol;
    known.servers.push(block);
    Ok(())
}

fn addr_conf(
    entry: &Gathered,
    main: &CoreMain,
    servers: &HashMap<BlockId, ServerId>,
    env: &Env<'_>,
) -> AddrConf {
    let number = |block: &BlockId| servers.get(block).copied().unwrap_or(ServerId(0));
    let default = entry.default.or(entry.servers.first().copied());
    let mut names = Names::default();
    // nginx: names of the only server of an address are not looked at.
    let several = entry.servers.len() > 1;
    for block in &entry.servers {
        let server = number(block);
        let mut own = main.names.iter().filter(|(owner, _)| owner == block).map(|(_, name)| name).peekable();
        // nginx: a server without names has the empty one, and with it the requests without a host.
        let empty = ServerName::Exact(Box::default());
        let nameless = own.peek().is_none().then_some(&empty);
        for name in own.chain(nameless).filter(|name| several || matches!(name, ServerName::Regex(..))) {
            names.add(name, server, |problem, shown| {
                let shown = String::from_utf8_lossy(shown);
                let addr = &entry.line.spec.addr;
                match problem {
                    Problem::Conflict => {
                        env.warn(format!("conflicting server name \"{shown}\" on {addr}, ignored"), None)
                    }
                    Problem::Impossible => env.report(
                        moonrest_core::conf::Level::Emerg,
                        format!("invalid server name or wildcard \"{shown}\" on {addr}"),
                        None,
                    ),
                }
            });
        }
    }
    AddrConf {
        default_server: default.as_ref().map_or(ServerId(0), number),
        ssl: entry.line.ssl,
        http2: entry.line.http2,
        proxy_protocol: entry.line.proxy_protocol,
        names,
    }
}

/// An address without options of its own needs no socket when one is bound to all addresses of its port.
fn sockets(gathered: &[Gathered], confs: &[Arc<AddrConf>]) -> Vec<Listener> {
    let wildcard_of = |entry: &Gathered| {
        let ListenAddr::Inet(addr) = &entry.line.spec.addr else { return None };
        gathered.iter().position(|other| match &other.line.spec.addr {
            ListenAddr::Inet(any) => {
                any.port() == addr.port()
                    && any.ip().is_unspecified()
                    && any.is_ipv4() == addr.is_ipv4()
                    && other.line.quic == entry.line.quic
            }
            ListenAddr::Unix(_) => false,
        })
    };
    let mut listeners: Vec<(usize, Listener)> = Vec::new();
    let mut guests: Vec<(usize, IpAddr, Arc<AddrConf>)> = Vec::new();
    for (index, entry) in gathered.iter().enumerate() {
        match (&entry.line.spec.addr, wildcard_of(entry)) {
            (ListenAddr::Inet(addr), Some(host)) if host != index && !entry.line.bind => {
                guests.push((host, addr.ip(), confs[index].clone()));
            }
            _ => {
                let spec = entry.line.spec.clone();
                listeners.push((index, Listener { spec, addrs: Vec::new(), default: confs[index].clone() }));
            }
        }
    }
    for (host, ip, conf) in guests {
        if let Some((_, listener)) = listeners.iter_mut().find(|(index, _)| *index == host) {
            listener.addrs.push((ip, conf));
        }
    }
    listeners.into_iter().map(|(_, listener)| listener).collect()
}
