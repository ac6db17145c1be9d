//! A peer's health as checks find it, and what it has done so far.
//!
//! ```text
//! checking ──┬─ passed ─► healthy ◄── passes in a row ──┐
//!            └─ failed ─► unhealthy ── fails in a row ◄─┘   (for each check; one that says unhealthy is enough)
//! ```

use super::{
    Down, Peer, Peers,
    peer::{Number, millis},
};
use moonrest_sys::time::{monotonic_ms, wall};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

/// Checks that one upstream may have.
const MOST_CHECKS: u32 = 31;

/// One of an upstream's checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Check(u32);

impl Check {
    const fn failed(self) -> i64 {
        1 << self.0
    }

    const fn awaited(self) -> i64 {
        1 << (self.0 + MOST_CHECKS)
    }
}

/// All bits of checks that have failed.
const FAILED: i64 = (1 << MOST_CHECKS) - 1;

/// What is known of a peer's health. Changed under the lock of its [`Peers`].
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The checks that say it is unhealthy, and those that it has not passed for the first time. 0 for healthy.
    pub sick: Number,
    checks: Number,
    fails: Number,
    /// How often it became unhealthy.
    turned: Number,
    /// 1 when the last check passed, 2 when it failed.
    last: Number,
    /// When it went down, in monotonic and in wall milliseconds; 0 for not at all.
    down_since: Number,
    down_start: Number,
    downtime: Number,
}

/// What a peer has done, as far as it is counted. Changed under the lock of its [`Peers`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: Number,
    responses: [Number; 5],
    codes: Mutex<BTreeMap<u16, u64>>,
    sent: Number,
    received: Number,
    fails: Number,
    unavailable: Number,
    /// Monotonic milliseconds.
    selected: Number,
    header_time: Number,
    response_time: Number,
}

/// How one attempt at a peer went. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempted {
    /// 0 when no head has come.
    pub status: u16,
    pub sent: u64,
    pub received: u64,
    pub header: Option<u64>,
    /// None when the answer was not read to its end.
    pub response: Option<u64>,
}

/// A peer's state in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    Up,
    Draining,
    Down,
    /// Too many requests have failed.
    Unavailable,
    /// It has not been checked yet, and must be.
    Checking,
    Unhealthy,
}

impl Condition {
    /// As status pages show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Unavailable => "unavail",
            Self::Checking => "checking",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What checks have found out about a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    pub checks: i64,
    pub fails: i64,
    pub unhealthy: i64,
    /// None before the first one.
    pub last_passed: Option<bool>,
}

/// What was counted of a peer. Moments are wall milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub requests: i64,
    /// By hundreds, from 1xx on.
    pub responses: [i64; 5],
    pub codes: Vec<(u16, u64)>,
    pub sent: i64,
    pub received: i64,
    pub fails: i64,
    pub unavailable: i64,
    pub selected: Option<i64>,
    /// Milliseconds on average.
    pub header_time: Option<i64>,
    pub response_time: Option<i64>,
    /// Milliseconds in which it was not to be used though nobody had taken it out.
    pub downtime: i64,
    pub downstart: Option<i64>,
}

impl Peer {
    /// Its state now.
    pub fn condition(&self) -> Condition {
        match self.down() {
            Down::Yes => return Condition::Down,
            Down::Draining => return Condition::Draining,
            Down::No => {}
        }
        match self.state.health.sick.get() {
            0 if self.is_unavailable() => Condition::Unavailable,
            0 => Condition::Up,
            sick if sick & FAILED != 0 => Condition::Unhealthy,
            _ => Condition::Checking,
        }
    }

    /// Whether checks let it have requests.
    pub fn is_healthy(&self) -> bool {
        self.state.health.sick.get() == 0
    }

    /// What checks have found out; none where nothing was checked.
    pub fn checked(&self) -> Checked {
        let health = &self.state.health;
        Checked {
            checks: health.checks.get(),
            fails: health.fails.get(),
            unhealthy: health.turned.get(),
            last_passed: match health.last.get() {
                0 => None,
                last => Some(last == 1),
            },
        }
    }

    /// What was counted.
    pub fn counted(&self) -> Counted {
        let (tally, health) = (&self.state.tally, &self.state.health);
        let known = |number: &Number| Some(number.get()).filter(|value| *value != 0);
        let now = millis();
        let wall = wall_ms();
        let since = health.down_since.get();
        let downtime = health.downtime.get() + if since == 0 { 0 } else { now.saturating_sub(since).max(0) };
        Counted {
            requests: tally.requests.get(),
            responses: [0, 1, 2, 3, 4].map(|n: usize| tally.responses.get(n).map_or(0, Number::get)),
            codes: tally.codes.lock().iter().map(|(code, count)| (*code, *count)).collect(),
            sent: tally.sent.get(),
            received: tally.received.get(),
            fails: tally.fails.get(),
            unavailable: tally.unavailable.get(),
            selected: known(&tally.selected).map(|then| wall.saturating_sub(now.saturating_sub(then))),
            header_time: known(&tally.header_time).map(|time| time / FINE),
            response_time: known(&tally.response_time).map(|time| time / FINE),
            downtime,
            downstart: known(&health.down_start),
        }
    }

    /// Whether failed requests have taken it out.
    pub(super) fn is_unavailable(&self) -> bool {
        let max = i64::from(self.server.max_fails);
        max != 0 && self.state.fails.get() >= max
    }

    /// It was chosen.
    pub(super) fn note_selected(&self) {
        let tally = &self.state.tally;
        tally.requests.add(1);
        tally.selected.set(millis().max(1));
    }

    /// A request failed; `disabled` when that has taken it out.
    pub(super) fn note_failure(&self, disabled: bool) {
        let tally = &self.state.tally;
        tally.fails.add(1);
        tally.unavailable.add(i64::from(disabled));
    }

    pub(super) fn note_attempt(&self, attempt: &Attempted) {
        let tally = &self.state.tally;
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        tally.sent.add(signed(attempt.sent));
        tally.received.add(signed(attempt.received));
        if let Some(kind) = usize::from(attempt.status / 100).checked_sub(1)
            && let Some(responses) = tally.responses.get(kind)
        {
            responses.add(1);
            *tally.codes.lock().entry(attempt.status).or_default() += 1;
        }
        for (mean, time) in [(&tally.header_time, attempt.header), (&tally.response_time, attempt.response)] {
            if let Some(time) = time {
                average(mean, signed(time));
            }
        }
    }

    /// Begins or ends the time in which it is down.
    pub(super) fn note_down(&self) {
        let health = &self.state.health;
        let down = health.sick.get() != 0 || self.is_unavailable();
        let since = health.down_since.get();
        match (down, since) {
            (true, 0) => {
                health.down_since.set(millis().max(1));
                health.down_start.set(wall_ms());
            }
            (false, 1..) => {
                health.downtime.add(millis().saturating_sub(since).max(0));
                health.down_since.set(0);
            }
            _ => {}
        }
    }

    pub(super) fn begin_waiting(&self, checks: i64) {
        if checks != 0 {
            let sick = &self.state.health.sick;
            sick.set(sick.get() | checks);
            self.note_down();
        }
    }

    /// From now on it gets its share of requests little by little, if its server wants that.
    pub fn begin_slowly(&self) {
        if self.server.slow_start != 0 {
            self.state.slow_since.set(i64::try_from(monotonic_ms()).unwrap_or(i64::MAX).max(1));
        }
    }
}

impl Peers {
    /// Adds a check of all peers. Where it is `mandatory`, peers wait for it before they get requests, but not those
    /// that are `trusted`. `None` when there are too many already.
    pub fn add_check(&self, mandatory: bool, trusted: impl Fn(&Peer) -> bool) -> Option<Check> {
        let number = u32::try_from(self.checks.fetch_add(1, Relaxed)).ok().filter(|n| *n < MOST_CHECKS)?;
        let check = Check(number);
        if mandatory {
            let _locked = self.lock();
            self.mandatory.fetch_or(check.awaited(), Relaxed);
            for peer in self.set().all().filter(|peer| !trusted(peer)) {
                peer.begin_waiting(check.awaited());
            }
        }
        Some(check)
    }

    /// Whether anything is checked here.
    pub fn has_checks(&self) -> bool {
        self.checks.load(Relaxed) > 0
    }

    /// Counts a check. `true` when the peer still waits for this one.
    pub fn note_check(&self, peer: &Peer, check: Check, passed: bool) -> bool {
        let _locked = self.lock();
        let health = &peer.state.health;
        health.checks.add(1);
        health.fails.add(i64::from(!passed));
        health.last.set(if passed { 1 } else { 2 });
        health.sick.get() & check.awaited() != 0
    }

    /// Whether this check says that the peer is unhealthy.
    pub fn is_failed(&self, peer: &Peer, check: Check) -> bool {
        peer.state.health.sick.get() & check.failed() != 0
    }

    /// Notes what a check says from now on.
    pub fn set_health(&self, peer: &Peer, check: Check, healthy: bool) {
        let _locked = self.lock();
        let health = &peer.state.health;
        let before = health.sick.get();
        let other = before & !(check.failed() | check.awaited());
        let after = if healthy { other } else { other | check.failed() };
        health.sick.set(after);
        if before & FAILED == 0 && after & FAILED != 0 {
            health.turned.add(1);
        }
        if before & FAILED != 0 && after == 0 {
            peer.begin_slowly();
        }
        peer.note_down();
    }

    /// How an attempt at a peer went, if that is counted here.
    pub fn note_attempt(&self, peer: &Peer, attempt: &Attempted) {
        let _locked = self.lock();
        peer.note_attempt(attempt);
    }

    /// Forgets what was counted.
    pub fn reset_counts(&self) {
        let _locked = self.lock();
        for peer in self.set().all() {
            let (tally, health) = (&peer.state.tally, &peer.state.health);
            let responses = tally.responses.iter();
            let rest = [
                &tally.requests,
                &tally.sent,
                &tally.received,
                &tally.fails,
                &tally.unavailable,
                &tally.selected,
                &tally.header_time,
                &tally.response_time,
                &health.checks,
                &health.fails,
                &health.turned,
                &health.downtime,
            ];
            responses.chain(rest).for_each(|number| number.set(0));
            tally.codes.lock().clear();
            if health.down_since.get() != 0 {
                health.down_since.set(millis().max(1));
            } else {
                health.down_start.set(0);
            }
        }
    }
}

/// Averages are kept in parts of a millisecond, so that small ones do not get stuck.
const FINE: i64 = 256;

fn average(mean: &Number, last: i64) {
    let last = last.saturating_mul(FINE).max(1);
    let known = mean.get();
    mean.set(if known == 0 { last } else { (known.saturating_mul(19).saturating_add(last)) / 20 });
}

fn wall_ms() -> i64 {
    let now = wall();
    now.secs.saturating_mul(1000).saturating_add(i64::from(now.millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Method, Outcome, Selection, Server, Target};
    use std::sync::Arc;

    fn peers(count: u16, edit: impl Fn(&mut Server)) -> Arc<Peers> {
        let peer = |n: u16| {
            let mut server = Server::implicit(b"s", Target::Addrs(Vec::new()), None);
            edit(&mut server);
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 8000 + n)).into();
            Arc::new(Peer::new(addr, Arc::new(server)))
        };
        let peers = Peers::new(Box::from(&b"u"[..]), Method::RoundRobin, (0..count).map(peer).collect());
        Arc::new(peers.counting())
    }

    fn chosen(peers: &Arc<Peers>) -> Option<i64> {
        Selection::new(peers.clone(), b"").next(None).map(|peer| peer.id())
    }

    #[test]
    fn unhealthy_peers_get_nothing_also_a_single_one() {
        for count in [1, 2] {
            let peers = peers(count, |_| {});
            let check = peers.add_check(false, |_| false).unwrap();
            let other = peers.add_check(false, |_| false).unwrap();
            let first = peers.set().all().next().unwrap().clone();
            assert_eq!(first.condition(), Condition::Up);
            peers.set_health(&first, check, false);
            assert_eq!(first.condition(), Condition::Unhealthy);
            assert_eq!(chosen(&peers), if count == 1 { None } else { Some(1) });
            peers.set_health(&first, other, false);
            peers.set_health(&first, check, true);
            assert_eq!(first.condition(), Condition::Unhealthy, "one check is enough");
            peers.set_health(&first, other, true);
            assert_eq!(first.condition(), Condition::Up);
            assert_eq!(first.checked().unhealthy, 1);
        }
    }

    #[test]
    fn mandatory_checks_are_awaited_by_new_peers_too() {
        let peers = peers(1, |_| {});
        let check = peers.add_check(true, |_| false).unwrap();
        let first = peers.set().all().next().unwrap().clone();
        assert_eq!((first.condition(), chosen(&peers)), (Condition::Checking, None));
        assert!(peers.note_check(&first, check, true));
        peers.set_health(&first, check, true);
        assert_eq!((first.condition(), chosen(&peers)), (Condition::Up, Some(0)));
        assert!(!peers.note_check(&first, check, true));
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 9000)).into();
        let new = Arc::new(Peer::new(addr, first.server.clone()));
        peers.edit(|list| list.push(new.clone()));
        assert_eq!((new.condition(), new.id()), (Condition::Checking, 1));
        assert_eq!(first.condition(), Condition::Up);
        let trusting = peers.add_check(true, |peer| peer.id() == 0).unwrap();
        assert!(first.is_healthy() && !peers.is_failed(&first, trusting));
    }

    #[test]
    fn there_is_a_bound_to_checks() {
        let peers = peers(1, |_| {});
        let made = (0..40).filter(|_| peers.add_check(true, |_| false).is_some()).count();
        assert_eq!(made, 31);
        let peer = peers.set().all().next().unwrap().clone();
        assert_eq!(peer.condition(), Condition::Checking);
    }

    #[test]
    fn attempts_and_failures_are_counted() {
        let peers = peers(2, |server| server.max_fails = 1);
        let mut selection = Selection::new(peers.clone(), b"");
        let peer = selection.next(None).unwrap();
        let attempt = Attempted { status: 404, sent: 10, received: 20, header: Some(3), response: Some(5) };
        peers.note_attempt(&peer, &attempt);
        selection.release(Outcome::Failed);
        let counted = peer.counted();
        assert_eq!((counted.requests, counted.sent, counted.received), (1, 10, 20));
        assert_eq!((counted.responses, counted.codes), ([0, 0, 0, 1, 0], vec![(404, 1)]));
        assert_eq!((counted.fails, counted.unavailable), (1, 1));
        assert_eq!((counted.header_time, counted.response_time), (Some(3), Some(5)));
        assert!(counted.downstart.is_some() && counted.selected.is_some());
        assert_eq!(peer.condition(), Condition::Unavailable);
        peers.reset_counts();
        assert_eq!(peer.counted().requests, 0);
        assert_eq!(peer.condition(), Condition::Unavailable);
    }
}
