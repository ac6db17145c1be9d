//! Certificate revocation lists.

use super::{
    asn1::{BIT_STRING, Elements, SEQUENCE},
    x509::{Certificate, canonical, signature_is_good},
};
use der::Decode;
use std::collections::HashSet;
use x509_cert::crl::CertificateList;

/// A list, decoded.
#[derive(Debug)]
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
        let parsed = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).ok()?;
        let mut outer = Elements(der).open(SEQUENCE)?;
        let tbs = outer.next(SEQUENCE)?.whole;
        let algorithm = outer.next(SEQUENCE)?.contents;
        let signature = outer.next(BIT_STRING)?.contents.get(1..)?;
        let seconds = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
        };
        let list = &parsed.tbs_cert_list;
        let revoked = list.revoked_certificates.as_deref().unwrap_or_default();
        let serials = revoked.iter().map(|entry| entry.serial_number.as_bytes().to_vec()).collect();
        let critical = |extensions: &Option<x509_cert::ext::Extensions>| {
            extensions.iter().flatten().any(|extension| extension.critical)
        };
        let foreign = critical(&list.crl_extensions)
            || revoked.iter().any(|entry| critical(&entry.crl_entry_extensions));
        Some(Self {
            tbs: tbs.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
            issuer: canonical(&list.issuer),
            from: seconds(list.this_update),
            to: list.next_update.map(seconds),
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
        if self.serials.contains(certificate.parsed.tbs_certificate().serial_number().as_bytes()) {
            return Err(Revoked::Listed);
        }
        if self.to.is_some_and(|to| now > to) {
            return Err(Revoked::Expired);
        }
        Ok(())
    }
}
