//! What a server block says about TLS, compiled: how connections for it are begun and judged.
//! <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

use crate::{phase::RequestError, request::RequestRef};
use moonrest_net::tls::{
    certificate::CertifiedKey,
    rustls::{Error, ServerConfig, server::UnbufferedServerConnection},
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
        let [http1, with_http2] = self.configs.as_ref()?;
        Some(UnbufferedServerConnection::new(if http2 { with_http2 } else { http1 }.clone()))
    }

    /// Whether a failed check of a client's certificate does not matter.
    pub fn tolerates(&self, failure: Failure) -> bool {
        self.verify == VerifyClient::OptionalNoCa && failure.is_about_issuers()
    }
}
