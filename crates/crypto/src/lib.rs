//! AWS-LC's libcrypto made safe: digests, MACs, ciphers, keys, big numbers, key derivation, certificates, in the generality
//! that Lua's crypto libraries offer.
//!
//! Everything here is a value that owns its C object and frees it; every pointer and length given to C comes from a slice,
//! checked against what C expects. Errors carry what the library put into its queue. Nothing here waits or does I/O.
//!
//! TLS does not use this crate: it has rustls on the same library.
#![allow(unsafe_code)]

/// A type that owns a C object.
macro_rules! owned {
    ($(#[$attribute:meta])* $name:ident, $kind:ty, $free:path) => {
        $(#[$attribute])*
        #[allow(unreachable_pub, reason = "some stay within their module")]
        pub struct $name(std::ptr::NonNull<$kind>);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the object is ours alone, and this is its last use.
                unsafe { $free(self.0.as_ptr()) }
            }
        }

        impl $name {
            #[allow(dead_code, reason = "some are made by the library alone")]
            pub(crate) fn own(pointer: *mut $kind) -> $crate::Outcome<Self> {
                std::ptr::NonNull::new(pointer).map(Self).ok_or_else($crate::Error::take)
            }

            #[inline]
            #[allow(dead_code, reason = "some are only freed")]
            pub(crate) fn ptr(&self) -> *mut $kind {
                self.0.as_ptr()
            }
        }
    };
}

mod bio;
pub mod bn;
pub mod cipher;
pub mod digest;
mod error;
pub mod kdf;
pub mod mac;
pub mod objects;
pub mod pkcs12;
pub mod pkey;
pub mod pkey_dh;
pub mod pkey_parameters;
pub mod pkey_text;
pub mod x509;
pub mod x509_crl;
pub mod x509_make;
mod x509_store;

pub use error::{Error, Outcome};

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system has none.
pub fn random(size: usize) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; size];
    // SAFETY: the buffer has that size.
    error::check(unsafe { aws_lc_sys::RAND_bytes(bytes.as_mut_ptr(), bytes.len()) })?;
    Ok(bytes)
}

/// What the library calls itself.
pub fn version() -> String {
    // SAFETY: a static string.
    unsafe { error::text(aws_lc_sys::OpenSSL_version(0)) }.unwrap_or_default()
}

/// OpenSSL's version that its interface resembles.
pub fn version_number() -> u64 {
    // SAFETY: no arguments.
    unsafe { aws_lc_sys::OpenSSL_version_num() as u64 }
}
