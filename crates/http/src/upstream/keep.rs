//! What asking an upstream does for the cache: answers are kept as they come, stale ones stand in for those that do not.

use super::{
    cached::{Caching, serve},
    conf::mask,
    run::Run,
    state::CacheStatus,
};
use crate::{
    cache::{self, Entry, Freshness, Meta, Storing},
    phase::{Flow, RequestError, Step},
};
use bytes::Bytes;
use moonrest_core::env::os_error;
use moonrest_proto::{
    date,
    http1::{Known, Parse},
};

impl Run {
    /// Reads what the answer says of being kept.
    pub(super) fn judge_freshness(&mut self) {
        let Some(caching) = &mut self.caching else { return };
        let answer = self.states.answer.borrow();
        let now = self.r.worker.now();
        caching.fresh = Freshness::of(&answer.head, &answer.block, self.conf.ignore_headers, now);
        self.states.cacheable.set(caching.cacheable && caching.fresh.allows());
    }

    /// The head is sent. Makes ready to keep the answer, or lets others try.
    pub(super) fn keep_answer(&mut self, buffering: bool) {
        let Some(caching) = self.caching.take() else { return };
        if buffering && self.states.is_cacheable() && !caching.conf.refuses(&self.r) {
            self.record(*caching);
        }
        if self.recorder.is_none() {
            self.watch = !self.conf.ignore_client_abort;
        }
    }

    /// The answer will not be kept.
    pub(super) fn let_go(&mut self) {
        self.caching = None;
    }

    fn record(&mut self, mut caching: Caching) {
        let r = &self.r;
        let now = r.worker.now();
        let answer = self.states.answer.borrow();
        let status = answer.head.status;
        let valid = match (caching.fresh.valid, caching.conf.valid(status)) {
            (0, 0) => return,
            (0, seconds) => now.saturating_add(seconds),
            (valid, _) => valid,
        };
        // It was not asked for under a condition: this is no answer.
        if status == 304 || status < 200 || !cache::has_room(&caching.text, &answer.block) {
            return;
        }
        let mut meta = Meta {
            valid,
            updating: caching.fresh.updating,
            error: caching.fresh.error,
            date: now,
            family: caching.family.unwrap_or_else(|| moonrest_sys::random::number().unwrap_or(0)),
            ..Meta::default()
        };
        if matches!(status, 200 | 206) {
            let field = |known| answer.head.fields.value(known, &answer.block);
            meta.modified = field(Known::LastModified).and_then(date::parse_http);
            let etag = field(Known::Etag).filter(|etag| etag.len() <= cache::MOST_ETAG);
            meta.etag = etag.map_or_else(Bytes::new, |etag| answer.block.slice_ref(etag));
        }
        if !caching.fresh.vary.is_empty() {
            meta.vary = std::mem::take(&mut caching.fresh.vary).into();
            meta.variant = cache::variant(r, &caching.main, meta.family, &meta.vary);
        }
        if caching.secondary && (meta.vary.is_empty() || meta.variant != caching.key) {
            // It is not the variant that was looked for.
            caching.key = caching.main;
            caching.hold = None;
        }
        let hold = caching.take_hold();
        let Caching { cache, text, .. } = caching;
        let storing =
            Storing::new(cache, text, hold, meta, answer.block.clone(), self.conf.temp_path.clone());
        drop(answer);
        self.recorder = Some(Box::new(storing));
    }

    /// The request ends with an error of ours, which may be kept for a while.
    pub(super) fn fail(&mut self, status: u16) -> Flow {
        if matches!(status, 502 | 504)
            && let Some(caching) = &mut self.caching
            && caching.cacheable
        {
            let seconds = caching.conf.valid(status);
            if seconds > 0
                && let Some(hold) = caching.hold.take()
            {
                hold.failed(status, self.r.worker.now().saturating_add(seconds));
            }
        }
        Flow::Finish(status)
    }

    /// A page of ours takes the answer's place: that it does may be kept.
    pub(super) fn keep_status(&mut self, status: u16) {
        self.judge_freshness();
        if !self.states.is_cacheable() {
            return;
        }
        let now = self.r.worker.now();
        let Some(caching) = &mut self.caching else { return };
        let until = match (caching.fresh.valid, caching.conf.valid(status)) {
            (0, 0) => return,
            (0, seconds) => now.saturating_add(seconds),
            (valid, _) => valid,
        };
        if let Some(hold) = caching.hold.take() {
            hold.failed(status, until);
        }
    }

    /// Whether a stale answer is better than this failure.
    pub(super) fn may_be_stale(&self, reason: u32) -> bool {
        let unsafe_bit = if self.is_unsafe() { mask::NON_IDEMPOTENT } else { 0 };
        self.states.cache_status() == Some(CacheStatus::Expired)
            && self.caching.as_ref().is_some_and(|caching| {
                caching.stale.as_ref().is_some_and(|entry| {
                    let until = entry.meta.valid.saturating_add(entry.meta.error);
                    caching.conf.use_stale & (reason | unsafe_bit) != 0 || until >= self.r.worker.now()
                })
            })
    }

    /// Whether the entry in the cache is answered in the place of an answer with this status.
    pub(super) fn stale_instead(&self, status: u16) -> Option<CacheStatus> {
        let caching = self.caching.as_ref()?;
        if self.states.cache_status() != Some(CacheStatus::Expired) || caching.stale.is_none() {
            return None;
        }
        if mask::of_status(status).is_some_and(|reason| caching.conf.use_stale & reason != 0) {
            return Some(CacheStatus::Stale);
        }
        (status == 304 && caching.conf.revalidate).then_some(CacheStatus::Revalidated)
    }

    /// Answers with the entry that is stale, or was.
    pub(super) async fn answer_stale(&mut self, status: CacheStatus) -> Result<Flow, RequestError> {
        if status == CacheStatus::Revalidated {
            self.judge_freshness();
        }
        let Some(mut caching) = self.caching.take() else { return Ok(Flow::Finish(500)) };
        let Some(entry) = caching.stale.take() else { return Ok(Flow::Finish(500)) };
        self.release(false);
        self.states.talking.set(false);
        self.states.cache_status.set(Some(status));
        self.states.cacheable.set(caching.cacheable);
        if status == CacheStatus::Revalidated {
            self.confirm(&caching, &entry);
        }
        // Others need not wait until this client has read it.
        drop(caching);
        self.act("sending to client");
        match serve(&self.r, &self.conf, &*self.protocol, entry)? {
            None => Ok(Flow::Finish(500)),
            Some(Step::Now(flow)) => Ok(flow),
            Some(Step::Wait(wait)) => wait.await,
        }
    }

    /// The upstream says that the entry is still good: for how long stands in its file from now on.
    fn confirm(&self, caching: &Caching, entry: &Entry) {
        let now = self.r.worker.now();
        let mut fresh = caching.fresh.clone();
        let mut head = moonrest_proto::http1::ResponseHead::new();
        if fresh.valid == 0 && matches!(head.parse(&entry.block), Ok(Parse::Complete { .. })) {
            fresh = Freshness::of(&head, &entry.block, self.conf.ignore_headers, now);
        }
        if fresh.valid == 0 {
            let seconds = caching.conf.valid(head.status);
            fresh.valid = if seconds == 0 { 0 } else { now.saturating_add(seconds) };
        }
        if fresh.valid == 0 {
            return;
        }
        let meta = Meta {
            valid: fresh.valid,
            updating: fresh.updating,
            error: fresh.error,
            date: now,
            ..entry.meta.clone()
        };
        if let Err((call, error)) = cache::renew(entry, &meta, &caching.text) {
            let path = String::from_utf8_lossy(&entry.path);
            crate::crit!(self.r, "{call} \"{path}\" failed ({})", os_error(&error));
        }
    }
}
