//! Key derivation functions.
use aws_lc_sys as sys;

use crate::digest::Algorithm;
use crate::error::{Error, Outcome, check};

/// More is a mistake, or an attack.
const OUTPUT_MAX: usize = 1 << 24;

fn buffer(size: usize) -> Outcome<Vec<u8>> {
    if size > OUTPUT_MAX { Err(Error::new("the key is too long")) } else { Ok(vec![0; size]) }
}

/// RFC 8018.
///
/// # Errors
/// The library's.
pub fn pbkdf2(digest: Algorithm, password: &[u8], salt: &[u8], rounds: u32, size: usize) -> Outcome<Vec<u8>> {
    let mut out = buffer(size)?;
    // SAFETY: pointers and lengths of slices.
    check(unsafe {
        sys::PKCS5_PBKDF2_HMAC(
            password.as_ptr().cast(),
            password.len(),
            salt.as_ptr(),
            salt.len(),
            rounds,
            digest.ptr(),
            size,
            out.as_mut_ptr(),
        )
    })?;
    Ok(out)
}

/// Which steps of RFC 5869 are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HkdfMode {
    ExtractAndExpand,
    Extract,
    Expand,
}

/// RFC 5869. `size` is not looked at where only a key is extracted.
///
/// # Errors
/// The library's.
pub fn hkdf(
    digest: Algorithm,
    mode: HkdfMode,
    key: &[u8],
    salt: &[u8],
    info: &[u8],
    size: usize,
) -> Outcome<Vec<u8>> {
    let mut out =
        if mode == HkdfMode::Extract { vec![0; sys::EVP_MAX_MD_SIZE as usize] } else { buffer(size)? };
    let (to, key_data, key_len) = (out.as_mut_ptr(), key.as_ptr(), key.len());
    let (salt, salt_len, info, info_len) = (salt.as_ptr(), salt.len(), info.as_ptr(), info.len());
    let mut extracted = 0;
    // SAFETY: pointers and lengths of slices; an extracted key is a digest, for which there is room.
    check(unsafe {
        match mode {
            HkdfMode::ExtractAndExpand => {
                sys::HKDF(to, size, digest.ptr(), key_data, key_len, salt, salt_len, info, info_len)
            }
            HkdfMode::Extract => {
                sys::HKDF_extract(to, &raw mut extracted, digest.ptr(), key_data, key_len, salt, salt_len)
            }
            HkdfMode::Expand => sys::HKDF_expand(to, size, digest.ptr(), key_data, key_len, info, info_len),
        }
    })?;
    if mode == HkdfMode::Extract {
        out.truncate(extracted);
    }
    Ok(out)
}

/// RFC 7914.
///
/// # Errors
/// Parameters out of bounds, or more memory than `max_memory`.
pub fn scrypt(
    password: &[u8],
    salt: &[u8],
    costs: (u64, u64, u64),
    max_memory: usize,
    size: usize,
) -> Outcome<Vec<u8>> {
    let mut out = buffer(size)?;
    let (n, r, p) = costs;
    // SAFETY: pointers and lengths of slices.
    check(unsafe {
        sys::EVP_PBE_scrypt(
            password.as_ptr().cast(),
            password.len(),
            salt.as_ptr(),
            salt.len(),
            n,
            r,
            p,
            max_memory,
            out.as_mut_ptr(),
            size,
        )
    })?;
    Ok(out)
}

/// The pseudo-random function of TLS 1.0 to 1.2; the label is part of the seed.
///
/// # Errors
/// The library's.
pub fn tls1_prf(digest: Algorithm, secret: &[u8], seed: &[u8], size: usize) -> Outcome<Vec<u8>> {
    let mut out = buffer(size)?;
    // SAFETY: pointers and lengths of slices; two of the three parts of the seed are empty.
    check(unsafe {
        sys::CRYPTO_tls1_prf(
            digest.ptr(),
            out.as_mut_ptr(),
            size,
            secret.as_ptr(),
            secret.len(),
            seed.as_ptr().cast(),
            seed.len(),
            std::ptr::null(),
            0,
            std::ptr::null(),
            0,
        )
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_are_the_known_ones() {
        let (sha1, sha256) = (Algorithm::by_name("sha1").unwrap(), Algorithm::by_name("sha256").unwrap());
        let key = pbkdf2(sha1, b"password", b"salt", 2, 20).unwrap();
        assert_eq!(hex(&key), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
        let (salt, info): (Vec<u8>, Vec<u8>) = ((0..=12).collect(), (0xf0..=0xf9).collect());
        let key = hkdf(sha256, HkdfMode::ExtractAndExpand, &[0x0b; 22], &salt, &info, 42).unwrap();
        assert!(hex(&key).starts_with("3cb25f25faacd57a90434f64d0362f2a"));
        let prk = hkdf(sha256, HkdfMode::Extract, &[0x0b; 22], &salt, b"", 0).unwrap();
        assert_eq!(hkdf(sha256, HkdfMode::Expand, &prk, b"", &info, 42).unwrap(), key);
        let key = scrypt(b"password", b"NaCl", (1024, 8, 16), 64 << 20, 64).unwrap();
        assert!(hex(&key).starts_with("fdbabe1c9d3472007856e7190d01e9fe"));
    }
}
