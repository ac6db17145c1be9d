//! Private keys in all their wrappings: PKCS#8, PKCS#1, SEC 1, and both ways of encrypting them.

use super::{certificate::Unusable, pem};
use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

const CALL: &str = "PEM_read_bio_PrivateKey() failed";
/// OpenSSL's error for what it can make nothing of.
pub(super) const UNSUPPORTED: &str = "error:1E08010C:DECODER routines::unsupported";
/// OpenSSL's error for a wrong password.
const BAD_DECRYPT: &str = "error:1C800064:Provider routines::bad decrypt";
/// OpenSSL's error when there is no password to try.
const NO_PASSWORD: &str = "error:1400006B:UI routines::processing error:while reading strings";

/// The first key in a text.
pub(super) fn read(text: &[u8], passwords: &[Vec<u8>]) -> Result<PrivateKeyDer<'static>, Unusable> {
    let blocks = pem::blocks(text);
    let Some(block) = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")) else {
        return Err(Unusable::new(CALL, UNSUPPORTED));
    };
    let Some(der) = &block.der else { return Err(Unusable::new(CALL, UNSUPPORTED)) };
    let encrypted = block.label == "ENCRYPTED PRIVATE KEY";
    let older = block.field("Proc-Type").is_some_and(|kind| kind.ends_with("ENCRYPTED"));
    if !encrypted && !older {
        return wrap(&block.label, der.clone());
    }
    if passwords.is_empty() {
        return Err(Unusable::new(CALL, NO_PASSWORD));
    }
    for password in passwords {
        let opened = if encrypted {
            open(der, password).map(|der| wrap("PRIVATE KEY", der))
        } else {
            let info = block.field("DEK-Info").unwrap_or_default();
            open_older(der, info, password).map(|der| wrap(&block.label, der))
        };
        // A wrong password may decrypt to nonsense without notice.
        if let Some(Ok(key)) = opened {
            return Ok(key);
        }
    }
    Err(Unusable::new(CALL, BAD_DECRYPT))
}

/// A key encoded in one of the three ways.
pub(super) fn from_der(der: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    labels.into_iter().find_map(|label| wrap(label, der.to_vec()).ok())
}

fn wrap(label: &str, der: Vec<u8>) -> Result<PrivateKeyDer<'static>, Unusable> {
    let key = match label {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
        _ => return Err(Unusable::new(CALL, UNSUPPORTED)),
    };
    match rustls::crypto::aws_lc_rs::sign::any_supported_type(&key) {
        Ok(_) => Ok(key),
        Err(_) => Err(Unusable::new(CALL, UNSUPPORTED)),
    }
}

/// PKCS#8 with PBES2, or one of the older schemes.
fn open(der: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).ok()?;
    info.decrypt(password).ok().map(|document| document.as_bytes().to_vec())
}

/// The older form: the cipher and the salt stand in a field, and MD5 makes the key of the password.
fn open_older(der: &[u8], info: &str, password: &[u8]) -> Option<Vec<u8>> {
    let (cipher, iv) = info.split_once(',')?;
    let iv = hex(iv.trim())?;
    let salt = iv.get(..8)?;
    let mut data = der.to_vec();
    macro_rules! decrypt {
        ($cipher:ty, $len:literal) => {{
            let key = stretch(password, salt, $len);
            let decryptor = cbc::Decryptor::<$cipher>::new_from_slices(&key, &iv).ok()?;
            decryptor.decrypt_padded::<Pkcs7>(&mut data).ok()?.to_vec()
        }};
    }
    Some(match cipher.trim() {
        "AES-128-CBC" => decrypt!(aes::Aes128, 16),
        "AES-192-CBC" => decrypt!(aes::Aes192, 24),
        "AES-256-CBC" => decrypt!(aes::Aes256, 32),
        "DES-EDE3-CBC" => decrypt!(des::TdesEde3, 24),
        _ => return None,
    })
}

/// OpenSSL's `EVP_BytesToKey` with one round of MD5.
fn stretch(password: &[u8], salt: &[u8], len: usize) -> Vec<u8> {
    let mut key: Vec<u8> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < len {
        let mut digest = Md5::new();
        digest.update(&last);
        digest.update(password);
        digest.update(salt);
        last = digest.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(len);
    key
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
