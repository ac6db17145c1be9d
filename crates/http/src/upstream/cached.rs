//! Where requests meet the cache: what is kept is answered, what may be kept is asked for.

use super::{
    Conf, Framing, Job, Protocol,
    conf::mask,
    head::{Head, Kept},
    hop::Hop,
    run::run_with,
    source::{self, Source},
    state::{CacheStatus, States},
};
use crate::{
    body,
    cache::{self, Cache, Entry, Freshness, Hold, Key, Read, Seen},
    core::Aio,
    filter::{FileRange, OpenFile, Piece},
    phase::{Flow, RequestError, Step},
    request::{Request, RequestRef},
    subrequest,
};
use moonrest_core::env::os_error;
use moonrest_net::sleep::sleep;
use moonrest_proto::http1::{Known, Method, Parse, framing::parse_length};
use moonrest_sys::{file, time::monotonic_coarse_ms};
use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc, sync::Arc, task::Poll};

/// What a request has to do with a cache.
pub(crate) struct Caching {
    pub(super) conf: Arc<cache::Conf>,
    pub(super) cache: Cache,
    pub(super) text: Box<[u8]>,
    /// The entry of the key, and the one that is looked at: a variant, perhaps.
    pub(super) main: Key,
    pub(super) key: Key,
    pub(super) secondary: bool,
    /// What the variants of this key's answer have in common, once that is known.
    pub(super) family: Option<u64>,
    /// The use was counted.
    counted: bool,
    /// The answer may be kept.
    pub(super) cacheable: bool,
    /// All that is wanted is that the entry be gone.
    purges: bool,
    /// When waiting for others ends, in monotonic milliseconds.
    deadline: Option<u64>,
    pub(super) hold: Option<Hold>,
    /// What may be answered if there is nothing better.
    pub(super) stale: Option<Box<Entry>>,
    /// What the present answer says of itself.
    pub(super) fresh: Freshness,
    /// Reading may block, so that threads do it.
    threads: bool,
}

/// What a search came to, for those who may wait.
pub(super) enum Found {
    Answered(Flow),
    /// The upstream must be asked.
    Ask(Option<Box<Caching>>),
}

/// A step of the search.
enum Look {
    Hit(Box<Entry>),
    Stale(Box<Entry>),
    /// Somebody else renews it.
    Updating(Box<Entry>),
    Error(u16),
    Ask,
    /// Somebody else fetches it.
    Wait,
    /// Have a thread read this file, and look again.
    Read(Vec<u8>),
}

/// What the search comes to.
enum Begun {
    Answer(Box<Entry>, CacheStatus),
    Flow(Flow),
    Ask,
    Wait,
    Read(Vec<u8>),
}

/// The search of a stale answer's request, handed to the one that renews it. In that one's context.
#[derive(Default)]
struct Handed(RefCell<Option<Box<Caching>>>);

/// Whether there is no body to wait for. One that may be passed on as it comes is not read for that.
fn is_read(r: &Request, job: &Job) -> bool {
    match job.stream_body && job.pass_body && !job.conf.request_buffering {
        true => body::is_settled(r),
        false => body::read_at_once(r),
    }
}

/// Answers from the cache if the location has one and it has an answer, otherwise asks an upstream and passes its
/// answer on.
///
/// # Errors
/// A request that cannot be made.
pub fn start(r: &RequestRef, job: Job) -> Result<Step, RequestError> {
    if job.conf.cache.is_none() && !r.probes.get() && is_read(r, &job) {
        let source = if job.pass_body { source::buffered(r) } else { Source::None };
        return Ok(Step::Wait(Hop::boxed(r.clone(), job, source, None)?));
    }
    if job.conf.cache.is_none() || r.probes.get() || r.has_unread_body() {
        return Ok(Step::Wait(Box::pin(run_with(r.clone(), job, None))));
    }
    let Some(mut caching) = prepare(r, &job.conf, &*job.protocol)? else {
        return Ok(Step::Wait(Box::pin(run_with(r.clone(), job, Some(None)))));
    };
    match caching.begin(r, None)? {
        Begun::Flow(flow) => Ok(Step::Now(flow)),
        Begun::Answer(entry, status) => {
            states(r).cache_status.set(Some(status));
            match serve(r, &job.conf, &*job.protocol, entry)? {
                Some(step) => Ok(step),
                None => Ok(Step::Wait(Box::pin(run_with(r.clone(), job, Some(Some(caching.missed(r))))))),
            }
        }
        Begun::Ask => Ok(Step::Wait(Box::pin(run_with(r.clone(), job, Some(Some(caching.ask(r))))))),
        begun => {
            let r = r.clone();
            Ok(Step::Wait(Box::pin(async move {
                match caching.search(&r, &job.conf, &*job.protocol, begun).await? {
                    Found::Answered(flow) => Ok(flow),
                    Found::Ask(caching) => run_with(r, job, Some(caching)).await,
                }
            })))
        }
    }
}

/// Looks for an answer in the cache, if the location has one.
pub(super) async fn find(
    r: &RequestRef,
    conf: &Arc<Conf>,
    protocol: &dyn Protocol,
) -> Result<Found, RequestError> {
    let Some(mut caching) = prepare(r, conf, protocol)? else { return Ok(Found::Ask(None)) };
    let begun = caching.begin(r, None)?;
    caching.search(r, conf, protocol, begun).await
}

fn states(r: &Request) -> Rc<States> {
    r.lasting_ctx::<States>()
}

/// What another location's cache said does not count here.
pub(super) fn forget(r: &Request) {
    if let Some(states) = r.find_ctx::<States>() {
        states.forget_cache();
    }
}

/// Finds out whether and where to search.
fn prepare(
    r: &RequestRef,
    conf: &Arc<Conf>,
    protocol: &dyn Protocol,
) -> Result<Option<Box<Caching>>, RequestError> {
    forget(r);
    let Some(settings) = &conf.cache else { return Ok(None) };
    let method = r.method.get();
    let as_get = || states(r).as_get.set(method == Method::Head && settings.convert_head);
    if let Some(handed) = r.find_ctx::<Handed>()
        && let Some(caching) = handed.0.borrow_mut().take()
    {
        as_get();
        return Ok(Some(caching));
    }
    let purges = settings.purges(r);
    if !purges && !settings.takes(method) {
        return Ok(None);
    }
    let Some(cache) = settings.cache(r)? else { return Ok(None) };
    as_get();
    let mut text = Vec::new();
    match &settings.key {
        Some(key) => key.append(&**r, &mut text),
        None => protocol.cache_key(r, &mut text)?,
    }
    let main = cache::digest(&text);
    Ok(Some(Box::new(Caching {
        conf: settings.clone(),
        cache,
        text: text.into(),
        main,
        key: main,
        secondary: false,
        family: None,
        counted: false,
        cacheable: true,
        purges,
        deadline: None,
        hold: None,
        stale: None,
        fresh: Freshness::default(),
        threads: matches!(r.loc().core.aio, Aio::Threads(_)),
    })))
}

impl Caching {
    /// Goes on until something must be waited for. `read` is what a thread has read.
    fn begin(&mut self, r: &RequestRef, read: Option<Read>) -> Result<Begun, RequestError> {
        if self.stale.is_some() {
            // Somebody else has answered with it; all that is left to do is to ask.
            return Ok(Begun::Ask);
        }
        if self.deadline.is_none() && read.is_none() {
            if self.purges {
                return Ok(Begun::Flow(self.purge()));
            }
            if self.conf.bypasses(r) {
                states(r).cache_status.set(Some(CacheStatus::Bypass));
                return Ok(Begun::Ask);
            }
        }
        states(r).cache_status.set(Some(CacheStatus::Miss));
        match self.look(r, read) {
            Look::Hit(entry) => Ok(Begun::Answer(entry, CacheStatus::Hit)),
            Look::Error(status) => {
                states(r).cache_status.set(Some(CacheStatus::Hit));
                Ok(Begun::Flow(Flow::Finish(status)))
            }
            Look::Ask => Ok(Begun::Ask),
            Look::Wait => Ok(Begun::Wait),
            Look::Read(path) => Ok(Begun::Read(path)),
            Look::Updating(entry) if self.may_be_stale(r, &entry) => {
                Ok(Begun::Answer(entry, CacheStatus::Updating))
            }
            Look::Stale(entry) if self.conf.background_update && self.may_be_stale(r, &entry) => {
                let entry = self.update_behind(r, entry)?;
                Ok(Begun::Answer(entry, CacheStatus::Stale))
            }
            Look::Stale(entry) | Look::Updating(entry) => {
                self.stale = Some(entry);
                Ok(Begun::Ask)
            }
        }
    }

    /// Searches on, waiting where needed.
    async fn search(
        mut self: Box<Self>,
        r: &RequestRef,
        conf: &Conf,
        protocol: &dyn Protocol,
        begun: Begun,
    ) -> Result<Found, RequestError> {
        let mut begun = begun;
        loop {
            let read = match begun {
                Begun::Flow(flow) => return Ok(Found::Answered(flow)),
                Begun::Ask => return Ok(Found::Ask(Some(self.ask(r)))),
                Begun::Answer(entry, status) => {
                    states(r).cache_status.set(Some(status));
                    return match serve(r, conf, protocol, entry)? {
                        None => Ok(Found::Ask(Some(self.missed(r)))),
                        Some(Step::Now(flow)) => Ok(Found::Answered(flow)),
                        Some(Step::Wait(wait)) => wait.await.map(Found::Answered),
                    };
                }
                Begun::Wait => {
                    self.wait(r).await;
                    None
                }
                Begun::Read(path) => {
                    let text = self.text.clone();
                    let read = moonrest_rt::spawn_blocking(move || cache::read(&path, &text)).await;
                    Some(read.map_err(|_| RequestError::internal("a thread that read a cache file failed"))?)
                }
            };
            begun = self.begin(r, read)?;
        }
    }

    fn may_be_stale(&self, r: &Request, entry: &Entry) -> bool {
        self.conf.use_stale & mask::UPDATING != 0
            || entry.meta.valid.saturating_add(entry.meta.updating) >= r.worker.now()
    }

    fn inactive(&self) -> u64 {
        self.cache.limits.inactive
    }

    fn look(&mut self, r: &Request, read: Option<Read>) -> Look {
        let zone = self.cache.zone.clone();
        let mut read = read;
        loop {
            if read.is_none() {
                let first = !std::mem::replace(&mut self.counted, true);
                match zone.touch(&self.key, self.conf.min_uses, self.inactive(), first) {
                    Seen::Error(status) => return Look::Error(status),
                    Seen::Scarce => {
                        self.cacheable = false;
                        return Look::Ask;
                    }
                    Seen::Nothing => return self.lock(r),
                    Seen::File => {}
                }
            }
            let path = zone.path(&self.key);
            let found = match read.take() {
                Some(found) => found,
                None if self.threads => return Look::Read(path),
                None => cache::read_hot(&zone, &self.key, &path, &self.text),
            };
            if let Some(entry) = self.judge_file(r, found, &path) {
                zone.found(&self.key, entry.body.end);
                let family = *self.family.get_or_insert(entry.meta.family);
                if !entry.meta.vary.is_empty() {
                    let variant = cache::variant(r, &self.main, family, &entry.meta.vary);
                    if variant != entry.meta.variant && !self.secondary {
                        (self.key, self.secondary, self.counted) = (variant, true, false);
                        continue;
                    }
                    if variant != entry.meta.variant {
                        let path = String::from_utf8_lossy(&path);
                        crate::crit!(r, "cache file \"{path}\" has incorrect vary hash");
                        return self.lock(r);
                    }
                }
                return self.judge_age(r, entry);
            }
            if !zone.is_wanted(&self.key, self.conf.min_uses) {
                self.cacheable = false;
                return Look::Ask;
            }
            return self.lock(r);
        }
    }

    /// The entry, if it is one; what is no entry is removed.
    fn judge_file(&self, r: &Request, read: Read, path: &[u8]) -> Option<Box<Entry>> {
        let zone = &self.cache.zone;
        let shown = || String::from_utf8_lossy(path).into_owned();
        match read {
            Read::Entry(entry) if zone.purges().concern(&self.text, entry.meta.date) => {
                zone.lost(&self.key);
                let _ = file::remove(path);
            }
            Read::Entry(entry) => return Some(entry),
            Read::Missing => zone.lost(&self.key),
            Read::Collision => crate::crit!(r, "cache file \"{}\" has md5 collision", shown()),
            Read::Corrupt(why) => {
                crate::crit!(r, "cache file \"{}\" {why}", shown());
                zone.lost(&self.key);
                // Whoever is next finds nothing, which is all that matters.
                let _ = file::remove(path);
            }
            Read::Failed(call, error) => {
                crate::crit!(r, "{call} \"{}\" failed ({})", shown(), os_error(&error));
            }
        }
        None
    }

    fn judge_age(&mut self, r: &Request, entry: Box<Entry>) -> Look {
        if entry.meta.valid >= r.worker.now() {
            return Look::Hit(entry);
        }
        let mut hold = self.take_hold();
        let ours = hold.renew();
        self.hold = Some(hold);
        if ours { Look::Stale(entry) } else { Look::Updating(entry) }
    }

    pub(super) fn take_hold(&mut self) -> Hold {
        let key = self.key;
        match self.hold.take().filter(|hold| *hold.key() == key) {
            Some(hold) => hold,
            None => self.cache.zone.hold(&key, self.conf.min_uses, self.inactive()),
        }
    }

    /// There is nothing: fetches it, or waits for whoever does.
    fn lock(&mut self, r: &Request) -> Look {
        let mut hold = self.take_hold();
        if !self.conf.lock || hold.fill(self.conf.lock_age) {
            self.hold = Some(hold);
            return Look::Ask;
        }
        let now = monotonic_coarse_ms();
        let deadline = *self.deadline.get_or_insert(now.saturating_add(self.conf.lock_timeout));
        if now >= deadline {
            if self.conf.lock_timeout > 0 {
                crate::info!(r, "cache lock timeout");
            }
            self.cacheable = false;
            return Look::Ask;
        }
        self.hold = Some(hold);
        Look::Wait
    }

    /// Waits until whoever fetches the answer has it, or takes too long.
    async fn wait(&self, r: &Request) {
        r.main().action.set("waiting for the cache lock");
        let zone = &self.cache.zone;
        let until = zone.locked_until(&self.key).min(self.deadline.unwrap_or(0));
        let mut timer = sleep(until.saturating_sub(monotonic_coarse_ms()));
        poll_fn(|cx| match zone.poll_free(&self.key, cx) {
            Poll::Pending => Pin::new(&mut timer).poll(cx),
            ready => ready,
        })
        .await;
        r.main().action.set("");
    }

    /// Has the answer renewed while this one is given.
    fn update_behind(&mut self, r: &RequestRef, entry: Box<Entry>) -> Result<Box<Entry>, RequestError> {
        let child = subrequest::detached_again(r)?;
        let handed = Self {
            conf: self.conf.clone(),
            cache: self.cache.clone(),
            text: self.text.clone(),
            main: self.main,
            key: self.key,
            secondary: self.secondary,
            family: self.family,
            counted: true,
            cacheable: true,
            purges: false,
            deadline: None,
            hold: self.hold.take(),
            stale: Some(entry.clone()),
            fresh: Freshness::default(),
            threads: self.threads,
        };
        *child.ctx::<Handed>().0.borrow_mut() = Some(Box::new(handed));
        subrequest::start_alone(child);
        Ok(entry)
    }

    /// What was found is no answer: the upstream must be asked after all.
    fn missed(mut self: Box<Self>, r: &Request) -> Box<Self> {
        states(r).cache_status.set(Some(CacheStatus::Miss));
        self.stale = None;
        if self.hold.is_none() {
            self.hold = Some(self.take_hold());
        }
        self.ask(r)
    }

    /// Notes what asking goes by.
    fn ask(mut self: Box<Self>, r: &Request) -> Box<Self> {
        let states = states(r);
        if self.cacheable
            && !r.with_known(Known::Range, |range| range.is_none_or(|range| self.conf.allows_range(range)))
        {
            self.cacheable = false;
        }
        states.cacheable.set(self.cacheable);
        if let Some(entry) = &self.stale {
            states.cache_status.set(Some(CacheStatus::Expired));
            if self.conf.revalidate {
                *states.validators.borrow_mut() = Some((entry.meta.modified, entry.meta.etag.clone()));
            }
        }
        self
    }

    /// `*_cache_purge`: removes what the key names.
    fn purge(&self) -> Flow {
        if cache::purge(&self.cache, &self.text) { Flow::Finish(204) } else { Flow::Finish(404) }
    }
}

/// Answers with an entry. None when it is no answer to this request.
pub(super) fn serve(
    r: &RequestRef,
    conf: &Conf,
    protocol: &dyn Protocol,
    entry: Box<Entry>,
) -> Result<Option<Step>, RequestError> {
    let states = states(r);
    states.forget_answer();
    let framing = {
        let mut answer = states.answer.borrow_mut();
        let parsed = match &entry.head {
            Some(head) => {
                answer.head.copy_from(head);
                true
            }
            None => matches!(answer.head.parse(&entry.block), Ok(Parse::Complete { .. })),
        };
        if !parsed {
            let path = String::from_utf8_lossy(&entry.path);
            crate::crit!(r, "cache file \"{path}\" contains invalid header");
            let _ = file::remove(&entry.path);
            return Ok(None);
        }
        answer.block = entry.block.clone();
        let length = answer.head.fields.value(Known::ContentLength, &entry.block).and_then(parse_length);
        let body = entry.body.end - entry.body.start;
        // The answer to a HEAD has no body for a GET.
        if length.is_some_and(|length| length != body) && r.method.get() != Method::Head {
            return Ok(None);
        }
        Framing { content_length: length, ..Framing::default() }
    };
    let head = Head { r, conf, protocol, states: &states, kept: Kept::Found };
    head.obey_kept();
    if let Some(flow) = head.redirect()? {
        return Ok(Some(Step::Now(flow)));
    }
    head.fill(&framing)?;
    let core = &r.loc().core;
    let Entry { file, path, body, small, .. } = *entry;
    let piece = match (small, file) {
        (Some(small), _) => Piece::Data(small),
        (None, None) => return Err(RequestError::internal("a cache entry without its file")),
        (None, Some(file)) => {
            let threads = matches!(core.aio, Aio::Threads(_));
            let file = OpenFile { file, name: path, direct: false, threads, sendfile: core.sendfile };
            Piece::File(FileRange { file: Rc::new(file), start: body.start, end: body.end })
        }
    };
    if piece.is_empty() {
        return r.respond_pieces(Vec::new()).map(Some);
    }
    r.respond_piece(piece).map(Some)
}
