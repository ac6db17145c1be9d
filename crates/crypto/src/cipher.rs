//! Symmetric ciphers, streaming, in all modes.
use std::ffi::{CString, c_int};

use aws_lc_sys as sys;

use crate::digest;
use crate::error::{Error, Outcome, check, int};

owned!(Context, sys::EVP_CIPHER_CTX, sys::EVP_CIPHER_CTX_free);

/// A cipher and its mode.
#[derive(Clone, Copy)]
pub struct Algorithm(*const sys::EVP_CIPHER);

/// The longest block or tag.
const BLOCK_MAX: usize = 64;

impl Algorithm {
    /// The cipher of this name, as OpenSSL knows it, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        // SAFETY: these take no arguments; ciphers are static. The name ends with NUL.
        let found = unsafe {
            match lower.as_str() {
                "aes-128-cfb1" => sys::EVP_aes_128_cfb1(),
                "aes-192-cfb1" => sys::EVP_aes_192_cfb1(),
                "aes-256-cfb1" => sys::EVP_aes_256_cfb1(),
                "aes-128-cfb8" => sys::EVP_aes_128_cfb8(),
                "aes-192-cfb8" => sys::EVP_aes_192_cfb8(),
                "aes-256-cfb8" => sys::EVP_aes_256_cfb8(),
                "aes-128-cfb128" => sys::EVP_aes_128_cfb128(),
                "aes-192-cfb128" => sys::EVP_aes_192_cfb128(),
                "aes-256-cfb128" => sys::EVP_aes_256_cfb128(),
                "aes-128-ccm" => sys::EVP_aes_128_ccm(),
                "aes-192-ccm" => sys::EVP_aes_192_ccm(),
                "aes-256-ccm" => sys::EVP_aes_256_ccm(),
                "id-aes128-gcm" => sys::EVP_aes_128_gcm(),
                "id-aes192-gcm" => sys::EVP_aes_192_gcm(),
                "id-aes256-gcm" => sys::EVP_aes_256_gcm(),
                "des3" | "des-ede3" => sys::EVP_des_ede3_cbc(),
                "null" => sys::EVP_enc_null(),
                _ => {
                    let name = CString::new(lower).ok()?;
                    sys::EVP_get_cipherbyname(name.as_ptr())
                }
            }
        };
        (!found.is_null()).then_some(Self(found))
    }

    #[inline]
    pub(crate) fn ptr(self) -> *const sys::EVP_CIPHER {
        self.0
    }

    pub fn key_len(self) -> usize {
        // SAFETY: a static object.
        unsafe { sys::EVP_CIPHER_key_length(self.0) as usize }
    }

    pub fn iv_len(self) -> usize {
        // SAFETY: a static object.
        unsafe { sys::EVP_CIPHER_iv_length(self.0) as usize }
    }

    /// 1 for stream ciphers and modes that make one of a cipher.
    pub fn block_len(self) -> usize {
        // SAFETY: a static object.
        unsafe { sys::EVP_CIPHER_block_size(self.0) as usize }
    }

    fn mode(self) -> u32 {
        // SAFETY: a static object.
        unsafe { sys::EVP_CIPHER_mode(self.0) }
    }

    /// Whether it also authenticates.
    pub fn is_aead(self) -> bool {
        // SAFETY: a static object.
        let flags = unsafe { sys::EVP_CIPHER_flags(self.0) };
        flags & sys::EVP_CIPH_FLAG_AEAD_CIPHER as u32 != 0
    }

    /// Key and initialisation vector from a password, as `openssl enc` makes them.
    ///
    /// # Errors
    /// The library's.
    pub fn derive(
        self,
        digest: digest::Algorithm,
        salt: Option<&[u8; 8]>,
        password: &[u8],
        rounds: u32,
    ) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let (mut key, mut iv) = (vec![0; self.key_len()], vec![0; self.iv_len()]);
        let salt = salt.map_or(std::ptr::null(), |salt| salt.as_ptr());
        // SAFETY: the salt has eight bytes; the buffers have the sizes that the cipher states.
        let made = unsafe {
            sys::EVP_BytesToKey(
                self.0,
                digest.ptr(),
                salt,
                password.as_ptr(),
                password.len(),
                rounds,
                key.as_mut_ptr(),
                iv.as_mut_ptr(),
            )
        };
        if made > 0 { Ok((key, iv)) } else { Err(Error::take()) }
    }
}

/// A cipher at work.
pub struct Cipher {
    context: Context,
    algorithm: Algorithm,
    encrypts: bool,
    ready: bool,
}

impl Cipher {
    /// # Errors
    /// Only for want of memory.
    pub fn new(algorithm: Algorithm) -> Outcome<Self> {
        // SAFETY: no arguments.
        let context = Context::own(unsafe { sys::EVP_CIPHER_CTX_new() })?;
        Ok(Self { context, algorithm, encrypts: true, ready: false })
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Begins. Ciphers that authenticate take a vector of any length.
    ///
    /// # Errors
    /// A key or vector of the wrong length.
    pub fn start(&mut self, encrypts: bool, key: &[u8], iv: &[u8], pads: bool) -> Outcome<()> {
        self.ready = false;
        if key.len() != self.algorithm.key_len() {
            return Err(Error::new(format!("invalid key length, expect {}", self.algorithm.key_len())));
        }
        let needed = self.algorithm.iv_len();
        let other_len = self.algorithm.is_aead() && iv.len() != needed;
        if !other_len && iv.len() < needed || iv.is_empty() && needed > 0 {
            return Err(Error::new(format!("invalid iv length, expect {needed}")));
        }
        let (no_engine, null) = (std::ptr::null_mut(), std::ptr::null());
        let direction = c_int::from(encrypts);
        // SAFETY: a live context; key and vector are as long as the cipher was told.
        unsafe {
            let l = self.context.ptr();
            // Without this a cipher used before keeps its tag and padding.
            sys::EVP_CIPHER_CTX_cleanup(l);
            check(sys::EVP_CipherInit_ex(l, self.algorithm.0, no_engine, null, null, direction))?;
            if other_len {
                let len = int(iv.len())?;
                check(sys::EVP_CIPHER_CTX_ctrl(
                    l,
                    sys::EVP_CTRL_AEAD_SET_IVLEN as c_int,
                    len,
                    std::ptr::null_mut(),
                ))?;
            }
            check(sys::EVP_CipherInit_ex(l, null.cast(), no_engine, key.as_ptr(), iv.as_ptr(), direction))?;
            check(sys::EVP_CIPHER_CTX_set_padding(l, c_int::from(pads)))?;
        }
        (self.encrypts, self.ready) = (encrypts, true);
        Ok(())
    }

    fn begun(&self) -> Outcome<()> {
        if self.ready { Ok(()) } else { Err(Error::new("cipher not initialized")) }
    }

    /// Data that is authenticated and not encrypted.
    ///
    /// # Errors
    /// The library's.
    pub fn update_aad(&mut self, aad: &[u8]) -> Outcome<()> {
        self.begun()?;
        if !self.algorithm.is_aead() {
            return Err(Error::new("no cipher that authenticates"));
        }
        let mut written = 0;
        // SAFETY: a live context that has a key; such ciphers write nothing where the output is null.
        check(unsafe {
            sys::EVP_CipherUpdate(
                self.context.ptr(),
                std::ptr::null_mut(),
                &raw mut written,
                aad.as_ptr(),
                int(aad.len())?,
            )
        })
    }

    /// Appends what these bytes become.
    ///
    /// # Errors
    /// The library's.
    pub fn update(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Outcome<()> {
        self.begun()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let (start, len) = (out.len(), int(bytes.len())?);
        out.resize(start + bytes.len() + BLOCK_MAX, 0);
        let mut written = 0;
        // SAFETY: a live context that has a key; room for the input and a block more, which is the most it writes.
        let answer = unsafe {
            let place = out.as_mut_ptr().add(start);
            sys::EVP_CipherUpdate(self.context.ptr(), place, &raw mut written, bytes.as_ptr(), len)
        };
        out.truncate(start + usize::try_from(written).unwrap_or(0));
        check(answer)
    }

    /// Appends the end. Decryption fails here when padding or tag are wrong.
    ///
    /// # Errors
    /// The library's.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Outcome<()> {
        self.begun()?;
        let start = out.len();
        out.resize(start + BLOCK_MAX, 0);
        let mut written = 0;
        // SAFETY: a live context that has a key; room for a block.
        let answer = unsafe {
            let place = out.as_mut_ptr().add(start);
            sys::EVP_CipherFinal_ex(self.context.ptr(), place, &raw mut written)
        };
        out.truncate(start + usize::try_from(written).unwrap_or(0));
        check(answer)
    }

    /// The tag of what was encrypted.
    ///
    /// # Errors
    /// A cipher that has none.
    pub fn tag(&mut self, size: usize) -> Outcome<Vec<u8>> {
        self.begun()?;
        if size == 0 || size > 16 || !self.algorithm.is_aead() || !self.encrypts {
            return Err(Error::new("no such tag"));
        }
        let mut tag = vec![0; BLOCK_MAX];
        // SAFETY: a live context; room for any tag.
        check(unsafe {
            let command = sys::EVP_CTRL_AEAD_GET_TAG as c_int;
            sys::EVP_CIPHER_CTX_ctrl(self.context.ptr(), command, int(size)?, tag.as_mut_ptr().cast())
        })?;
        tag.truncate(size);
        Ok(tag)
    }

    /// The tag that decryption is to find.
    ///
    /// # Errors
    /// A cipher that has none, or a tag of the wrong length.
    pub fn set_tag(&mut self, tag: &[u8]) -> Outcome<()> {
        self.begun()?;
        if tag.is_empty() || tag.len() > 16 || !self.algorithm.is_aead() || self.encrypts {
            return Err(Error::new("invalid tag"));
        }
        let mut tag = tag.to_vec();
        // SAFETY: a live context; the bytes are copied.
        check(unsafe {
            let command = sys::EVP_CTRL_AEAD_SET_TAG as c_int;
            sys::EVP_CIPHER_CTX_ctrl(self.context.ptr(), command, int(tag.len())?, tag.as_mut_ptr().cast())
        })
    }

    /// Whether it is a mode without a vector: electronic code book.
    pub fn is_ecb(&self) -> bool {
        self.algorithm.mode() == sys::EVP_CIPH_ECB_MODE as u32
    }
}

/// Wraps a key with another, or takes it out again: RFC 3394.
///
/// # Errors
/// Wrong lengths; a key that was not wrapped with this one.
pub fn aes_wrap(wraps: bool, key: &[u8], iv: &[u8; 8], text: &[u8]) -> Outcome<Vec<u8>> {
    let least = if wraps { 16 } else { 24 };
    if !matches!(key.len(), 16 | 24 | 32) || !text.len().is_multiple_of(8) || text.len() < least {
        return Err(Error::new("invalid length"));
    }
    let mut schedule = std::mem::MaybeUninit::<sys::AES_KEY>::uninit();
    let mut out = vec![0; text.len() + 8];
    let bits = (key.len() * 8) as u32;
    // SAFETY: the schedule is made from a key of the length stated; output has the room that is needed.
    let written = unsafe {
        let (at, to, data) = (schedule.as_mut_ptr(), out.as_mut_ptr(), text.as_ptr());
        if wraps {
            sys::AES_set_encrypt_key(key.as_ptr(), bits, at);
            sys::AES_wrap_key(at, iv.as_ptr(), to, data, text.len())
        } else {
            sys::AES_set_decrypt_key(key.as_ptr(), bits, at);
            sys::AES_unwrap_key(at, iv.as_ptr(), to, data, text.len())
        }
    };
    let Ok(written) = usize::try_from(written) else { return Err(Error::take()) };
    out.truncate(written);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_keys_come_out_again() {
        let (key, iv) = ([1; 16], [0xa6; 8]);
        let wrapped = aes_wrap(true, &key, &iv, &[7; 32]).unwrap();
        assert_eq!(wrapped.len(), 40);
        assert_eq!(aes_wrap(false, &key, &iv, &wrapped).unwrap(), [7; 32]);
        assert!(aes_wrap(false, &[2; 16], &iv, &wrapped).is_err());
        assert!(aes_wrap(true, &key, &iv, b"odd").is_err());
    }

    fn round_trip(name: &str, aad: Option<&[u8]>, text: &[u8]) {
        let algorithm = Algorithm::by_name(name).unwrap_or_else(|| panic!("{name}"));
        let (key, iv) = (vec![7; algorithm.key_len()], vec![9; algorithm.iv_len()]);
        let mut cipher = Cipher::new(algorithm).unwrap();
        cipher.start(true, &key, &iv, true).unwrap();
        if let Some(aad) = aad {
            cipher.update_aad(aad).unwrap();
        }
        let mut secret = Vec::new();
        cipher.update(text, &mut secret).unwrap();
        cipher.finish(&mut secret).unwrap();
        let tag = aad.map(|_| cipher.tag(16).unwrap());
        cipher.start(false, &key, &iv, true).unwrap();
        if let (Some(aad), Some(tag)) = (aad, &tag) {
            cipher.set_tag(tag).unwrap();
            cipher.update_aad(aad).unwrap();
        }
        let mut plain = Vec::new();
        cipher.update(&secret, &mut plain).unwrap();
        cipher.finish(&mut plain).unwrap();
        assert_eq!(plain, text, "{name}");
    }

    #[test]
    fn what_is_encrypted_is_decrypted() {
        for size in [128, 192, 256] {
            for mode in ["ecb", "cbc", "cfb", "cfb1", "cfb8", "cfb128", "ofb", "ctr"] {
                round_trip(&format!("aes-{size}-{mode}"), None, b"seventeen  bytes!");
            }
            round_trip(&format!("aes-{size}-gcm"), Some(b"header"), b"hello");
        }
        round_trip("chacha20-poly1305", Some(b"header"), b"hello");
        round_trip("des-ede3-cbc", None, b"hello");
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut cipher = Cipher::new(Algorithm::by_name("AES-128-CBC").unwrap()).unwrap();
        assert!(cipher.update(b"x", &mut Vec::new()).is_err());
        assert!(cipher.start(true, b"short", &[0; 16], true).is_err());
        assert!(cipher.start(true, &[0; 16], b"short", true).is_err());
        assert!(Algorithm::by_name("aes-128-xyz").is_none());
    }
}
