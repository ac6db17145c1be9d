//! Peers: addresses with what is known of them. The settings never change; the state is atomic numbers that are changed
//! only under the lock of their [`Peers`], so that loading and storing them costs nothing.

use super::{
    Down, Method, Server,
    hash::Ring,
    health::{Health, Tally},
};
use moonrest_net::addr::Addr;
use moonrest_sys::time::monotonic_coarse_ms;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::sync::{
    Arc,
    atomic::{
        AtomicI64, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
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
    /// Shared with what it becomes when its server's settings change.
    pub(super) state: Arc<State>,
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
    /// What 1 of a weight is in `current_weight`: more where some peers start slowly.
    pub unit: Number,
    /// Milliseconds, on average.
    pub header_time: Number,
    pub response_time: Number,
    pub inflight_time: Number,
    /// Requests of `least_time … inflight` that wait for their answer, and for how long in sum.
    pub inflight: Number,
    pub inflight_last: Number,
    pub inflight_changed: Number,
    /// What was said while it runs: 1 takes it out, 2 does not, 3 leaves it to those that are bound to it, whatever the
    /// configuration says.
    pub down: Number,
    /// Monotonic milliseconds since when it gets more and more of its share (`slow_start`); 0 for all of it.
    pub slow_since: Number,
    pub health: Health,
    pub tally: Tally,
    /// One more than its number in the upstream; 0 before it has one.
    pub id: Number,
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

/// Monotonic milliseconds.
pub(super) fn millis() -> i64 {
    i64::try_from(monotonic_coarse_ms()).unwrap_or(i64::MAX)
}

/// The whole share of a peer that starts slowly, in parts.
pub(super) const WHOLE: i64 = 1000;

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
        Self { addr, name, sid: Box::default(), server, weight, state: Arc::new(state) }
    }

    /// The same, with the name by which `sticky` knows it: its route, or what `digest` makes of its address.
    #[must_use]
    pub fn with_sid(mut self, digest: impl FnOnce(&[u8]) -> Box<[u8]>) -> Self {
        self.sid = self.server.route.clone().unwrap_or_else(|| digest(&self.name));
        self
    }

    /// The same peer with other settings: what is known of it stays.
    #[must_use]
    pub fn with_server(&self, server: Arc<Server>) -> Self {
        let weight = i64::from(server.weight);
        if weight != self.weight {
            self.state.effective_weight.set(weight);
        }
        let sid = server.route.clone().unwrap_or_else(|| self.sid.clone());
        let (addr, name, state) = (self.addr.clone(), self.name.clone(), self.state.clone());
        Self { addr, name, sid, server, weight, state }
    }

    /// Its number in the upstream, which it keeps.
    pub fn id(&self) -> i64 {
        self.state.id.get() - 1
    }

    /// Whether both are the same peer, perhaps with other settings.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Whether it is taken out.
    pub fn down(&self) -> Down {
        match self.state.down.get() {
            0 => self.server.down,
            1 => Down::Yes,
            2 => Down::No,
            _ => Down::Draining,
        }
    }

    /// How much of its share it gets now, in parts of [`WHOLE`].
    pub(super) fn share(&self, now: i64) -> i64 {
        let since = self.state.slow_since.get();
        let slow = self.server.slow_start;
        if since == 0 || slow == 0 {
            return WHOLE;
        }
        match now.saturating_sub(since) {
            past if past >= slow => WHOLE,
            past => (past.max(0).saturating_mul(WHOLE) / slow).max(1),
        }
    }

    /// What is known of it.
    pub fn numbers(&self) -> Numbers {
        let state = &self.state;
        // Where some start slowly, weights are counted in parts.
        let current = state.current_weight.get();
        Numbers {
            current_weight: current / state.unit.get().max(1),
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
        if state.health.sick.get() != 0 {
            return false;
        }
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
    /// What 1 of a weight is in `current_weight`: where some peers may start slowly, weights are counted in parts.
    pub(super) unit: i64,
}

impl Tier {
    fn new(peers: Vec<Arc<Peer>>, method: Method) -> Self {
        let total_weight = peers.iter().map(|peer| peer.weight).sum();
        let tries = peers.iter().filter(|peer| peer.server.down == Down::No).count();
        let ring = match method {
            Method::ConsistentHash => Ring::new(&peers),
            _ => Ring::default(),
        };
        let unit = if peers.iter().any(|peer| peer.server.slow_start != 0) { WHOLE } else { 1 };
        for State { unit: known, current_weight, .. } in peers.iter().map(|peer| &*peer.state) {
            let before = known.get();
            if before != unit {
                known.set(unit);
                current_weight.set(current_weight.get().saturating_mul(unit) / before.max(1));
            }
        }
        Self { peers, total_weight, tries, ring, unit }
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
    /// How often the set was changed.
    version: AtomicU64,
    /// More than one thread has them.
    shared: bool,
    lock: Mutex<()>,
    /// Taken by those who change the set.
    editing: Mutex<()>,
    pub(super) random: AtomicU64,
    /// What peers do is counted.
    pub(super) counts: bool,
    /// How many checks there are, and the bits of those that peers must pass first.
    pub(super) checks: AtomicI64,
    pub(super) mandatory: AtomicI64,
    ids: AtomicI64,
}

impl Peers {
    /// Peers in their first state.
    pub fn new(name: Box<[u8]>, method: Method, peers: Vec<Arc<Peer>>) -> Self {
        let list = peers.clone();
        let set = RwLock::new(Arc::new(PeerSet::new(peers, method)));
        let seed = moonrest_sys::random::number().unwrap_or(0x9e37_79b9_7f4a_7c15) | 1;
        let new = Self {
            name,
            method,
            set,
            version: AtomicU64::new(0),
            shared: true,
            lock: Mutex::new(()),
            editing: Mutex::new(()),
            random: AtomicU64::new(seed),
            counts: false,
            checks: AtomicI64::new(0),
            mandatory: AtomicI64::new(0),
            ids: AtomicI64::new(0),
        };
        new.welcome(&list);
        new
    }

    /// The same, counting what peers do.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Whether what peers do is counted.
    pub fn counts(&self) -> bool {
        self.counts
    }

    /// Gives peers that are new a number, and has them wait for checks.
    fn welcome(&self, peers: &[Arc<Peer>]) {
        let mandatory = self.mandatory.load(Relaxed);
        for peer in peers.iter().filter(|peer| peer.state.id.get() == 0) {
            peer.state.id.set(self.ids.fetch_add(1, Relaxed).saturating_add(1));
            peer.begin_waiting(mandatory);
        }
    }

    /// The same peers with a state of their own, for one thread.
    #[must_use]
    pub fn detached(&self) -> Self {
        let copy = |peer: &Arc<Peer>| {
            let new = Peer::named(peer.addr.clone(), peer.name.clone(), peer.server.clone());
            Arc::new(Peer { sid: peer.sid.clone(), ..new })
        };
        let peers = self.set().all().map(copy).collect();
        Self { shared: false, ..Self::new(self.name.clone(), self.method, peers) }
    }

    /// The present peers.
    pub fn set(&self) -> Arc<PeerSet> {
        self.set.read().clone()
    }

    /// How often they have changed.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Changes the list of peers (a name has other addresses now). Requests under way keep theirs.
    pub fn edit<R>(&self, f: impl FnOnce(&mut Vec<Arc<Peer>>) -> R) -> R {
        let _editing = self.editing.lock();
        let mut list: Vec<_> = self.set().all().cloned().collect();
        let result = f(&mut list);
        let _locked = self.lock();
        self.welcome(&list);
        let set = Arc::new(PeerSet::new(list, self.method));
        *self.set.write() = set;
        self.version.fetch_add(1, Release);
        result
    }

    /// Takes a peer out, or brings it back; then its failures are forgotten.
    pub fn set_down(&self, peer: &Peer, down: bool) {
        let _locked = self.lock();
        peer.state.down.set(if down { 1 } else { 2 });
        if !down {
            peer.state.fails.set(0);
            peer.note_down();
        }
    }

    /// Has a peer used as its server's line would have it with this word, whatever stands there.
    pub fn set_mode(&self, peer: &Peer, mode: Down) {
        let _locked = self.lock();
        peer.state.down.set(match mode {
            Down::Yes => 1,
            Down::No => 2,
            Down::Draining => 3,
        });
    }

    /// Has no other thread in between, where there are any.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.shared.then(|| self.lock.lock())
    }
}
