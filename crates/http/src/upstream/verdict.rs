//! What follows an attempt: the answer is taken, another server is asked, or a page of our own is shown.

use super::{balancer::LastFailure, conf::mask, run::Run, source::Source, state::CacheStatus};
use moonrest_core::{Level, upstream::Outcome};
use moonrest_proto::http1::Method;
use moonrest_rt::clock::monotonic_ms;

/// What a status leads to.
pub(super) enum Verdict {
    Next(u32),
    /// What is in the cache is answered, under this name.
    Stale(CacheStatus),
    Finish(u16),
}

impl Run {
    /// Whether the method must not be repeated without permission, and part of the request was sent.
    pub(super) fn is_unsafe(&self) -> bool {
        self.sent && matches!(self.r.method.get(), Method::Post | Method::Lock | Method::Patch)
    }

    fn may_go_on(&self, reason: u32) -> bool {
        let wanted = if self.is_unsafe() { reason | mask::NON_IDEMPOTENT } else { reason };
        let timeout = self.conf.next_upstream_timeout;
        self.conf.next_upstream & wanted == wanted
            && !(self.sent && matches!(self.source, Source::Stream { .. }))
            && !(timeout != 0 && monotonic_ms().saturating_sub(self.first_started) >= timeout)
    }

    /// An attempt has failed. `None` asks the next server; otherwise the status to answer.
    pub(super) fn next(&mut self, reason: u32) -> Option<u16> {
        let reused = self.conn.as_ref().is_some_and(|conn| conn.reused);
        self.http2 = None;
        self.conn = None;
        let outcome =
            if reason & (mask::HTTP_403 | mask::HTTP_404) != 0 { Outcome::Next } else { Outcome::Failed };
        let own = self.release_own(match outcome {
            Outcome::Next => LastFailure::Next,
            _ => LastFailure::Failed,
        });
        self.tally(None);
        let disabled = !own && self.selection.as_mut().is_some_and(|selection| selection.release(outcome));
        if disabled {
            self.log(Level::Warn, format_args!("upstream server temporarily disabled"));
        }
        if reason == mask::TIMEOUT {
            self.log(Level::Error, format_args!("upstream timed out (110: Connection timed out)"));
        }
        if reused
            && reason == mask::ERROR
            // What a balancer keeps alive itself is its own affair.
            && self.choosing.is_none()
            && let Some(selection) = &mut self.selection
        {
            // The server may just have closed it: that is no attempt.
            selection.tries += 1;
        }
        let status = match reason {
            mask::TIMEOUT | mask::HTTP_504 => 504,
            mask::HTTP_500 => 500,
            mask::HTTP_503 => 503,
            mask::HTTP_403 => 403,
            mask::HTTP_404 => 404,
            mask::HTTP_429 => 429,
            _ => 502,
        };
        self.states.with(|attempt| attempt.status = status);
        let tries = self.selection.as_ref().map_or(0, |selection| selection.tries);
        if tries == 0 || !self.may_go_on(reason) { Some(status) } else { None }
    }

    /// Whether an answer's status asks for another server, or for a page of our own.
    pub(super) fn judge(&mut self) -> Option<Verdict> {
        let status = self.states.answer.borrow().head.status;
        if status < 300 {
            return None;
        }
        let tries = self.selection.as_ref().map_or(0, |selection| selection.tries);
        if let Some(reason) = mask::of_status(status)
            && tries > 1
            && self.may_go_on(reason)
        {
            return Some(Verdict::Next(reason));
        }
        if let Some(status) = self.stale_instead(status) {
            return Some(Verdict::Stale(status));
        }
        if status == 404 && self.conf.intercept_404 {
            return Some(Verdict::Finish(404));
        }
        if !self.conf.intercept_errors {
            return None;
        }
        if !self.r.loc().core.error_pages.iter().any(|page| page.status == status) {
            return None;
        }
        if status == 401 {
            self.copy_challenges();
        }
        Some(Verdict::Finish(status))
    }
}
