//! Lists of revoked certificates, read and made.
use std::ffi::{c_int, c_long};
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::bio;
use crate::bn::BigNum;
use crate::digest::Algorithm;
use crate::error::{self, Error, Outcome, check, int, signature_checked};
use crate::pkey::Key;
use crate::x509::{NameEntry, name_entries};
use crate::x509_make::{ExtensionObject, Integer, make_name, make_time};

owned!(
    /// A list of revoked certificates.
    Crl,
    sys::X509_CRL,
    sys::X509_CRL_free
);
owned!(
    /// An entry for such a list.
    Revoked,
    sys::X509_REVOKED,
    sys::X509_REVOKED_free
);
owned!(Reason, sys::ASN1_ENUMERATED, sys::ASN1_ENUMERATED_free);

/// What an entry says.
pub struct Entry {
    pub serial: BigNum,
    /// Since when, in seconds since 1970.
    pub since: Option<i64>,
}

impl Entry {
    /// # Safety
    /// A live entry.
    unsafe fn of(entry: *const sys::X509_REVOKED) -> Outcome<Self> {
        // SAFETY: the caller's promise; the entry lends its parts.
        unsafe {
            let serial = BigNum::of_asn1(sys::X509_REVOKED_get0_serialNumber(entry))?;
            Ok(Self { serial, since: seconds(sys::X509_REVOKED_get0_revocationDate(entry)) })
        }
    }
}

/// # Safety
/// Null or a live time.
unsafe fn seconds(time: *const sys::ASN1_TIME) -> Option<i64> {
    let mut seconds = 0;
    // SAFETY: the caller's promise; a place for the number.
    let found = !time.is_null() && unsafe { sys::ASN1_TIME_to_posix(time, &raw mut seconds) } == 1;
    error::clear();
    found.then_some(seconds)
}

impl Revoked {
    /// A certificate's number, since when it is revoked in seconds since 1970, and why (RFC 5280, 5.3.1).
    ///
    /// # Errors
    /// A time that cannot be written.
    pub fn new(serial: &BigNum, since: i64, reason: i64) -> Outcome<Self> {
        // SAFETY: live objects; number and time are copied, the reason is encoded.
        unsafe {
            let entry = Self::own(sys::X509_REVOKED_new())?;
            let number = Integer::own(sys::BN_to_ASN1_INTEGER(serial.ptr(), null_mut()))?;
            check(sys::X509_REVOKED_set_serialNumber(entry.ptr(), number.ptr()))?;
            check(sys::X509_REVOKED_set_revocationDate(entry.ptr(), make_time(since)?.ptr()))?;
            let why = Reason::own(sys::ASN1_ENUMERATED_new())?;
            check(sys::ASN1_ENUMERATED_set(why.ptr(), c_long::from(reason)))?;
            let nid = sys::NID_crl_reason as c_int;
            check(sys::X509_REVOKED_add1_ext_i2d(entry.ptr(), nid, why.ptr().cast(), 0, 0))?;
            Ok(entry)
        }
    }
}

impl Crl {
    /// An empty one, to be filled and signed.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Outcome<Self> {
        // SAFETY: no arguments.
        Self::own(unsafe { sys::X509_CRL_new() })
    }

    /// # Errors
    /// Text without a list.
    pub fn from_pem(text: &[u8]) -> Outcome<Self> {
        // SAFETY: a live BIO; no password is asked for.
        let read =
            bio::read(text, |bio| unsafe { sys::PEM_read_bio_X509_CRL(bio, null_mut(), None, null_mut()) })?;
        Self::own(read)
    }

    /// # Errors
    /// Bytes that are no list.
    pub fn from_der(der: &[u8]) -> Outcome<Self> {
        let mut data = der.as_ptr();
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe { sys::d2i_X509_CRL(null_mut(), &raw mut data, int(der.len())?.into()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_pem(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO and a live list.
        bio::write(|bio| unsafe { sys::PEM_write_bio_X509_CRL(bio, self.ptr()) })
    }

    /// # Errors
    /// The library's.
    pub fn to_der(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live list; the place is the writer's.
        bio::der(|out| unsafe { sys::i2d_X509_CRL(self.ptr(), out) })
    }

    /// As `openssl crl -text` shows it.
    ///
    /// # Errors
    /// The library's.
    pub fn text(&self) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO and a live list.
        bio::write(|bio| unsafe { sys::X509_CRL_print(bio, self.ptr()) })
    }

    /// One of its own with the same contents.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn duplicate(&self) -> Outcome<Self> {
        // SAFETY: a live list.
        Self::own(unsafe { sys::X509_CRL_dup(self.ptr()) })
    }

    /// 1 or 2.
    pub fn version(&self) -> i64 {
        // SAFETY: a live list.
        unsafe { sys::X509_CRL_get_version(self.ptr()) + 1 }
    }

    /// # Errors
    /// The library's.
    pub fn set_version(&self, version: i64) -> Outcome<()> {
        // SAFETY: a live list.
        check(unsafe { sys::X509_CRL_set_version(self.ptr(), c_long::from(version) - 1) })
    }

    pub fn issuer(&self) -> Vec<NameEntry> {
        // SAFETY: a live list, which lends its name.
        unsafe { name_entries(sys::X509_CRL_get_issuer(self.ptr())) }
    }

    /// # Errors
    /// A part that is not text, or too long for its kind.
    pub fn set_issuer(&self, parts: &[(i32, Vec<u8>)]) -> Outcome<()> {
        let name = make_name(parts)?;
        // SAFETY: live objects; the name is copied.
        check(unsafe { sys::X509_CRL_set_issuer_name(self.ptr(), name.ptr()) })
    }

    /// When it was made, in seconds since 1970, and when the next one is to be.
    pub fn updates(&self) -> (Option<i64>, Option<i64>) {
        // SAFETY: a live list, which lends its times.
        unsafe {
            (
                seconds(sys::X509_CRL_get0_lastUpdate(self.ptr())),
                seconds(sys::X509_CRL_get0_nextUpdate(self.ptr())),
            )
        }
    }

    /// # Errors
    /// A time that cannot be written.
    pub fn set_last_update(&self, seconds: i64) -> Outcome<()> {
        // SAFETY: live objects; the time is copied.
        check(unsafe { sys::X509_CRL_set1_lastUpdate(self.ptr(), make_time(seconds)?.ptr()) })
    }

    /// # Errors
    /// A time that cannot be written.
    pub fn set_next_update(&self, seconds: i64) -> Outcome<()> {
        // SAFETY: live objects; the time is copied.
        check(unsafe { sys::X509_CRL_set1_nextUpdate(self.ptr(), make_time(seconds)?.ptr()) })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        // SAFETY: a live list, which lends its entries; null for none.
        unsafe {
            let entries = sys::X509_CRL_get_REVOKED(self.ptr());
            if entries.is_null() { 0 } else { sys::OPENSSL_sk_num(entries.cast()) }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at a place, counted from 0.
    pub fn entry(&self, place: usize) -> Option<Entry> {
        if place >= self.len() {
            return None;
        }
        // SAFETY: a live list, which lends its entries; the place is within.
        unsafe {
            let entries = sys::X509_CRL_get_REVOKED(self.ptr());
            let entry: *const sys::X509_REVOKED = sys::OPENSSL_sk_value(entries.cast(), place).cast();
            if entry.is_null() { None } else { Entry::of(entry).ok() }
        }
    }

    /// The entry for a number. One that only takes back an older entry is an error.
    ///
    /// # Errors
    /// See above.
    pub fn find(&self, serial: &BigNum) -> Outcome<Option<Entry>> {
        // SAFETY: live objects; a place for the entry, which the list lends.
        unsafe {
            let number = Integer::own(sys::BN_to_ASN1_INTEGER(serial.ptr(), null_mut()))?;
            let mut entry = null_mut();
            match sys::X509_CRL_get0_by_serial(self.ptr(), &raw mut entry, number.ptr()) {
                1 => Entry::of(entry).map(Some),
                2 => Err(Error::new("not revoked (removeFromCRL)")),
                _ => Ok(None),
            }
        }
    }

    /// Adds a copy of an entry.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn add(&self, entry: &Revoked) -> Outcome<()> {
        // SAFETY: live objects; the copy becomes the list's.
        unsafe {
            let copy = Revoked::own(sys::X509_REVOKED_dup(entry.ptr()))?;
            check(sys::X509_CRL_add0_revoked(self.ptr(), copy.ptr()))?;
            std::mem::forget(copy);
        }
        Ok(())
    }

    /// The place of the next extension with this number, behind a place.
    pub fn find_extension(&self, nid: i32, after: Option<usize>) -> Option<usize> {
        let after = after.map_or(-1, |after| c_int::try_from(after).unwrap_or(c_int::MAX));
        // SAFETY: a live list.
        let place = unsafe { sys::X509_CRL_get_ext_by_NID(self.ptr(), nid, after) };
        error::clear();
        usize::try_from(place).ok()
    }

    /// A copy of the extension at a place, counted from 0.
    pub fn extension(&self, place: usize) -> Option<ExtensionObject> {
        let place = c_int::try_from(place).ok()?;
        // SAFETY: a live list, which lends its extension; null for a wrong place.
        unsafe {
            let found = sys::X509_CRL_get_ext(self.ptr(), place);
            if found.is_null() { None } else { ExtensionObject::own(sys::X509_EXTENSION_dup(found)).ok() }
        }
    }

    /// Adds an extension, at a place or behind the others.
    ///
    /// # Errors
    /// The library's.
    pub fn add_extension(&self, extension: &ExtensionObject, place: Option<usize>) -> Outcome<()> {
        let place = place.map_or(-1, |place| c_int::try_from(place).unwrap_or(-1));
        // SAFETY: both live; the extension is copied.
        check(unsafe { sys::X509_CRL_add_ext(self.ptr(), extension.ptr(), place) })
    }

    /// Takes out the extension at a place.
    pub fn remove_extension(&self, place: usize) {
        let Ok(place) = c_int::try_from(place) else { return };
        // SAFETY: a live list; what it gives back is ours.
        drop(ExtensionObject::own(unsafe { sys::X509_CRL_delete_ext(self.ptr(), place) }));
        error::clear();
    }

    /// Signs it, its entries in order. Ed25519 takes no digest.
    ///
    /// # Errors
    /// A key without its secret half.
    pub fn sign(&self, key: &Key, digest: Option<Algorithm>) -> Outcome<()> {
        if !key.is_private() {
            return Err(Error::new("not a private key"));
        }
        // SAFETY: both live. It answers the signature's size.
        let size = unsafe {
            sys::X509_CRL_sort(self.ptr());
            sys::X509_CRL_sign(self.ptr(), key.ptr(), digest.map_or(null(), Algorithm::ptr))
        };
        if size > 0 { Ok(()) } else { Err(Error::take()) }
    }

    /// Whether the key signed it.
    ///
    /// # Errors
    /// A check that cannot be made.
    pub fn is_signed_by(&self, key: &Key) -> Outcome<bool> {
        // SAFETY: both live.
        signature_checked(unsafe { sys::X509_CRL_verify(self.ptr(), key.ptr()) })
    }

    /// The number of the algorithm it was signed with.
    pub fn signature(&self) -> i32 {
        // SAFETY: a live list.
        unsafe { sys::X509_CRL_get_signature_nid(self.ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::nid;
    use crate::pkey::curve_by_name;

    #[test]
    fn a_list_is_made_signed_and_read() {
        let key = Key::generate_ec(curve_by_name("prime256v1").unwrap()).unwrap();
        let list = Crl::new().unwrap();
        list.set_version(2).unwrap();
        list.set_issuer(&[(nid("CN").unwrap(), b"ca".to_vec())]).unwrap();
        list.set_last_update(1_700_000_000).unwrap();
        list.set_next_update(1_800_000_000).unwrap();
        assert!(list.is_empty());
        for serial in [9, 7] {
            let serial = BigNum::from_word(serial).unwrap();
            list.add(&Revoked::new(&serial, 1_690_000_000, 1).unwrap()).unwrap();
        }
        let number = ExtensionObject::from_der(nid("crlNumber").unwrap(), &[2, 1, 5], false).unwrap();
        list.add_extension(&number, None).unwrap();
        list.sign(&key, Algorithm::by_name("sha256")).unwrap();
        let back = Crl::from_pem(&list.to_pem().unwrap()).unwrap();
        assert_eq!((back.version(), back.len()), (2, 2));
        assert_eq!(back.updates(), (Some(1_700_000_000), Some(1_800_000_000)));
        assert_eq!(back.issuer()[0].value, b"ca");
        assert_eq!(back.entry(0).unwrap().since, Some(1_690_000_000));
        assert!(back.entry(2).is_none());
        let seven = BigNum::from_word(7).unwrap();
        assert!(back.find(&seven).unwrap().is_some());
        assert!(back.find(&BigNum::from_word(8).unwrap()).unwrap().is_none());
        let place = back.find_extension(nid("crlNumber").unwrap(), None).unwrap();
        assert_eq!(back.extension(place).unwrap().describe().der, [2, 1, 5]);
        assert!(back.is_signed_by(&key).unwrap());
        let other = Key::generate_ec(curve_by_name("prime256v1").unwrap()).unwrap();
        assert!(!back.is_signed_by(&other).unwrap());
        assert!(Crl::from_der(b"junk").is_err() && Crl::from_pem(b"junk").is_err());
        // What is signed once may be changed and signed again.
        back.remove_extension(place);
        back.sign(&other, Algorithm::by_name("sha256")).unwrap();
        let again = Crl::from_der(&back.to_der().unwrap()).unwrap();
        assert!(
            again.is_signed_by(&other).unwrap()
                && again.find_extension(nid("crlNumber").unwrap(), None).is_none()
        );
    }
}
