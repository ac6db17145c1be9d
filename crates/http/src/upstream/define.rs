//! `upstream` blocks, and the upstreams that `proxy_pass` and the like name without a block.

use super::{Balancer, Sticky};
use crate::{args::Args, compile::Compiler};
use moonrest_core::{
    ConfResult, ConfigError, Contexts, Fault, Span, Template,
    upstream::{Method, Peer, Peers, Server, Supports, Target, Url},
};
use moonrest_net::{addr::Addr, resolver};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// An upstream's number in its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct GroupId(pub u32);

/// All upstreams of a configuration.
#[derive(Default)]
pub struct Main {
    pub definitions: Vec<Definition>,
    /// Where answers are kept.
    pub caches: Arc<crate::cache::Declared>,
    /// The block being read.
    current: usize,
}

/// One upstream.
pub struct Definition {
    pub name: Box<[u8]>,
    /// 0 for a block.
    pub port: u16,
    no_port: bool,
    pub span: Span,
    /// It is a block, not just a name.
    pub explicit: bool,
    pub servers: Vec<Server>,
    pub method: Option<Method>,
    pub supports: Supports,
    /// What `hash` hashes.
    pub key: Option<HashKey>,
    pub keepalive: Keepalive,
    /// Code that is asked before each attempt.
    pub balancer: Option<Arc<dyn Balancer>>,
    /// Connections that it keeps at most.
    pub balancer_keepalive: Option<u64>,
    /// The zone that holds the state, which all workers share then.
    pub zone: Option<String>,
    pub sticky: Option<Sticky>,
    /// The resolver for names of servers, and its timeout in milliseconds: those of `http` unless given here.
    pub resolver: Option<(Arc<resolver::Settings>, u64)>,
    /// `resolver` and `resolver_timeout` of this block.
    pub own_resolver: (Option<Arc<resolver::Settings>>, Option<u64>),
    state: Option<Arc<StateZone>>,
    /// Ready when the configuration is complete.
    pub peers: Option<Arc<Peers>>,
    full_name: OnceLock<Arc<str>>,
}

/// What a method hashes.
#[derive(Clone, Debug)]
pub enum HashKey {
    Template(Template),
    /// The network of the client's address.
    Client,
}

/// `keepalive` and its companions.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// Connections that each worker keeps at most.
    pub connections: Option<u64>,
    /// Only requests of the same location share connections.
    pub local: bool,
    pub requests: Option<u64>,
    pub time: Option<u64>,
    pub timeout: Option<u64>,
}

impl Definition {
    fn new(name: &[u8], span: Span) -> Self {
        Self {
            name: name.into(),
            port: 0,
            no_port: true,
            span,
            explicit: false,
            servers: Vec::new(),
            method: None,
            supports: Supports { weight: true, backup: true, slow_start: true },
            key: None,
            keepalive: Keepalive::default(),
            balancer: None,
            balancer_keepalive: None,
            zone: None,
            sticky: None,
            resolver: None,
            own_resolver: (None, None),
            state: None,
            peers: None,
            full_name: OnceLock::new(),
        }
    }

    /// Its name, with the port if that is part of it.
    pub fn full_name(&self) -> &Arc<str> {
        self.full_name.get_or_init(|| {
            let name = String::from_utf8_lossy(&self.name);
            if self.port == 0 { name.into() } else { format!("{name}:{}", self.port).into() }
        })
    }

    /// Sets the balancing method; `backup` says whether it takes servers that stand by.
    pub fn balance(&mut self, method: Method, key: Option<HashKey>, backup: bool, args: &Args<'_>) {
        if self.method.is_some() || self.balancer.is_some() {
            args.env.warn("load balancing method redefined".to_owned(), Some(args.span()));
        }
        // nginx: the last one counts.
        self.balancer = None;
        self.method = Some(method);
        self.key = key;
        let slow_start = matches!(method, Method::RoundRobin | Method::LeastConn | Method::LeastTime(_));
        self.supports = Supports { weight: true, backup, slow_start };
    }

    /// Sets code that balances; without it saying anything the method that was set before chooses.
    ///
    /// # Errors
    /// nginx's `is duplicate`.
    pub fn balance_by(&mut self, balancer: Arc<dyn Balancer>, args: &Args<'_>) -> ConfResult {
        if self.balancer.is_some() {
            return Err(Fault::DUPLICATE);
        }
        if self.method.is_some() {
            args.env.warn("load balancing method redefined".to_owned(), Some(args.span()));
        }
        if self.servers.is_empty() {
            self.servers.push(Server::placeholder());
        }
        args.env.shared::<Balancers>().0.store(true, Relaxed);
        self.balancer = Some(balancer);
        self.supports = Supports { weight: true, backup: false, slow_start: true };
        Ok(())
    }

    /// The generation has taken over.
    pub(super) fn begin(&self) {
        if let (Some(state), Some(peers)) = (&self.state, &self.peers) {
            state.adopt(peers);
        }
    }

    fn error(&self, message: &str) -> Fault {
        let name = String::from_utf8_lossy(&self.name);
        ConfigError::emerg(format!("{message} in upstream \"{name}\"")).with_span(self.span).into()
    }
}

/// Whether a configuration has balancers of its own, which may want connections encrypted that are not by themselves.
#[derive(Default)]
pub struct Balancers(AtomicBool);

impl Balancers {
    pub fn any(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Reads an `upstream` block.
///
/// # Errors
/// nginx's `duplicate upstream "x"`, `upstream "x" may not have port N`, `no servers are inside upstream`.
pub fn block(args: &Args<'_>) -> ConfResult {
    let name = args.bytes(0)?;
    let index = args.compiler.with_main(|main: &mut Main| main.open(name, args.span()));
    let index = index.unwrap_or_else(|| Err(Fault::message("upstream blocks cannot be nested")))?;
    args.compiler.directives(args.block, Contexts::UPSTREAM, args.block());
    let empty = args.compiler.with_main(|main: &mut Main| {
        main.definitions.get(index).is_none_or(|definition| definition.servers.is_empty())
    });
    if empty == Some(true) {
        let fault = moonrest_core::block::fault_at_end(args, "no servers are inside upstream");
        return Err(fault);
    }
    Ok(())
}

impl Main {
    fn open(&mut self, name: &[u8], span: Span) -> ConfResult<usize> {
        let shown = String::from_utf8_lossy(name);
        let known = self.definitions.iter().position(|known| known.name.eq_ignore_ascii_case(name));
        if let Some(index) = known
            && let Some(known) = self.definitions.get(index)
        {
            if known.explicit {
                return Err(Fault::message(format!("duplicate upstream \"{shown}\"")));
            }
            if !known.no_port {
                let message = format!("upstream \"{shown}\" may not have port {}", known.port);
                return Err(ConfigError::emerg(message).with_span(known.span).into());
            }
        }
        let index = known.unwrap_or(self.definitions.len());
        let definition = Definition { explicit: true, ..Definition::new(name, span) };
        match self.definitions.get_mut(index) {
            Some(known) => *known = definition,
            None => self.definitions.push(definition),
        }
        self.current = index;
        Ok(index)
    }

    /// The block whose directives are being read.
    ///
    /// # Errors
    /// None unless a directive of upstreams is read elsewhere.
    pub fn current(&mut self) -> ConfResult<&mut Definition> {
        self.definitions.get_mut(self.current).ok_or_else(|| Fault::message("no upstream block is open"))
    }

    /// The upstream that an address without variables names; one that has no block is made.
    ///
    /// # Errors
    /// nginx's `upstream "x" may not have port N`.
    pub fn reference(&mut self, url: &Url<'_>, span: Span) -> ConfResult<GroupId> {
        let id = |index: usize| GroupId(u32::try_from(index).unwrap_or(u32::MAX));
        for (index, known) in self.definitions.iter().enumerate() {
            if !known.name.eq_ignore_ascii_case(url.host) {
                continue;
            }
            if known.explicit && !url.no_port {
                let name = String::from_utf8_lossy(url.host);
                return Err(Fault::message(format!("upstream \"{name}\" may not have port {}", url.port)));
            }
            if known.port != 0 && url.port != 0 && known.port != url.port {
                continue;
            }
            return Ok(id(index));
        }
        let mut definition = Definition::new(url.host, span);
        definition.port = url.port;
        definition.no_port = url.no_port;
        let target = match &url.addr {
            Some(addr) => Target::Addrs(vec![addr.clone()]),
            None => Target::Name { host: url.host.into(), port: url.port },
        };
        let mut server = Server::implicit(url.host, target, Some(span));
        server.name = url.host.into();
        definition.servers.push(server);
        self.definitions.push(definition);
        Ok(id(self.definitions.len() - 1))
    }

    /// The upstream that a name made of variables means.
    pub fn find(&self, host: &[u8], port: u16, no_port: bool) -> Option<GroupId> {
        let index = self.definitions.iter().position(|known| {
            known.name.eq_ignore_ascii_case(host)
                && ((known.port == 0 && no_port && known.explicit) || known.port == port)
        })?;
        Some(GroupId(u32::try_from(index).ok()?))
    }

    /// Looks up names and makes peers, once all directives are read.
    ///
    /// # Errors
    /// nginx's `host not found in upstream "x"`, `no servers in upstream "x"` and those of zones.
    pub fn finish(&mut self, cx: &Compiler<'_>) -> ConfResult {
        self.caches = cx.env.shared();
        let known = cx.env.shared::<Finished>();
        for index in 0..self.definitions.len() {
            let Some(definition) = self.definitions.get_mut(index) else { break };
            definition.finish(cx)?;
            let Some(peers) = definition.peers.clone() else { continue };
            let (name, state) = (definition.full_name().to_string(), definition.state.clone());
            known.0.lock().push(Group { name, shared: definition.zone.is_some(), peers, state });
        }
        Ok(())
    }
}

impl Definition {
    fn choose_resolver(&mut self, cx: &Compiler<'_>) -> ConfResult {
        let name = String::from_utf8_lossy(&self.name);
        let refuse = |message: String| Err(ConfigError::emerg(message).with_span(self.span).into());
        if self.zone.is_none() {
            return refuse(format!(
                "resolving names at run time requires upstream \"{name}\" to be in shared memory"
            ));
        }
        let (settings, timeout) = cx.http_resolver();
        let (own, own_timeout) = self.own_resolver.clone();
        let Some(settings) = own.or(settings) else {
            return refuse(format!(
                "no resolver defined to resolve names at run time in upstream \"{name}\""
            ));
        };
        self.resolver = Some((settings, own_timeout.or(timeout).unwrap_or(30_000)));
        Ok(())
    }

    fn finish(&mut self, cx: &Compiler<'_>) -> ConfResult {
        let keepalive = &mut self.keepalive;
        if self.explicit && keepalive.connections.is_none() {
            keepalive.connections = Some(32);
            keepalive.local = true;
        }
        if self.resolves() {
            self.choose_resolver(cx)?;
        }
        if !self.servers.iter().any(|server| !server.backup) {
            return Err(self.error("no servers"));
        }
        let method = self.method.unwrap_or_default();
        let zone = self.zone.as_ref().and_then(|zone| cx.env.zones.get::<StateZone>(zone));
        let mut peers = Vec::new();
        for server in &self.servers {
            let resolved = zone.iter().flat_map(|zone| zone.resolved(&self.name, server));
            peers.extend(resolved.map(|peer| Arc::new(peer.with_sid(super::sticky::address_sid))));
            let server = Arc::new(server.clone());
            let addresses = server.addresses().map_err(Fault::from)?;
            peers.extend(
                addresses.into_iter().map(|addr| {
                    Arc::new(Peer::new(addr, server.clone()).with_sid(super::sticky::address_sid))
                }),
            );
        }
        if let Some(zone) = &self.zone
            && !cx.env.zones.is_declared(zone)
        {
            let message = format!("zero size shared memory zone \"{zone}\"");
            return Err(ConfigError::emerg(message).with_span(self.span).into());
        }
        let mut peers = Peers::new(self.name.clone(), method, peers);
        if self.zone.is_some() {
            peers = peers.counting();
        }
        self.peers = Some(Arc::new(peers));
        self.state = zone;
        Ok(())
    }
}

/// The upstreams of a configuration, in order, for modules that attach something to them.
#[derive(Default)]
pub struct Finished(parking_lot::Mutex<Vec<Group>>);

/// An upstream as those modules see it.
#[derive(Clone)]
pub struct Group {
    /// With the port, if that is part of it.
    pub name: String,
    /// Its state is in a zone, common to all workers.
    pub shared: bool,
    pub peers: Arc<Peers>,
    state: Option<Arc<StateZone>>,
}

impl Finished {
    /// The upstream of that number.
    pub fn get(&self, id: GroupId) -> Option<Group> {
        self.0.lock().get(id.0 as usize).cloned()
    }
}

impl Group {
    /// Whether the running generation has found a peer of this address healthy.
    pub fn was_healthy(&self, peer: &Peer) -> bool {
        let known = self.state.as_ref().and_then(|state| state.find(&self.peers.name));
        known.is_some_and(|peers| {
            let set = peers.set();
            let mut alike = set.all().filter(|known| known.addr == peer.addr);
            peers.has_checks() && alike.any(|known| known.is_healthy())
        })
    }
}

/// The memory of upstreams' state in the list of zones: what the running generation knows, for the next one.
#[derive(Default)]
pub struct StateZone(parking_lot::Mutex<Vec<Arc<Peers>>>);

impl StateZone {
    /// These peers are in use now.
    pub(super) fn adopt(&self, peers: &Arc<Peers>) {
        let mut known = self.0.lock();
        known.retain(|known| known.name != peers.name);
        known.push(peers.clone());
    }

    /// The peers of that upstream.
    fn find(&self, upstream: &[u8]) -> Option<Arc<Peers>> {
        self.0.lock().iter().find(|known| *known.name == *upstream).cloned()
    }

    /// Addresses that names of servers were last resolved to.
    fn resolved(&self, upstream: &[u8], server: &Server) -> Vec<Peer> {
        let Target::Resolve { host, port, service } = &server.target else { return Vec::new() };
        let Some(peers) = self.find(upstream) else { return Vec::new() };
        let same = |peer: &&Arc<Peer>| match &peer.server.target {
            Target::Resolve { host: known, service: of, .. } => known == host && of == service,
            _ => false,
        };
        let set = peers.set();
        let renewed = set.all().filter(same).map(|peer| match (&peer.addr, service) {
            (Addr::Inet(addr), None) => {
                let addr = Addr::Inet(std::net::SocketAddr::new(addr.ip(), *port));
                Peer::new(addr, Arc::new(server.clone()))
            }
            (addr, _) => {
                let (weight, backup) = (peer.server.weight, peer.server.backup);
                Peer::new(addr.clone(), Arc::new(Server { weight, backup, ..server.clone() }))
            }
        });
        renewed.collect()
    }
}
