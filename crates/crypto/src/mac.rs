//! Message authentication codes: HMAC and CMAC.
use std::ffi::c_uint;

use aws_lc_sys as sys;

use crate::cipher;
use crate::digest;
use crate::error::{Error, Outcome, check};

owned!(HmacContext, sys::HMAC_CTX, sys::HMAC_CTX_free);
owned!(CmacContext, sys::CMAC_CTX, sys::CMAC_CTX_free);

/// A code being made.
pub enum Mac {
    Hmac(HmacContext, digest::Algorithm),
    Cmac(CmacContext),
}

impl Mac {
    /// RFC 2104.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn hmac(algorithm: digest::Algorithm, key: &[u8]) -> Outcome<Self> {
        // SAFETY: a live context; pointer and length of a slice, which is copied.
        unsafe {
            let context = HmacContext::own(sys::HMAC_CTX_new())?;
            let key_data = key.as_ptr().cast();
            check(sys::HMAC_Init_ex(
                context.ptr(),
                key_data,
                key.len(),
                algorithm.ptr(),
                std::ptr::null_mut(),
            ))?;
            Ok(Self::Hmac(context, algorithm))
        }
    }

    /// RFC 4493, with a cipher in CBC mode.
    ///
    /// # Errors
    /// A key of the wrong length, a cipher without blocks of 16 bytes.
    pub fn cmac(cipher: cipher::Algorithm, key: &[u8]) -> Outcome<Self> {
        if key.len() != cipher.key_len() {
            return Err(Error::new(format!("invalid key length, expect {}", cipher.key_len())));
        }
        // SAFETY: a live context; pointer and length of a slice, which is copied.
        unsafe {
            let context = CmacContext::own(sys::CMAC_CTX_new())?;
            let key_data = key.as_ptr().cast();
            check(sys::CMAC_Init(context.ptr(), key_data, key.len(), cipher.ptr(), std::ptr::null_mut()))?;
            Ok(Self::Cmac(context))
        }
    }

    /// Takes in more bytes.
    ///
    /// # Errors
    /// The library's.
    pub fn update(&mut self, bytes: &[u8]) -> Outcome<()> {
        // SAFETY: a live context; pointer and length of a slice.
        check(unsafe {
            match self {
                Self::Hmac(context, _) => sys::HMAC_Update(context.ptr(), bytes.as_ptr(), bytes.len()),
                Self::Cmac(context) => sys::CMAC_Update(context.ptr(), bytes.as_ptr(), bytes.len()),
            }
        })
    }

    /// The code of all that was taken in; begins anew with the same key.
    ///
    /// # Errors
    /// The library's.
    pub fn finish(&mut self) -> Outcome<Vec<u8>> {
        let mut out = vec![0; sys::EVP_MAX_MD_SIZE as usize];
        let size = match self {
            Self::Hmac(context, _) => {
                let mut size: c_uint = 0;
                // SAFETY: a live context; room for any digest.
                check(unsafe { sys::HMAC_Final(context.ptr(), out.as_mut_ptr(), &raw mut size) })?;
                size as usize
            }
            Self::Cmac(context) => {
                let mut size = 0;
                // SAFETY: a live context; room for any block.
                check(unsafe { sys::CMAC_Final(context.ptr(), out.as_mut_ptr(), &raw mut size) })?;
                size
            }
        };
        out.truncate(size);
        self.reset()?;
        Ok(out)
    }

    /// Begins anew with the same key.
    ///
    /// # Errors
    /// The library's.
    pub fn reset(&mut self) -> Outcome<()> {
        // SAFETY: a live context that has its key.
        check(unsafe {
            match self {
                Self::Hmac(context, algorithm) => sys::HMAC_Init_ex(
                    context.ptr(),
                    std::ptr::null(),
                    0,
                    algorithm.ptr(),
                    std::ptr::null_mut(),
                ),
                Self::Cmac(context) => sys::CMAC_Reset(context.ptr()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn codes_are_the_known_ones() {
        let md5 = digest::Algorithm::by_name("md5").unwrap();
        let mut mac = Mac::hmac(md5, b"Jefe").unwrap();
        for _ in 0..2 {
            mac.update(b"what do ya want for nothing?").unwrap();
            assert_eq!(hex(&mac.finish().unwrap()), "750c783e6ab0b503eaa86e310a5db738");
        }
        let aes = cipher::Algorithm::by_name("aes-128-cbc").unwrap();
        let key =
            [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
        let mut mac = Mac::cmac(aes, &key).unwrap();
        assert_eq!(hex(&mac.finish().unwrap()), "bb1d6929e95937287fa37d129b756746");
        assert!(Mac::cmac(aes, b"short").is_err());
    }
}
