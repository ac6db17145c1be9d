//! What is known of a client's session, for variables and decisions.

use super::secrets::Secrets;
use moonrest_proto::tls::ClientHello;
use rustls::{HandshakeKind, pki_types::CertificateDer, server::UnbufferedServerConnection};
use std::cell::{Cell, OnceCell};

/// A session as requests see it. What the client offered is kept as it came: two bytes for each number.
#[derive(Debug, Default)]
pub struct Info {
    pub server_name: Option<Box<[u8]>>,
    pub ciphers: Box<[u8]>,
    pub groups: Box<[u8]>,
    pub signature_schemes: Box<[u8]>,
    /// Stands for the session's identifier in TLS 1.3, which has none that both sides know.
    pub random: [u8; 32],
    /// The session identifier that TLS 1.2 agreed on.
    pub session_id: OnceCell<Box<[u8]>>,
    /// What keys may be derived from, once there is something.
    pub secrets: OnceCell<Secrets>,
    /// The handshake is not over: what is received now may be replayed.
    pub handshaking: Cell<bool>,
    pub version: Cell<u16>,
    pub cipher: Cell<u16>,
    pub group: Cell<u16>,
    pub reused: Cell<bool>,
    pub alpn: OnceCell<Box<[u8]>>,
    /// Our signature, and the client's, in the handshake; 0 for none.
    pub scheme: Cell<u16>,
    pub client_scheme: Cell<u16>,
    /// The name decided which server answers.
    pub chosen_by_name: Cell<bool>,
    /// What the client sent, its own certificate first.
    pub certificates: OnceCell<Box<[CertificateDer<'static>]>>,
    /// What the check of the client's certificate found wrong: the number of OpenSSL's error, or 0.
    pub verified: Cell<u16>,
    /// What the certificate's issuer said of it, when it was asked and that was not good.
    pub revoked: OnceCell<Box<str>>,
}

impl Info {
    /// What the client's first message says.
    pub fn new(hello: &ClientHello) -> Self {
        let bytes = |span| hello.bytes(span).into();
        let random = hello.body.get(2..34).and_then(|random| random.try_into().ok());
        Self {
            server_name: hello.server_name().map(Into::into),
            ciphers: bytes(hello.ciphers),
            groups: bytes(hello.groups),
            signature_schemes: bytes(hello.signature_schemes),
            random: random.unwrap_or_default(),
            handshaking: Cell::new(true),
            ..Self::default()
        }
    }

    /// Learns what was agreed on.
    pub fn update(&self, side: &UnbufferedServerConnection) {
        self.handshaking.set(side.is_handshaking());
        self.version.set(side.protocol_version().map_or(0, u16::from));
        self.cipher.set(side.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite())));
        self.group.set(side.negotiated_key_exchange_group().map_or(0, |group| u16::from(group.name())));
        self.reused.set(side.handshake_kind() == Some(HandshakeKind::Resumed));
        if let Some(protocol) = side.alpn_protocol() {
            let _ = self.alpn.set(protocol.into());
        }
        if let Some(certificates) = side.peer_certificates() {
            let owned = certificates.iter().map(|der| der.clone().into_owned()).collect();
            let _ = self.certificates.set(owned);
        }
    }

    /// Two-byte numbers as the client listed them.
    pub fn numbers(list: &[u8]) -> impl Iterator<Item = u16> {
        list.chunks_exact(2).map(|pair| match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        })
    }
}
