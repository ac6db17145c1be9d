//! `set_encrypt_session`, `set_decrypt_session`: values that clients keep without being able to read or change them.
//! <https://github.com/openresty/encrypted-session-nginx-module>
//!
//! ```text
//! MD5(data) AES-256-CBC(data)       data = value, expiry as 8 bytes (0: never)
//! ```

use crate::ndk::{self, PLACES};
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use md5::{Digest as _, Md5};
use moonrest_http::{module::Set, prelude::*};
use moonrest_sys::time;

/// The module.
pub struct EncryptedSession;
type D = Directive<EncryptedSession>;

impl HttpModule for EncryptedSession {
    const NAME: &'static str = "ngx_http_encrypted_session_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("encrypted_session_key", PLACES, Arity::exactly(1), Set::Loc(set_key)),
        D::new("encrypted_session_iv", PLACES, Arity::exactly(1), Set::Loc(set_iv)),
        D::new(
            "encrypted_session_expires",
            PLACES,
            Arity::exactly(1),
            Set::Sec(|loc: &mut Loc| &mut loc.expires),
        ),
        D::new("set_encrypt_session", PLACES, Arity::between(1, 2), Set::Accepted(set)),
        D::new("set_decrypt_session", PLACES, Arity::between(1, 2), Set::Accepted(set)),
    ];
    const VALUE_FUNCTIONS: &'static [ValueFunction] = &[
        ValueFunction { name: "set_encrypt_session", call: encrypt_for },
        ValueFunction { name: "set_decrypt_session", call: decrypt_for },
    ];
    type Main = ();
    type Loc = Loc;
}

type Key = [u8; 32];
type Iv = [u8; 16];

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    key: Option<Key>,
    iv: Option<Iv>,
    expires: Option<u64>,
}
inherit!(Loc { key, iv, expires });

fn set_key(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.key.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let key = args.bytes(0)?.try_into();
    loc.key =
        Some(key.map_err(|_| Fault::message("encrypted_session_key: the key must be of 32 bytes long"))?);
    Ok(())
}

fn set_iv(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.iv.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let text = args.bytes(0)?;
    let mut iv = Iv::default();
    let Some(start) = iv.get_mut(..text.len()) else {
        return Err(Fault::message("encrypted_session_iv: the init vector must NOT be longer than 16 bytes"));
    };
    start.copy_from_slice(text);
    loc.iv = Some(iv);
    Ok(())
}

fn set(args: &Args<'_>) -> ConfResult {
    let call = if args.name() == "set_encrypt_session" { encrypt_for } else { decrypt_for };
    let value = args.template(args.len() - 1)?;
    let function: ndk::Function =
        Box::new(move |r, values, out| call(Some(r), values.first().map_or(&[], |value| value), out));
    ndk::assign(args, args.variable_name(0)?, vec![value], function)
}

/// The settings of the request's location, if there is a key; a complaint otherwise.
fn settings(r: &Request) -> Option<(Key, Iv, u64)> {
    let loc = r.loc().conf::<Loc>();
    let Some(key) = loc.and_then(|loc| loc.key) else {
        moonrest_http::error!(
            r,
            "encrypted_session: a key is required to be defined by the encrypted_session_key directive"
        );
        return None;
    };
    let iv = loc.and_then(|loc| loc.iv).unwrap_or(*b"deadbeefdeadbeef");
    Some((key, iv, loc.and_then(|loc| loc.expires).unwrap_or(86_400)))
}

fn encrypt_for(r: Option<&Request>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((key, iv, expires)) = r.and_then(settings) else { return false };
    if let Some(r) = r.filter(|r| r.log().enabled(Level::Debug)) {
        r.log_at(Level::Debug, format_args!("encrypted_session: expires={expires}"));
    }
    let until = if expires == 0 { 0 } else { now().saturating_add(expires) };
    encrypt(&key, &iv, value, until, out);
    true
}

/// What cannot be decrypted, or has expired, is empty.
fn decrypt_for(r: Option<&Request>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((key, iv, _)) = r.and_then(settings) else { return false };
    match decrypt(&key, &iv, value, now()) {
        Ok(value) => out.extend(value),
        Err(reason) => {
            if let Some(r) = r.filter(|r| r.log().enabled(Level::Debug)) {
                r.log_at(Level::Debug, format_args!("{reason}"));
            }
        }
    }
    true
}

fn now() -> u64 {
    u64::try_from(time::wall_coarse().secs).unwrap_or(0)
}

fn encrypt(key: &Key, iv: &Iv, value: &[u8], until: u64, out: &mut Vec<u8>) {
    let data = [value, &until.to_be_bytes()].concat();
    out.extend_from_slice(&Md5::digest(&data));
    let cipher = cbc::Encryptor::<aes::Aes256>::new(&(*key).into(), &(*iv).into());
    let mut padded = data.clone();
    padded.resize(data.len() / 16 * 16 + 16, 0);
    // There is always room for the padding.
    out.extend_from_slice(cipher.encrypt_padded::<Pkcs7>(&mut padded, data.len()).unwrap_or_default());
}

fn decrypt(key: &Key, iv: &Iv, text: &[u8], now: u64) -> Result<Vec<u8>, String> {
    let Some((digest, text)) = text.split_first_chunk::<16>() else {
        return Err("failed to decrypt session: too short".to_owned());
    };
    let cipher = cbc::Decryptor::<aes::Aes256>::new(&(*key).into(), &(*iv).into());
    let mut text = text.to_vec();
    let Ok(data) = cipher.decrypt_padded::<Pkcs7>(&mut text) else {
        return Err("failed to decrypt session: bad AES-256 digest".to_owned());
    };
    if Md5::digest(data)[..] != digest[..] {
        return Err("failed to decrypt session: MD5 checksum mismatch".to_owned());
    }
    let Some((value, until)) = data.split_last_chunk::<8>() else {
        return Err("failed to decrypt session: too short".to_owned());
    };
    let until = u64::from_be_bytes(*until);
    if until != 0 && until <= now {
        return Err(format!("encrypted_session: session expired: {until} <= {now}"));
    }
    Ok(value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = *b"abcdefghijklmnopqrstuvwxyz123456";
    const IV: Iv = *b"12345678\0\0\0\0\0\0\0\0";

    fn sealed(value: &[u8], until: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encrypt(&KEY, &IV, value, until, &mut out);
        out
    }

    #[test]
    fn values_come_back_until_they_expire() {
        for value in [&b""[..], b"a", b"exactly 24 bytes of text"] {
            let text = sealed(value, 100);
            assert_eq!(text.len() % 16, 0);
            assert_eq!(decrypt(&KEY, &IV, &text, 99).as_deref(), Ok(value));
            assert!(decrypt(&KEY, &IV, &text, 100).is_err());
            assert_eq!(decrypt(&KEY, &IV, &sealed(value, 0), u64::MAX).as_deref(), Ok(value));
        }
    }

    #[test]
    fn changed_texts_are_refused() {
        let text = sealed(b"a value of some length", 0);
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(decrypt(&KEY, &IV, &changed, 0).is_err(), "{at}");
            assert!(decrypt(&KEY, &IV, &text[..at], 0).is_err(), "{at}");
        }
        assert!(decrypt(&[0; 32], &IV, &text, 0).is_err());
    }
}
