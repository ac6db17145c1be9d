//! The library's configuration for a server, made of settings.

use super::{
    certificate::{self, Certificates},
    ciphers, secrets,
    x509::{Certificate, same_algorithm},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ProtocolVersion, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoClientAuth, NoServerSessionStorage, ProducesTickets, StoresServerSessions,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// What a server offers and asks for.
#[derive(Clone)]
pub struct Settings {
    pub tls12: bool,
    pub tls13: bool,
    /// Of both versions.
    pub ciphers: Vec<SupportedCipherSuite>,
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    pub prefer_server_ciphers: bool,
    pub certificates: Certificates,
    /// Clients are asked for a certificate by one of these, encoded names; none of them means any.
    pub client_authorities: Option<Vec<Vec<u8>>>,
    pub tickets: Option<Arc<dyn ProducesTickets>>,
    pub sessions: Option<Arc<dyn StoresServerSessions>>,
    /// The most plaintext in a record.
    pub record_size: usize,
    pub early_data: bool,
    pub protocols: Vec<Vec<u8>>,
}

/// The longest record's plaintext.
const MAX_RECORD: usize = 16 * 1024;
/// The head of a record, which the library counts in.
const RECORD_HEAD: usize = 5;
/// Bytes that a client may send before the handshake is over: OpenSSL's default.
const EARLY_DATA: u32 = 16 * 1024;

impl Settings {
    /// Makes the library's configuration.
    ///
    /// # Errors
    /// When nothing is left to be offered.
    pub fn build(&self) -> Result<ServerConfig, Error> {
        let mut versions = Vec::new();
        let has = |version| self.ciphers.iter().any(|suite| ciphers::is_of(suite, version));
        if self.tls13 && has(ProtocolVersion::TLSv1_3) {
            versions.push(&TLS13);
        }
        if self.tls12 && has(ProtocolVersion::TLSv1_2) {
            versions.push(&TLS12);
        }
        let provider = CryptoProvider {
            cipher_suites: self.ciphers.clone(),
            kx_groups: self.groups.clone(),
            ..aws_lc_rs::default_provider()
        };
        let verifier: Arc<dyn ClientCertVerifier> = match self.client_authorities.clone() {
            Some(authorities) => Arc::new(AnyClient {
                hints: authorities.into_iter().map(DistinguishedName::from).collect(),
                algorithms: provider.signature_verification_algorithms,
            }),
            None => Arc::new(NoClientAuth),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(self.certificates.clone()));
        config.key_log = Arc::new(secrets::Capture);
        config.ignore_client_order = self.prefer_server_ciphers;
        config.alpn_protocols = self.protocols.clone();
        if let Some(tickets) = self.tickets.clone() {
            config.ticketer = tickets;
        }
        config.session_storage = self.sessions.clone().unwrap_or_else(|| Arc::new(NoServerSessionStorage {}));
        if self.record_size < MAX_RECORD {
            config.max_fragment_size = Some(self.record_size.max(64) + RECORD_HEAD);
        }
        if self.early_data {
            config.max_early_data_size = EARLY_DATA;
            config.send_half_rtt_data = true;
        }
        Ok(config)
    }
}

/// Lets every client in that has the key of its certificate. What the certificate is worth is found out afterwards: a
/// request must be answered also when it is worth nothing.
#[derive(Debug)]
struct AnyClient {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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

/// Whether the holder of a certificate has signed the handshake.
pub(super) fn check_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = Certificate::from_der(certificate)
        .ok_or(Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
    let candidates = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    let good = candidates.flat_map(|(_, algorithms)| algorithms.iter()).any(|algorithm| {
        same_algorithm(&algorithm.public_key_alg_id(), certificate.key_algorithm())
            && algorithm.verify_signature(certificate.key(), message, signed.signature()).is_ok()
    });
    if !good {
        return Err(Error::InvalidCertificate(rustls::CertificateError::BadSignature));
    }
    certificate::note_client_scheme(signed.scheme);
    Ok(HandshakeSignatureValid::assertion())
}

/// The same where signatures of the older kind are not allowed any more.
pub(super) fn check_modern_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let older = matches!(
        signed.scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    );
    if older {
        return Err(Error::PeerMisbehaved(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme));
    }
    // In TLS 1.3 a scheme names the curve too.
    let curve: Option<&[u8]> = match signed.scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(&[0x2b, 0x81, 4, 0, 0x22]),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Some(&[0x2b, 0x81, 4, 0, 0x23]),
        _ => None,
    };
    if let Some(curve) = curve {
        let key = Certificate::from_der(certificate);
        if key.is_none_or(|certificate| !certificate.key_algorithm().ends_with(curve)) {
            return Err(Error::InvalidCertificate(rustls::CertificateError::BadSignature));
        }
    }
    check_signature(algorithms, message, certificate, signed)
}
