//! `proxy_ssl_certificate_by_lua*` and `proxy_ssl_verify_by_lua*`: Lua code in handshakes with upstreams. Code that waits
//! is waited for.
//! <https://github.com/openresty/lua-nginx-module#proxy_ssl_certificate_by_lua_block>

use crate::{
    code::Code,
    handshake::Choice,
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
    scheduler::{self, Outcome},
    settings::Loc,
    vm,
};
use moonrest_core::Level;
use moonrest_http::{
    RequestRef,
    phase::LocalBoxFuture,
    upstream::{HandshakeHook, Shown},
};
use moonrest_net::tls::client::Client;
use std::{rc::Rc, sync::Arc};

/// The code of one location.
pub(crate) struct LuaProxyTls {
    certificate: Option<Arc<Code>>,
    verify: Option<Arc<Code>>,
    cached: bool,
    /// `lua_upstream_skip_openssl_default_verify`
    skips_check: bool,
}

/// What the phase hands to its code and gets back.
pub(crate) struct ProxyTls {
    /// The certificate to show.
    pub choice: Choice,
    /// The version spoken, or the newest that may be.
    pub version: u16,
    /// What the server has shown, as long as it is judged.
    pub client: Option<Rc<Client>>,
    /// The number of OpenSSL's error, or 0.
    pub code: u16,
    pub exit: Option<i64>,
}

impl LuaProxyTls {
    /// That of a location with these settings, if it has any.
    pub(crate) fn new(loc: &Loc) -> Option<Self> {
        let (certificate, verify) = (loc.proxy_ssl_certificate.clone(), loc.proxy_ssl_verify.clone());
        let any = certificate.is_some() || verify.is_some();
        let skips_check = loc.ssl().upstream_skip_default_verify.unwrap_or(false);
        any.then(|| Self { certificate, verify, cached: loc.code_cache(), skips_check })
    }

    /// What needs an upstream with TLS.
    pub(crate) fn directive(&self) -> &'static str {
        let phase = match self.certificate {
            Some(_) => LuaPhase::ProxySslCertificate,
            None => LuaPhase::ProxySslVerify,
        };
        phase.directive()
    }

    /// Runs code, and gives what became of what it was handed; nothing when it ends the handshake.
    fn run(
        &self,
        code: &Code,
        phase: LuaPhase,
        r: &RequestRef,
        io: ProxyTls,
    ) -> LocalBoxFuture<Option<ProxyTls>> {
        let refused = || -> LocalBoxFuture<Option<ProxyTls>> { Box::pin(std::future::ready(None)) };
        let vm = match vm::of(r, self.cached) {
            Ok(vm) => vm,
            Err(error) => {
                moonrest_http::error!(r, "{error}");
                return refused();
            }
        };
        let function = match vm.function(code, Some(r)) {
            Ok(function) => function,
            Err(error) => {
                r.log_lines_at(Level::Error, format_args!("{}", error.message()));
                return refused();
            }
        };
        let host = Rc::new(Host::with(r, phase, PhaseIo::ProxyTls(Box::new(io))));
        match scheduler::run(&vm, &host, &function) {
            Outcome::Waits(running) => Box::pin(async move {
                let outcome = running.await;
                ended(&host, &outcome)
            }),
            settled => Box::pin(std::future::ready(ended(&host, &settled))),
        }
    }
}

fn ended(host: &Host, outcome: &Outcome) -> Option<ProxyTls> {
    // The session is given back, whoever still knows the host.
    let io = host.io.take();
    if let Outcome::Failed(error) = outcome {
        let error = scheduler::describe(error);
        host.log(Level::Error, format_args!("lua entry thread aborted: runtime error: {error}"));
        return None;
    }
    match io {
        PhaseIo::ProxyTls(io) if io.exit.is_none_or(|code| code != -1 && code < 300) => Some(*io),
        _ => None,
    }
}

impl HandshakeHook for LuaProxyTls {
    fn certificate(&self, r: &RequestRef, newest: u16) -> Option<LocalBoxFuture<Option<Shown>>> {
        let code = self.certificate.as_ref()?;
        let io = ProxyTls { choice: Choice::default(), version: newest, client: None, code: 0, exit: None };
        let running = self.run(code, LuaPhase::ProxySslCertificate, r, io);
        Some(Box::pin(async move {
            let choice = running.await?.choice;
            Some(match choice.pairs().last() {
                Some(pair) => Shown::Certificate(pair.clone()),
                None if choice.is_cleared() => Shown::Nothing,
                None => Shown::AsConfigured,
            })
        }))
    }

    fn verify(&self, r: &RequestRef, client: &Rc<Client>, found: u16) -> Option<LocalBoxFuture<Option<u16>>> {
        let code = self.verify.as_ref()?;
        if found != 0 && !self.skips_check {
            return None;
        }
        let version = client.version_number();
        let io = ProxyTls {
            choice: Choice::default(),
            version,
            client: Some(client.clone()),
            code: 0,
            exit: None,
        };
        let running = self.run(code, LuaPhase::ProxySslVerify, r, io);
        Some(Box::pin(async move { running.await.map(|io| io.code) }))
    }
}
