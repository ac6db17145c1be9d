//! Certificates and requests, made.
use std::ffi::{CString, c_int, c_long};
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::bio;
use crate::bn::BigNum;
use crate::digest::Algorithm;
use crate::error::{self, Error, Outcome, check, int, signature_checked};
use crate::pkey::Key;
use crate::x509::{AltName, Certificate, Extension, NameEntry, Party, describe_extension, name_entries};

owned!(
    /// An extension on its own.
    ExtensionObject,
    sys::X509_EXTENSION,
    sys::X509_EXTENSION_free
);
owned!(
    /// A request for a certificate.
    Request,
    sys::X509_REQ,
    sys::X509_REQ_free
);
owned!(Name, sys::X509_NAME, sys::X509_NAME_free);
owned!(Time, sys::ASN1_TIME, sys::ASN1_TIME_free);
owned!(Integer, sys::ASN1_INTEGER, sys::ASN1_INTEGER_free);
owned!(OctetString, sys::ASN1_OCTET_STRING, sys::ASN1_OCTET_STRING_free);

/// Text that is UTF-8, as the library's encoders take it.
const UTF8: c_int = sys::MBSTRING_UTF8 as c_int;

impl ExtensionObject {
    /// An extension as OpenSSL's configuration files word it: `critical,CA:TRUE`, `DNS:a,IP:10.0.0.1`, `hash`.
    ///
    /// # Errors
    /// What cannot be understood, or needs a certificate that is not given.
    pub fn from_text(
        nid: i32,
        text: &str,
        issuer: Option<&Certificate>,
        subject: Option<&Certificate>,
    ) -> Outcome<Self> {
        let text = CString::new(text).map_err(|_| Error::new("invalid character"))?;
        let issuer = issuer.map_or(null(), |it| it.ptr().cast_const());
        let subject = subject.map_or(null(), |it| it.ptr().cast_const());
        let mut context = std::mem::MaybeUninit::<sys::X509V3_CTX>::zeroed();
        // SAFETY: the context is filled before it is used, with certificates that live; the text ends with NUL.
        unsafe {
            sys::X509V3_set_ctx(context.as_mut_ptr(), issuer, subject, null(), null(), 0);
            Self::own(sys::X509V3_EXT_nconf_nid(null(), context.as_ptr(), nid, text.as_ptr()))
        }
    }

    /// # Errors
    /// A number that is not known.
    pub fn from_der(nid: i32, der: &[u8], is_critical: bool) -> Outcome<Self> {
        // SAFETY: live objects; pointer and length of a slice, which is copied.
        unsafe {
            let data = OctetString::own(sys::ASN1_OCTET_STRING_new())?;
            check(sys::ASN1_STRING_set(data.ptr().cast(), der.as_ptr().cast(), int(der.len())? as isize))?;
            let critical = c_int::from(is_critical);
            Self::own(sys::X509_EXTENSION_create_by_NID(null_mut(), nid, critical, data.ptr()))
        }
    }

    /// A copy of the one at a place of a certificate, counted from 0.
    pub fn of(certificate: &Certificate, place: usize) -> Option<Self> {
        // SAFETY: a live certificate, which lends its extension; null for a wrong place.
        unsafe {
            let found = sys::X509_get_ext(certificate.ptr(), c_int::try_from(place).ok()?);
            if found.is_null() { None } else { Self::own(sys::X509_EXTENSION_dup(found)).ok() }
        }
    }

    pub fn describe(&self) -> Extension {
        // SAFETY: a live extension.
        unsafe { describe_extension(self.ptr()) }
    }

    /// # Errors
    /// The library's.
    pub fn set_critical(&self, is_critical: bool) -> Outcome<()> {
        // SAFETY: a live extension.
        check(unsafe { sys::X509_EXTENSION_set_critical(self.ptr(), c_int::from(is_critical)) })
    }
}

/// A name of its parts: the number of a kind, and a text.
pub(crate) fn make_name(parts: &[(i32, Vec<u8>)]) -> Outcome<Name> {
    // SAFETY: a live name; pointers and lengths of slices, which are copied.
    unsafe {
        let name = Name::own(sys::X509_NAME_new())?;
        for (nid, text) in parts {
            let len = int(text.len())? as isize;
            check(sys::X509_NAME_add_entry_by_NID(name.ptr(), *nid, UTF8, text.as_ptr(), len, -1, 0))?;
        }
        Ok(name)
    }
}

pub(crate) fn make_time(seconds: i64) -> Outcome<Time> {
    // SAFETY: with a null pointer the library makes a new one.
    Time::own(unsafe { sys::ASN1_TIME_set_posix(null_mut(), seconds) })
}

/// How many characters a list of other names has at most.
const ALT_NAMES_MAX: usize = 64 * 1024;

/// Other names as a configuration file has them.
///
/// # Errors
/// Names with characters that end one, or too many.
pub fn alt_names_text(names: &[AltName]) -> Outcome<String> {
    let mut text = String::new();
    for name in names {
        let value = std::str::from_utf8(&name.value).map_err(|_| Error::new("invalid character"))?;
        if value.contains([',', '\0', '\n', '\r']) || text.len() > ALT_NAMES_MAX {
            return Err(Error::new("invalid character"));
        }
        let comma = if text.is_empty() { "" } else { "," };
        text.push_str(&format!("{comma}{}:{value}", name.kind));
    }
    Ok(text)
}

impl Certificate {
    /// An empty one, to be filled and signed. It is good from now until now.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Outcome<Self> {
        // SAFETY: no arguments; a live certificate lends its times.
        unsafe {
            let certificate = Self::own(sys::X509_new())?;
            sys::X509_gmtime_adj(sys::X509_getm_notBefore(certificate.ptr()), 0);
            sys::X509_gmtime_adj(sys::X509_getm_notAfter(certificate.ptr()), 0);
            Ok(certificate)
        }
    }

    /// # Errors
    /// The library's.
    pub fn set_version(&self, version: i64) -> Outcome<()> {
        // SAFETY: a live certificate.
        check(unsafe { sys::X509_set_version(self.ptr(), c_long::from(version) - 1) })
    }

    /// # Errors
    /// Only for want of memory.
    pub fn set_serial_number(&self, number: &BigNum) -> Outcome<()> {
        // SAFETY: live objects; the number is copied.
        unsafe {
            let number = Integer::own(sys::BN_to_ASN1_INTEGER(number.ptr(), null_mut()))?;
            check(sys::X509_set_serialNumber(self.ptr(), number.ptr()))
        }
    }

    /// From when it is good, in seconds since 1970.
    ///
    /// # Errors
    /// A time that cannot be written.
    pub fn set_not_before(&self, seconds: i64) -> Outcome<()> {
        // SAFETY: live objects; the time is copied.
        check(unsafe { sys::X509_set1_notBefore(self.ptr(), make_time(seconds)?.ptr()) })
    }

    /// Until when it is good.
    ///
    /// # Errors
    /// A time that cannot be written.
    pub fn set_not_after(&self, seconds: i64) -> Outcome<()> {
        // SAFETY: live objects; the time is copied.
        check(unsafe { sys::X509_set1_notAfter(self.ptr(), make_time(seconds)?.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn set_public_key(&self, key: &Key) -> Outcome<()> {
        // SAFETY: both live.
        check(unsafe { sys::X509_set_pubkey(self.ptr(), key.ptr()) })
    }

    /// # Errors
    /// A part that is not text, or too long for its kind.
    pub fn set_name(&self, party: Party, parts: &[(i32, Vec<u8>)]) -> Outcome<()> {
        let name = make_name(parts)?;
        // SAFETY: live objects; the name is copied.
        check(unsafe {
            match party {
                Party::Subject => sys::X509_set_subject_name(self.ptr(), name.ptr()),
                Party::Issuer => sys::X509_set_issuer_name(self.ptr(), name.ptr()),
            }
        })
    }

    /// Adds an extension, at a place or behind the others.
    ///
    /// # Errors
    /// The library's.
    pub fn add_extension(&self, extension: &ExtensionObject, place: Option<usize>) -> Outcome<()> {
        let place = place.map_or(-1, |place| c_int::try_from(place).unwrap_or(-1));
        // SAFETY: both live; the extension is copied.
        check(unsafe { sys::X509_add_ext(self.ptr(), extension.ptr(), place) })
    }

    /// Takes out the extension at a place.
    pub fn remove_extension(&self, place: usize) {
        let Ok(place) = c_int::try_from(place) else { return };
        // SAFETY: a live certificate; what it gives back is ours.
        drop(ExtensionObject::own(unsafe { sys::X509_delete_ext(self.ptr(), place) }));
        error::clear();
    }

    /// Signs it. Ed25519 takes no digest.
    ///
    /// # Errors
    /// A key without its secret half.
    pub fn sign(&self, key: &Key, digest: Option<Algorithm>) -> Outcome<()> {
        if !key.is_private() {
            return Err(Error::new("not a private key"));
        }
        // SAFETY: both live. It answers the signature's size.
        let size = unsafe { sys::X509_sign(self.ptr(), key.ptr(), digest.map_or(null(), Algorithm::ptr)) };
        if size > 0 { Ok(()) } else { Err(Error::take()) }
    }
}

impl Request {
    /// An empty one, to be filled and signed.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Outcome<Self> {
        // SAFETY: no arguments.
        Self::own(unsafe { sys::X509_REQ_new() })
    }

    /// # Errors
    /// Text without a request.
    pub fn from_pem(text: &[u8]) -> Outcome<Self> {
        // SAFETY: a live BIO; no password is asked for.
        let read =
            bio::read(text, |bio| unsafe { sys::PEM_read_bio_X509_REQ(bio, null_mut(), None, null_mut()) })?;
        Self::own(read)
    }

    /// # Errors
    /// Bytes that are no request.
    pub fn from_der(der: &[u8]) -> Outcome<Self> {
        let mut data = der.as_ptr();
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe { sys::d2i_X509_REQ(null_mut(), &raw mut data, int(der.len())?.into()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_pem(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO and a live request.
        bio::write(|bio| unsafe { sys::PEM_write_bio_X509_REQ(bio, self.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_der(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live request; the place is the writer's.
        bio::der(|out| unsafe { sys::i2d_X509_REQ(self.ptr(), out) })
    }

    pub fn version(&self) -> i64 {
        // SAFETY: a live request.
        unsafe { sys::X509_REQ_get_version(self.ptr()) + 1 }
    }

    /// # Errors
    /// The library's.
    pub fn set_version(&self, version: i64) -> Outcome<()> {
        // SAFETY: a live request.
        check(unsafe { sys::X509_REQ_set_version(self.ptr(), c_long::from(version) - 1) })
    }

    /// # Errors
    /// A request without a key, or one that the library does not know.
    pub fn public_key(&self) -> Outcome<Key> {
        // SAFETY: a live request; the key is ours.
        Key::own(unsafe { sys::X509_REQ_get_pubkey(self.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn set_public_key(&self, key: &Key) -> Outcome<()> {
        // SAFETY: both live.
        check(unsafe { sys::X509_REQ_set_pubkey(self.ptr(), key.ptr()) })
    }

    /// Whether the key belongs to it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_private_key(&self, key: &Key) -> Outcome<()> {
        // SAFETY: both live.
        check(unsafe { sys::X509_REQ_check_private_key(self.ptr(), key.ptr()) })
    }

    pub fn name(&self) -> Vec<NameEntry> {
        // SAFETY: a live request, which lends its name.
        unsafe { name_entries(sys::X509_REQ_get_subject_name(self.ptr())) }
    }

    /// # Errors
    /// A part that is not text, or too long for its kind.
    pub fn set_name(&self, parts: &[(i32, Vec<u8>)]) -> Outcome<()> {
        let name = make_name(parts)?;
        // SAFETY: live objects; the name is copied.
        check(unsafe { sys::X509_REQ_set_subject_name(self.ptr(), name.ptr()) })
    }

    /// The extensions that are asked for.
    pub fn extensions(&self) -> Vec<ExtensionObject> {
        let mut found = Vec::new();
        // SAFETY: a live request; the list and what it holds are ours.
        unsafe {
            let list: *mut sys::OPENSSL_STACK = sys::X509_REQ_get_extensions(self.ptr()).cast();
            error::clear();
            if !list.is_null() {
                for n in 0..sys::OPENSSL_sk_num(list) {
                    found.extend(ExtensionObject::own(sys::OPENSSL_sk_value(list, n).cast()).ok());
                }
                sys::OPENSSL_sk_free(list);
            }
        }
        found
    }

    /// Asks for these extensions, and for no others.
    ///
    /// # Errors
    /// The library's.
    pub fn set_extensions(&self, extensions: &[ExtensionObject]) -> Outcome<()> {
        // SAFETY: live objects; the list is read only, and encoded before it is freed.
        unsafe {
            let old = sys::X509_REQ_get_attr_by_NID(self.ptr(), sys::NID_ext_req as c_int, -1);
            if old >= 0 {
                sys::X509_ATTRIBUTE_free(sys::X509_REQ_delete_attr(self.ptr(), old));
            }
            let list = sys::OPENSSL_sk_new_null();
            for extension in extensions {
                sys::OPENSSL_sk_push(list, extension.ptr().cast());
            }
            let added = check(sys::X509_REQ_add_extensions(self.ptr(), list.cast()));
            sys::OPENSSL_sk_free(list);
            added
        }
    }

    /// Signs it. Ed25519 takes no digest.
    ///
    /// # Errors
    /// A key without its secret half.
    pub fn sign(&self, key: &Key, digest: Option<Algorithm>) -> Outcome<()> {
        if !key.is_private() {
            return Err(Error::new("not a private key"));
        }
        // SAFETY: both live. It answers the signature's size.
        let size =
            unsafe { sys::X509_REQ_sign(self.ptr(), key.ptr(), digest.map_or(null(), Algorithm::ptr)) };
        if size > 0 { Ok(()) } else { Err(Error::take()) }
    }

    /// Whether the key signed it.
    ///
    /// # Errors
    /// A check that cannot be made.
    pub fn is_signed_by(&self, key: &Key) -> Outcome<bool> {
        // SAFETY: both live.
        signature_checked(unsafe { sys::X509_REQ_verify(self.ptr(), key.ptr()) })
    }

    /// The number of the algorithm it was signed with.
    pub fn signature(&self) -> i32 {
        // SAFETY: a live request.
        unsafe { sys::X509_REQ_get_signature_nid(self.ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::nid;
    use crate::pkey::{Key, curve_by_name};

    fn common_name(text: &str) -> Vec<(i32, Vec<u8>)> {
        vec![(nid("CN").unwrap(), text.as_bytes().to_vec())]
    }

    #[test]
    fn a_certificate_is_made_signed_and_trusted() {
        let key = Key::generate_ec(curve_by_name("prime256v1").unwrap()).unwrap();
        let certificate = Certificate::new().unwrap();
        certificate.set_version(3).unwrap();
        certificate.set_serial_number(&BigNum::from_word(7).unwrap()).unwrap();
        certificate.set_not_before(1_700_000_000).unwrap();
        certificate.set_not_after(4_000_000_000).unwrap();
        certificate.set_public_key(&key).unwrap();
        certificate.set_name(Party::Subject, &common_name("a")).unwrap();
        certificate.set_name(Party::Issuer, &common_name("a")).unwrap();
        for (name, text) in
            [("basicConstraints", "critical,CA:TRUE"), ("subjectAltName", "DNS:a.example,IP:10.0.0.1")]
        {
            let extension = ExtensionObject::from_text(nid(name).unwrap(), text, None, None).unwrap();
            certificate.add_extension(&extension, None).unwrap();
        }
        certificate.sign(&key, Algorithm::by_name("sha256")).unwrap();
        let back = Certificate::from_pem(&certificate.to_pem().unwrap()).unwrap();
        assert_eq!(back.lifetime().unwrap(), (1_700_000_000, 4_000_000_000));
        assert_eq!(back.basic_constraints(), Some((true, None)));
        assert_eq!(back.alt_names(Party::Subject).unwrap()[1].value, b"10.0.0.1");
        assert!(back.is_signed_by(&key).unwrap() && back.check_private_key(&key).is_ok());
        let store = crate::x509::Store::new().unwrap();
        assert!(store.verify(&back, &[], None, 0).is_err());
        store.add(&back).unwrap();
        assert_eq!(store.verify(&back, &[], None, 0).unwrap().len(), 1);
        assert!(ExtensionObject::from_text(nid("basicConstraints").unwrap(), "junk", None, None).is_err());
    }

    #[test]
    fn a_request_is_made_signed_and_read() {
        let key = Key::generate_rsa(2048, None).unwrap();
        let request = Request::new().unwrap();
        request.set_name(&common_name("b")).unwrap();
        request.set_public_key(&key).unwrap();
        let names = alt_names_text(&[AltName { kind: "DNS", value: b"b.example".to_vec() }]).unwrap();
        let extension =
            ExtensionObject::from_text(nid("subjectAltName").unwrap(), &names, None, None).unwrap();
        request.set_extensions(&[extension]).unwrap();
        request.sign(&key, Algorithm::by_name("sha256")).unwrap();
        let back = Request::from_der(&request.to_der().unwrap()).unwrap();
        assert!(back.is_signed_by(&key).unwrap() && back.check_private_key(&key).is_ok());
        assert_eq!(back.name()[0].value, b"b");
        assert_eq!(back.extensions()[0].describe().text.trim(), "DNS:b.example");
        assert!(Request::from_pem(b"junk").is_err());
    }
}
