//! Certificate revocation lists.

use super::{
    asn1::{BOOLEAN, Elements, GENERALIZED_TIME, INTEGER, OID, SEQUENCE, UTC_TIME},
    x509::{Certificate, canonical, signature_is_good},
};
use der::Decode;
use std::collections::HashSet;
use x509_cert::{name::Name, time::Time};

/// `[0]`, where a list has its extensions.
const EXTENSIONS: u8 = 0xa0;

/// A list, decoded.
#[derive(Clone, Debug)]
pub struct Crl {
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    from: i64,
    to: Option<i64>,
    /// Serial numbers, as they are encoded.
    serials: HashSet<Vec<u8>>,
    /// It has a critical extension that is not understood here.
    foreign: bool,
}

/// The moment that comes next, in seconds since 1970.
fn time(elements: &mut Elements<'_>) -> Option<i64> {
    let found = elements.next(UTC_TIME).or_else(|| elements.next(GENERALIZED_TIME))?;
    let time = Time::from_der(found.whole).ok()?;
    i64::try_from(time.to_unix_duration().as_secs()).ok()
}

/// Whether one of these extensions is critical; none is understood here that may be.
fn has_critical(mut extensions: Elements<'_>) -> bool {
    while let Some(mut extension) = extensions.open(SEQUENCE) {
        extension.next(OID);
        if extension.next(BOOLEAN).is_some_and(|flag| flag.contents != [0]) {
            return true;
        }
    }
    false
}

/// Why a list does not let a certificate pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revoked {
    BadSignature,
    NotYetValid,
    Expired,
    Listed,
}

impl Crl {
    /// Decodes a list; `None` when it is none.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let mut outer = Elements(der).open(SEQUENCE)?;
        let tbs = outer.next(SEQUENCE)?.whole;
        let algorithm = outer.next(SEQUENCE)?.contents;
        let signature = outer.bits()?;
        let mut list = Elements(tbs).open(SEQUENCE)?;
        // The oldest kind of list has no version.
        let _version = list.next(INTEGER);
        list.next(SEQUENCE)?;
        let issuer = Name::from_der(list.next(SEQUENCE)?.whole).ok()?;
        let from = time(&mut list)?;
        let to = time(&mut list);
        let mut foreign = false;
        let mut serials = HashSet::new();
        let mut entries = list.open(SEQUENCE).unwrap_or(Elements(&[]));
        while !entries.is_empty() {
            let mut entry = entries.open(SEQUENCE)?;
            serials.insert(entry.next(INTEGER)?.contents.to_vec());
            time(&mut entry)?;
            foreign |= entry.open(SEQUENCE).is_some_and(has_critical);
        }
        foreign |= list.open(EXTENSIONS).and_then(|mut all| all.open(SEQUENCE)).is_some_and(has_critical);
        Some(Self {
            tbs: tbs.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
            issuer: canonical(&issuer),
            from,
            to,
            serials,
            foreign,
        })
    }

    /// Whose list it is, in the form that can be compared.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Whether it is in force.
    pub fn is_current(&self, now: i64) -> bool {
        now >= self.from && self.to.is_none_or(|to| now <= to)
    }

    /// Looks for a certificate. The list must be its issuer's.
    ///
    /// # Errors
    /// When the list cannot be relied on, or the certificate is in it.
    pub fn check(&self, certificate: &Certificate, issuer: &Certificate, now: i64) -> Result<(), Revoked> {
        if self.foreign || !signature_is_good(issuer, &self.tbs, &self.algorithm, &self.signature) {
            return Err(Revoked::BadSignature);
        }
        if now < self.from {
            return Err(Revoked::NotYetValid);
        }
        if self.serials.contains(certificate.serial()) {
            return Err(Revoked::Listed);
        }
        if self.to.is_some_and(|to| now > to) {
            return Err(Revoked::Expired);
        }
        Ok(())
    }
}
