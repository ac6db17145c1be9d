//! The `server` line of an upstream.

use super::{Url, resolve_host};
use crate::{ConfResult, ConfigError, Fault, Subject, args::Args};
use moonrest_conf::{Span, value};
use moonrest_net::addr::Addr;

const PLACEHOLDER: &[u8] = b"0.0.0.1";

/// One `server` line.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address as written.
    pub name: Box<[u8]>,
    pub target: Target,
    pub weight: u32,
    /// 0 is unlimited.
    pub max_conns: u32,
    /// 0 never takes it out.
    pub max_fails: u32,
    /// Seconds.
    pub fail_timeout: i64,
    /// Milliseconds in which it comes to its whole weight again; 0 for at once.
    pub slow_start: i64,
    pub down: Down,
    pub backup: bool,
    /// What `sticky` calls it.
    pub route: Option<Box<[u8]>>,
    pub span: Option<Span>,
}

/// Where a line's addresses come from.
#[derive(Clone, Debug)]
pub enum Target {
    Addrs(Vec<Addr>),
    /// A name that is looked up when the server starts.
    Name {
        host: Box<[u8]>,
        port: u16,
    },
    /// A name that is looked up again and again, perhaps by its service.
    Resolve {
        host: Box<[u8]>,
        port: u16,
        service: Option<Box<[u8]>>,
    },
}

/// Whether a server is to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Down {
    #[default]
    No,
    Yes,
    /// Only by requests that `sticky` binds to it.
    Draining,
}

/// The parameters of `server` that a balancing method takes.
#[derive(Clone, Copy, Debug)]
pub struct Supports {
    pub weight: bool,
    pub backup: bool,
    pub slow_start: bool,
}

impl Server {
    /// A server with this address and every other setting as implicit upstreams have it.
    pub fn implicit(name: &[u8], target: Target, span: Option<Span>) -> Self {
        Self {
            name: name.into(),
            target,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: 10,
            slow_start: 0,
            down: Down::No,
            backup: false,
            route: None,
            span,
        }
    }

    /// Stands where a balancer names all servers: nobody answers there.
    pub fn placeholder() -> Self {
        let addr = Addr::Inet(([0, 0, 0, 1], 80).into());
        Self::implicit(PLACEHOLDER, Target::Addrs(vec![addr]), None)
    }

    /// Whether it is [`Server::placeholder`]: a server in the configuration, whatever its name, has a place there.
    pub fn is_placeholder(&self) -> bool {
        self.span.is_none() && *self.name == *PLACEHOLDER
    }

    /// Reads the arguments of `server`.
    ///
    /// # Errors
    /// nginx's, among them `invalid parameter "x"`, `balancing method does not support parameter "x"`, and what is
    /// wrong with the address, `in upstream "x"`.
    pub fn parse<S: Subject>(args: &Args<'_, S>, supports: Supports) -> ConfResult<Self> {
        let text = args.bytes(0)?;
        let mut server = Self::implicit(text, Target::Addrs(Vec::new()), Some(args.span()));
        let (mut resolve, mut service) = (false, None);
        for n in 1..args.len() {
            let word = args.bytes(n)?;
            let invalid = || args.invalid_parameter(n);
            let number = |text: &[u8]| {
                value::parse_uint(text).and_then(|number| u32::try_from(number).ok()).ok_or_else(invalid)
            };
            let unsupported = || {
                Fault::message(format!("balancing method does not support parameter \"{}\"", args.lossy(n)))
            };
            let (key, rest) = match memchr::memchr(b'=', word) {
                Some(at) => word.split_at(at + 1),
                None => (word, &[][..]),
            };
            match key {
                b"weight=" if !supports.weight => return Err(unsupported()),
                b"weight=" => {
                    server.weight = number(rest)?;
                    if server.weight == 0 {
                        return Err(invalid());
                    }
                }
                b"max_conns=" => server.max_conns = number(rest)?,
                b"max_fails=" => server.max_fails = number(rest)?,
                b"fail_timeout=" => {
                    let time = value::parse_sec(rest).and_then(|time| i64::try_from(time).ok());
                    server.fail_timeout = time.ok_or_else(invalid)?;
                }
                b"slow_start=" if !supports.slow_start => return Err(unsupported()),
                b"slow_start=" => {
                    let time = value::parse_msec(rest).and_then(|time| i64::try_from(time).ok());
                    server.slow_start = time.ok_or_else(invalid)?;
                }
                b"backup" if !supports.backup => return Err(unsupported()),
                b"backup" => server.backup = true,
                b"down" => server.down = Down::Yes,
                b"drain" => server.down = Down::Draining,
                b"route=" if rest.is_empty() => return Err(Fault::message("route is empty")),
                b"route=" if rest.len() > 32 => return Err(Fault::message("route is longer than 32")),
                b"route=" => server.route = Some(rest.into()),
                b"resolve" => resolve = true,
                b"service=" if rest.is_empty() => return Err(Fault::message("service is empty")),
                b"service=" => service = Some(Box::from(rest)),
                _ => return Err(invalid()),
            }
        }
        server.target = target(text, resolve, service)?;
        Ok(server)
    }

    /// Its addresses; names are looked up now, which may take its time.
    ///
    /// # Errors
    /// nginx's `host not found in upstream "x"`.
    pub fn addresses(&self) -> Result<Vec<Addr>, ConfigError> {
        match &self.target {
            Target::Addrs(addrs) => Ok(addrs.clone()),
            Target::Resolve { .. } => Ok(Vec::new()),
            Target::Name { host, port } => {
                let addrs = resolve_host(host, *port);
                if addrs.is_empty() {
                    let name = String::from_utf8_lossy(&self.name);
                    let error = ConfigError::emerg(format!("host not found in upstream \"{name}\""));
                    return Err(match self.span {
                        Some(span) => error.with_span(span),
                        None => error,
                    });
                }
                Ok(addrs)
            }
        }
    }
}

fn target(text: &[u8], resolve: bool, service: Option<Box<[u8]>>) -> ConfResult<Target> {
    let shown = String::from_utf8_lossy(text);
    if service.is_some() && !resolve {
        return Err(Fault::message(format!("service upstream \"{shown}\" requires \"resolve\" parameter")));
    }
    let url = Url::parse(text, 80, false)
        .map_err(|error| Fault::message(format!("{error} in upstream \"{shown}\"")))?;
    if service.is_some() && !url.no_port {
        return Err(Fault::message(format!("service upstream \"{shown}\" may not have port")));
    }
    if service.is_some() && url.addr.is_some() {
        return Err(Fault::message(format!("service upstream \"{shown}\" requires domain name")));
    }
    let host: Box<[u8]> = url.host.into();
    Ok(match url.addr {
        Some(addr) => Target::Addrs(vec![addr]),
        None if resolve => Target::Resolve { host, port: url.port, service },
        None => Target::Name { host, port: url.port },
    })
}
