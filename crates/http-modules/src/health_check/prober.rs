//! Who checks, and when: one worker for all, which another one follows when it is gone or stuck.
//!
//! ```text
//! worker ── holds the lease? ── yes ─► a task for each peer: wait, ask, judge, note ─┐
//!              ▲         │no              ▲                                          │
//!              └─ sleep ─┘                └────────────── interval ──────────────────┘
//! ```

use super::{Check, grpc, matching::CHECKING_STATUS};
use moonrest_core::upstream::{Down, Peer};
use moonrest_http::{
    prelude::*,
    upstream::{Probe, Question, States},
};
use moonrest_net::sleep::sleep;
use moonrest_sys::time::monotonic_ms;
use parking_lot::Mutex;
use std::{cell::Cell, rc::Rc};

/// Milliseconds for which a worker has the right to check, and after which it asks for it again.
const LEASE: u64 = 5000;
const RENEWAL: u64 = 1000;

/// Which worker checks.
#[derive(Default)]
pub(super) struct Lease(Mutex<Option<(usize, u64)>>);

impl Lease {
    /// Whether the worker may check from now on: nobody else does, or has not said so for too long.
    fn hold(&self, worker: usize, now: u64) -> bool {
        let mut holder = self.0.lock();
        let free = holder.is_none_or(|(known, until)| known == worker || until < now);
        if free {
            *holder = Some((worker, now + LEASE));
        }
        free
    }

    fn give_back(&self, worker: usize) {
        let mut holder = self.0.lock();
        if holder.is_some_and(|(known, _)| known == worker) {
            *holder = None;
        }
    }
}

/// A peer that a task of this worker checks, as long as this lives.
struct Watched {
    peer: Arc<Peer>,
    over: Rc<Cell<bool>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.over.set(true);
    }
}

/// Begins to check, or waits to do so.
pub(super) fn start(check: &Arc<Check>, worker: &Rc<Worker>) {
    moonrest_rt::spawn(supervise(check.clone(), worker.clone()));
}

async fn supervise(check: Arc<Check>, worker: Rc<Worker>) {
    let mut watched: Vec<Watched> = Vec::new();
    while !worker.is_quitting() {
        let holds = check.lease.hold(worker.id, monotonic_ms());
        if !holds {
            watched.clear();
            sleep(LEASE).await;
            continue;
        }
        let set = check.peers.set();
        watched.retain(|known| set.all().any(|peer| Arc::ptr_eq(peer, &known.peer)));
        for peer in set.all().filter(|peer| !peer.server.is_placeholder()) {
            if !watched.iter().any(|known| Arc::ptr_eq(peer, &known.peer)) {
                let over = Rc::new(Cell::new(false));
                watched.push(Watched { peer: peer.clone(), over: over.clone() });
                moonrest_rt::spawn(watch(check.clone(), worker.clone(), peer.clone(), over));
            }
        }
        drop(set);
        sleep(RENEWAL).await;
    }
    check.lease.give_back(worker.id);
}

/// Consecutive results.
#[derive(Clone, Copy, Default)]
struct Row {
    passes: u64,
    fails: u64,
}

async fn watch(check: Arc<Check>, worker: Rc<Worker>, peer: Arc<Peer>, over: Rc<Cell<bool>>) {
    let settings = &check.settings;
    let mut probe = Probe::new(peer.clone(), settings.port, settings.keepalive_time, check.label(&peer));
    if let Some(probe) = Rc::get_mut(&mut probe) {
        probe.wants_body =
            settings.grpc.is_some() || check.test.as_ref().is_some_and(|test| test.needs_body());
    }
    let mut row = Row::default();
    loop {
        if settings.jitter > 0 {
            let random = moonrest_sys::random::number().unwrap_or(0);
            sleep(random % settings.jitter.saturating_add(1)).await;
        }
        if over.get() || worker.is_quitting() {
            return;
        }
        if peer.down() != Down::Yes {
            check.once(&worker, &probe, &mut row).await;
        }
        sleep(settings.interval).await;
    }
}

impl Check {
    /// Asks a peer and notes what comes of it.
    async fn once(&self, worker: &Rc<Worker>, probe: &Rc<Probe>, row: &mut Row) {
        let settings = &self.settings;
        let question = match &settings.grpc {
            None => Question {
                location: self.location,
                server: self.server,
                method: "GET",
                target: &settings.uri,
                fields: &[],
                body: None,
            },
            Some(grpc) => Question {
                location: self.location,
                server: self.server,
                method: "POST",
                target: grpc::TARGET,
                fields: grpc::FIELDS,
                body: Some(grpc.message()),
            },
        };
        let (r, answered) = probe.ask(worker, &question).await;
        let passed = answered && self.judge(&r, probe);
        let peer = &*probe.peer;
        let awaited = self.peers.note_check(peer, self.number, passed);
        let failed = self.peers.is_failed(peer, self.number);
        *row = match passed {
            true => Row { passes: row.passes.saturating_add(1), fails: 0 },
            false => Row { passes: 0, fails: row.fails.saturating_add(1) },
        };
        if awaited || (failed && row.passes >= settings.passes) || (!failed && row.fails >= settings.fails) {
            self.peers.set_health(peer, self.number, passed);
            if passed {
                moonrest_http::notice!(r, "peer is healthy");
            } else {
                moonrest_http::warn!(r, "peer is unhealthy");
            }
        }
    }

    fn judge(&self, r: &Request, probe: &Probe) -> bool {
        let Some(states) = r.find_ctx::<States>() else { return false };
        let answer = states.answer.borrow();
        let body = probe.body.borrow();
        match (&self.settings.grpc, &self.test) {
            (Some(grpc), _) => grpc.passes(r, &answer, &body),
            (None, None) => {
                r.action.set(CHECKING_STATUS);
                (200..400).contains(&answer.head.status)
            }
            (None, Some(test)) => {
                // Variables look at the answer themselves.
                let (head, block) = (answer.head.clone(), answer.block.clone());
                let trailers = answer.trailers.clone();
                drop(answer);
                test.passes(r, &moonrest_http::upstream::Answer { head, block, trailers }, &body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_kept_while_it_is_renewed() {
        let lease = Lease::default();
        assert!(lease.hold(1, 1000));
        assert!(!lease.hold(2, 1000 + LEASE));
        assert!(lease.hold(1, 1000 + LEASE));
        assert!(!lease.hold(2, 1001 + LEASE));
        assert!(lease.hold(2, 1001 + 2 * LEASE));
        lease.give_back(1);
        assert!(!lease.hold(1, 1002 + 2 * LEASE));
        lease.give_back(2);
        assert!(lease.hold(1, 1002 + 2 * LEASE));
    }
}
