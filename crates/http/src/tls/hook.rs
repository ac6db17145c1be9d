//! Code that takes part in handshakes with clients (`ssl_*_by_lua*`): what it sees and what it may change.
//!
//! ```text
//! client hello → server by name → session of an earlier connection → certificates → keys → session made
//!      │                                   │                              │                      │
//!  ClientHello                       FetchSession                    Certificate           StoreSession
//! ```

use crate::{phase::LocalBoxFuture, request::RequestRef};
use moonrest_net::tls::{Info, certificate::Offered, rustls::server::StoresServerSessions, verify::Store};
use moonrest_proto::tls::ClientHello;
use parking_lot::Mutex;
use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
};

/// When code runs in a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    ClientHello,
    /// The client names a session that the server does not keep itself.
    FetchSession,
    Certificate,
    /// There is a session that may be kept.
    StoreSession,
}

/// The code of one server.
pub trait Hook: Send + Sync {
    /// Whether it has something to do then.
    fn runs_at(&self, moment: Moment) -> bool;

    /// Runs. The request stands for the connection. `false` ends the handshake, where it can be ended.
    fn run(&self, moment: Moment, r: &RequestRef, handshake: &Rc<Handshake>) -> LocalBoxFuture<bool>;
}

/// One handshake.
pub struct Handshake {
    /// What the client asked for, until the handshake is over.
    pub hello: RefCell<Option<Rc<ClientHello>>>,
    pub info: Rc<Info>,
    /// What is offered to this client in place of what the server has.
    pub offered: RefCell<Option<Offered>>,
    /// Whether versions 1.2 and 1.3 may be agreed on, if that is not what the server says.
    pub versions: Cell<Option<(bool, bool)>>,
    /// The versions and ciphers that the server says.
    pub enabled: Enabled,
    /// The client is asked for a certificate, which is checked in this way.
    pub client: RefCell<Option<ClientAuth>>,
    pub sessions: Arc<HookedSessions>,
    /// What the code itself keeps for the connection.
    pub kept: OnceCell<Rc<dyn Any>>,
}

/// What a server offers.
#[derive(Clone, Default, Debug)]
pub struct Enabled {
    pub tls12: bool,
    pub tls13: bool,
    pub ciphers: Arc<[u16]>,
    /// The depth to which chains are checked.
    pub depth: usize,
    /// Whom they are checked against.
    pub store: Option<Arc<Store>>,
    /// Stands for the terms under which sessions are made.
    pub context: Arc<[u8]>,
}

/// How a client's certificate is asked for and checked.
#[derive(Clone)]
pub struct ClientAuth {
    pub store: Arc<Store>,
    /// Encoded names of authorities, which the client is told.
    pub names: Vec<Vec<u8>>,
}

impl Handshake {
    pub(crate) fn new(hello: Option<Rc<ClientHello>>, info: Rc<Info>, enabled: Enabled) -> Rc<Self> {
        Rc::new(Self {
            hello: RefCell::new(hello),
            info,
            offered: RefCell::default(),
            versions: Cell::new(None),
            enabled,
            client: RefCell::default(),
            sessions: Arc::default(),
            kept: OnceCell::new(),
        })
    }

    /// The version that both sides are going to agree on, as far as that can be said; the agreed one in the end.
    pub fn version(&self) -> u16 {
        let known = self.info.version.get();
        if known != 0 {
            return known;
        }
        let (tls12, tls13) = self.versions.get().unwrap_or((self.enabled.tls12, self.enabled.tls13));
        let newest = self.hello.borrow().as_ref().map_or(TLS12, |hello| hello.newest_version());
        let most = if tls13 {
            TLS13
        } else if tls12 {
            TLS12
        } else {
            newest
        };
        newest.min(most)
    }

    /// The session that the client names and that could be gone on with, if code finds it.
    pub(crate) fn wanted_session(&self) -> Option<Vec<u8>> {
        let hello = self.hello.borrow();
        let hello = hello.as_ref()?;
        let id = hello.bytes(hello.session_id);
        let ticket = hello.extension(SESSION_TICKET).is_some_and(|ticket| !ticket.is_empty());
        (self.version() <= TLS12 && !id.is_empty() && !ticket).then(|| id.to_vec())
    }
}

pub const TLS12: u16 = 0x0303;
pub const TLS13: u16 = 0x0304;
/// The extension with a ticket.
const SESSION_TICKET: u16 = 35;

/// The sessions of one handshake: what code has found, and what it may keep.
#[derive(Default)]
pub struct HookedSessions {
    /// Identifier and session.
    pub found: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
    pub made: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
}

/// The server's own store, with the code's in front of it.
pub(super) struct Hooked {
    pub hooked: Arc<HookedSessions>,
    pub own: Arc<dyn StoresServerSessions>,
    /// Sessions are made for code to keep.
    pub keeps: bool,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

impl StoresServerSessions for Hooked {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let kept = self.own.can_cache() && self.own.put(key.clone(), value.clone());
        // What TLS 1.3 has is not found by an identifier.
        if !self.keeps || session_version(&value) == Some(TLS13) {
            return kept;
        }
        *self.hooked.made.lock() = Some((key, value));
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.hooked.found.lock();
        let found = found.as_ref().filter(|(id, _)| id == key).map(|(_, session)| session.clone());
        found.or_else(|| self.own.get(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// The version of a session as the library writes it: behind the server's name, if there is one.
fn session_version(session: &[u8]) -> Option<u16> {
    let rest = match session.split_first()? {
        (0, rest) => rest,
        (_, rest) => {
            let (&len, rest) = rest.split_first()?;
            rest.get(usize::from(len)..)?
        }
    };
    let (version, _) = rest.split_first_chunk::<2>()?;
    Some(u16::from_be_bytes(*version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_behind_the_name() {
        assert_eq!(session_version(&[0, 3, 3, 0]), Some(TLS12));
        assert_eq!(session_version(&[1, 2, b'a', b'b', 3, 4]), Some(TLS13));
        assert_eq!(session_version(&[1, 9, b'a']), None);
    }
}
