//! `moonrest.crypto`: what the clients of databases need to prove a password.

use aws_lc_rs::{
    digest,
    hmac::{self, HMAC_SHA256},
    pbkdf2, rand,
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use curve25519_dalek::{EdwardsPoint, Scalar, scalar::clamp_integer};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Nil, Return, Stack};
use std::num::NonZeroU32;

/// More rounds than this are refused: a server that asks for them keeps the worker from everything else.
const MAX_ROUNDS: u32 = 1_000_000;
const MAX_RANDOM: usize = 4096;

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    super::module(
        stack,
        "moonrest.crypto",
        &[
            ("sha256", Native::new(sha256)),
            ("hmac_sha256", Native::new(hmac_sha256)),
            ("pbkdf2_sha256", Native::new(pbkdf2_sha256)),
            ("random_bytes", Native::new(random_bytes)),
            ("rsa_oaep_sha1", Native::new(rsa_oaep_sha1)),
            ("ed25519_mariadb", Native::new(ed25519_mariadb)),
        ],
    )
}

/// `sha256(data)`.
fn sha256(call: &mut Call<'_>) -> LuaResult<Return> {
    let data: &[u8] = call.arg(1)?;
    call.ret(digest::digest(&digest::SHA256, data).as_ref())
}

/// `hmac_sha256(key, data)`.
fn hmac_sha256(call: &mut Call<'_>) -> LuaResult<Return> {
    let (key, data): (&[u8], &[u8]) = call.args()?;
    call.ret(hmac::sign(&hmac::Key::new(HMAC_SHA256, key), data).as_ref())
}

/// `pbkdf2_sha256(password, salt, rounds)`: a key of 32 bytes.
fn pbkdf2_sha256(call: &mut Call<'_>) -> LuaResult<Return> {
    let (password, salt): (&[u8], &[u8]) = (call.arg(1)?, call.arg(2)?);
    let rounds = call.arg::<f64>(3)? as u32;
    let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MAX_ROUNDS);
    let Some(rounds) = rounds else { return call.ret((Nil, "bad number of rounds")) };
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut key);
    call.ret(&key[..])
}

/// `random_bytes(count)`.
fn random_bytes(call: &mut Call<'_>) -> LuaResult<Return> {
    let count = call.arg::<f64>(1)?.max(0.0) as usize;
    let mut bytes = vec![0; count.min(MAX_RANDOM)];
    rand::fill(&mut bytes).map_err(|_| LuaError::new("there is no randomness"))?;
    call.ret(&bytes[..])
}

/// `rsa_oaep_sha1(public key in PEM, data)`: what only the owner of the key can read.
fn rsa_oaep_sha1(call: &mut Call<'_>) -> LuaResult<Return> {
    let (key, data): (&[u8], &[u8]) = call.args()?;
    match encrypt(key, data) {
        Some(encrypted) => call.ret(encrypted),
        None => call.ret((Nil, "bad public key")),
    }
}

fn encrypt(pem: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, body) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = body.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    let key = PublicEncryptingKey::from_der(&STANDARD.decode(body).ok()?).ok()?;
    let key = OaepPublicEncryptingKey::new(key).ok()?;
    let mut out = vec![0; key.ciphertext_size()];
    let len = key.encrypt(&OAEP_SHA1_MGF1SHA1, data, &mut out, None).ok()?.len();
    out.truncate(len);
    Some(out)
}

/// `ed25519_mariadb(password, message)`: a signature as MariaDB's plugin "client_ed25519" makes it.
fn ed25519_mariadb(call: &mut Call<'_>) -> LuaResult<Return> {
    let (password, message): (&[u8], &[u8]) = call.args()?;
    call.ret(&sign(password, message)[..])
}

/// Ed25519 (RFC 8032, 5.1.6), except that the password takes the place of the seed, whatever its length.
fn sign(password: &[u8], message: &[u8]) -> [u8; 64] {
    let secret = sha512(&[password]);
    let (mut scalar, mut prefix) = ([0; 32], [0; 32]);
    scalar.copy_from_slice(secret.first_chunk::<32>().unwrap_or(&[0; 32]));
    prefix.copy_from_slice(secret.last_chunk::<32>().unwrap_or(&[0; 32]));
    let scalar = Scalar::from_bytes_mod_order(clamp_integer(scalar));
    let public = EdwardsPoint::mul_base(&scalar).compress();
    let nonce = Scalar::from_bytes_mod_order_wide(&sha512(&[&prefix, message]));
    let point = EdwardsPoint::mul_base(&nonce).compress();
    let challenge =
        Scalar::from_bytes_mod_order_wide(&sha512(&[point.as_bytes(), public.as_bytes(), message]));
    let mut signature = [0; 64];
    let (first, second) = signature.split_at_mut(32);
    first.copy_from_slice(point.as_bytes());
    second.copy_from_slice((challenge * scalar + nonce).as_bytes());
    signature
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = digest::Context::new(&digest::SHA512);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 64];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_32_bytes_gives_the_signature_of_rfc_8032() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let expect = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                      085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(sign(&seed, &[0x72]).to_vec(), bytes(expect));
    }

    #[test]
    fn what_is_no_key_encrypts_nothing() {
        assert!(encrypt(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", b"x").is_none());
        assert!(encrypt(b"", b"x").is_none());
    }
}
