//! Names that are looked up while requests wait, and names of servers that are looked up again and again (`resolve`).

use super::{Definition, Main, sticky};
use crate::{request::RequestRef, worker::Worker};
use moonrest_core::{
    Level,
    upstream::{Peer, Peers, Server, Target},
};
use moonrest_net::{addr::Addr, resolver, sleep::sleep};
use std::{rc::Rc, sync::Arc};

/// The addresses of a name; a status when there are none.
pub(super) async fn lookup(r: &RequestRef, host: &[u8], port: u16) -> Result<Vec<Addr>, u16> {
    let core = r.loc().core.clone();
    let Some(settings) = &core.resolver else {
        crate::error!(r, "{}", resolver::no_resolver(host));
        return Err(502);
    };
    match settings.here().resolve(host, port, core.resolver_timeout).await {
        Ok(addrs) => Ok(addrs.iter().map(|addr| Addr::Inet(*addr)).collect()),
        Err(error) => {
            crate::error!(r, "{}", error.line(host));
            Err(502)
        }
    }
}

/// Begins to look up the names of servers with `resolve`. One worker does it for all.
pub fn start(main: &Arc<Main>, worker: &Worker) {
    if worker.id != 0 {
        return;
    }
    for definition in &main.definitions {
        definition.begin();
        if !definition.resolves() {
            continue;
        }
        let (Some(peers), Some((settings, timeout))) = (&definition.peers, &definition.resolver) else {
            continue;
        };
        let follower = Rc::new(Follower {
            peers: peers.clone(),
            settings: settings.clone(),
            timeout: *timeout,
            log: worker.log.clone(),
            quitting: worker.quitting.clone(),
        });
        for server in &definition.servers {
            if matches!(server.target, Target::Resolve { .. }) {
                let server = Arc::new(server.clone());
                moonrest_rt::spawn(follower.clone().follow(server));
            }
        }
    }
}

/// Keeps the peers of one upstream as the names say.
struct Follower {
    peers: Arc<Peers>,
    settings: Arc<resolver::Settings>,
    timeout: u64,
    log: Arc<moonrest_core::Log>,
    quitting: Arc<std::sync::atomic::AtomicBool>,
}

/// Milliseconds between two attempts at a name that cannot be resolved, and at least between two answers.
const RETRY: u64 = 1000;

impl Follower {
    async fn follow(self: Rc<Self>, server: Arc<Server>) {
        while !self.quitting.load(std::sync::atomic::Ordering::Relaxed) {
            let wait = match self.ask(&server).await {
                Ok((addrs, valid)) => {
                    self.adopt(&server, addrs);
                    valid.max(RETRY)
                }
                Err(error) => {
                    let Target::Resolve { host, .. } = &server.target else { return };
                    let name = String::from_utf8_lossy(&self.peers.name).into_owned();
                    let line = error.line(host);
                    let text = format_args!("{line} in upstream \"{name}\"");
                    self.log.write(Level::Warn, None, text);
                    if error == resolver::ResolveError::HostNotFound {
                        self.adopt(&server, Vec::new());
                    }
                    RETRY
                }
            };
            sleep(wait).await;
        }
    }

    /// The present addresses, each with its weight and whether it stands by, and for how long they are valid.
    async fn ask(&self, server: &Server) -> Result<(Vec<Found>, u64), resolver::ResolveError> {
        let Target::Resolve { host, port, service } = &server.target else {
            return Ok((Vec::new(), u64::MAX));
        };
        let resolver = self.settings.here();
        let Some(service) = service else {
            let found = resolver.lookup(host, self.timeout).await?;
            let addr = |ip: &std::net::IpAddr| Found {
                addr: Addr::Inet(std::net::SocketAddr::new(*ip, *port)),
                weight: server.weight,
                backup: server.backup,
            };
            return Ok((found.ips.iter().map(addr).collect(), found.valid));
        };
        let service = String::from_utf8_lossy(service).into_owned();
        let (places, valid) = resolver.services(&service, host, self.timeout).await?;
        let best = places.iter().map(|place| place.priority).min().unwrap_or(0);
        let found = |place: &resolver::Place| Found {
            addr: Addr::Inet(place.addr),
            weight: u32::from(place.weight).max(1),
            backup: place.priority != best || server.backup,
        };
        Ok((places.iter().map(found).collect(), valid))
    }

    /// Makes these the addresses of `server`; those that were known keep their state.
    fn adopt(&self, server: &Arc<Server>, found: Vec<Found>) {
        let same = |peer: &Peer| peer.server.span == server.span && peer.server.name == server.name;
        self.peers.edit(|list| {
            let late = list.iter().any(|peer| same(peer));
            let (known, others): (Vec<_>, Vec<_>) = list.drain(..).partition(|peer| same(peer));
            *list = others;
            list.extend(found.into_iter().map(|found| {
                let alike = known.iter().find(|peer| {
                    peer.addr == found.addr
                        && peer.weight == i64::from(found.weight)
                        && peer.server.backup == found.backup
                });
                alike.cloned().unwrap_or_else(|| {
                    let server =
                        Server { weight: found.weight, backup: found.backup, ..Server::clone(server) };
                    let peer = Peer::new(found.addr, Arc::new(server)).with_sid(sticky::address_sid);
                    if late {
                        peer.begin_slowly();
                    }
                    Arc::new(peer)
                })
            }));
        });
    }
}

struct Found {
    addr: Addr,
    weight: u32,
    backup: bool,
}

impl Definition {
    /// Whether names of its servers are looked up while it runs.
    pub(super) fn resolves(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.target, Target::Resolve { .. }))
    }
}
