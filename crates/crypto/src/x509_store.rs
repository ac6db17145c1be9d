//! Stores of trusted certificates, and chains checked against them.
use std::ffi::{CStr, CString, c_int, c_ulong};
use std::path::Path;
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::error::{self, Error, Outcome, check};
use crate::x509::Certificate;
use crate::x509_crl::Crl;

owned!(
    /// Certificates that are trusted, and how chains are checked.
    Store,
    sys::X509_STORE,
    sys::X509_STORE_free
);
owned!(Context, sys::X509_STORE_CTX, sys::X509_STORE_CTX_free);

/// A list of certificates for the length of a call. It owns them; null is an empty one.
pub(crate) struct Chain(*mut sys::OPENSSL_STACK);

impl Chain {
    /// # Safety
    /// Null, or a list of certificates that is nobody else's.
    pub(crate) unsafe fn of(list: *mut sys::OPENSSL_STACK) -> Self {
        Self(list)
    }

    pub(crate) fn with(certificates: &[Certificate]) -> Self {
        // SAFETY: a new list, which takes a count of each certificate.
        unsafe {
            let list = Self(sys::OPENSSL_sk_new_null());
            for certificate in certificates {
                let certificate = certificate.share();
                if sys::OPENSSL_sk_push(list.0, certificate.ptr().cast()) != 0 {
                    std::mem::forget(certificate);
                }
            }
            list
        }
    }

    pub(crate) fn ptr(&self) -> *mut sys::OPENSSL_STACK {
        self.0
    }

    fn len(&self) -> usize {
        // SAFETY: null or a live list.
        if self.0.is_null() { 0 } else { unsafe { sys::OPENSSL_sk_num(self.0) } }
    }

    /// Another handle to each.
    pub(crate) fn certificates(&self) -> Outcome<Vec<Certificate>> {
        let take = |n| {
            // SAFETY: a live list; the place is within; the library counts.
            unsafe {
                let held: *mut sys::X509 = sys::OPENSSL_sk_value(self.0, n).cast();
                sys::X509_up_ref(held);
                Certificate::own(held)
            }
        };
        (0..self.len()).map(take).collect()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // SAFETY: a live list or null, with a count of each certificate.
        unsafe {
            for n in 0..self.len() {
                sys::X509_free(sys::OPENSSL_sk_value(self.0, n).cast());
            }
            sys::OPENSSL_sk_free(self.0);
        }
    }
}

/// Where systems keep the certificates that they trust.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Store {
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Outcome<Self> {
        // SAFETY: no arguments.
        Self::own(unsafe { sys::X509_STORE_new() })
    }

    /// Trusts a certificate.
    ///
    /// # Errors
    /// The library's.
    pub fn add(&self, certificate: &Certificate) -> Outcome<()> {
        // SAFETY: both live; the store counts the certificate.
        check(unsafe { sys::X509_STORE_add_cert(self.ptr(), certificate.ptr()) })
    }

    /// Takes a list of revoked certificates.
    ///
    /// # Errors
    /// The library's.
    pub fn add_crl(&self, list: &Crl) -> Outcome<()> {
        // SAFETY: both live; the store counts the list.
        check(unsafe { sys::X509_STORE_add_crl(self.ptr(), list.ptr()) })
    }

    /// Trusts what the system trusts.
    ///
    /// # Errors
    /// A system without a list.
    pub fn use_default(&self) -> Outcome<()> {
        let file = SYSTEM_FILES.iter().find(|file| Path::new(file).exists());
        file.map_or_else(|| Err(Error::new("no list of trusted certificates")), |file| self.load_file(file))
    }

    /// Trusts the certificates of a file.
    ///
    /// # Errors
    /// A file that cannot be read or has none.
    pub fn load_file(&self, path: &str) -> Outcome<()> {
        let path = CString::new(path).map_err(|_| Error::new("not a file name"))?;
        // SAFETY: a live store; a string that ends with NUL.
        check(unsafe { sys::X509_STORE_load_locations(self.ptr(), path.as_ptr(), null()) })
    }

    /// Trusts the certificates of a directory, which are looked for by the hash of their name.
    ///
    /// # Errors
    /// The library's.
    pub fn load_directory(&self, path: &str) -> Outcome<()> {
        let path = CString::new(path).map_err(|_| Error::new("not a file name"))?;
        // SAFETY: as above.
        check(unsafe { sys::X509_STORE_load_locations(self.ptr(), null(), path.as_ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn set_depth(&self, depth: i32) -> Outcome<()> {
        // SAFETY: a live store.
        check(unsafe { sys::X509_STORE_set_depth(self.ptr(), depth) })
    }

    /// # Errors
    /// The library's.
    pub fn set_flags(&self, flags: u32) -> Outcome<()> {
        // SAFETY: a live store.
        check(unsafe { sys::X509_STORE_set_flags(self.ptr(), c_ulong::from(flags)) })
    }

    /// What the certificate is to be good for; see [`purpose`].
    ///
    /// # Errors
    /// A purpose that is not known.
    pub fn set_purpose(&self, purpose: i32) -> Outcome<()> {
        // SAFETY: a live store.
        check(unsafe { sys::X509_STORE_set_purpose(self.ptr(), purpose) })
    }

    /// Checks a certificate, with others that may help, and answers its chain up to the trusted one.
    ///
    /// # Errors
    /// Why it is not trusted, in OpenSSL's words.
    pub fn verify(
        &self,
        certificate: &Certificate,
        others: &[Certificate],
        purpose: Option<i32>,
        flags: u32,
    ) -> Outcome<Vec<Certificate>> {
        // SAFETY: all live; the list owns a count of each, and outlives the context.
        unsafe {
            let list = Chain::with(others);
            let context = Context::own(sys::X509_STORE_CTX_new())?;
            check(sys::X509_STORE_CTX_init(context.ptr(), self.ptr(), certificate.ptr(), list.0.cast()))?;
            if let Some(purpose) = purpose {
                check(sys::X509_STORE_CTX_set_purpose(context.ptr(), purpose))?;
            }
            if flags != 0 {
                sys::X509_STORE_CTX_set_flags(context.ptr(), c_ulong::from(flags));
            }
            let answer = sys::X509_verify_cert(context.ptr());
            if answer != 1 {
                error::clear();
                let code = sys::X509_STORE_CTX_get_error(context.ptr());
                let text = error::text(sys::X509_verify_cert_error_string(code.into()));
                return Err(Error::new(text.unwrap_or_default()));
            }
            Chain::of(sys::X509_STORE_CTX_get1_chain(context.ptr()).cast()).certificates()
        }
    }
}

/// The number of a purpose: `sslclient`, `sslserver`, `smimesign`, …
pub fn purpose(name: &str) -> Option<i32> {
    let name = CString::new(name).ok()?;
    let known = |name: &CStr| {
        // SAFETY: a string that ends with NUL; purposes are static.
        unsafe {
            let place: c_int = sys::X509_PURPOSE_get_by_sname(name.as_ptr());
            let purpose = if place < 0 { null_mut() } else { sys::X509_PURPOSE_get0(place).cast_mut() };
            (!purpose.is_null()).then(|| sys::X509_PURPOSE_get_id(purpose))
        }
    };
    let found = known(&name);
    error::clear();
    found
}
