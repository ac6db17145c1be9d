//! Keys as text: PEM and DER, private and public, PKCS#1 and PKCS#8.
use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::bio;
use crate::cipher;
use crate::error::{self, Error, Outcome, int};
use crate::pkey::{Key, Kind};

/// Which half is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Any,
    Public,
    Private,
}

/// Answers the password that `user` points to; none where it is null.
///
/// # Safety
/// `user` is null or a live `&[u8]`; `buffer` has room for `size` bytes.
unsafe extern "C" fn password(buffer: *mut c_char, size: c_int, _: c_int, user: *mut c_void) -> c_int {
    if user.is_null() {
        return -1;
    }
    // SAFETY: the library passes on what `read_pem` gave it.
    unsafe {
        let password = *user.cast::<&[u8]>();
        let size = usize::try_from(size).unwrap_or(0);
        if password.len() > size {
            return -1;
        }
        std::ptr::copy_nonoverlapping(password.as_ptr(), buffer.cast(), password.len());
        password.len() as c_int
    }
}

type Reader<T> =
    unsafe extern "C" fn(*mut sys::BIO, *mut *mut T, sys::pem_password_cb, *mut c_void) -> *mut T;

fn read_pem<T>(text: &[u8], secret: Option<&[u8]>, reader: Reader<T>) -> Outcome<*mut T> {
    let mut secret = secret;
    let user = secret.as_mut().map_or(null_mut(), |secret| (&raw mut *secret).cast::<c_void>());
    // SAFETY: a live BIO; the password outlives the call.
    bio::read(text, |bio| unsafe { reader(bio, null_mut(), Some(password), user) })
}

impl Key {
    /// Reads a key from PEM.
    ///
    /// # Errors
    /// Text without such a key, or a wrong password.
    pub fn from_pem(text: &[u8], half: Half, secret: Option<&[u8]>) -> Outcome<Self> {
        error::clear();
        let mut problems = Vec::new();
        if half != Half::Public {
            let found = read_pem(text, secret, sys::PEM_read_bio_PrivateKey)?;
            match Self::own(found) {
                Ok(key) => return Ok(key),
                Err(error) => problems.push(error),
            }
            if let Some(key) = Self::from_dh_private_pem(text) {
                return Ok(key);
            }
        }
        if half != Half::Private {
            let found = read_pem(text, secret, sys::PEM_read_bio_PUBKEY)?;
            match Self::own(found) {
                Ok(key) => return Ok(key),
                Err(error) => problems.push(error),
            }
            let rsa = read_pem(text, secret, sys::PEM_read_bio_RSAPublicKey)?;
            match Self::from_rsa(rsa) {
                Ok(key) => return Ok(key),
                Err(error) => problems.push(error),
            }
        }
        // The one that has found something and failed has more to say.
        let telling = problems.iter().position(|problem| !problem.is_absence()).unwrap_or(0);
        Err(problems.swap_remove(telling))
    }

    /// Reads a key from DER.
    ///
    /// # Errors
    /// Bytes that are no such key.
    pub fn from_der(der: &[u8], half: Half) -> Outcome<Self> {
        error::clear();
        let len = int(der.len())?.into();
        let mut problem = None;
        // SAFETY: pointer and length of a slice, which the library walks.
        unsafe {
            if half != Half::Public {
                let mut data = der.as_ptr();
                match Self::own(sys::d2i_AutoPrivateKey(null_mut(), &raw mut data, len)) {
                    Ok(key) => return Ok(key),
                    Err(error) => problem = Some(error),
                }
                if let Some(key) = Self::from_dh_private_der(der) {
                    return Ok(key);
                }
            }
            if half != Half::Private {
                let mut data = der.as_ptr();
                match Self::own(sys::d2i_PUBKEY(null_mut(), &raw mut data, len)) {
                    Ok(key) => return Ok(key),
                    Err(error) => problem = problem.or(Some(error)),
                }
            }
        }
        Err(problem.unwrap_or_default())
    }

    fn from_rsa(rsa: *mut sys::RSA) -> Outcome<Self> {
        if rsa.is_null() {
            return Err(Error::take());
        }
        // SAFETY: an RSA key that is ours; the new key counts it, and our count is given up.
        unsafe {
            let key = Self::own(sys::EVP_PKEY_new());
            if let Ok(key) = &key {
                sys::EVP_PKEY_set1_RSA(key.ptr(), rsa);
            }
            sys::RSA_free(rsa);
            key
        }
    }

    /// `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// The library's.
    pub fn public_pem(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO and a live key.
        bio::write(|bio| unsafe { sys::PEM_write_bio_PUBKEY(bio, self.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn public_der(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live key; the place is the writer's.
        bio::der(|out| unsafe { sys::i2d_PUBKEY(self.ptr(), out) })
    }

    /// `-----BEGIN PRIVATE KEY-----`, encrypted with a password if there is one.
    ///
    /// # Errors
    /// A key without its secret half.
    pub fn private_pem(&self, secret: Option<(cipher::Algorithm, &[u8])>) -> Outcome<Vec<u8>> {
        if !self.is_private() {
            return Err(Error::new("not a private key"));
        }
        if self.kind() == Kind::Dh {
            return match secret {
                None => self.dh_private_pem(),
                Some(_) => Err(Error::new("a DH key is not written with a password")),
            };
        }
        let (cipher, pass) = secret.map_or((null(), &[][..]), |(cipher, pass)| (cipher.ptr(), pass));
        let len = int(pass.len())?;
        let pass: *const c_uchar = if secret.is_some() { pass.as_ptr() } else { null() };
        // SAFETY: a live BIO and a live key; pointer and length of a slice.
        bio::write(|bio| unsafe {
            sys::PEM_write_bio_PKCS8PrivateKey(bio, self.ptr(), cipher, pass.cast(), len, None, null_mut())
        })
    }

    /// The form of the key's own algorithm, as `openssl rsa -traditional` has it.
    ///
    /// # Errors
    /// A key without its secret half.
    pub fn private_der(&self) -> Outcome<Vec<u8>> {
        if !self.is_private() {
            return Err(Error::new("not a private key"));
        }
        if self.kind() == Kind::Dh {
            return self.dh_private_der();
        }
        // SAFETY: a live key; the place is the writer's.
        bio::der(|out| unsafe { sys::i2d_PrivateKey(self.ptr(), out) })
    }

    /// `-----BEGIN RSA PRIVATE KEY-----`.
    ///
    /// # Errors
    /// Other keys.
    pub fn rsa_private_pem(&self) -> Outcome<Vec<u8>> {
        if self.kind() != Kind::Rsa || !self.is_private() {
            return Err(Error::new("not a private RSA key"));
        }
        // SAFETY: a live BIO; the key lends its RSA key for the call.
        bio::write(|bio| unsafe {
            let rsa = sys::EVP_PKEY_get0_RSA(self.ptr());
            sys::PEM_write_bio_RSAPrivateKey(bio, rsa, null(), null(), 0, None, null_mut())
        })
    }

    /// `-----BEGIN RSA PUBLIC KEY-----`.
    ///
    /// # Errors
    /// Other keys.
    pub fn rsa_public_pem(&self) -> Outcome<Vec<u8>> {
        if self.kind() != Kind::Rsa {
            return Err(Error::new("not an RSA key"));
        }
        // SAFETY: as above.
        bio::write(|bio| unsafe { sys::PEM_write_bio_RSAPublicKey(bio, sys::EVP_PKEY_get0_RSA(self.ptr())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_text() {
        for key in [Key::generate_rsa(2048, None).unwrap(), Key::generate(Kind::Ed25519).unwrap()] {
            let private = key.private_pem(None).unwrap();
            let back = Key::from_pem(&private, Half::Any, None).unwrap();
            assert!(back.is_private() && back.same_public(&key));
            let public = Key::from_pem(&key.public_pem().unwrap(), Half::Any, None).unwrap();
            assert!(!public.is_private() && public.same_public(&key));
            assert!(Key::from_der(&key.public_der().unwrap(), Half::Private).is_err());
            assert!(Key::from_der(&key.private_der().unwrap(), Half::Any).unwrap().is_private());
            assert!(public.private_pem(None).is_err());
        }
    }

    #[test]
    fn a_password_is_needed_where_there_is_one() {
        let key = Key::generate_rsa(2048, None).unwrap();
        let aes = cipher::Algorithm::by_name("aes-128-cbc").unwrap();
        let text = key.private_pem(Some((aes, b"secret"))).unwrap();
        assert!(Key::from_pem(&text, Half::Private, Some(b"secret")).is_ok());
        assert!(Key::from_pem(&text, Half::Private, Some(b"wrong")).is_err());
        assert!(Key::from_pem(&text, Half::Private, None).is_err());
        assert!(Key::from_pem(b"junk", Half::Any, None).is_err());
        let rsa = key.rsa_public_pem().unwrap();
        assert!(Key::from_pem(&rsa, Half::Any, None).unwrap().same_public(&key));
    }
}
