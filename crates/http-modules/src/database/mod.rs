//! What `drizzle` and `postgres` share: groups of database servers, connections kept to them, and how one is used.

mod link;
mod queries;

pub(crate) use link::{Failure, Lease, Link};
pub(crate) use queries::{Queries, method};

use link::Pool;
use moonrest_core::upstream::{Peer, Server, Target, Url};
use moonrest_http::{
    prelude::*,
    upstream::{self, States},
};
use moonrest_sys::time::monotonic_coarse_ms;
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// How a module is called, and where its servers listen.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// For messages.
    pub name: &'static str,
    /// For log lines: `drizzle://`.
    pub scheme: &'static [u8],
    pub port: u16,
}

/// The `upstream` blocks that have servers of one kind.
#[derive(Default)]
pub(crate) struct Groups(Vec<Arc<Group>>);

/// The database servers of one `upstream` block.
pub(crate) struct Group {
    pub name: Box<[u8]>,
    pub servers: Vec<DbServer>,
    pub keepalive: Keepalive,
    /// The addresses of all servers, each with the number of its server.
    pub peers: Vec<(Arc<Peer>, usize)>,
}

/// One server line.
#[derive(Clone)]
pub(crate) struct DbServer {
    server: Server,
    pub user: Box<[u8]>,
    pub password: Box<[u8]>,
    pub dbname: Box<[u8]>,
    /// What is to be said first over each connection; empty for nothing.
    pub greeting: Box<[u8]>,
}

/// `drizzle_keepalive`, `postgres_keepalive`.
#[derive(Clone, Default)]
pub(crate) struct Keepalive {
    /// Connections that each worker keeps.
    pub max: usize,
    /// Any connection will do, not only one to the server and database whose turn it is.
    pub single: bool,
    /// There may be no more connections than are kept.
    pub reject: bool,
}

impl Groups {
    /// The group of the `upstream` block that is being read.
    fn current(&mut self, args: &Args<'_>, keepalive: Keepalive) -> ConfResult<&mut Group> {
        let name = args
            .compiler
            .with_main(|main: &mut upstream::Main| main.current().map(|definition| definition.name.clone()))
            .unwrap_or_else(|| Err(Fault::message("no upstream module")))?;
        let index = self.0.iter().position(|group| group.name == name).unwrap_or(self.0.len());
        if index == self.0.len() {
            self.0.push(Arc::new(Group { name, servers: Vec::new(), keepalive, peers: Vec::new() }));
        }
        let group = self.0.get_mut(index).and_then(Arc::get_mut);
        group.ok_or_else(|| Fault::message("an upstream block is in use already"))
    }

    /// Reads a server line; `parameter` is given those that are not known here.
    pub(crate) fn add_server(
        &mut self,
        args: &Args<'_>,
        kind: Kind,
        keepalive: Keepalive,
        parameter: impl Fn(&mut DbServer, &str, &[u8]) -> ConfResult<bool>,
    ) -> ConfResult {
        let text = args.bytes(0)?;
        let url = Url::parse(text, kind.port, false).map_err(|error| {
            Fault::message(format!("{}: {error} in upstream \"{}\"", kind.name, args.lossy(0)))
        })?;
        let target = match &url.addr {
            Some(addr) => Target::Addrs(vec![addr.clone()]),
            None => Target::Name { host: url.host.into(), port: url.port },
        };
        let server = Server::implicit(text, target, Some(args.span()));
        let mut made = DbServer {
            server: server.clone(),
            user: Box::default(),
            password: Box::default(),
            dbname: Box::default(),
            greeting: Box::default(),
        };
        for n in 1..args.len() {
            let word = args.bytes(n)?;
            let (key, value) = match memchr::memchr(b'=', word) {
                Some(at) => (word.get(..at).unwrap_or_default(), word.get(at + 1..).unwrap_or_default()),
                None => (word, &[][..]),
            };
            match key {
                b"user" => made.user = value.into(),
                b"password" => made.password = value.into(),
                b"dbname" => made.dbname = value.into(),
                _ => {
                    let key = String::from_utf8_lossy(key);
                    if !parameter(&mut made, &key, value)? {
                        return Err(Fault::message(format!(
                            "{}: invalid parameter \"{}\" in \"{}\"",
                            kind.name,
                            args.lossy(n),
                            args.name()
                        )));
                    }
                }
            }
        }
        let added = args.compiler.with_main(|main: &mut upstream::Main| -> ConfResult {
            main.current()?.servers.push(server);
            Ok(())
        });
        added.unwrap_or_else(|| Err(Fault::message("no upstream module")))?;
        self.current(args, keepalive)?.servers.push(made);
        Ok(())
    }

    /// `max=N mode=single|multi overflow=ignore|reject`, or `off` where a kind has that.
    pub(crate) fn set_keepalive(&mut self, args: &Args<'_>, kind: Kind, defaults: Keepalive) -> ConfResult {
        let mut keepalive = defaults.clone();
        for n in 0..args.len() {
            let word = args.str(n)?;
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let invalid = |what: &str| {
                Fault::message(format!(
                    "{}: invalid \"{what}\" value \"{value}\" in \"{}\" directive",
                    kind.name,
                    args.name()
                ))
            };
            match (key, value) {
                ("off", "") if args.len() == 1 => keepalive.max = 0,
                ("max", _) => {
                    let max = moonrest_conf::value::parse_uint(value.as_bytes());
                    keepalive.max =
                        max.and_then(|max| usize::try_from(max).ok()).ok_or_else(|| invalid("max"))?;
                }
                ("mode", "single") => keepalive.single = true,
                ("mode", "multi") => keepalive.single = false,
                ("mode", _) => return Err(invalid("mode")),
                ("overflow", "ignore") => keepalive.reject = false,
                ("overflow", "reject") => keepalive.reject = true,
                ("overflow", _) => return Err(invalid("overflow")),
                _ => {
                    return Err(Fault::message(format!(
                        "{}: invalid parameter \"{word}\" in \"{}\" directive",
                        kind.name,
                        args.name()
                    )));
                }
            }
        }
        self.current(args, defaults)?.keepalive = keepalive;
        Ok(())
    }

    /// Looks up names, once all directives are read.
    pub(crate) fn finish(&mut self, kind: Kind) -> ConfResult {
        for group in self.0.iter_mut().filter_map(Arc::get_mut) {
            if group.servers.is_empty() {
                let name = String::from_utf8_lossy(&group.name);
                return Err(Fault::message(format!(
                    "{0}: no {0}_server defined in upstream \"{name}\"",
                    kind.name
                )));
            }
            for (number, server) in group.servers.iter().enumerate() {
                let shared = Arc::new(server.server.clone());
                for addr in server.server.addresses().map_err(Fault::from)? {
                    group.peers.push((Arc::new(Peer::new(addr, shared.clone())), number));
                }
            }
        }
        Ok(())
    }

    /// A group by the name of its block.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Arc<Group>> {
        self.0.iter().find(|group| group.name.eq_ignore_ascii_case(name))
    }

    /// All groups, in the order of the configuration.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.0.iter()
    }
}

/// Where a location's queries go.
#[derive(Clone)]
pub(crate) enum To {
    Group(Arc<Group>),
    /// The name is made of variables.
    Template(Template),
}

impl To {
    /// Finds the group that a `*_pass` names, if no variable does.
    pub(crate) fn new(pass: &Template, groups: &Groups, kind: Kind) -> ConfResult<Self> {
        let Some(name) = pass.as_static() else { return Ok(Self::Template(pass.clone())) };
        let unknown = || {
            let name = String::from_utf8_lossy(name);
            Fault::message(format!("{0}: no {0}_server defined in upstream \"{name}\"", kind.name))
        };
        groups.find(name).cloned().map(Self::Group).ok_or_else(unknown)
    }

    /// The group for this request.
    pub(crate) fn group(
        &self,
        r: &Request,
        groups: Option<&Groups>,
        kind: Kind,
    ) -> Result<Arc<Group>, RequestError> {
        let template = match self {
            Self::Group(group) => return Ok(group.clone()),
            Self::Template(template) => template,
        };
        let name = template.eval(r);
        if name.is_empty() {
            return Err(RequestError::internal(format!("{0}: empty \"{0}_pass\" target", kind.name)));
        }
        let unknown = || {
            let name = String::from_utf8_lossy(&name);
            RequestError::internal(format!("{}: upstream \"{name}\" not found", kind.name))
        };
        groups.and_then(|groups| groups.find(&name)).cloned().ok_or_else(unknown)
    }
}

/// Connections by the address of the group, which is held so that the address stays its own.
type Pools = HashMap<usize, (Arc<Group>, Rc<Pool>)>;

thread_local! {
    /// This worker's connections.
    static POOLS: RefCell<Pools> = RefCell::default();
}

/// This worker's connections to a group.
pub(crate) fn pool(group: &Arc<Group>) -> Rc<Pool> {
    let key = Arc::as_ptr(group) as usize;
    POOLS.with_borrow_mut(|pools| {
        let (_, pool) = pools.entry(key).or_insert_with(|| (group.clone(), Rc::new(Pool::default())));
        pool.clone()
    })
}

/// One request's talk with one server, as log lines and `$upstream_*` variables show it.
pub(crate) struct Attempt {
    states: Rc<States>,
    started: u64,
    over: bool,
}

impl Attempt {
    /// Begins to ask a peer.
    pub(crate) fn new(r: &Request, kind: Kind, peer: &Arc<Peer>) -> Self {
        let states = r.lasting_ctx::<States>();
        states.ask(kind.scheme, peer.clone());
        Self { states, started: monotonic_coarse_ms(), over: false }
    }

    /// It ended with this status.
    pub(crate) fn end(mut self, status: u16) {
        self.finish(status);
    }

    fn finish(&mut self, status: u16) {
        self.over = true;
        self.states.asked(status, monotonic_coarse_ms().saturating_sub(self.started));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            self.finish(0);
        }
    }
}

/// Logs a failure, while log lines still name the server; gives it with the status that stands for it.
pub(crate) fn failed(r: &Request, attempt: Option<Attempt>, failure: Failure) -> (Failure, u16) {
    let status = match &failure {
        Failure::Timeout => {
            moonrest_http::error!(r, "upstream timed out (110: Connection timed out)");
            504
        }
        Failure::Broken(level, message) => {
            r.log_at(*level, format_args!("{message}"));
            502
        }
        Failure::Busy => 503,
        Failure::Status(status) => *status,
        Failure::Fatal(_) => 499,
    };
    attempt.into_iter().for_each(|attempt| attempt.end(status));
    (failure, status)
}

/// What a failure that was logged, and stands for this status, makes of the request.
pub(crate) fn fail(failure: Failure, status: u16) -> Result<Flow, RequestError> {
    match failure {
        Failure::Fatal(error) => Err(error),
        _ => Ok(Flow::Finish(status)),
    }
}
