//! `ssl_client_hello_by_lua*`, `ssl_certificate_by_lua*`, `ssl_session_fetch_by_lua*`, `ssl_session_store_by_lua*`: Lua
//! code in handshakes with clients. Code that waits is waited for.
//! <https://github.com/openresty/lua-nginx-module#ssl_certificate_by_lua_block>

use crate::{
    code::Code,
    host::{Host, LuaPhase, Origin, State},
    phase_io::PhaseIo,
    scheduler::{self, Outcome},
    settings::Loc,
    vm,
};
use moonrest_core::Level;
use moonrest_http::{
    RequestRef,
    phase::LocalBoxFuture,
    tls::hook::{Handshake, Hook, Moment},
};
use moonrest_net::tls::{
    certificate::{self, CertifiedKey, Offered},
    rustls::{pki_types::CertificateDer, sign::SigningKey},
};
use std::{cell::RefCell, ffi::CStr, rc::Rc, sync::Arc};

/// The code of one server.
#[derive(Clone)]
pub(crate) struct LuaHandshake {
    hello: Option<Arc<Code>>,
    certificate: Option<Arc<Code>>,
    fetch: Option<Arc<Code>>,
    store: Option<Arc<Code>>,
}

impl LuaHandshake {
    /// That of a server with these settings, if it has any.
    pub(crate) fn new(loc: &Loc) -> Option<Self> {
        let code = Self {
            hello: loc.ssl_client_hello.clone(),
            certificate: loc.ssl_certificate.clone(),
            fetch: loc.ssl_session_fetch.clone(),
            store: loc.ssl_session_store.clone(),
        };
        let any = [&code.hello, &code.certificate, &code.fetch, &code.store].into_iter().any(Option::is_some);
        any.then_some(code)
    }

    /// Whether it has code that needs a server which speaks TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.hello.is_some() || self.certificate.is_some()
    }

    fn code(&self, moment: Moment) -> Option<&Arc<Code>> {
        match moment {
            Moment::ClientHello => self.hello.as_ref(),
            Moment::Certificate => self.certificate.as_ref(),
            Moment::FetchSession => self.fetch.as_ref(),
            Moment::StoreSession => self.store.as_ref(),
        }
    }
}

/// What Lua code knows of a connection from phase to phase.
#[derive(Default)]
pub(crate) struct Kept {
    pub state: Rc<State>,
    pub choice: RefCell<Choice>,
}

/// What belongs to the handshake's connection.
pub(crate) fn kept(handshake: &Handshake) -> Option<Rc<Kept>> {
    handshake.kept.get_or_init(|| Rc::new(Kept::default())).clone().downcast().ok()
}

const fn phase(moment: Moment) -> LuaPhase {
    match moment {
        Moment::ClientHello => LuaPhase::SslClientHello,
        Moment::Certificate => LuaPhase::SslCertificate,
        Moment::FetchSession => LuaPhase::SslSessionFetch,
        Moment::StoreSession => LuaPhase::SslSessionStore,
    }
}

impl Hook for LuaHandshake {
    fn runs_at(&self, moment: Moment) -> bool {
        self.code(moment).is_some()
    }

    fn run(&self, moment: Moment, r: &RequestRef, handshake: &Rc<Handshake>) -> LocalBoxFuture<bool> {
        let done = |good: bool| -> LocalBoxFuture<bool> { Box::pin(std::future::ready(good)) };
        let (Some(code), Some(vm)) = (self.code(moment), vm::present()) else { return done(false) };
        let origin = Origin {
            conn: Some(r.conn.clone()),
            location: Some(r.location.get()),
            log: Some(r.log().clone()),
        };
        let io = PhaseIo::Handshake { r: r.clone(), handshake: handshake.clone(), exit: None };
        let host = Rc::new(Host::detached(phase(moment), &r.worker, origin));
        *host.io.borrow_mut() = io;
        let function = match vm.function(code, Some(r)) {
            Ok(function) => function,
            Err(error) => {
                host.log(Level::Error, format_args!("{}", error.message()));
                return done(false);
            }
        };
        match scheduler::run(&vm, &host, &function) {
            Outcome::Waits(running) => Box::pin(async move {
                let outcome = running.await;
                ended(&host, &outcome)
            }),
            settled => done(ended(&host, &settled)),
        }
    }
}

/// Whether the handshake may go on.
fn ended(host: &Host, outcome: &Outcome) -> bool {
    if let Outcome::Failed(error) = outcome {
        if host.phase == LuaPhase::SslSessionStore {
            let error = scheduler::describe_call(error);
            host.log(Level::Error, format_args!("failed to run session_store_by_lua*: {error}"));
        } else {
            let error = scheduler::describe(error);
            host.log(Level::Error, format_args!("lua entry thread aborted: runtime error: {error}"));
        }
        return false;
    }
    match &*host.io.borrow() {
        PhaseIo::Handshake { exit: Some(code), .. } => *code != -1 && *code < 300,
        _ => true,
    }
}

/// Certificates in a row, the holder's first, as Lua holds them behind a pointer.
pub(crate) struct Chain(pub Vec<CertificateDer<'static>>);

/// A private key as Lua holds it behind a pointer.
pub(crate) struct Key(pub Arc<dyn SigningKey>);

/// The certificates that Lua code has chosen for one handshake.
#[derive(Default)]
pub(crate) struct Choice {
    /// The server's own do not count.
    cleared: bool,
    pairs: Vec<Arc<CertifiedKey>>,
    /// One without the other.
    chain: Option<Vec<CertificateDer<'static>>>,
    key: Option<Arc<dyn SigningKey>>,
    response: Option<Vec<u8>>,
}

impl Choice {
    pub(crate) fn clear(&mut self) {
        *self = Self { cleared: true, response: self.response.take(), ..Self::default() };
    }

    pub(crate) fn set_chain(&mut self, chain: Vec<CertificateDer<'static>>) {
        if let Some(key) = &self.key
            && let Ok(pair) = certificate::join(chain.clone(), key.clone())
        {
            self.key = None;
            return self.add(pair);
        }
        self.chain = Some(chain);
    }

    /// # Errors
    /// When there is a chain that it does not belong to.
    pub(crate) fn set_key(&mut self, key: Arc<dyn SigningKey>) -> Result<(), &'static CStr> {
        let Some(chain) = self.chain.take() else {
            self.key = Some(key);
            return Ok(());
        };
        match certificate::join(chain.clone(), key) {
            Ok(pair) => {
                self.add(pair);
                Ok(())
            }
            Err(_) => {
                self.chain = Some(chain);
                Err(c"SSL_use_PrivateKey() failed")
            }
        }
    }

    pub(crate) fn set_response(&mut self, response: &[u8]) {
        self.response = Some(response.to_vec());
    }

    /// A pair takes the place of one of its kind.
    fn add(&mut self, pair: CertifiedKey) {
        self.pairs.retain(|known| known.key.algorithm() != pair.key.algorithm());
        self.pairs.push(Arc::new(pair));
    }

    /// The complete pairs, the one chosen last at the end.
    pub(crate) fn pairs(&self) -> &[Arc<CertifiedKey>] {
        &self.pairs
    }

    pub(crate) const fn is_cleared(&self) -> bool {
        self.cleared
    }

    /// What is offered to the client.
    pub(crate) fn offered(&self) -> Offered {
        Offered { certificates: self.pairs.clone(), alone: self.cleared, response: self.response.clone() }
    }
}
