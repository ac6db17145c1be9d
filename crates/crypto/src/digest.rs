//! Digests.
use std::ffi::{CString, c_uint};

use aws_lc_sys as sys;

use crate::error::{self, Outcome, check};

owned!(Context, sys::EVP_MD_CTX, sys::EVP_MD_CTX_free);

/// A digest algorithm.
#[derive(Clone, Copy)]
pub struct Algorithm(*const sys::EVP_MD);

impl Algorithm {
    /// The algorithm of this name, as OpenSSL knows it, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let alias = match lower.as_str() {
            "rmd160" | "ripemd" | "ripemd-160" => "ripemd160",
            "sha-1" | "ssl3-sha1" => "sha1",
            "sha-224" | "sha2-224" => "sha224",
            "sha-256" | "sha2-256" => "sha256",
            "sha-384" | "sha2-384" => "sha384",
            "sha-512" | "sha2-512" => "sha512",
            "sha2-512/256" | "sha-512/256" => "sha512-256",
            "ssl3-md5" => "md5",
            _ => name,
        };
        let upper = name.to_ascii_uppercase();
        [alias, lower.as_str(), upper.as_str()].into_iter().find_map(|name| {
            let name = CString::new(name).ok()?;
            // SAFETY: a string that ends with NUL; algorithms are static.
            let found = unsafe { sys::EVP_get_digestbyname(name.as_ptr()) };
            (!found.is_null()).then_some(Self(found))
        })
    }

    #[inline]
    pub(crate) fn ptr(self) -> *const sys::EVP_MD {
        self.0
    }

    pub(crate) fn from_ptr(pointer: *const sys::EVP_MD) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer))
    }

    /// How many bytes a digest has.
    pub fn size(self) -> usize {
        // SAFETY: a static object.
        unsafe { sys::EVP_MD_size(self.0) }
    }

    /// OpenSSL's number of the algorithm.
    pub fn nid(self) -> i32 {
        // SAFETY: a static object.
        unsafe { sys::EVP_MD_type(self.0) }
    }
}

/// A digest being made.
pub struct Digest {
    context: Context,
    algorithm: Algorithm,
}

impl Digest {
    /// # Errors
    /// Only for want of memory.
    pub fn new(algorithm: Algorithm) -> Outcome<Self> {
        // SAFETY: no arguments.
        let context = Context::own(unsafe { sys::EVP_MD_CTX_new() })?;
        let mut digest = Self { context, algorithm };
        digest.reset()?;
        Ok(digest)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Begins anew.
    ///
    /// # Errors
    /// The library's.
    pub fn reset(&mut self) -> Outcome<()> {
        // SAFETY: a live context, a static algorithm.
        check(unsafe { sys::EVP_DigestInit_ex(self.context.ptr(), self.algorithm.0, std::ptr::null_mut()) })
    }

    /// Takes in more bytes.
    ///
    /// # Errors
    /// The library's.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) -> Outcome<()> {
        // SAFETY: a live context; pointer and length of a slice.
        check(unsafe { sys::EVP_DigestUpdate(self.context.ptr(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// The digest of all that was taken in. The next byte begins a new one.
    ///
    /// # Errors
    /// The library's.
    pub fn finish(&mut self) -> Outcome<Vec<u8>> {
        let answer = self.peek()?;
        self.reset()?;
        Ok(answer)
    }

    /// The digest of what was taken in so far.
    ///
    /// # Errors
    /// The library's.
    pub fn peek(&self) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; sys::EVP_MAX_MD_SIZE as usize];
        let mut size: c_uint = 0;
        // SAFETY: live contexts; the buffer has room for any digest.
        unsafe {
            let copy = Context::own(sys::EVP_MD_CTX_new())?;
            check(sys::EVP_MD_CTX_copy_ex(copy.ptr(), self.context.ptr()))?;
            check(sys::EVP_DigestFinal_ex(copy.ptr(), bytes.as_mut_ptr(), &raw mut size))?;
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }
}

/// The digest of some bytes.
///
/// # Errors
/// The library's.
pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut out = vec![0; sys::EVP_MAX_MD_SIZE as usize];
    let mut size: c_uint = 0;
    // SAFETY: pointer and length of a slice; the buffer has room for any digest.
    error::check(unsafe {
        sys::EVP_Digest(
            bytes.as_ptr().cast(),
            bytes.len(),
            out.as_mut_ptr(),
            &raw mut size,
            algorithm.0,
            std::ptr::null_mut(),
        )
    })?;
    out.truncate(size as usize);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_found_in_any_case() {
        for name in ["md5", "SHA1", "sha256", "SHA-512", "sha3-256", "RIPEMD160", "sha512-256"] {
            assert!(Algorithm::by_name(name).is_some(), "{name}");
        }
        assert!(Algorithm::by_name("whirl").is_none());
        assert!(Algorithm::by_name("a\0b").is_none());
    }

    #[test]
    fn a_digest_made_in_parts_is_that_of_the_whole() {
        let sha256 = Algorithm::by_name("sha256").unwrap();
        let mut parts = Digest::new(sha256).unwrap();
        parts.update(b"hel").unwrap();
        parts.update(b"lo").unwrap();
        assert_eq!(parts.finish().unwrap(), digest(sha256, b"hello").unwrap());
        parts.update(b"hello").unwrap();
        assert_eq!(parts.peek().unwrap(), digest(sha256, b"hello").unwrap());
    }
}
