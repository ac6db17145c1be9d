//! What a request knows of the servers it asked: an entry per attempt, and the last answer's head.

use super::GroupId;
use crate::request::Request;
use bytes::Bytes;
use moonrest_core::upstream::Peer;
use moonrest_proto::http1::{Field, ResponseHead};
use std::{
    cell::{Cell, RefCell},
    fmt::Write,
    ops::Range,
    sync::Arc,
};

/// One attempt, or with no name the place where another location began anew.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// The peer's address, or the upstream's name when no peer was left.
    pub name: Option<Name>,
    pub status: u16,
    /// Milliseconds.
    pub connect_time: Option<u64>,
    pub header_time: Option<u64>,
    pub response_time: Option<u64>,
    pub response_length: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// What an attempt is called.
#[derive(Clone, Debug)]
pub enum Name {
    Peer(Arc<Peer>),
    /// A peer's that the balancer named, or the upstream's.
    Text(Box<[u8]>),
}

impl Name {
    /// As variables show it.
    pub fn text(&self) -> &[u8] {
        match self {
            Self::Peer(peer) => &peer.name,
            Self::Text(name) => name,
        }
    }
}

/// What an upstream is called by.
pub(super) enum Called {
    Group(GroupId),
    Host(Box<str>),
}

/// The answer's head: spans of `head` lie in `block`.
pub struct Answer {
    pub block: Bytes,
    pub head: ResponseHead,
    pub trailers: Vec<(Bytes, Bytes)>,
}

/// Memory that one request leaves to the next: its answer's head, and the request as it was written.
#[derive(Default)]
struct Spare {
    fields: Vec<Field>,
    request: Vec<u8>,
}

/// So many of those are kept, of so many fields and bytes at most.
const SPARES: usize = 64;
const SPARE_FIELDS: usize = 64;
const SPARE_REQUEST: usize = 4096;

thread_local! {
    static SPARE: RefCell<Vec<Spare>> = const { RefCell::new(Vec::new()) };
}

/// What the cache had for a request (`$upstream_cache_status`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheStatus {
    Miss,
    Bypass,
    Expired,
    Stale,
    Updating,
    Revalidated,
    Hit,
}

impl CacheStatus {
    /// As the variable shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::Updating => "UPDATING",
            Self::Revalidated => "REVALIDATED",
            Self::Hit => "HIT",
        }
    }
}

/// Everything about one request. Kept in its context, over internal redirects.
pub struct States {
    pub attempts: RefCell<smallvec::SmallVec<[Attempt; 1]>>,
    pub answer: RefCell<Answer>,
    /// What log lines say: the scheme, and the request with the part of it that is shown.
    scheme: Cell<&'static [u8]>,
    pub(super) request: RefCell<Vec<u8>>,
    pub(super) shown: RefCell<Range<usize>>,
    pub(super) upstream: RefCell<Option<Called>>,
    /// Log lines name the present attempt.
    pub(super) talking: Cell<bool>,
    pub(super) cache_status: Cell<Option<CacheStatus>>,
    /// The answer may be kept for others: it is asked for whole, whatever this client has or wants of it.
    pub(super) cacheable: Cell<bool>,
    /// HEAD is asked for as GET.
    pub(super) as_get: Cell<bool>,
    /// The validators of a stale answer that may be confirmed.
    pub(super) validators: RefCell<Option<(Option<i64>, Bytes)>>,
}

impl Default for States {
    // Large, so it is made where it stays.
    #[inline]
    fn default() -> Self {
        let Spare { fields, request } = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        Self {
            attempts: RefCell::default(),
            answer: RefCell::new(Answer {
                block: Bytes::new(),
                head: ResponseHead::reusing(fields),
                trailers: Vec::new(),
            }),
            scheme: Cell::default(),
            request: RefCell::new(request),
            shown: RefCell::default(),
            upstream: RefCell::default(),
            talking: Cell::default(),
            cache_status: Cell::default(),
            cacheable: Cell::default(),
            as_get: Cell::default(),
            validators: RefCell::default(),
        }
    }
}

impl Drop for States {
    fn drop(&mut self) {
        let request = std::mem::take(self.request.get_mut());
        let fields = self.answer.get_mut().head.memory();
        if request.capacity() > SPARE_REQUEST || fields.capacity() > SPARE_FIELDS {
            return;
        }
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(Spare { fields, request });
            }
        });
    }
}

impl States {
    /// Begins with another location's upstream.
    pub(super) fn begin(&self, scheme: &'static [u8]) {
        let mut attempts = self.attempts.borrow_mut();
        if !attempts.is_empty() {
            attempts.push(Attempt::default());
        }
        self.forget_answer();
        self.scheme.set(scheme);
    }

    /// The upstream's name.
    pub fn upstream_name(&self, r: &Request) -> Option<String> {
        match self.upstream.borrow().as_ref()? {
            Called::Group(id) => {
                r.worker.upstreams().definition(*id).map(|definition| definition.full_name().to_string())
            }
            Called::Host(host) => Some(host.to_string()),
        }
    }

    /// The connection is encrypted, or is not, whatever the location says.
    pub(super) fn speaks(&self, secure: bool) {
        self.scheme.set(match (self.scheme.get(), secure) {
            (b"http://" | b"https://", true) => b"https://",
            (b"http://" | b"https://", false) => b"http://",
            (other, _) => other,
        });
    }

    /// What another location's cache said does not count here.
    pub(super) fn forget_cache(&self) {
        self.cache_status.set(None);
        self.cacheable.set(false);
        self.as_get.set(false);
        self.validators.take();
    }

    /// Makes ready for another answer.
    pub(super) fn forget_answer(&self) {
        let mut answer = self.answer.borrow_mut();
        if !answer.head.is_fresh() {
            answer.head.reset();
        }
        answer.trailers.clear();
    }

    /// What the cache had.
    pub fn cache_status(&self) -> Option<CacheStatus> {
        self.cache_status.get()
    }

    /// Whether the answer may be kept for others: the client's own conditions and ranges are not passed on.
    pub fn is_cacheable(&self) -> bool {
        self.cacheable.get()
    }

    /// Whether HEAD is to be asked for as GET.
    pub fn asks_as_get(&self) -> bool {
        self.as_get.get()
    }

    /// `If-Modified-Since` for a stale answer that may be confirmed (`$upstream_cache_last_modified`).
    pub fn append_cached_modified(&self, out: &mut Vec<u8>) -> bool {
        let validators = self.validators.borrow();
        let Some((Some(modified), _)) = &*validators else { return false };
        out.extend_from_slice(&moonrest_proto::date::http(*modified));
        true
    }

    /// `If-None-Match` for it (`$upstream_cache_etag`).
    pub fn append_cached_etag(&self, out: &mut Vec<u8>) -> bool {
        let validators = self.validators.borrow();
        let Some((_, etag)) = validators.as_ref().filter(|(_, etag)| !etag.is_empty()) else { return false };
        out.extend_from_slice(etag);
        true
    }

    /// A module that speaks a protocol of its own asks this peer: log lines name it until [`States::asked`].
    pub fn ask(&self, scheme: &'static [u8], peer: Arc<Peer>) {
        self.scheme.set(scheme);
        self.request.borrow_mut().clear();
        *self.shown.borrow_mut() = 0..0;
        let name = Some(Name::Peer(peer));
        self.attempts.borrow_mut().push(Attempt { name, ..Attempt::default() });
        self.talking.set(true);
    }

    /// The peer has answered, or failed to, after so many milliseconds.
    pub fn asked(&self, status: u16, took: u64) {
        self.with(|attempt| {
            attempt.status = status;
            attempt.response_time = Some(took);
        });
        self.talking.set(false);
    }

    /// Edits the present attempt.
    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Attempt) -> R) -> Option<R> {
        self.attempts.borrow_mut().last_mut().map(f)
    }
}

/// Appends `, upstream: "http://127.0.0.1:8080/path"` while a server is being asked.
pub(crate) fn append_context(r: &Request, line: &mut String) {
    let Some(states) = r.find_ctx::<States>() else { return };
    if !states.talking.get() {
        return;
    }
    let attempts = states.attempts.borrow();
    let Some(name) = attempts.last().and_then(|attempt| attempt.name.as_ref()) else { return };
    let request = states.request.borrow();
    let shown = request.get(states.shown.borrow().clone()).unwrap_or_default();
    let colon = if name.text().starts_with(b"unix:") { ":" } else { "" };
    let _ = write!(
        line,
        ", upstream: \"{}{}{colon}{}\"",
        String::from_utf8_lossy(states.scheme.get()),
        String::from_utf8_lossy(name.text()),
        String::from_utf8_lossy(shown)
    );
}
