//! The way of one request from peer to peer: each balancing method as nginx has it.
//!
//! ```text
//! next ─► peer ─► release(outcome) ─► next ─► … until there are no tries left
//! ```

use super::{
    LeastTime, Method, Peer, PeerSet, Peers, Tier,
    hash::{self, IP_START},
    health::Attempted,
    peer::{Number, millis, now},
};
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// One request's choice of peers.
#[derive(Debug)]
pub struct Selection {
    among: Rc<Present>,
    way: Way,
    /// Attempts that are left.
    pub tries: usize,
    /// The peer that was chosen last and not released yet: whether it stands by, and its place.
    current: Option<(bool, usize)>,
    counted_inflight: bool,
}

/// Peers, and who they are at the moment: what the requests of one thread have in common.
#[derive(Debug)]
struct Present {
    peers: Arc<Peers>,
    set: Arc<PeerSet>,
}

/// A thread's view of peers: it asks who they are only when that has changed.
#[derive(Debug)]
pub struct View {
    peers: Arc<Peers>,
    present: RefCell<Rc<Present>>,
    version: Cell<u64>,
}

impl View {
    /// A view of these peers.
    pub fn new(peers: Arc<Peers>) -> Self {
        let version = Cell::new(peers.version());
        let present = RefCell::new(Rc::new(Present { set: peers.set(), peers: peers.clone() }));
        Self { peers, present, version }
    }

    /// Begins to choose among the present peers. `key` is what the method hashes, if it does.
    pub fn select(&self, key: &[u8]) -> Selection {
        let version = self.peers.version();
        if self.version.replace(version) != version {
            let present = Present { set: self.peers.set(), peers: self.peers.clone() };
            *self.present.borrow_mut() = Rc::new(present);
        }
        Selection::among(self.present.borrow().clone(), key)
    }
}

/// How far a choice came.
#[derive(Debug)]
struct Way {
    /// The servers that stand by have their turn.
    backup: bool,
    tried: SmallVec<[u64; 1]>,
    /// What `hash` and `ip_hash` go by.
    key: SmallVec<[u8; 32]>,
    hash: u32,
    rehash: u32,
    hash_tries: u32,
}

/// A choice that is being made, and among whom.
struct Chooser<'a> {
    peers: &'a Peers,
    set: &'a PeerSet,
    way: &'a mut Way,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer was passed on. With the milliseconds to its head and its end.
    Done {
        header: Option<u64>,
        response: u64,
    },
    /// The server answered as it should, but another one is asked.
    Next,
    Failed,
}

/// Attempts of a hash before it gives way to round robin.
const HASH_TRIES: u32 = 20;

impl Selection {
    /// Begins to choose among peers that nobody else chooses from. `key` is what the method hashes, if it does.
    pub fn new(peers: Arc<Peers>, key: &[u8]) -> Self {
        Self::among(Rc::new(Present { set: peers.set(), peers }), key)
    }

    fn among(among: Rc<Present>, key: &[u8]) -> Self {
        let Present { peers, set } = &*among;
        let count = set.primary.peers.len().max(set.backup.as_ref().map_or(0, |tier| tier.peers.len()));
        let tries = set.primary.tries + set.backup.as_ref().map_or(0, |tier| tier.tries);
        let hash = match peers.method {
            Method::IpHash => IP_START,
            Method::ConsistentHash => set.primary.ring.find(key),
            _ => 0,
        };
        Self {
            way: Way {
                backup: false,
                tried: SmallVec::from_elem(0, count.div_ceil(64).max(1)),
                key: SmallVec::from_slice(key),
                hash,
                rehash: 0,
                hash_tries: 0,
            },
            tries,
            current: None,
            counted_inflight: false,
            among,
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &[u8] {
        &self.among.peers.name
    }

    /// The peer that was chosen last and not released yet.
    pub fn current(&self) -> Option<&Arc<Peer>> {
        let (backup, place) = self.current?;
        self.among.set.tier(backup).peers.get(place)
    }

    /// The next peer, or none when all have failed or are busy. `bound` is the name by which `sticky` wants one.
    pub fn next(&mut self, bound: Option<&[u8]>) -> Option<Arc<Peer>> {
        let Self { among, way, current, counted_inflight, .. } = self;
        let Present { peers, set } = &**among;
        let _locked = peers.lock();
        let now = now();
        let mut chooser = Chooser { peers, set, way };
        let found = chooser.choose(bound, now)?;
        chooser.mark(found);
        let peer = set.tier(way.backup).peers.get(found)?;
        peer.state.conns.add(1);
        if now - peer.state.checked.get() > peer.server.fail_timeout {
            peer.state.checked.set(now);
        }
        if peers.counts {
            peer.note_selected();
        }
        if let Method::LeastTime(LeastTime { inflight: true, .. }) = peers.method {
            begin_inflight(peer);
            *counted_inflight = true;
        }
        *current = Some((way.backup, found));
        Some(peer.clone())
    }

    /// Gives the present peer back. `true` when its failures have just taken it out for a while.
    pub fn release(&mut self, outcome: Outcome) -> bool {
        let Self { among, way, tries, current, counted_inflight } = self;
        let Present { peers, set } = &**among;
        let Some((backup, place)) = current.take() else { return false };
        let Some(peer) = set.tier(backup).peers.get(place) else { return false };
        let _locked = peers.lock();
        note_times(peers.method, peer, outcome, counted_inflight);
        let state = &peer.state;
        state.conns.add(-1);
        if set.is_single(way.backup) {
            state.fails.set(0);
            *tries = 0;
            return false;
        }
        *tries = tries.saturating_sub(1);
        if outcome != Outcome::Failed {
            // A check that passed makes it live again.
            if state.accessed.get() < state.checked.get() {
                let was_unavailable = peer.is_unavailable();
                state.fails.set(0);
                if was_unavailable {
                    peer.begin_slowly();
                    peer.note_down();
                }
            }
            return false;
        }
        let now = now();
        state.fails.add(1);
        state.accessed.set(now);
        state.checked.set(now);
        let max = i64::from(peer.server.max_fails);
        if max != 0 {
            let lowered = state.effective_weight.get() - peer.weight / max;
            state.effective_weight.set(lowered.max(0));
        }
        let disabled = peer.is_unavailable();
        if peers.counts {
            peer.note_failure(disabled);
        }
        if disabled {
            peer.note_down();
        }
        disabled
    }

    /// Whether what peers do is counted.
    pub fn counts(&self) -> bool {
        self.among.peers.counts
    }

    /// How the attempt at the present peer went.
    pub fn note_attempt(&self, attempt: &Attempted) {
        if let Some(peer) = self.current() {
            self.among.peers.note_attempt(peer, attempt);
        }
    }

    /// The head of the answer has come after so many milliseconds.
    pub fn note_header(&mut self, took: u64) {
        let Self { among, current: Some((backup, place)), counted_inflight, .. } = self else { return };
        let Present { peers, set } = &**among;
        let Some(peer) = set.tier(*backup).peers.get(*place) else { return };
        if let Method::LeastTime(LeastTime { header: true, inflight: true }) = peers.method {
            let _locked = peers.lock();
            average(&peer.state.header_time, i64::try_from(took).unwrap_or(i64::MAX));
            end_inflight(peer, took, counted_inflight);
        }
    }
}

impl Drop for Selection {
    fn drop(&mut self) {
        // A request that ends anywhere leaves the counts right.
        self.release(Outcome::Done { header: None, response: 0 });
    }
}

impl Chooser<'_> {
    fn choose(&mut self, bound: Option<&[u8]>, now: i64) -> Option<usize> {
        if let Some(found) = self.choose_in_tier(bound, now) {
            return Some(found);
        }
        if self.way.backup || self.set.backup.is_none() {
            return None;
        }
        self.way.backup = true;
        self.way.tried.fill(0);
        self.choose_in_tier(bound, now)
    }

    fn choose_in_tier(&mut self, bound: Option<&[u8]>, now: i64) -> Option<usize> {
        let set = self.set;
        let tier = set.tier(self.way.backup);
        let bound = bound.and_then(|sid| self.find_bound(tier, sid, now));
        if set.is_single(self.way.backup) {
            let peer = tier.peers.first()?;
            let usable = peer.down() == super::Down::No && !peer.is_full();
            if !peer.is_healthy() {
                return None;
            }
            return if bound.is_some() || usable { Some(0) } else { None };
        }
        // The other methods leave the servers that stand by to round robin.
        let method = match self.peers.method {
            method @ (Method::LeastConn | Method::LeastTime(_)) => method,
            method if !self.way.backup => method,
            _ => Method::RoundRobin,
        };
        match method {
            Method::RoundRobin => self.round_robin(tier, bound, now),
            _ if bound.is_some() => bound,
            Method::LeastConn => self.least(tier, now, |peer| peer.state.conns.get()),
            Method::LeastTime(which) => {
                age_inflight(tier);
                self.least(tier, now, |peer| estimate(which, peer, now))
            }
            Method::IpHash | Method::Hash => self.hashed(tier, now),
            Method::ConsistentHash => self.on_ring(tier, now),
            Method::Random => self.random(tier, now),
            Method::RandomTwo => self.random_two(tier, now),
        }
    }

    fn is_tried(&self, index: usize) -> bool {
        self.way.tried.get(index / 64).is_some_and(|bits| bits & 1 << (index % 64) != 0)
    }

    fn mark(&mut self, index: usize) {
        if let Some(bits) = self.way.tried.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
        }
    }

    fn is_free(&self, index: usize, peer: &Peer, now: i64) -> bool {
        !self.is_tried(index) && peer.is_usable(now, false)
    }

    fn find_bound(&self, tier: &Tier, sid: &[u8], now: i64) -> Option<usize> {
        let index = tier.peers.iter().position(|peer| *peer.sid == *sid)?;
        let peer = tier.peers.get(index)?;
        (!self.is_tried(index) && peer.is_usable(now, true)).then_some(index)
    }

    /// Smooth weighted round robin: each peer gains its weight, the one that gained most is taken and pays for all.
    fn round_robin(&self, tier: &Tier, bound: Option<usize>, now: i64) -> Option<usize> {
        if let Some(peer) = bound.and_then(|bound| tier.peers.get(bound))
            && peer.state.current_weight.get() <= -(tier.total_weight - peer.weight) * tier.unit
        {
            // Requests that are bound to a peer must not push its turn away for ever.
            return bound;
        }
        let mut best: Option<(usize, i64)> = None;
        let mut total = 0;
        for (index, peer) in tier.peers.iter().enumerate() {
            if !self.is_free(index, peer, now) {
                continue;
            }
            let gained = gain(tier, peer, &mut total);
            if best.is_none_or(|(_, most)| gained > most) {
                best = Some((index, gained));
            }
        }
        let chosen = bound.or(best.map(|(index, _)| index))?;
        tier.peers.get(chosen)?.state.current_weight.add(-total);
        Some(chosen)
    }

    /// The peer with the least load for its weight; round robin among equals.
    fn least(&self, tier: &Tier, now: i64, load: impl Fn(&Peer) -> i64) -> Option<usize> {
        let mut best: Option<(usize, &Peer, i64)> = None;
        let mut many = false;
        for (index, peer) in tier.peers.iter().enumerate() {
            if !self.is_free(index, peer, now) {
                continue;
            }
            let own = load(peer);
            match best {
                Some((_, least, load)) => match (own * weight(tier, least)).cmp(&(load * weight(tier, peer)))
                {
                    std::cmp::Ordering::Less => {
                        best = Some((index, peer, own));
                        many = false;
                    }
                    std::cmp::Ordering::Equal => many = true,
                    std::cmp::Ordering::Greater => {}
                },
                None => best = Some((index, peer, own)),
            }
        }
        let (first, least, lowest) = best?;
        if !many {
            return Some(first);
        }
        let least_weight = weight(tier, least);
        let (mut chosen, mut total) = (first, 0);
        let mut most = least.state.current_weight.get();
        for (index, peer) in tier.peers.iter().enumerate().skip(first) {
            if !self.is_free(index, peer, now) || load(peer) * least_weight != lowest * weight(tier, peer) {
                continue;
            }
            let gained = gain(tier, peer, &mut total);
            if gained > most || index == chosen {
                most = gained;
                chosen = index;
            }
        }
        tier.peers.get(chosen)?.state.current_weight.add(-total);
        Some(chosen)
    }

    fn hashed(&mut self, tier: &Tier, now: i64) -> Option<usize> {
        let plain = self.peers.method == Method::Hash;
        if tier.peers.len() < 2 || (plain && self.way.key.is_empty()) || tier.total_weight == 0 {
            return self.round_robin(tier, None, now);
        }
        while self.way.hash_tries <= HASH_TRIES {
            if plain {
                self.way.hash = self.way.hash.wrapping_add(hash::step(&self.way.key, self.way.rehash));
                self.way.rehash += 1;
            } else {
                self.way.hash = hash::ip_step(self.way.hash, &self.way.key);
            }
            let index = at_weight(tier, i64::from(self.way.hash) % tier.total_weight)?;
            if tier.peers.get(index).is_some_and(|peer| self.is_free(index, peer, now)) {
                return Some(index);
            }
            self.way.hash_tries += 1;
        }
        self.round_robin(tier, None, now)
    }

    fn on_ring(&mut self, tier: &Tier, now: i64) -> Option<usize> {
        if self.way.key.is_empty() {
            return self.round_robin(tier, None, now);
        }
        while self.way.hash_tries <= HASH_TRIES {
            let server = tier.ring.server(self.way.hash)?;
            let mut best: Option<(usize, i64)> = None;
            let mut total = 0;
            for (index, peer) in tier.peers.iter().enumerate() {
                if *peer.server.name != *server || !self.is_free(index, peer, now) {
                    continue;
                }
                let gained = gain(tier, peer, &mut total);
                if best.is_none_or(|(_, most)| gained > most) {
                    best = Some((index, gained));
                }
            }
            if let Some((index, _)) = best {
                tier.peers.get(index)?.state.current_weight.add(-total);
                return Some(index);
            }
            self.way.hash = self.way.hash.wrapping_add(1);
            self.way.hash_tries += 1;
        }
        self.round_robin(tier, None, now)
    }

    fn random(&mut self, tier: &Tier, now: i64) -> Option<usize> {
        if tier.peers.len() < 2 {
            return self.round_robin(tier, None, now);
        }
        while self.way.hash_tries <= HASH_TRIES {
            let index = self.pick_random(tier)?;
            if tier.peers.get(index).is_some_and(|peer| self.is_free(index, peer, now)) {
                return Some(index);
            }
            self.way.hash_tries += 1;
        }
        self.round_robin(tier, None, now)
    }

    fn random_two(&mut self, tier: &Tier, now: i64) -> Option<usize> {
        if tier.peers.len() < 2 {
            return self.round_robin(tier, None, now);
        }
        let mut first: Option<(usize, &Peer)> = None;
        while self.way.hash_tries <= HASH_TRIES {
            let index = self.pick_random(tier)?;
            let peer = tier.peers.get(index)?;
            if first.is_some_and(|(other, _)| other == index) || !self.is_free(index, peer, now) {
                self.way.hash_tries += 1;
                continue;
            }
            match first {
                None => first = Some((index, peer)),
                Some((other, known)) => {
                    let worse = peer.state.conns.get() * known.weight > known.state.conns.get() * peer.weight;
                    return Some(if worse { other } else { index });
                }
            }
        }
        self.round_robin(tier, None, now)
    }

    fn pick_random(&self, tier: &Tier) -> Option<usize> {
        let mut x = self.peers.random.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.peers.random.store(x, Relaxed);
        let total = u64::try_from(tier.total_weight).ok().filter(|total| *total > 0)?;
        at_weight(tier, i64::try_from((x >> 11) % total).unwrap_or(0))
    }
}

fn begin_inflight(peer: &Peer) {
    let now = millis();
    let state = &peer.state;
    if state.inflight.get() > 0 {
        state.inflight_last.add((now - state.inflight_changed.get()) * state.inflight.get());
    }
    state.inflight_changed.set(now);
    state.inflight.add(1);
}

/// Does nothing unless it was `counted` that it began.
fn end_inflight(peer: &Peer, took: u64, counted: &mut bool) {
    if !std::mem::take(counted) {
        return;
    }
    let state = &peer.state;
    if state.inflight.get() <= 1 {
        state.inflight_last.set(0);
    } else {
        let now = millis();
        let waited = (now - state.inflight_changed.get()) * state.inflight.get();
        state.inflight_last.add(waited - i64::try_from(took).unwrap_or(0));
        state.inflight_changed.set(now);
    }
    state.inflight.set((state.inflight.get() - 1).max(0));
}

/// How long the requests under way have waited on average.
fn age_inflight(tier: &Tier) {
    for peer in &tier.peers {
        let state = &peer.state;
        if state.inflight.get() > 0 {
            let waited = state.inflight_last.get() / state.inflight.get();
            average(&state.inflight_time, waited + millis() - state.inflight_changed.get());
        }
    }
}

fn note_times(method: Method, peer: &Peer, outcome: Outcome, counted_inflight: &mut bool) {
    let Method::LeastTime(which) = method else { return };
    let Outcome::Done { header, response } = outcome else {
        // Only what went well counts, lest a failing peer be preferred.
        end_inflight(peer, 0, counted_inflight);
        return;
    };
    end_inflight(peer, response, counted_inflight);
    let Some(header) = header else { return };
    average(&peer.state.response_time, i64::try_from(response).unwrap_or(i64::MAX));
    if !(which.inflight && which.header) {
        average(&peer.state.header_time, i64::try_from(header).unwrap_or(i64::MAX));
    }
}

/// A peer's turn comes nearer; what it lost by failing comes back step by step.
fn gain(tier: &Tier, peer: &Peer, total: &mut i64) -> i64 {
    let state = &peer.state;
    let weight = state.effective_weight.get();
    let gained = if tier.unit == 1 { weight } else { weight * peer.share(millis()) };
    state.current_weight.add(gained);
    *total += gained;
    if weight < peer.weight {
        state.effective_weight.set(weight + 1);
    }
    state.current_weight.get()
}

/// What a peer's load is compared by: its weight, or the part of it that it has when it starts slowly.
fn weight(tier: &Tier, peer: &Peer) -> i64 {
    if tier.unit == 1 { peer.weight } else { peer.weight.saturating_mul(peer.share(millis())) }
}

/// The peer in whose share of the weights a number lies.
fn at_weight(tier: &Tier, at: i64) -> Option<usize> {
    let mut left = at;
    tier.peers.iter().position(|peer| {
        left -= peer.weight;
        left < 0
    })
}

/// The average of the last answers; each new one counts for a twentieth.
fn average(mean: &Number, last: i64) {
    let known = mean.get();
    mean.set(if known == 0 { last } else { (known * 19 + last + 10) / 20 });
}

/// Times beyond this are equally bad.
const SLOW: i64 = 5000;

/// How long a peer takes until it has dealt with what it has and one request more.
fn estimate(which: LeastTime, peer: &Peer, now: i64) -> i64 {
    let state = &peer.state;
    let mut time = if which.header { state.header_time.get() } else { state.response_time.get() };
    let idle = now - state.checked.get();
    if idle > peer.server.fail_timeout {
        // A slow peer that was not asked for long gets a chance.
        let halvings = idle / (peer.server.fail_timeout + 1);
        time = time.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0);
    }
    if state.inflight.get() > 0 {
        time = time.max(state.inflight_time.get());
    }
    // Times that lie close together are equal.
    let time = if time > SLOW { SLOW } else { time + 20 - time % 20 };
    time * (1 + state.conns.get())
}

#[cfg(test)]
mod tests;
