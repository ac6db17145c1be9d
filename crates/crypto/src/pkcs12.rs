//! PKCS#12: a key and certificates in one file, under a password. <https://www.rfc-editor.org/rfc/rfc7292>
use std::ffi::{CString, c_int};
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::bio;
use crate::error::{self, Error, Outcome, check, int};
use crate::pkey::Key;
use crate::x509::Certificate;
use crate::x509_store::Chain;

owned!(File, sys::PKCS12, sys::PKCS12_free);

/// What a file holds.
pub struct Contents {
    pub key: Option<Key>,
    pub certificate: Option<Certificate>,
    /// What the certificate is called.
    pub name: Option<Vec<u8>>,
    pub others: Vec<Certificate>,
}

/// How a file is made. Zeros are the library's defaults.
#[derive(Clone, Copy, Default)]
pub struct Settings<'a> {
    pub name: Option<&'a str>,
    /// OpenSSL's numbers of the ciphers of key and certificates.
    pub key_cipher: i32,
    pub certificate_cipher: i32,
    pub rounds: i32,
    pub mac_rounds: i32,
}

fn terminated(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| Error::new("invalid character"))
}

/// Opens a file.
///
/// # Errors
/// What is no such file, or another password.
pub fn open(file: &[u8], password: &str) -> Outcome<Contents> {
    let password = terminated(password)?;
    let mut data = file.as_ptr();
    // SAFETY: pointer and length of a slice; places for what is found, which becomes ours; the list is freed with its
    // certificates.
    unsafe {
        let file = File::own(sys::d2i_PKCS12(null_mut(), &raw mut data, file.len()))?;
        let verified = sys::PKCS12_verify_mac(file.ptr(), password.as_ptr(), int(password.as_bytes().len())?);
        if verified != 1 {
            error::clear();
            // OpenSSL's words.
            return Err(Error::new("mac verify failure"));
        }
        let (mut key, mut certificate, mut others) = (null_mut(), null_mut(), null_mut());
        let read = sys::PKCS12_parse(
            file.ptr(),
            password.as_ptr(),
            &raw mut key,
            &raw mut certificate,
            &raw mut others,
        );
        let key = (!key.is_null()).then(|| Key::own(key)).transpose()?;
        let certificate = (!certificate.is_null()).then(|| Certificate::own(certificate)).transpose()?;
        let others = Chain::of(others.cast());
        check(read)?;
        let mut len = 0;
        let name = certificate.as_ref().and_then(|it| {
            let name = sys::X509_alias_get0(it.ptr(), &raw mut len);
            (!name.is_null()).then(|| bio::slice(name, usize::try_from(len).unwrap_or(0)).to_vec())
        });
        Ok(Contents { key, certificate, name, others: others.certificates()? })
    }
}

/// Makes a file.
///
/// # Errors
/// A key that does not belong to the certificate, or ciphers that are not known.
pub fn make(
    password: &str,
    key: &Key,
    certificate: &Certificate,
    others: &[Certificate],
    settings: Settings<'_>,
) -> Outcome<Vec<u8>> {
    let password = terminated(password)?;
    let name = settings.name.map(terminated).transpose()?;
    let others = Chain::with(others);
    let none: c_int = 0;
    // SAFETY: all live; the texts end with NUL; the list is only read.
    let file = File::own(unsafe {
        sys::PKCS12_create(
            password.as_ptr(),
            name.as_ref().map_or(null(), |name| name.as_ptr()),
            key.ptr(),
            certificate.ptr(),
            others.ptr().cast(),
            settings.key_cipher,
            settings.certificate_cipher,
            settings.rounds,
            settings.mac_rounds,
            none,
        )
    })?;
    // SAFETY: a live file; the place is the writer's.
    bio::der(|out| unsafe { sys::i2d_PKCS12(file.ptr(), out) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::pkey::curve_by_name;

    #[test]
    fn what_is_put_in_comes_out_with_the_password_alone() {
        let key = Key::generate_ec(curve_by_name("prime256v1").unwrap()).unwrap();
        let made_for = |key: &Key| {
            let certificate = Certificate::new().unwrap();
            certificate.set_public_key(key).unwrap();
            certificate.sign(key, Algorithm::by_name("sha256")).unwrap();
            certificate
        };
        let certificate = made_for(&key);
        let other = made_for(&Key::generate_ec(curve_by_name("prime256v1").unwrap()).unwrap());
        let settings = Settings { name: Some("mine"), ..Settings::default() };
        let file = make("secret", &key, &certificate, &[other], settings).unwrap();
        let found = open(&file, "secret").unwrap();
        assert_eq!(found.name.as_deref(), Some(&b"mine"[..]));
        assert_eq!(found.others.len(), 1);
        assert!(found.certificate.unwrap().check_private_key(&found.key.unwrap()).is_ok());
        assert!(open(&file, "wrong").is_err() && open(b"junk", "secret").is_err());
        assert!(open(&file[..file.len() / 2], "secret").is_err());
    }
}
