//! What MySQL's methods of authentication make of a password.

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest},
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use base64::{Engine as _, engine::general_purpose};

/// The proof for a method; `None` for a method that is not spoken here.
pub(super) fn proof(method: &[u8], password: &[u8], scramble: &[u8]) -> Option<Vec<u8>> {
    let known = matches!(method, NATIVE | CACHING_SHA2);
    if password.is_empty() && known {
        return Some(Vec::new());
    }
    match method {
        NATIVE => {
            let hash = |text: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, text);
            let once = hash(password);
            let twice = hash(once.as_ref());
            let mixed = hash(&[scramble, twice.as_ref()].concat());
            Some(mix(once.as_ref(), mixed.as_ref()))
        }
        CACHING_SHA2 => {
            let hash = |text: &[u8]| digest(&SHA256, text);
            let once = hash(password);
            let twice = hash(once.as_ref());
            let mixed = hash(&[twice.as_ref(), scramble].concat());
            Some(mix(once.as_ref(), mixed.as_ref()))
        }
        _ => None,
    }
}

pub(super) const NATIVE: &[u8] = b"mysql_native_password";
pub(super) const CACHING_SHA2: &[u8] = b"caching_sha2_password";

fn mix(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// The password for a server that does not know it yet, readable only with the server's key. `None` for what is no key.
pub(super) fn seal(password: &[u8], scramble: &[u8], pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = general_purpose::STANDARD.decode(body.trim_end_matches('\0')).ok()?;
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).ok()?).ok()?;
    let plain: Vec<u8> =
        password.iter().chain([&0]).zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut sealed = vec![0; key.ciphertext_size()];
    let len = key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut sealed, None).ok()?.len();
    sealed.truncate(len);
    Some(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_have_the_length_of_their_digest() {
        let scramble = b"abcdefghijklmnopqrst";
        assert_eq!(proof(NATIVE, b"", scramble), Some(Vec::new()));
        assert_eq!(proof(NATIVE, b"secret", scramble).map(|proof| proof.len()), Some(20));
        assert_eq!(proof(CACHING_SHA2, b"secret", scramble).map(|proof| proof.len()), Some(32));
        assert_eq!(proof(b"mysql_clear_password", b"secret", scramble), None);
    }

    #[test]
    fn a_server_can_check_a_native_proof() {
        let hash = |text: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, text).as_ref().to_vec();
        let scramble = b"12345678901234567890";
        let stored = hash(&hash(b"secret"));
        let proof = proof(NATIVE, b"secret", scramble).unwrap();
        let once = mix(&proof, &hash(&[&scramble[..], &stored].concat()));
        assert_eq!(hash(&once), stored);
    }

    #[test]
    fn what_is_no_key_seals_nothing() {
        assert_eq!(
            seal(b"secret", b"abc", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
            None
        );
        assert_eq!(seal(b"secret", b"abc", b"\xff"), None);
    }
}
