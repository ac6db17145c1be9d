//! Certificates with their keys: read from PEM, chosen for a client.

use super::{asn1, key, pem, x509::Certificate};
use parking_lot::RwLock;
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{self, Signer, SigningKey},
};
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

pub use rustls::sign::CertifiedKey;

thread_local! {
    /// Certificates for the handshake that goes on right now.
    static OFFERED: RefCell<Option<Offered>> = const { RefCell::new(None) };
    static SCHEME: Cell<Option<u16>> = const { Cell::new(None) };
    static CLIENT_SCHEME: Cell<Option<u16>> = const { Cell::new(None) };
}

/// What one handshake offers beside the server's certificates, or in their place.
#[derive(Clone, Default, Debug)]
pub struct Offered {
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// The server's own are not offered.
    pub alone: bool,
    /// What the issuer says of the certificate, whichever it is.
    pub response: Option<Vec<u8>>,
}

/// Offers this to the handshake that goes on next in this thread.
pub fn offer(offered: Option<Offered>) {
    OFFERED.set(offered);
}

/// The scheme of the signature that was last made in this thread.
pub fn taken_scheme() -> Option<u16> {
    SCHEME.take()
}

/// The scheme of the client's signature that was last verified in this thread.
pub fn taken_client_scheme() -> Option<u16> {
    CLIENT_SCHEME.take()
}

pub(super) fn note_client_scheme(scheme: SignatureScheme) {
    CLIENT_SCHEME.set(Some(scheme.into()));
}

/// A server's certificates, in the order of the configuration; none when they depend on the connection.
#[derive(Clone, Debug)]
pub struct Certificates(pub Vec<Arc<Stapled>>);

/// A certificate, and its issuer's word that it is still good.
#[derive(Debug)]
pub struct Stapled {
    bare: Arc<CertifiedKey>,
    /// With the word, and the moment in seconds since 1970 from which on that is not worth anything.
    with: RwLock<Option<(Arc<CertifiedKey>, i64)>>,
}

impl Stapled {
    /// A certificate alone.
    pub fn new(bare: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self { bare, with: RwLock::new(None) })
    }

    /// The certificate alone.
    pub fn bare(&self) -> &Arc<CertifiedKey> {
        &self.bare
    }

    /// From now on `response` goes with it, until that moment.
    pub fn staple(&self, response: Vec<u8>, until: i64) {
        let mut key = (*self.bare).clone();
        key.ocsp = Some(response);
        *self.with.write() = Some((Arc::new(key), until));
    }

    /// Nothing goes with it any more.
    pub fn unstaple(&self) {
        *self.with.write() = None;
    }

    fn current(&self) -> Arc<CertifiedKey> {
        match &*self.with.read() {
            Some((key, until)) if moonrest_sys::time::wall_coarse().secs <= *until => key.clone(),
            _ => self.bare.clone(),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(Offered { mut certificates, alone, response }) = OFFERED.take() else {
            return choose(&hello, &self.0, |stapled| &stapled.bare).map(|stapled| stapled.current());
        };
        if !alone {
            let others = |own: &&Arc<Stapled>| {
                let algorithm = own.bare.key.algorithm();
                certificates.iter().all(|known| known.key.algorithm() != algorithm)
            };
            let own: Vec<_> = self.0.iter().filter(others).map(|own| own.current()).collect();
            certificates.extend(own);
        }
        let chosen = choose(&hello, &certificates, |key| key)?;
        Some(match response {
            Some(response) => Arc::new(CertifiedKey { ocsp: Some(response), ..(**chosen).clone() }),
            None => chosen.clone(),
        })
    }
}

/// The one that the client can do most with.
fn choose<'k, T>(
    hello: &ClientHello<'_>,
    keys: &'k [T],
    key_of: impl Fn(&T) -> &Arc<CertifiedKey>,
) -> Option<&'k T> {
    if let [only] = keys {
        return Some(only);
    }
    // As OpenSSL does: the client's order of signatures decides.
    let fits = |scheme: &SignatureScheme, key: &T| {
        key_of(key).key.choose_scheme(std::slice::from_ref(scheme)).is_some()
    };
    let schemes = hello.signature_schemes();
    let found = schemes.iter().find_map(|scheme| keys.iter().find(|key| fits(scheme, key)));
    found.or(keys.first())
}

/// A key that tells with which scheme it has signed.
#[derive(Debug)]
struct Watched(Arc<dyn SigningKey>);

impl SigningKey for Watched {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        SCHEME.set(Some(signer.scheme().into()));
        Some(signer)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

/// What is wrong with a certificate or its key: the words behind `cannot load certificate "x": ` and what OpenSSL's
/// error stack would say.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The call that failed.
    pub call: &'static str,
    /// In OpenSSL's form, without the leading `SSL: `.
    pub reason: String,
}

impl Unusable {
    pub(super) fn new(call: &'static str, reason: impl Into<String>) -> Self {
        Self { call, reason: reason.into() }
    }
}

/// Reads a certificate and what follows it in its file: the chain up to, but not always including, the root.
///
/// # Errors
/// When there is none, or one of them is broken.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let blocks = pem::blocks(text);
    let mut chain = Vec::new();
    for block in blocks.iter().filter(|block| pem::is_certificate(&block.label)) {
        let Some(der) = block.certificate() else {
            return Err(Unusable::new("PEM_read_bio_X509_AUX() failed", pem::BAD_BASE64));
        };
        if Certificate::from_der(der).is_none() {
            return Err(Unusable::new("PEM_read_bio_X509_AUX() failed", pem::BAD_CERTIFICATE));
        }
        chain.push(CertificateDer::from(der.to_vec()));
    }
    if chain.is_empty() {
        return Err(Unusable::new(
            "PEM_read_bio_X509_AUX() failed",
            pem::no_start_line("TRUSTED CERTIFICATE"),
        ));
    }
    Ok(chain)
}

/// Reads a private key, trying the passwords if it is encrypted.
///
/// # Errors
/// When there is none, no password opens it, or it is of a kind that is not supported.
pub fn private_key(text: &[u8], passwords: &[Vec<u8>]) -> Result<Arc<dyn SigningKey>, Unusable> {
    let der = key::read(text, passwords)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)
        .map_err(|_| Unusable::new("PEM_read_bio_PrivateKey() failed", key::UNSUPPORTED))?;
    Ok(Arc::new(Watched(key)))
}

/// The first encoded element, and what stands behind it.
pub fn split_der(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = asn1::first(der)?;
    Some((first, der.get(first.len()..)?))
}

/// Takes certificates apart that stand one behind the other, encoded.
pub fn chain_from_der(mut der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut chain = Vec::new();
    while !der.is_empty() {
        let (one, rest) = split_der(der)?;
        Certificate::from_der(one)?;
        chain.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    (!chain.is_empty()).then_some(chain)
}

/// Reads a private key that is encoded in any of its ways.
pub fn private_key_from_der(der: &[u8]) -> Option<Arc<dyn SigningKey>> {
    let key = key::from_der(der)?;
    Some(Arc::new(Watched(rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?)))
}

/// The encoding of a private key, whose text may be encrypted.
///
/// # Errors
/// As [`private_key`].
pub fn private_key_to_der(text: &[u8], passwords: &[Vec<u8>]) -> Result<Vec<u8>, Unusable> {
    key::read(text, passwords).map(|key| key.secret_der().to_vec())
}

/// Joins a chain and a key.
///
/// # Errors
/// When they do not belong together.
pub fn join(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Result<CertifiedKey, Unusable> {
    let certificate = chain.first().and_then(|der| Certificate::from_der(der));
    let theirs = certificate.as_ref().map(Certificate::key_info);
    // Not the library's comparison, which refuses certificates of the oldest kind.
    if key.public_key().is_some_and(|ours| theirs.is_some_and(|theirs| *ours != *theirs)) {
        return Err(Unusable::new(
            "SSL_CTX_use_PrivateKey",
            "error:05800074:x509 certificate routines::key values mismatch",
        ));
    }
    Ok(sign::CertifiedKey::new(chain, key))
}
