//! OCSP: asking an issuer whether a certificate is still good. RFC 6960.

use super::{
    asn1::{ENUMERATED, Elements, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, encode},
    verify::Failure,
    x509::{Certificate, canonical, signature_is_good},
};
use der::Decode;
use std::sync::Arc;
use x509_cert::{ext::pkix::AuthorityInfoAccessSyntax, ext::pkix::name::GeneralName, name::Name, time::Time};

/// `id-pkix-ocsp-basic`, `id-sha1`, `id-kp-OCSPSigning`, `id-ad-ocsp`.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
const AD_OCSP: &str = "1.3.6.1.5.5.7.48.1";
/// Seconds by which clocks may differ: OpenSSL's.
const SKEW: i64 = 300;

/// What an issuer says of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Status {
    /// OpenSSL's word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// An answer that can be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: Status,
    /// Seconds since 1970 until which it is valid, if it says so.
    pub until: Option<i64>,
}

/// Which certificate is asked about.
pub struct Question<'a> {
    pub certificate: &'a Certificate,
    pub issuer: &'a Certificate,
}

/// Who may have signed an answer.
pub enum Signer<'a> {
    /// The issuer, or whom it has charged with that.
    Authorized,
    /// Anybody whose certificate is at hand: among these, or in the answer.
    Anybody(&'a [Arc<Certificate>]),
}

fn sha1(data: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref().to_vec()
}

/// The responder that a certificate names.
pub fn responder(certificate: &Certificate) -> Option<String> {
    let (_, access) = certificate.extension::<AuthorityInfoAccessSyntax>().ok()??;
    access.0.iter().find_map(|place| match &place.access_location {
        GeneralName::UniformResourceIdentifier(uri) if place.access_method.to_string() == AD_OCSP => {
            Some(uri.to_string())
        }
        _ => None,
    })
}

impl Question<'_> {
    /// What stands for the certificate in questions and answers.
    pub fn id(&self) -> Vec<u8> {
        let algorithm = encode(SEQUENCE, &[encode(OID, SHA1), vec![5, 0]].concat());
        let name = encode(OCTET_STRING, &sha1(self.issuer.subject()));
        let key = encode(OCTET_STRING, &sha1(self.issuer.key()));
        let serial = encode(INTEGER, self.certificate.serial());
        encode(SEQUENCE, &[algorithm, name, key, serial].concat())
    }

    /// The request, encoded.
    pub fn encode(&self) -> Vec<u8> {
        let request = encode(SEQUENCE, &self.id());
        let list = encode(SEQUENCE, &request);
        encode(SEQUENCE, &encode(SEQUENCE, &list))
    }

    /// Reads an answer. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// nginx's and OpenSSL's words for what is wrong with it.
    pub fn check(&self, response: &[u8], signer: &Signer<'_>, now: i64) -> Result<Answer, String> {
        let broken = || "d2i_OCSP_RESPONSE() failed".to_owned();
        let basic = basic(response)?;
        let mut basic = Elements(basic).open(SEQUENCE).ok_or_else(broken)?;
        let data = basic.next(SEQUENCE).ok_or_else(broken)?;
        let algorithm = basic.next(SEQUENCE).ok_or_else(broken)?.contents;
        let signature = basic.bits().ok_or_else(broken)?;
        let mut shown = Vec::new();
        if let Some(mut list) = basic.open(0xa0).and_then(|mut tagged| tagged.open(SEQUENCE)) {
            while let Some(certificate) = list.next(SEQUENCE) {
                shown.extend(Certificate::from_der(certificate.whole));
            }
        }
        let mut fields = Elements(data.contents);
        let _version = fields.next(0xa0);
        let responder = fields.any().ok_or_else(broken)?;
        let _produced = fields.next(GENERALIZED_TIME).ok_or_else(broken)?;
        let who = self.find_signer(responder.tag, responder.contents, &shown, signer, now).ok_or(
            "OCSP_basic_verify() failed (SSL: error:13800076:OCSP routines::signer certificate not found)",
        )?;
        if !signature_is_good(who, data.whole, algorithm, signature) {
            return Err(
                "OCSP_basic_verify() failed (SSL: error:13800075:OCSP routines::signature failure)".into()
            );
        }
        let mut answers = fields.open(SEQUENCE).ok_or_else(broken)?;
        while let Some(mut answer) = answers.open(SEQUENCE) {
            if answer.next(SEQUENCE).is_some_and(|id| self.is_meant(id.contents)) {
                return read_answer(answer, now);
            }
        }
        Err("certificate status not found in the OCSP response".into())
    }

    /// Whether an identifier is that of the certificate.
    fn is_meant(&self, id: &[u8]) -> bool {
        let mut id = Elements(id);
        let algorithm = id.open(SEQUENCE).and_then(|mut algorithm| algorithm.next(OID));
        let name = id.next(OCTET_STRING);
        let key = id.next(OCTET_STRING);
        let serial = id.next(INTEGER);
        algorithm.is_some_and(|found| found.contents == SHA1)
            && name.is_some_and(|found| found.contents == sha1(self.issuer.subject()))
            && key.is_some_and(|found| found.contents == sha1(self.issuer.key()))
            && serial.is_some_and(|found| found.contents == self.certificate.serial())
    }

    fn find_signer<'s>(
        &'s self,
        kind: u8,
        responder: &[u8],
        shown: &'s [Certificate],
        signer: &Signer<'s>,
        now: i64,
    ) -> Option<&'s Certificate> {
        let named = |candidate: &&Certificate| match kind {
            0xa1 => Name::from_der(responder).is_ok_and(|name| canonical(&name) == candidate.subject_form()),
            0xa2 => Elements(responder)
                .next(OCTET_STRING)
                .is_some_and(|hash| hash.contents == sha1(candidate.key())),
            _ => false,
        };
        if named(&self.issuer) {
            return Some(self.issuer);
        }
        match signer {
            Signer::Anybody(others) => {
                shown.iter().chain(others.iter().map(|known| &**known)).find(|known| named(known))
            }
            Signer::Authorized => {
                shown.iter().filter(named).find(|candidate| self.is_charged(candidate, now))
            }
        }
    }

    /// Whether the issuer has charged the holder of a certificate with answering.
    fn is_charged(&self, candidate: &Certificate, now: i64) -> bool {
        let usage = candidate.extension::<x509_cert::ext::pkix::ExtendedKeyUsage>();
        let answers = usage
            .ok()
            .flatten()
            .is_some_and(|(_, usages)| usages.0.iter().any(|usage| usage.to_string() == OCSP_SIGNING));
        let (from, to) = candidate.validity();
        answers
            && candidate.issuer_form() == self.issuer.subject_form()
            && candidate.is_signed_by(self.issuer)
            && (from..=to).contains(&now)
    }
}

/// Whether bytes are an answer at all, and one that tells something.
///
/// # Errors
/// nginx's and OpenSSL's words for what is wrong with it.
pub fn check_form(response: &[u8]) -> Result<(), String> {
    basic(response).map(drop)
}

/// The basic response in a response.
fn basic(response: &[u8]) -> Result<&[u8], String> {
    let broken = || "d2i_OCSP_RESPONSE() failed".to_owned();
    let mut outer = Elements(response).open(SEQUENCE).ok_or_else(broken)?;
    let status = outer.next(ENUMERATED).ok_or_else(broken)?;
    match status.contents {
        [0] => {}
        other => {
            let number = other.first().copied().unwrap_or(0);
            let name = match number {
                1 => "malformedrequest",
                2 => "internalerror",
                3 => "trylater",
                5 => "sigrequired",
                6 => "unauthorized",
                _ => "(UNKNOWN)",
            };
            return Err(format!("OCSP response not successful ({number}: {name})"));
        }
    }
    let mut bytes = outer.open(0xa0).and_then(|mut tagged| tagged.open(SEQUENCE)).ok_or_else(broken)?;
    match (bytes.next(OID), bytes.next(OCTET_STRING)) {
        (Some(kind), Some(body)) if kind.contents == BASIC => Ok(body.contents),
        _ => Err("OCSP_response_get1_basic() failed".into()),
    }
}

/// The rest of an answer, behind what it is about.
fn read_answer(mut answer: Elements<'_>, now: i64) -> Result<Answer, String> {
    let broken = || "d2i_OCSP_RESPONSE() failed".to_owned();
    let status = match answer.any().ok_or_else(broken)?.tag {
        0x80 => Status::Good,
        0xa1 => Status::Revoked,
        0x82 => Status::Unknown,
        _ => return Err(broken()),
    };
    let from = time(&mut answer).ok_or_else(broken)?;
    let until = match answer.open(0xa0) {
        Some(mut tagged) => Some(time(&mut tagged).ok_or_else(broken)?),
        None => None,
    };
    let invalid = |why: &str| format!("OCSP_check_validity() failed (SSL: error:1380{why})");
    if from > now.saturating_add(SKEW) {
        return Err(invalid("007E:OCSP routines::status not yet valid"));
    }
    if until.is_some_and(|until| until < now.saturating_sub(SKEW)) {
        return Err(invalid("007D:OCSP routines::status expired"));
    }
    Ok(Answer { status, until })
}

fn time(elements: &mut Elements<'_>) -> Option<i64> {
    let time = Time::from_der(elements.next(GENERALIZED_TIME)?.whole).ok()?;
    i64::try_from(time.to_unix_duration().as_secs()).ok()
}

/// What `$ssl_client_verify` says of a certificate that is not good.
pub fn refusal(status: Status) -> &'static str {
    match status {
        Status::Revoked => Failure::Revoked.text(),
        Status::Good | Status::Unknown => UNKNOWN,
    }
}

/// What `$ssl_client_verify` says where nothing could be found out.
pub const UNKNOWN: &str = "certificate status request failed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::asn1::BIT_STRING;
    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};

    struct Pair {
        issuer: Certificate,
        issuer_key: KeyPair,
        leaf: Certificate,
    }

    fn pair() -> Pair {
        let mut params = CertificateParams::new(vec!["ca.example".into()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer_key = KeyPair::generate().unwrap();
        let issuer = params.self_signed(&issuer_key).unwrap();
        let leaf = CertificateParams::new(vec!["leaf.example".into()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&params, &issuer_key)).unwrap();
        Pair {
            issuer: Certificate::from_der(issuer.der()).unwrap(),
            issuer_key,
            leaf: Certificate::from_der(leaf.der()).unwrap(),
        }
    }

    fn response(pair: &Pair, status: &[u8], until: &str) -> Vec<u8> {
        let question = Question { certificate: &pair.leaf, issuer: &pair.issuer };
        let time = |text: &str| encode(GENERALIZED_TIME, text.as_bytes());
        let single = encode(
            SEQUENCE,
            &[question.id(), status.to_vec(), time("20260101000000Z"), encode(0xa0, &time(until))].concat(),
        );
        let responder = encode(0xa2, &encode(OCTET_STRING, &sha1(pair.issuer.key())));
        let data =
            encode(SEQUENCE, &[responder, time("20260101000000Z"), encode(SEQUENCE, &single)].concat());
        let signature = rcgen::SigningKey::sign(&pair.issuer_key, &data).unwrap();
        // ecdsa-with-SHA256
        let algorithm = encode(SEQUENCE, &encode(OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
        let bits = encode(BIT_STRING, &[&[0], &signature[..]].concat());
        let basic = encode(SEQUENCE, &[data, algorithm, bits].concat());
        let bytes = encode(SEQUENCE, &[encode(OID, BASIC), encode(OCTET_STRING, &basic)].concat());
        encode(SEQUENCE, &[encode(ENUMERATED, &[0]), encode(0xa0, &bytes)].concat())
    }

    /// In 2027.
    const NOW: i64 = 1_800_000_000;

    #[test]
    fn answers_are_read_and_checked() {
        let pair = pair();
        let question = Question { certificate: &pair.leaf, issuer: &pair.issuer };
        let good = response(&pair, &[0x80, 0], "20300101000000Z");
        let answer = question.check(&good, &Signer::Authorized, NOW).unwrap();
        assert_eq!((answer.status, answer.until.is_some()), (Status::Good, true));
        let revoked = encode(0xa1, &encode(GENERALIZED_TIME, b"20260601000000Z"));
        let revoked = response(&pair, &revoked, "20300101000000Z");
        assert_eq!(question.check(&revoked, &Signer::Authorized, NOW).unwrap().status, Status::Revoked);
        let old = response(&pair, &[0x80, 0], "20260201000000Z");
        assert!(question.check(&old, &Signer::Authorized, NOW).unwrap_err().contains("status expired"));
        assert_eq!(
            question.check(&[0x30, 3, 0x0a, 1, 6], &Signer::Authorized, NOW).unwrap_err(),
            "OCSP response not successful (6: unauthorized)"
        );
        // Another issuer has said nothing about it.
        let other = self::pair();
        let foreign = Question { certificate: &pair.leaf, issuer: &other.issuer };
        assert!(foreign.check(&good, &Signer::Authorized, NOW).is_err());
    }

    #[test]
    fn no_byte_of_an_answer_can_be_changed() {
        let pair = pair();
        let question = Question { certificate: &pair.leaf, issuer: &pair.issuer };
        let good = response(&pair, &[0x80, 0], "20300101000000Z");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(question.check(&bad, &Signer::Authorized, NOW).is_err(), "byte {at}");
            assert!(question.check(&good[..at], &Signer::Authorized, NOW).is_err());
        }
    }
}
