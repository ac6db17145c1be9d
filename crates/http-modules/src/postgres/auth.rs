//! What PostgreSQL's methods of authentication make of a password: MD5, and SCRAM-SHA-256 (RFC 5802, RFC 7677).

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac, pbkdf2,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};
use std::num::NonZeroU32;

/// The answer to a request for an MD5 digest.
pub(super) fn md5(user: &[u8], password: &[u8], salt: [u8; 4]) -> Vec<u8> {
    let hex = |parts: &[&[u8]]| -> String {
        Md5::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("md5{}", hex(&[hex(&[password, user]).as_bytes(), &salt])).into_bytes()
}

/// One login by SCRAM.
pub(super) struct Scram {
    nonce: String,
    first: String,
    /// What the server must prove to know.
    signature: Vec<u8>,
}

/// A server may ask for work, but not for an afternoon's.
const MAX_ROUNDS: u32 = 1_000_000;

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

impl Scram {
    pub(super) const METHOD: &str = "SCRAM-SHA-256";

    /// Begins with these random bytes.
    pub(super) fn new(random: [u8; 18]) -> Self {
        let nonce = STANDARD.encode(random);
        Self { first: format!("n=,r={nonce}"), nonce, signature: Vec::new() }
    }

    /// The client's first message.
    pub(super) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first).into_bytes()
    }

    /// The client's second message, which answers the server's first. `None` for one that makes no sense.
    pub(super) fn second(&mut self, password: &[u8], server: &[u8]) -> Option<Vec<u8>> {
        let server = std::str::from_utf8(server).ok()?;
        let mut fields = server.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
        let rounds = fields.next()?.strip_prefix("i=")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return None;
        }
        let digits = rounds.bytes().all(|byte| byte.is_ascii_digit());
        let rounds = rounds.parse::<u32>().ok().filter(|rounds| digits && *rounds <= MAX_ROUNDS)?;
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(rounds)?, &salt, password, &mut salted);
        let without_proof = format!("c=biws,r={nonce}");
        let text = format!("{},{server},{without_proof}", self.first);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest(&SHA256, &client_key);
        let client_signature = sign(stored_key.as_ref(), text.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&client_signature).map(|(a, b)| a ^ b).collect();
        self.signature = sign(&sign(&salted, b"Server Key"), text.as_bytes());
        Some(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }

    /// Whether the server's last message shows that it knows the password.
    pub(super) fn check(&self, server: &[u8]) -> bool {
        let Some(text) = server.strip_prefix(b"v=") else { return false };
        let text = text.split(|byte| *byte == b',').next().unwrap_or_default();
        !self.signature.is_empty() && STANDARD.decode(text).is_ok_and(|given| given == self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_hides_the_password() {
        let answer = md5(b"bob", b"secret", *b"abcd");
        assert_eq!(answer.len(), 35);
        assert!(answer.starts_with(b"md5"));
    }

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        // RFC 7677, section 3; PostgreSQL leaves the user's name empty.
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let mut scram = Scram { first: format!("n=user,r={nonce}"), nonce, signature: Vec::new() };
        let server =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let second = scram.second(b"pencil", server).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&second),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.check(b"v=AAAA") && !scram.check(b"e=other-error"));
    }

    #[test]
    fn servers_cannot_choose_the_nonce_or_the_rounds() {
        let mut scram = Scram::new([7; 18]);
        let ours = scram.nonce.clone();
        for wrong in [
            "r=other,s=AAAA,i=4096".to_owned(),
            format!("r={ours},s=AAAA,i=4096"),
            format!("r={ours}x,s=AAAA,i=0"),
            format!("r={ours}x,s=AAAA,i=99999999"),
            format!("r={ours}x,s=AAAA,i=+1"),
            format!("r={ours}x,s=!,i=1"),
            "e=no".to_owned(),
        ] {
            assert_eq!(scram.second(b"x", wrong.as_bytes()), None, "{wrong}");
        }
        assert!(!scram.check(b"v="));
    }
}
