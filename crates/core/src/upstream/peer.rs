//! Peers: addresses with what is known of them. The settings never change; the state is atomic numbers that are changed
//! only under the lock of their [`Peers`], so that loading and storing them costs nothing.

use super::{Down, Method, Server, hash::Ring};
use moonrest_net::addr::Addr;
use moonrest_sys::time::monotonic_coarse_ms;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// One address of a server.
#[derive(Debug)]
pub struct Peer {
    pub addr: Addr,
    /// The address as log lines and variables show it.
    pub name: Box<[u8]>,
    /// What `sticky` calls it.
    pub sid: Box<[u8]>,
    /// The line it comes from.
    pub server: Arc<Server>,
    pub weight: i64,
    pub(super) state: State,
}

/// What is known of a peer.
#[derive(Debug, Default)]
pub(super) struct State {
    pub current_weight: Number,
    pub effective_weight: Number,
    pub conns: Number,
    pub fails: Number,
    /// Monotonic seconds of the last failure.
    pub accessed: Number,
    /// Monotonic seconds of the last failure, or of the last attempt at a peer that had failed.
    pub checked: Number,
    /// Milliseconds, on average.
    pub header_time: Number,
    pub response_time: Number,
    pub inflight_time: Number,
    /// Requests of `least_time … inflight` that wait for their answer, and for how long in sum.
    pub inflight: Number,
    pub inflight_last: Number,
    pub inflight_changed: Number,
    /// What was said while it runs: 1 takes it out, 2 does not, whatever the configuration says.
    pub down: Number,
}

/// The state of a peer as programs see it. Moments are monotonic seconds, 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub current_weight: i64,
    pub effective_weight: i64,
    pub conns: i64,
    pub fails: i64,
    pub accessed: i64,
    pub checked: i64,
}

/// A number that is changed under a lock.
#[derive(Debug, Default)]
pub(super) struct Number(AtomicI64);

impl Number {
    pub(super) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
    pub(super) fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }
    pub(super) fn add(&self, by: i64) {
        self.set(self.get().saturating_add(by));
    }
}

/// Monotonic seconds.
pub(super) fn now() -> i64 {
    i64::try_from(monotonic_coarse_ms() / 1000).unwrap_or(i64::MAX)
}

impl Peer {
    /// A peer of a server's line.
    pub fn new(addr: Addr, server: Arc<Server>) -> Self {
        let mut name = Vec::with_capacity(24);
        addr.append_with_port(&mut name);
        Self::named(addr, name.into(), server)
    }

    /// The same with a name of its own.
    pub fn named(addr: Addr, name: Box<[u8]>, server: Arc<Server>) -> Self {
        let weight = i64::from(server.weight);
        let state = State::default();
        state.effective_weight.set(weight);
        Self { addr, name, sid: Box::default(), server, weight, state }
    }

    /// The same, with the name by which `sticky` knows it: its route, or what `digest` makes of its address.
    #[must_use]
    pub fn with_sid(mut self, digest: impl FnOnce(&[u8]) -> Box<[u8]>) -> Self {
        self.sid = self.server.route.clone().unwrap_or_else(|| digest(&self.name));
        self
    }

    /// Whether it is taken out.
    pub fn down(&self) -> Down {
        match self.state.down.get() {
            0 => self.server.down,
            1 => Down::Yes,
            _ => Down::No,
        }
    }

    /// What is known of it.
    pub fn numbers(&self) -> Numbers {
        let state = &self.state;
        Numbers {
            current_weight: state.current_weight.get(),
            effective_weight: state.effective_weight.get(),
            conns: state.conns.get(),
            fails: state.fails.get(),
            accessed: state.accessed.get(),
            checked: state.checked.get(),
        }
    }

    /// Connections to it now.
    pub fn connections(&self) -> i64 {
        self.state.conns.get()
    }

    /// Whether it may be given a request; `bound` ones are those that `sticky` sends.
    pub(super) fn is_usable(&self, now: i64, bound: bool) -> bool {
        let server = &self.server;
        match self.down() {
            Down::Yes => return false,
            Down::Draining if !bound => return false,
            _ => {}
        }
        let state = &self.state;
        if server.max_fails != 0
            && state.fails.get() >= i64::from(server.max_fails)
            && now - state.checked.get() <= server.fail_timeout
        {
            return false;
        }
        !self.is_full()
    }

    pub(super) fn is_full(&self) -> bool {
        let max = i64::from(self.server.max_conns);
        max != 0 && self.state.conns.get() >= max
    }
}

/// Servers of one rank: those that are used, or those that stand by.
#[derive(Debug, Default)]
pub struct Tier {
    pub peers: Vec<Arc<Peer>>,
    pub(super) total_weight: i64,
    /// Peers that are not taken out by the configuration.
    pub(super) tries: usize,
    pub(super) ring: Ring,
}

impl Tier {
    fn new(peers: Vec<Arc<Peer>>, method: Method) -> Self {
        let total_weight = peers.iter().map(|peer| peer.weight).sum();
        let tries = peers.iter().filter(|peer| peer.server.down == Down::No).count();
        let ring = match method {
            Method::ConsistentHash => Ring::new(&peers),
            _ => Ring::default(),
        };
        Self { peers, total_weight, tries, ring }
    }
}

/// The peers at one moment.
#[derive(Debug)]
pub struct PeerSet {
    pub primary: Tier,
    pub backup: Option<Tier>,
}

impl PeerSet {
    /// A set of these peers.
    pub fn new(peers: Vec<Arc<Peer>>, method: Method) -> Self {
        let (backup, primary): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| peer.server.backup);
        let backup = (!backup.is_empty()).then(|| Tier::new(backup, method));
        Self { primary: Tier::new(primary, method), backup }
    }

    pub(super) fn tier(&self, backup: bool) -> &Tier {
        match &self.backup {
            Some(tier) if backup => tier,
            _ => &self.primary,
        }
    }

    /// Whether there is nothing to choose from: such a peer is used whatever became of it.
    pub(super) fn is_single(&self, backup: bool) -> bool {
        self.backup.is_none() && self.primary.peers.len() == 1 && !backup
    }

    /// All peers.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.primary.peers.iter().chain(self.backup.iter().flat_map(|tier| &tier.peers))
    }
}

/// The peers of one upstream as one worker, or all of them, see them.
#[derive(Debug)]
pub struct Peers {
    /// The upstream's name.
    pub name: Box<[u8]>,
    pub method: Method,
    set: RwLock<Arc<PeerSet>>,
    lock: Mutex<()>,
    pub(super) random: AtomicU64,
}

impl Peers {
    /// Peers in their first state.
    pub fn new(name: Box<[u8]>, method: Method, peers: Vec<Arc<Peer>>) -> Self {
        let set = RwLock::new(Arc::new(PeerSet::new(peers, method)));
        let seed = moonrest_sys::random::number().unwrap_or(0x9e37_79b9_7f4a_7c15) | 1;
        Self { name, method, set, lock: Mutex::new(()), random: AtomicU64::new(seed) }
    }

    /// The same peers with a state of their own.
    #[must_use]
    pub fn detached(&self) -> Self {
        let copy = |peer: &Arc<Peer>| {
            let new = Peer::named(peer.addr.clone(), peer.name.clone(), peer.server.clone());
            Arc::new(Peer { sid: peer.sid.clone(), weight: peer.weight, ..new })
        };
        Self::new(self.name.clone(), self.method, self.set().all().map(copy).collect())
    }

    /// The present peers.
    pub fn set(&self) -> Arc<PeerSet> {
        self.set.read().clone()
    }

    /// Puts other peers in their place (a name has other addresses now). Requests under way keep theirs.
    pub fn replace(&self, peers: Vec<Arc<Peer>>) {
        let set = Arc::new(PeerSet::new(peers, self.method));
        *self.set.write() = set;
    }

    /// Takes a peer out, or brings it back; then its failures are forgotten.
    pub fn set_down(&self, peer: &Peer, down: bool) {
        let _locked = self.lock();
        peer.state.down.set(if down { 1 } else { 2 });
        if !down {
            peer.state.fails.set(0);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock()
    }
}
