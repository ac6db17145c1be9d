//! TLS for tests: certificates made on the spot, and a client that looks at no certificate.
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use crate::client::TIMEOUT;
use crate::response::{Context, Malformed, Response};

/// A certificate with its key, both in PEM.
#[derive(Debug)]
pub struct Certificate {
    pub pem: String,
    pub key: String,
    params: CertificateParams,
    pair: KeyPair,
}

impl Certificate {
    /// One that nobody vouches for; it may vouch for others.
    #[track_caller]
    pub fn authority(name: &str) -> Self {
        let mut params = Self::params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = KeyPair::generate().expect("a key");
        let made = params.self_signed(&pair).expect("a certificate");
        Self { pem: made.pem(), key: pair.serialize_pem(), params, pair }
    }

    /// One that this one vouches for.
    #[track_caller]
    pub fn issue(&self, name: &str) -> Self {
        let params = Self::params(name);
        let pair = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.pair);
        let made = params.signed_by(&pair, &issuer).expect("a certificate");
        Self { pem: made.pem(), key: pair.serialize_pem(), params, pair }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name for a certificate");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }
}

/// How a client begins. Clients of one value share their sessions.
#[derive(Clone, Debug)]
pub struct Hello {
    name: String,
    config: Arc<ClientConfig>,
}

impl Hello {
    /// For a server of that name, in any version.
    pub fn to(name: &str) -> Self {
        Self::with(name, rustls::ALL_VERSIONS, None)
    }

    /// In these versions, showing a certificate if one is asked for.
    #[track_caller]
    pub fn with(
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Certificate>,
    ) -> Self {
        let provider = aws_lc_rs::default_provider();
        let verifier = Anybody(provider.signature_verification_algorithms);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match shown {
            Some(shown) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a certificate that can be shown")
            }
            None => builder.with_no_client_auth(),
        };
        Self { name: name.to_owned(), config: Arc::new(config) }
    }

    /// The same for another name, with the same sessions.
    #[must_use]
    pub fn but_to(&self, name: &str) -> Self {
        Self { name: name.to_owned(), config: self.config.clone() }
    }

    /// The same, offering these protocols.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// The same, ready to send data before the handshake is over.
    #[must_use]
    pub fn early(mut self) -> Self {
        Arc::make_mut(&mut self.config).enable_early_data = true;
        self
    }

    /// Connects, sending these bytes before the handshake is over; whether the server has taken them.
    #[track_caller]
    pub fn connect_early(&self, addr: SocketAddr, bytes: &[u8]) -> (TlsClient, bool) {
        let mut socket = TcpStream::connect_timeout(&addr, TIMEOUT).expect("the server accepts a connection");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let mut connection = self.connection();
        if let Some(mut early) = connection.early_data() {
            early.write_all(bytes).expect("room for early data");
        }
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).expect("a handshake");
        }
        let taken = connection.is_early_data_accepted();
        let stream = StreamOwned::new(connection, socket);
        (TlsClient { stream, received: Vec::new(), end: None }, taken)
    }

    /// The first bytes that a client sends.
    #[track_caller]
    pub fn first_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.connection().write_tls(&mut bytes).expect("bytes to send");
        bytes
    }

    #[track_caller]
    fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name.clone()).expect("a name of a server");
        ClientConnection::new(self.config.clone(), name).expect("a client")
    }

    /// Connects and goes through the handshake.
    ///
    /// # Errors
    /// Why that came to nothing: the server's alert, or an end.
    #[track_caller]
    pub fn try_connect(&self, addr: SocketAddr) -> io::Result<TlsClient> {
        self.try_connect_behind(addr, b"")
    }

    /// The same after these bytes.
    ///
    /// # Errors
    /// See [`Hello::try_connect`].
    #[track_caller]
    pub fn try_connect_behind(&self, addr: SocketAddr, first: &[u8]) -> io::Result<TlsClient> {
        let mut socket = TcpStream::connect_timeout(&addr, TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(first)?;
        let mut connection = self.connection();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let stream = StreamOwned::new(connection, socket);
        Ok(TlsClient { stream, received: Vec::new(), end: None })
    }

    /// Connects and goes through the handshake.
    #[track_caller]
    pub fn connect(&self, addr: SocketAddr) -> TlsClient {
        self.try_connect(addr).expect("a handshake")
    }
}

/// How a server has ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With `close_notify`.
    Orderly,
    /// Without.
    Abrupt,
}

/// A connection over TLS.
#[derive(Debug)]
pub struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
    end: Option<End>,
}

impl TlsClient {
    /// Sends bytes. A server that closed already is no failure here: the answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
        self
    }

    /// Sends bytes below TLS.
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.sock.write_all(bytes.as_ref());
        self
    }

    /// Reads the next response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        loop {
            let context = Context { head_request: false, at_end: self.end.is_some() };
            match Response::parse(&self.received, context) {
                Ok(mut response) => {
                    self.received = std::mem::take(&mut response.rest);
                    return response;
                }
                Err(Malformed::Incomplete) if self.end.is_none() => self.read_some(),
                Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(&self.received)),
            }
        }
    }

    /// Asks for a path and reads the answer.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).response()
    }

    /// Reads until the server closes; what came, and how it closed.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.end {
                return (std::mem::take(&mut self.received), end);
            }
            self.read_some();
        }
    }

    /// The library's view of it.
    pub fn connection(&self) -> &ClientConnection {
        &self.stream.conn
    }

    #[track_caller]
    fn read_some(&mut self) {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.end = Some(End::Orderly),
            Ok(len) => self.received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer in time: {:?}", String::from_utf8_lossy(&self.received));
            }
            Err(_) => self.end = Some(End::Abrupt),
        }
    }
}

/// The first line of a certificate's PEM text, behind the `BEGIN`.
pub fn base64_line(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(der).chars().take(64).collect()
}

/// Takes every certificate for good.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
