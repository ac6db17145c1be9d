//! TLS towards other servers: what cosockets and upstreams speak.
//!
//! A [`Connector`] is made once of settings and kept; [`Connector::start`] begins a session on a socket, and
//! [`Client::poll_handshake`] goes through it. What the server's certificate is worth is asked afterwards, of
//! [`Client::verify`]: nothing may be sent before, where it matters.

use super::{
    ciphers, names,
    server::{check_modern_signature, check_signature},
    session::Session,
    stream::{Broken, Secured},
    verify::{Failures, Purpose, Store, is_for_host},
    x509::Certificate,
};
use crate::io::Io;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, KeyLog, NamedGroup, ProtocolVersion,
    SignatureScheme, SupportedCipherSuite,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue, UnbufferedClientConnection,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, IpAddr, ServerName, UnixTime},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};

/// A session to a server, on its socket.
pub struct Client {
    stream: Secured<UnbufferedClientConnection>,
}

/// What is offered to servers.
#[derive(Clone)]
pub struct Settings {
    pub tls12: bool,
    pub tls13: bool,
    /// Of both versions.
    pub ciphers: Vec<SupportedCipherSuite>,
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// In the order of preference; none for no such extension.
    pub protocols: Vec<Vec<u8>>,
    /// What is shown to servers that ask for a certificate.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Where sessions are kept to be gone on with; `None` for nowhere.
    pub sessions: Option<Arc<dyn ClientSessionStore>>,
    /// Who is told the secrets of sessions, for those who look at what is sent.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl Default for Settings {
    /// As nginx's `proxy_ssl_*` without any directive.
    fn default() -> Self {
        let mut all = ciphers::tls13_default();
        all.extend(ciphers::tls12("DEFAULT").list);
        Self {
            tls12: true,
            tls13: true,
            ciphers: all,
            groups: ciphers::groups("auto").list,
            protocols: Vec::new(),
            certificate: None,
            sessions: None,
            key_log: None,
        }
    }
}

/// A store for as many servers' sessions; common to threads.
pub fn session_store(servers: usize) -> Arc<dyn ClientSessionStore> {
    Arc::new(ClientSessionMemoryCache::new(servers))
}

/// Settings made ready for any number of sessions.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    settings: Arc<Settings>,
}

impl Connector {
    /// Makes a connector.
    ///
    /// # Errors
    /// When nothing is left to be offered.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let config = build(&settings)?;
        Ok(Self { config: Arc::new(config), settings: Arc::new(settings) })
    }

    /// The same with another certificate for servers that ask (`setclientcert`, `proxy_ssl_certificate` with variables).
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn with_certificate(&self, certificate: Option<Arc<CertifiedKey>>) -> Result<Self, Error> {
        let mut settings = (*self.settings).clone();
        settings.certificate = certificate;
        Self::new(settings)
    }

    /// The same with other protocols offered.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn with_protocols(&self, protocols: Vec<Vec<u8>>) -> Result<Self, Error> {
        let mut settings = (*self.settings).clone();
        settings.protocols = protocols;
        Self::new(settings)
    }

    /// Begins a session. `name` is what the server is asked for (SNI); without one, or with an address, nothing is
    /// said. `session` sets apart whom sessions are kept for: the name alone is not enough where several servers have
    /// the same one.
    ///
    /// # Errors
    /// The library's.
    pub fn start(&self, io: Io, name: Option<&str>, session: &str) -> Result<Client, Error> {
        let host = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let said = matches!(&host, Some(ServerName::DnsName(_)));
        let mut config = (*self.config).clone();
        config.enable_sni = said;
        if let Some(store) = &self.settings.sessions {
            // The library finds sessions by the name alone.
            let apart = Apart { store: store.clone(), prefix: session.to_owned() };
            config.resumption = Resumption::store(Arc::new(apart));
        }
        let name = host.unwrap_or(ServerName::IpAddress(IpAddr::V4([0, 0, 0, 0].into())));
        let side = UnbufferedClientConnection::new(Arc::new(config), name)?;
        Ok(Client { stream: Secured::new(io, Session::new(side, Vec::new())) })
    }
}

fn build(settings: &Settings) -> Result<ClientConfig, Error> {
    let has = |version| settings.ciphers.iter().any(|suite| ciphers::is_of(suite, version));
    let mut versions = Vec::new();
    if settings.tls13 && has(ProtocolVersion::TLSv1_3) {
        versions.push(&TLS13);
    }
    if settings.tls12 && has(ProtocolVersion::TLSv1_2) {
        versions.push(&TLS12);
    }
    let provider = CryptoProvider {
        cipher_suites: settings.ciphers.clone(),
        kx_groups: settings.groups.clone(),
        ..crypto::aws_lc_rs::default_provider()
    };
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer { algorithms }));
    let mut config = match &settings.certificate {
        Some(key) => builder.with_client_cert_resolver(Arc::new(Shown(key.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = settings.protocols.clone();
    config.resumption = Resumption::disabled();
    if let Some(log) = &settings.key_log {
        config.key_log = log.clone();
    }
    Ok(config)
}

impl Client {
    /// Goes on with the handshake.
    pub fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut early = Vec::new();
        let result = self.stream.poll_handshake(&mut early, cx);
        // A server may send behind its last message of the handshake.
        self.stream.keep(early);
        result
    }

    /// The chain that the server has shown.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let chain = self.stream.with_side(|side| {
            side.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect()
        });
        chain.unwrap_or_default()
    }

    /// Checks the server's certificate against what is trusted. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with the chain.
    pub fn verify(&self, store: &Store, now: i64) -> Result<(), Failures> {
        store.verify(&self.certificates(), Purpose::Server, now).map(drop)
    }

    /// Whether the server's certificate is for that host.
    pub fn is_for(&self, host: &str) -> bool {
        let chain = self.certificates();
        let certificate = chain.first().and_then(|der| Certificate::from_der(der));
        certificate.is_some_and(|certificate| is_for_host(&certificate, host))
    }

    /// Whether an earlier session was gone on with.
    pub fn is_resumed(&self) -> bool {
        self.stream.with_side(|side| side.handshake_kind() == Some(HandshakeKind::Resumed)).unwrap_or(false)
    }

    /// The protocol agreed on.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        self.stream.with_side(|side| side.alpn_protocol().map(<[u8]>::to_vec)).flatten()
    }

    /// The version agreed on, in OpenSSL's words.
    pub fn version(&self) -> Option<&'static str> {
        let version = self.stream.with_side(|side| side.protocol_version()).flatten()?;
        names::version(version.into())
    }

    /// The cipher suite agreed on, in OpenSSL's words.
    pub fn cipher(&self) -> Option<&'static str> {
        let suite = self.stream.with_side(|side| side.negotiated_cipher_suite()).flatten()?;
        names::cipher(suite.suite().into())
    }

    /// The group agreed on.
    pub fn group(&self) -> Option<NamedGroup> {
        self.stream.with_side(|side| side.negotiated_key_exchange_group()).flatten().map(|group| group.name())
    }

    /// The socket below.
    pub fn io(&self) -> &Io {
        self.stream.io()
    }

    /// Reads to the end of `buffer`; 0 is the end of the stream.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_read(buffer, cx)
    }

    /// Sends what the socket takes; see [`Client::poll_flush`].
    ///
    /// # Errors
    /// `WouldBlock`, the system's, or the library's.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write(slices, false)
    }

    /// Ready when a write may take something.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.io().poll_writable(cx)
    }

    /// Ready when everything that was taken has left.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    /// Whether something that was taken has not left.
    pub fn has_pending(&self) -> bool {
        self.stream.has_pending()
    }

    /// Whether bytes have been received that were not read.
    pub fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }

    /// Says that nothing more will be sent. Never waits.
    pub fn close(&self) {
        self.stream.close();
    }
}

/// Sessions under a prefix.
#[derive(Debug)]
struct Apart {
    store: Arc<dyn ClientSessionStore>,
    prefix: String,
}

impl Apart {
    /// A name that stands for the session's and the prefix: the library takes nothing else as a key.
    fn name(&self, name: &ServerName<'_>) -> ServerName<'static> {
        let text = format!("{}\0{}", self.prefix, name.to_str());
        let digest = digest(&SHA256, text.as_bytes());
        let hex: String = digest.as_ref().iter().take(28).map(|byte| format!("{byte:02x}")).collect();
        ServerName::try_from(hex).unwrap_or_else(|_| name.to_owned())
    }
}

impl ClientSessionStore for Apart {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(self.name(&name), group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(&self.name(name))
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.store.set_tls12_session(self.name(&name), value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.store.tls12_session(&self.name(name))
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.store.remove_tls12_session(&self.name(name));
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.store.insert_tls13_ticket(self.name(&name), value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(&self.name(name))
    }
}

/// The certificate shown to every server that asks.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).is_some().then(|| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Talks to every server that has the key of its certificate; see [`Client::verify`].
#[derive(Debug)]
struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(&self.algorithms, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_modern_signature(&self.algorithms, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
