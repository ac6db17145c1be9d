//! What both sides of a session know and nobody else, for code that derives keys of its own from it. RFC 5705; RFC 8446,
//! section 7.5.

use super::Info;
use aws_lc_rs::{digest, hmac};
use parking_lot::Mutex;
use rustls::KeyLog;
use std::{cell::RefCell, fs::File, io::Write};

/// The secret that keys are derived from.
#[derive(Debug)]
pub struct Secrets {
    pub server_random: [u8; 32],
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    /// TLS 1.2: the master secret.
    Master(Box<[u8]>),
    /// TLS 1.3: that of exporters.
    Exporter(Box<[u8]>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

thread_local! {
    /// Of the handshake that goes on right now.
    static LAST: RefCell<Option<Secret>> = const { RefCell::new(None) };
}

/// Keeps the secrets of the handshake that goes on in this thread, for [`taken`].
#[derive(Debug)]
pub(super) struct Capture;

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        LAST.set(match label {
            "CLIENT_RANDOM" => Some(Secret::Master(secret.into())),
            "EXPORTER_SECRET" => Some(Secret::Exporter(secret.into())),
            _ => return,
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_RANDOM" | "EXPORTER_SECRET")
    }
}

/// Writes the secrets of sessions to a file (`ssl_key_log`), in the form that programs look for which show what was sent.
pub struct SecretsFile(Mutex<File>);

impl SecretsFile {
    /// Appends to an open file.
    pub fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }
}

impl std::fmt::Debug for SecretsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsFile")
    }
}

impl KeyLog for SecretsFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // There is nobody to be told when it fails.
        let _ = self.0.lock().write_all(line.as_bytes());
    }
}

/// The secrets of the handshake that was last gone on with in this thread, if it came so far.
pub fn taken(server_random: Option<[u8; 32]>) -> Option<Secrets> {
    let secret = LAST.take()?;
    Some(Secrets { server_random: server_random?, secret })
}

impl Secrets {
    /// The master secret of TLS 1.2.
    pub fn master(&self) -> Option<&[u8]> {
        match &self.secret {
            Secret::Master(secret) => Some(secret),
            Secret::Exporter(_) => None,
        }
    }

    /// Fills `out` with bytes derived for a purpose. `false` when they are too many.
    pub fn export(&self, info: &Info, label: &[u8], context: Option<&[u8]>, out: &mut [u8]) -> bool {
        let (hash, mac) = match info.cipher.get() {
            // Those with SHA-384.
            0x1302 | 0xc02c | 0xc030 => (&digest::SHA384, hmac::HMAC_SHA384),
            _ => (&digest::SHA256, hmac::HMAC_SHA256),
        };
        match &self.secret {
            Secret::Master(master) => {
                let mut seed = [label, &info.random, &self.server_random].concat();
                if let Some(context) = context {
                    let Ok(len) = u16::try_from(context.len()) else { return false };
                    seed.extend_from_slice(&len.to_be_bytes());
                    seed.extend_from_slice(context);
                }
                prf(&hmac::Key::new(mac, master), &seed, out);
                true
            }
            Secret::Exporter(secret) => {
                let mut derived = vec![0; hash.output_len()];
                let empty = digest::digest(hash, b"");
                let context = digest::digest(hash, context.unwrap_or_default());
                expand(&hmac::Key::new(mac, secret), label, empty.as_ref(), &mut derived)
                    && expand(&hmac::Key::new(mac, &derived), b"exporter", context.as_ref(), out)
            }
        }
    }
}

/// RFC 5246, section 5.
fn prf(key: &hmac::Key, seed: &[u8], out: &mut [u8]) {
    let mut a = hmac::sign(key, seed);
    for piece in out.chunks_mut(a.as_ref().len()) {
        let block = hmac::sign(key, &[a.as_ref(), seed].concat());
        let len = piece.len();
        piece.copy_from_slice(block.as_ref().get(..len).unwrap_or_default());
        a = hmac::sign(key, a.as_ref());
    }
}

/// `HKDF-Expand-Label`. `false` when label or output are too long.
fn expand(key: &hmac::Key, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
    let (Ok(len), Ok(label_len), Ok(context_len)) =
        (u16::try_from(out.len()), u8::try_from(label.len() + 6), u8::try_from(context.len()))
    else {
        return false;
    };
    let info = [&len.to_be_bytes()[..], &[label_len], b"tls13 ", label, &[context_len], context].concat();
    let mut last: Vec<u8> = Vec::new();
    let size = key.algorithm().digest_algorithm().output_len();
    if out.len() > size * 255 {
        return false;
    }
    for (n, piece) in (1u8..=255).zip(out.chunks_mut(size)) {
        last = hmac::sign(key, &[&*last, &info, &[n]].concat()).as_ref().to_vec();
        let len = piece.len();
        piece.copy_from_slice(last.get(..len).unwrap_or_default());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_of_tls_1_2_gives_the_known_vector() {
        // A published vector for P_SHA256.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|n| u8::from_str_radix(&text[n * 2..n * 2 + 2], 16).unwrap()).collect()
        };
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = [b"test label".to_vec(), hex("a0ba9f936cda311827a6f796ffd5198c")].concat();
        let mut out = [0; 16];
        prf(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &seed, &mut out);
        assert_eq!(out.to_vec(), hex("e3f229ba727be17b8d122620557cd453"));
    }
}
