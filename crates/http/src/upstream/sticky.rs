//! `sticky`: requests of one session go to one server.

use crate::request::{Request, RequestRef};
use md5::{Digest, Md5};
use moonrest_core::{
    Subject, Template, VarId,
    upstream::{Peer, Server, Sessions},
};
use moonrest_net::addr::Addr;
use moonrest_sys::time::monotonic_coarse_ms;
use std::sync::Arc;

/// How sessions are recognised.
#[derive(Clone)]
pub struct Sticky {
    /// Variables that may name the session, or the server; the first that is not empty counts.
    pub lookup: Vec<VarId>,
    pub kind: Kind,
}

/// What becomes of a session that is not known.
#[derive(Clone)]
pub enum Kind {
    /// The server's name is sent to the client.
    Cookie(Box<Cookie>),
    Route,
    Learn(Learn),
}

/// `sticky cookie`.
#[derive(Clone)]
pub struct Cookie {
    pub name: Box<[u8]>,
    pub expires: Option<Expires>,
    pub domain: Option<Template>,
    pub path: Option<Box<[u8]>>,
    pub samesite: Option<Template>,
    pub httponly: bool,
    pub secure: bool,
}

/// `expires=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expires {
    Max,
    /// Seconds.
    In(u64),
}

/// `sticky learn`.
#[derive(Clone)]
pub struct Learn {
    pub create: Vec<VarId>,
    pub sessions: Arc<Sessions>,
    /// Milliseconds.
    pub timeout: u64,
    /// As soon as the head has come.
    pub after_header: bool,
}

/// A peer that `sticky` can name.
pub fn new_peer(addr: Addr, server: Arc<Server>) -> Peer {
    Peer::new(addr, server).with_sid(address_sid)
}

/// What `sticky` calls a server without a route: the digest of its address.
pub(super) fn address_sid(name: &[u8]) -> Box<[u8]> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
    Md5::digest(name).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn first_value(r: &Request, variables: &[VarId]) -> Option<Vec<u8>> {
    variables.iter().find_map(|id| r.vars().get(r, *id).filter(|value| !value.is_empty()))
}

impl Sticky {
    /// What the request says of its session.
    pub(super) fn session(&self, r: &Request) -> Option<Vec<u8>> {
        first_value(r, &self.lookup)
    }

    /// The server that a session is bound to.
    pub(super) fn bound(&self, session: &[u8]) -> Option<Box<[u8]>> {
        match &self.kind {
            Kind::Learn(learn) => learn.sessions.find(&Md5::digest(session).into(), learn.oldest()),
            _ => Some(session.into()),
        }
    }

    /// A server was chosen.
    pub(super) fn chosen(&self, r: &RequestRef, sid: &[u8]) {
        let Kind::Cookie(cookie) = &self.kind else { return };
        let value = cookie.value(r, sid);
        let mut start = cookie.name.to_vec();
        start.push(b'=');
        let mut out = r.out_mut();
        // An earlier attempt may have set it for another server.
        out.fields.retain(|field| {
            !(field.name.eq_ignore_ascii_case(b"set-cookie") && field.value.starts_with(&start))
        });
        out.add_checked(&b"Set-Cookie"[..], value);
    }

    /// The head of an answer has come.
    pub(super) fn answered(&self, r: &Request, session: Option<&[u8]>, sid: &[u8]) {
        if let Kind::Learn(learn) = &self.kind
            && learn.after_header
        {
            learn.note(r, session, sid);
        }
    }

    /// An answer is complete.
    pub(super) fn finished(&self, r: &Request, session: Option<&[u8]>, sid: &[u8]) {
        if let Kind::Learn(learn) = &self.kind
            && !learn.after_header
        {
            learn.note(r, session, sid);
        }
    }
}

impl Learn {
    fn oldest(&self) -> u64 {
        monotonic_coarse_ms().saturating_sub(self.timeout)
    }

    fn note(&self, r: &Request, session: Option<&[u8]>, sid: &[u8]) {
        let created = first_value(r, &self.create);
        let Some(id) = created.as_deref().or(session) else { return };
        let now = monotonic_coarse_ms();
        let full = self.sessions.note(&Md5::digest(id).into(), sid, created.is_some(), now, self.oldest());
        if full {
            crate::warn!(r, "could not allocate node, expiring least recently used session");
        }
    }
}

impl Cookie {
    fn value(&self, r: &Request, sid: &[u8]) -> Vec<u8> {
        let mut out = self.name.to_vec();
        out.push(b'=');
        out.extend_from_slice(sid);
        match self.expires {
            None => {}
            Some(Expires::Max) => {
                out.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000");
            }
            Some(Expires::In(seconds)) => {
                out.extend_from_slice(b"; expires=");
                let at = r.worker.now().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
                moonrest_proto::date::cookie(at, &mut out);
                out.extend_from_slice(b"; max-age=");
                crate::decimal::append(&mut out, seconds);
            }
        }
        let mut attribute = |name: &[u8], value: &[u8]| {
            if !value.is_empty() {
                out.extend_from_slice(name);
                out.extend_from_slice(value);
            }
        };
        attribute(b"; domain=", &self.domain.as_ref().map(|domain| domain.eval(r)).unwrap_or_default());
        attribute(b"; http", if self.httponly { b"only" } else { b"" });
        attribute(b"; ", if self.secure { b"secure" } else { b"" });
        if let Some(template) = &self.samesite {
            let value = template.eval(r);
            let known = [&b"strict"[..], b"lax", b"none"].iter().any(|word| value.eq_ignore_ascii_case(word));
            attribute(b"; samesite=", if known || value.is_empty() { &value } else { b"strict" });
        }
        attribute(b"; path=", self.path.as_deref().unwrap_or_default());
        out
    }
}
