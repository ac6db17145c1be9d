//! What a request knows of the servers it asked: an entry per attempt, and the last answer's head.

use crate::request::Request;
use bytes::Bytes;
use moonrest_core::upstream::Peer;
use moonrest_proto::http1::ResponseHead;
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

/// The answer's head: spans of `head` lie in `block`.
#[derive(Default)]
pub struct Answer {
    pub block: Bytes,
    pub head: ResponseHead,
    pub trailers: Vec<(Bytes, Bytes)>,
}

/// Everything about one request. Kept in its context, over internal redirects.
#[derive(Default)]
pub struct States {
    pub attempts: RefCell<smallvec::SmallVec<[Attempt; 1]>>,
    pub answer: RefCell<Answer>,
    /// What log lines say: the scheme, and the request with the part of it that is shown.
    scheme: Cell<&'static [u8]>,
    pub(super) request: RefCell<Vec<u8>>,
    pub(super) shown: RefCell<Range<usize>>,
    /// Log lines name the present attempt.
    pub(super) talking: Cell<bool>,
}

impl States {
    /// Begins with another location's upstream.
    pub(super) fn begin(&self, scheme: &'static [u8]) {
        let mut attempts = self.attempts.borrow_mut();
        if !attempts.is_empty() {
            attempts.push(Attempt::default());
        }
        let mut answer = self.answer.borrow_mut();
        answer.head.reset();
        answer.trailers.clear();
        self.scheme.set(scheme);
    }

    /// Edits the present attempt.
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
