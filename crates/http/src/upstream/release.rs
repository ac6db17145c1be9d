//! The end of an attempt: its peer is given back, its connection kept for another request or closed.

use super::{
    balancer::LastFailure,
    choose::{Chosen, Own},
    connect::Conn,
    pool::Lane,
    run::Run,
};
use crate::request::Request;
use moonrest_core::upstream::Outcome;
use moonrest_rt::clock::monotonic_ms;

impl Run {
    /// The head has been accepted.
    pub(super) fn accepted(&mut self) {
        let took = self.states.with(|attempt| attempt.header_time).flatten().unwrap_or(0);
        if let Some(selection) = &mut self.selection {
            selection.note_header(took);
        }
        self.with_sticky(|sticky, r, session, sid| sticky.answered(r, session, sid));
    }

    fn with_sticky(&self, f: impl FnOnce(&super::Sticky, &Request, Option<&[u8]>, &[u8])) {
        let definition = self.group.and_then(|id| self.local.definition(id));
        let sticky = definition.and_then(|definition| definition.sticky.as_ref());
        let peer = self.selection.as_ref().and_then(|selection| selection.current());
        if let (Some(sticky), Some(peer)) = (sticky, peer) {
            f(sticky, &self.r, self.session.as_deref(), &peer.sid);
        }
    }

    /// The upstream has nothing more to say. `exact` tells that its last message ended where it should, with nothing
    /// behind it: only then may the connection serve another request.
    pub(super) fn release(&mut self, exact: bool) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        self.note_response_time();
        if self.selection.as_ref().is_some_and(|selection| selection.current().is_some()) {
            self.with_sticky(|sticky, r, session, sid| sticky.finished(r, session, sid));
        }
        let (header, response) = self
            .states
            .with(|attempt| (attempt.header_time, attempt.response_time.unwrap_or(0)))
            .unwrap_or_default();
        self.http2 = None;
        if let Some(conn) = self.conn.take()
            && exact
            && self.framing.keep_alive
            && self.sent_all
            && conn.http2.as_ref().is_none_or(|session| session.is_open())
        {
            match self.r.probes.get() {
                false => self.keep(conn, self.started.saturating_add(response)),
                true => self.keep_probed(conn),
            }
        }
        self.tally(Some(response));
        if !self.release_own(LastFailure::None)
            && let Some(selection) = &mut self.selection
        {
            selection.release(Outcome::Done { header, response });
        }
    }

    fn keep(&self, conn: Box<Conn>, now: u64) {
        let (Some(id), Some(target)) = (self.group, &self.target) else { return };
        let (Some(group), Some(definition)) = (self.local.group(id), self.local.definition(id)) else {
            return;
        };
        // What HTTP/2 has to say to the end of a stream.
        let urgent = conn.http2.is_some();
        let lane = match target {
            Chosen::Own(Own { addr, keepalive: Some((timeout, requests)), lane }) => {
                if self.local.is_quitting() || (*requests != 0 && conn.requests >= *requests) {
                    return;
                }
                // nginx: 0 closes it as soon as possible.
                conn.timeout.set((*timeout).max(1));
                let max = usize::try_from(definition.balancer_keepalive.unwrap_or(32)).unwrap_or(usize::MAX);
                group.kept.put(conn, addr.clone(), 0, lane.clone(), max);
                return self.local.keeper.watch(&self.local, urgent);
            }
            Chosen::Own(own) => own.lane.clone(),
            Chosen::Peer(_) => Lane::default(),
        };
        let keepalive = &definition.keepalive;
        let max = keepalive.connections.unwrap_or(0);
        let age = now.saturating_sub(conn.started);
        if max == 0
            || conn.requests >= keepalive.requests.unwrap_or(1000)
            || age > keepalive.time.unwrap_or(3_600_000)
            || self.local.is_quitting()
        {
            return;
        }
        conn.timeout.set_from(monotonic_ms(), keepalive.timeout.unwrap_or(60_000));
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        group.pool.put(conn, target.addr().clone(), self.tag(), lane, max);
        self.local.keeper.watch(&self.local, urgent);
    }
}
