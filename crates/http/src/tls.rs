//! What a server block says about TLS, compiled: how connections for it are begun and judged.
//! <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

pub mod hook;

use crate::{phase::RequestError, request::RequestRef};
use hook::{Enabled, Handshake, Hooked};
use moonrest_net::tls::{
    certificate::CertifiedKey,
    ciphers::is_of,
    rustls::{Error, ProtocolVersion, ServerConfig, server::UnbufferedServerConnection},
    server::Settings,
    verify::{Failure, Store},
    x509::Certificate,
};
use std::{pin::Pin, sync::Arc};

/// Whether clients must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyClient {
    #[default]
    Off,
    On,
    Optional,
    /// Any certificate will do; what a check would have said is in `$ssl_client_verify`.
    OptionalNoCa,
}

/// Certificates that depend on the connection.
pub type Certificates = Pin<Box<dyn Future<Output = Result<Vec<Arc<CertifiedKey>>, RequestError>>>>;

/// Finds certificates when a connection begins. The request stands for the connection: nothing has been read of it.
pub trait CertificateSource: Send + Sync {
    fn certificates(&self, r: &RequestRef) -> Certificates;
}

/// Asks whether a certificate has been revoked, where that takes time. `Err` has what `$ssl_client_verify` says.
pub trait RevocationCheck: Send + Sync {
    fn check(
        self: Arc<Self>,
        r: &RequestRef,
        chain: Vec<Arc<Certificate>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<str>>>>>;
}

/// Sees to it that certificates have their issuer's word, without keeping anybody waiting.
pub trait Stapling: Send + Sync {
    /// A client of this connection asks for it.
    fn asked(self: Arc<Self>, r: &RequestRef);
}

/// One server's way to begin and judge connections.
pub struct ServerTls {
    /// `ssl_reject_handshake`.
    pub reject: bool,
    /// Without HTTP/2 among the protocols offered, and with it; `None` when the server has no certificates of its own:
    /// those of the address' default server are used.
    pub configs: Option<[Arc<ServerConfig>; 2]>,
    /// What they were made of.
    pub settings: Option<Arc<Settings>>,
    /// The depth to which chains are checked.
    pub depth: usize,
    /// Stands for the terms under which sessions are made.
    pub context: Arc<[u8]>,
    pub verify: VerifyClient,
    /// Whom clients' certificates are checked against.
    pub store: Option<Arc<Store>>,
    /// Where certificates come from that are not known beforehand.
    pub source: Option<Arc<dyn CertificateSource>>,
    pub revocation: Option<Arc<dyn RevocationCheck>>,
    pub stapling: Option<Arc<dyn Stapling>>,
}

impl ServerTls {
    /// A session for a connection that arrived; `None` without certificates.
    ///
    /// # Errors
    /// The library's.
    pub(crate) fn begin(&self, http2: bool) -> Option<Result<UnbufferedServerConnection, Error>> {
        Some(UnbufferedServerConnection::new(self.config(http2)?.clone()))
    }

    fn config(&self, http2: bool) -> Option<&Arc<ServerConfig>> {
        let [http1, with_http2] = self.configs.as_ref()?;
        Some(if http2 { with_http2 } else { http1 })
    }

    /// A session for a connection in whose handshake code takes part. `sessions` says that it finds or keeps sessions.
    ///
    /// # Errors
    /// The library's, also when nothing is left to be offered.
    pub(crate) fn begin_with(
        &self,
        http2: bool,
        handshake: &Handshake,
        (finds, keeps): (bool, bool),
    ) -> Option<Result<UnbufferedServerConnection, Error>> {
        let config = self.config(http2)?;
        // Nor do those that code has under terms that it sets only now.
        let same = handshake.client.borrow().is_none();
        let (finds, keeps) = (finds && same, keeps && same);
        let mut own = match self.rebuilt(config, handshake)? {
            Ok(Some(own)) => own,
            Ok(None) if !finds && !keeps => return Some(UnbufferedServerConnection::new(config.clone())),
            Ok(None) => (**config).clone(),
            Err(error) => return Some(Err(error)),
        };
        if finds || keeps {
            let hooked = handshake.sessions.clone();
            own.session_storage = Arc::new(Hooked { hooked, own: own.session_storage, keeps });
        }
        Some(UnbufferedServerConnection::new(Arc::new(own)))
    }

    /// The configuration anew, if code has changed what it is made of.
    fn rebuilt(
        &self,
        config: &ServerConfig,
        handshake: &Handshake,
    ) -> Option<Result<Option<ServerConfig>, Error>> {
        let client = handshake.client.borrow();
        if handshake.versions.get().is_none() && client.is_none() {
            return Some(Ok(None));
        }
        let mut settings = Settings::clone(self.settings.as_ref()?);
        if let Some((tls12, tls13)) = handshake.versions.get() {
            // As with OpenSSL, whatever the configuration says.
            (settings.tls12, settings.tls13) = (tls12, tls13);
        }
        if let Some(client) = &*client {
            settings.client_authorities = Some(client.names.clone());
            // Sessions made under other terms do not count.
            (settings.sessions, settings.tickets) = (None, None);
        }
        let mut made = match settings.build() {
            Ok(made) => made,
            Err(error) => return Some(Err(error)),
        };
        made.alpn_protocols.clone_from(&config.alpn_protocols);
        Some(Ok(Some(made)))
    }

    /// What the server offers.
    pub(crate) fn enabled(&self) -> Enabled {
        let Some(settings) = &self.settings else {
            return Enabled { depth: self.depth, ..Enabled::default() };
        };
        let has = |version| settings.ciphers.iter().any(|suite| is_of(suite, version));
        Enabled {
            tls12: settings.tls12 && has(ProtocolVersion::TLSv1_2),
            tls13: settings.tls13 && has(ProtocolVersion::TLSv1_3),
            ciphers: settings.ciphers.iter().map(|suite| suite.suite().into()).collect(),
            depth: self.depth,
            store: self.store.clone(),
            context: self.context.clone(),
        }
    }

    /// Whether a failed check of a client's certificate does not matter.
    pub fn tolerates(&self, failure: Failure) -> bool {
        self.verify == VerifyClient::OptionalNoCa && failure.is_about_issuers()
    }
}
