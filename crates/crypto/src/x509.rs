//! Certificates, read. `x509_make` makes them.
use std::ffi::c_int;
use std::ptr::null_mut;

use aws_lc_sys as sys;

use crate::bio;
use crate::bn::BigNum;
use crate::digest::Algorithm;
use crate::error::{self, Outcome, check, int, signature_checked};
use crate::objects;
use crate::pkey::Key;

pub use crate::x509_store::{Store, purpose};

owned!(
    /// A certificate.
    Certificate,
    sys::X509,
    sys::X509_free
);

/// A part of a distinguished name.
pub struct NameEntry {
    pub nid: i32,
    pub dotted: String,
    pub value: Vec<u8>,
}

/// Another name of a subject.
pub struct AltName {
    /// `DNS`, `email`, `URI`, `IP`, `DirName`, `RID` or `otherName`.
    pub kind: &'static str,
    pub value: Vec<u8>,
}

/// An extension.
pub struct Extension {
    pub nid: i32,
    pub dotted: String,
    pub is_critical: bool,
    pub der: Vec<u8>,
    /// As `openssl x509 -text` shows it.
    pub text: String,
}

/// Whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Subject,
    Issuer,
}

impl Certificate {
    /// # Errors
    /// Text without a certificate.
    pub fn from_pem(text: &[u8]) -> Outcome<Self> {
        // SAFETY: a live BIO; no password is asked for.
        let read =
            bio::read(text, |bio| unsafe { sys::PEM_read_bio_X509(bio, null_mut(), None, null_mut()) })?;
        Self::own(read)
    }

    /// # Errors
    /// Bytes that are no certificate.
    pub fn from_der(der: &[u8]) -> Outcome<Self> {
        let mut data = der.as_ptr();
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe { sys::d2i_X509(null_mut(), &raw mut data, int(der.len())?.into()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_pem(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO and a live certificate.
        bio::write(|bio| unsafe { sys::PEM_write_bio_X509(bio, self.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_der(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live certificate; the place is the writer's.
        bio::der(|out| unsafe { sys::i2d_X509(self.ptr(), out) })
    }

    /// Another handle to the same certificate.
    #[must_use]
    pub fn share(&self) -> Self {
        // SAFETY: a live certificate, counted by the library.
        unsafe { sys::X509_up_ref(self.ptr()) };
        Self(self.0)
    }

    /// The digest of the whole, or of its key alone.
    ///
    /// # Errors
    /// The library's.
    pub fn digest(&self, algorithm: Algorithm, key_only: bool) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; sys::EVP_MAX_MD_SIZE as usize];
        let mut size = 0;
        // SAFETY: a live certificate; room for any digest.
        check(unsafe {
            if key_only {
                sys::X509_pubkey_digest(self.ptr(), algorithm.ptr(), bytes.as_mut_ptr(), &raw mut size)
            } else {
                sys::X509_digest(self.ptr(), algorithm.ptr(), bytes.as_mut_ptr(), &raw mut size)
            }
        })?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// # Errors
    /// A key that the library does not know.
    pub fn public_key(&self) -> Outcome<Key> {
        // SAFETY: a live certificate; the key is ours.
        Key::own(unsafe { sys::X509_get_pubkey(self.ptr()) })
    }

    /// Whether the key belongs to it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_private_key(&self, key: &Key) -> Outcome<()> {
        // SAFETY: both live.
        check(unsafe { sys::X509_check_private_key(self.ptr(), key.ptr()) })
    }

    /// Whether the key signed it.
    ///
    /// # Errors
    /// A check that cannot be made.
    pub fn is_signed_by(&self, key: &Key) -> Outcome<bool> {
        // SAFETY: both live.
        signature_checked(unsafe { sys::X509_verify(self.ptr(), key.ptr()) })
    }

    /// 1, 2 or 3.
    pub fn version(&self) -> i64 {
        // SAFETY: a live certificate.
        unsafe { sys::X509_get_version(self.ptr()) + 1 }
    }

    /// # Errors
    /// Only for want of memory.
    pub fn serial_number(&self) -> Outcome<BigNum> {
        // SAFETY: a live certificate, which lends its number.
        unsafe { BigNum::of_asn1(sys::X509_get0_serialNumber(self.ptr())) }
    }

    /// From when until when it is good, in seconds since 1970.
    ///
    /// # Errors
    /// Times that are none.
    pub fn lifetime(&self) -> Outcome<(i64, i64)> {
        let (mut from, mut until) = (0, 0);
        // SAFETY: a live certificate, which lends its times.
        unsafe {
            check(sys::ASN1_TIME_to_posix(sys::X509_get0_notBefore(self.ptr()), &raw mut from))?;
            check(sys::ASN1_TIME_to_posix(sys::X509_get0_notAfter(self.ptr()), &raw mut until))?;
        }
        Ok((from, until))
    }

    /// The number of the algorithm it was signed with, and of that one's digest.
    pub fn signature(&self) -> (i32, i32) {
        // SAFETY: a live certificate.
        let nid = unsafe { sys::X509_get_signature_nid(self.ptr()) };
        (nid, objects::signature_digest(nid).unwrap_or(0))
    }

    /// The digest that its signature is of; of RSA-PSS too. `None` for algorithms that have none of their own.
    pub fn signature_digest(&self) -> Option<i32> {
        let mut digest = 0;
        let null = null_mut();
        // SAFETY: a live certificate, which is not changed; a place for a number; the others are not asked for.
        let found = unsafe {
            sys::X509_get_signature_info(self.ptr(), &raw mut digest, null, null.cast(), null.cast())
        };
        error::clear();
        (found == 1 && digest != 0).then_some(digest)
    }

    /// The parts of a name, in order.
    pub fn name(&self, party: Party) -> Vec<NameEntry> {
        // SAFETY: a live certificate, which lends its names and their parts.
        unsafe {
            let name = match party {
                Party::Subject => sys::X509_get_subject_name(self.ptr()),
                Party::Issuer => sys::X509_get_issuer_name(self.ptr()),
            };
            name_entries(name)
        }
    }

    /// The place of the next extension with this number, behind a place.
    pub fn find_extension(&self, nid: i32, after: Option<usize>) -> Option<usize> {
        let after = after.map_or(-1, |after| c_int::try_from(after).unwrap_or(c_int::MAX));
        // SAFETY: a live certificate.
        let place = unsafe { sys::X509_get_ext_by_NID(self.ptr(), nid, after) };
        error::clear();
        usize::try_from(place).ok()
    }

    pub fn extensions_len(&self) -> usize {
        // SAFETY: a live certificate.
        usize::try_from(unsafe { sys::X509_get_ext_count(self.ptr()) }).unwrap_or(0)
    }

    /// The extension at a place, counted from 0.
    pub fn extension(&self, place: usize) -> Option<Extension> {
        let place = c_int::try_from(place).ok()?;
        // SAFETY: a live certificate, which lends its extension; null for a wrong place.
        unsafe {
            let extension = sys::X509_get_ext(self.ptr(), place);
            if extension.is_null() {
                return None;
            }
            Some(describe_extension(extension))
        }
    }

    /// The other names of the subject or issuer; none where there is no such extension.
    pub fn alt_names(&self, party: Party) -> Option<Vec<AltName>> {
        let nid = match party {
            Party::Subject => sys::NID_subject_alt_name,
            Party::Issuer => sys::NID_issuer_alt_name,
        };
        // SAFETY: the library makes a list of names for this number, which is freed.
        unsafe {
            let names: *mut sys::GENERAL_NAMES =
                sys::X509_get_ext_d2i(self.ptr(), nid as c_int, null_mut(), null_mut()).cast();
            error::clear();
            if names.is_null() {
                return None;
            }
            let found = general_names(names);
            sys::GENERAL_NAMES_free(names);
            Some(found)
        }
    }

    /// Whether it is an authority, and how many more may follow; none where nothing is said.
    pub fn basic_constraints(&self) -> Option<(bool, Option<i64>)> {
        let nid = sys::NID_basic_constraints as c_int;
        // SAFETY: the library makes a structure for this number, which is freed.
        unsafe {
            let found: *mut sys::BASIC_CONSTRAINTS =
                sys::X509_get_ext_d2i(self.ptr(), nid, null_mut(), null_mut()).cast();
            error::clear();
            if found.is_null() {
                return None;
            }
            let len = (*found).pathlen;
            let answer = ((*found).ca != 0, (!len.is_null()).then(|| sys::ASN1_INTEGER_get(len)));
            sys::BASIC_CONSTRAINTS_free(found);
            Some(answer)
        }
    }

    /// Where its status can be asked for.
    pub fn ocsp_urls(&self) -> Vec<String> {
        // SAFETY: a list of strings, which is freed.
        unsafe {
            let list = sys::X509_get1_ocsp(self.ptr());
            error::clear();
            let mut urls = Vec::new();
            if list.is_null() {
                return urls;
            }
            for n in 0..sys::OPENSSL_sk_num(list.cast()) {
                urls.extend(error::text(sys::OPENSSL_sk_value(list.cast(), n).cast()));
            }
            sys::X509_email_free(list);
            urls
        }
    }

    /// Where its revocation lists are: a list of names for each point.
    pub fn crl_points(&self) -> Vec<Vec<AltName>> {
        let nid = sys::NID_crl_distribution_points as c_int;
        // SAFETY: the library makes a list of points for this number, which is freed; a point's name of type 0 is a list.
        unsafe {
            let points: *mut sys::CRL_DIST_POINTS =
                sys::X509_get_ext_d2i(self.ptr(), nid, null_mut(), null_mut()).cast();
            error::clear();
            let mut found = Vec::new();
            if points.is_null() {
                return found;
            }
            for n in 0..sys::OPENSSL_sk_num(points.cast()) {
                let point: *const sys::DIST_POINT = sys::OPENSSL_sk_value(points.cast(), n).cast();
                let name = (*point).distpoint;
                if !name.is_null() && (*name).type_ == 0 {
                    found.push(general_names((*name).name.fullname));
                }
            }
            sys::CRL_DIST_POINTS_free(points);
            found
        }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        // SAFETY: both live.
        unsafe { sys::X509_cmp(self.ptr(), other.ptr()) == 0 }
    }
}

/// # Safety
/// A live extension.
pub(crate) unsafe fn describe_extension(extension: *const sys::X509_EXTENSION) -> Extension {
    // SAFETY: the caller's promise; the extension lends its parts.
    unsafe {
        let object = sys::X509_EXTENSION_get_object(extension);
        let der = string_bytes(sys::X509_EXTENSION_get_data(extension).cast());
        let text =
            bio::write(|bio| sys::X509V3_EXT_print(bio, extension, 0, 0)).unwrap_or_else(|_| der.clone());
        Extension {
            nid: sys::OBJ_obj2nid(object),
            dotted: objects::dotted_of(object),
            is_critical: sys::X509_EXTENSION_get_critical(extension) == 1,
            der,
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

/// # Safety
/// Null or a live name.
pub(crate) unsafe fn name_entries(name: *const sys::X509_NAME) -> Vec<NameEntry> {
    let mut entries = Vec::new();
    if name.is_null() {
        return entries;
    }
    // SAFETY: the caller's promise; places are within the count.
    unsafe {
        for n in 0..sys::X509_NAME_entry_count(name) {
            let entry = sys::X509_NAME_get_entry(name, n);
            let object = sys::X509_NAME_ENTRY_get_object(entry);
            entries.push(NameEntry {
                nid: sys::OBJ_obj2nid(object),
                dotted: objects::dotted_of(object),
                value: string_bytes(sys::X509_NAME_ENTRY_get_data(entry)),
            });
        }
    }
    entries
}

/// # Safety
/// Null or a live string.
unsafe fn string_bytes(string: *const sys::ASN1_STRING) -> Vec<u8> {
    if string.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe {
        let size = usize::try_from(sys::ASN1_STRING_length(string)).unwrap_or(0);
        bio::slice(sys::ASN1_STRING_get0_data(string), size).to_vec()
    }
}

/// # Safety
/// A live list.
unsafe fn general_names(names: *const sys::GENERAL_NAMES) -> Vec<AltName> {
    let mut found = Vec::new();
    // SAFETY: the caller's promise. What the library lends has the type that it says.
    unsafe {
        for n in 0..sys::OPENSSL_sk_num(names.cast()) {
            let name: *const sys::GENERAL_NAME = sys::OPENSSL_sk_value(names.cast(), n).cast();
            let mut kind = 0;
            let value = sys::GENERAL_NAME_get0_value(name, &raw mut kind);
            let (kind, value) = match kind {
                sys::GEN_EMAIL => ("email", string_bytes(value.cast())),
                sys::GEN_DNS => ("DNS", string_bytes(value.cast())),
                sys::GEN_URI => ("URI", string_bytes(value.cast())),
                sys::GEN_IPADD => ("IP", address_text(&string_bytes(value.cast()))),
                sys::GEN_RID => ("RID", objects::dotted_of(value.cast()).into_bytes()),
                sys::GEN_DIRNAME => {
                    let parts = name_entries(value.cast());
                    let text: Vec<_> = parts.iter().map(part_text).collect();
                    ("DirName", text.join(&b'/'))
                }
                _ => ("otherName", Vec::new()),
            };
            found.push(AltName { kind, value });
        }
    }
    found
}

fn part_text(entry: &NameEntry) -> Vec<u8> {
    let name = objects::short_name(entry.nid).unwrap_or_else(|| entry.dotted.clone());
    [name.as_bytes(), b"=", &entry.value].concat()
}

/// An address, or its bytes where they are none.
fn address_text(bytes: &[u8]) -> Vec<u8> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(four).to_string().into_bytes();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => std::net::Ipv6Addr::from(sixteen).to_string().into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// The certificates in a PEM text, in order.
pub fn all_from_pem(text: &[u8]) -> Vec<Certificate> {
    let found = bio::read(text, |bio| {
        let mut certificates = Vec::new();
        loop {
            // SAFETY: a live BIO; no password is asked for.
            let next = unsafe { sys::PEM_read_bio_X509(bio, null_mut(), None, null_mut()) };
            match Certificate::own(next) {
                Ok(certificate) => certificates.push(certificate),
                Err(_) => return certificates,
            }
        }
    });
    found.unwrap_or_default()
}
