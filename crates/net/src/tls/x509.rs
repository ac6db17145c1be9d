//! A certificate with what is needed of it as bytes, and as text in OpenSSL's forms.

use super::asn1::{self, Elements, INTEGER, SEQUENCE};
use der::{Decode, Encode, Tagged, asn1::ObjectIdentifier};
use std::{fmt::Write as _, ops::Range};
use x509_cert::{
    attr::AttributeTypeAndValue,
    ext::pkix::{BasicConstraints, KeyUsage},
    name::Name,
};

/// A certificate does not say something, or says it in a way that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unfit;

/// A certificate, decoded.
#[derive(Debug)]
pub struct Certificate {
    der: Vec<u8>,
    pub parsed: x509_cert::Certificate,
    tbs: Range<usize>,
    /// The algorithm of the signature, without its head.
    algorithm: Range<usize>,
    signature: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    /// The algorithm of the key, without its head, and the key.
    key_algorithm: Range<usize>,
    key: Range<usize>,
    /// Both of them with their head.
    key_info: Range<usize>,
    subject_form: Vec<u8>,
    issuer_form: Vec<u8>,
}

impl Certificate {
    /// Decodes a certificate; `None` when it is none.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let parsed = x509_cert::Certificate::from_der(der).ok()?;
        let at = |part: &[u8]| {
            let start = part.as_ptr() as usize - der.as_ptr() as usize;
            start..start + part.len()
        };
        let mut outer = Elements(der).open(SEQUENCE)?;
        let tbs = outer.next(SEQUENCE)?;
        let algorithm = outer.next(SEQUENCE)?.contents;
        let signature = outer.bits()?;
        let mut inner = Elements(tbs.contents);
        let _version = inner.next(0xa0);
        let serial = inner.next(INTEGER)?.contents;
        inner.next(SEQUENCE)?;
        let issuer = inner.next(SEQUENCE)?.whole;
        inner.next(SEQUENCE)?;
        let subject = inner.next(SEQUENCE)?.whole;
        let key_info = inner.next(SEQUENCE)?;
        let mut info = Elements(key_info.contents);
        let key_algorithm = info.next(SEQUENCE)?.contents;
        let key = info.bits()?;
        Some(Self {
            tbs: at(tbs.whole),
            algorithm: at(algorithm),
            signature: at(signature),
            serial: at(serial),
            issuer: at(issuer),
            subject: at(subject),
            key_algorithm: at(key_algorithm),
            key: at(key),
            key_info: at(key_info.whole),
            subject_form: canonical(parsed.tbs_certificate().subject()),
            issuer_form: canonical(parsed.tbs_certificate().issuer()),
            der: der.to_vec(),
            parsed,
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What the issuer has signed.
    pub fn tbs(&self) -> &[u8] {
        self.part(&self.tbs)
    }

    /// The algorithm of the signature, as bytes without their head.
    pub fn algorithm(&self) -> &[u8] {
        self.part(&self.algorithm)
    }

    /// The issuer's signature.
    pub fn signature(&self) -> &[u8] {
        self.part(&self.signature)
    }

    /// The serial number as it stands there: big-endian, with its sign.
    pub fn serial(&self) -> &[u8] {
        self.part(&self.serial)
    }

    /// The subject's name, encoded.
    pub fn subject(&self) -> &[u8] {
        self.part(&self.subject)
    }

    /// The issuer's name, encoded.
    pub fn issuer(&self) -> &[u8] {
        self.part(&self.issuer)
    }

    /// The algorithm of the key, as bytes without their head.
    pub fn key_algorithm(&self) -> &[u8] {
        self.part(&self.key_algorithm)
    }

    /// The public key.
    pub fn key(&self) -> &[u8] {
        self.part(&self.key)
    }

    /// The public key with its algorithm, encoded.
    pub fn key_info(&self) -> &[u8] {
        self.part(&self.key_info)
    }

    /// The subject in a form that can be compared.
    pub fn subject_form(&self) -> &[u8] {
        &self.subject_form
    }

    /// The issuer in a form that can be compared.
    pub fn issuer_form(&self) -> &[u8] {
        &self.issuer_form
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.subject_form == self.issuer_form
    }

    /// Seconds since 1970 between which it is valid.
    pub fn validity(&self) -> (i64, i64) {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
        };
        (seconds(validity.not_before), seconds(validity.not_after))
    }

    /// Whether its time is over. `now` is in seconds since 1970.
    pub fn is_expired(&self, now: i64) -> bool {
        now > self.validity().1
    }

    /// An extension, and whether it is critical.
    ///
    /// # Errors
    /// When it is broken.
    pub fn extension<'a, T: Decode<'a> + der::oid::AssociatedOid>(
        &'a self,
    ) -> Result<Option<(bool, T)>, Unfit> {
        self.parsed.tbs_certificate().get_extension::<T>().map_err(|_| Unfit)
    }

    /// How many certificates may stand between it and the last one, if it may issue any, as OpenSSL sees it.
    ///
    /// # Errors
    /// When it may not.
    pub fn authority(&self) -> Result<Option<u8>, Unfit> {
        let usage = self.extension::<KeyUsage>()?;
        if usage.as_ref().is_some_and(|(_, usage)| !usage.key_cert_sign()) {
            return Err(Unfit);
        }
        match self.extension::<BasicConstraints>()? {
            Some((_, constraints)) if constraints.ca => Ok(constraints.path_len_constraint),
            Some(_) => Err(Unfit),
            // The oldest certificates cannot say so; a root of that kind is taken for what it is.
            None if self.parsed.tbs_certificate().version() == x509_cert::certificate::Version::V1
                && self.is_self_issued() =>
            {
                Ok(None)
            }
            None if usage.is_some() => Ok(None),
            None => Err(Unfit),
        }
    }

    /// Whether `issuer`'s key has made the signature.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        signature_is_good(issuer, self.tbs(), self.algorithm(), self.signature())
    }

    /// `$ssl_client_serial`: upper-case hexadecimal.
    pub fn serial_text(&self) -> String {
        let serial = self.serial();
        let (sign, magnitude) = match serial.first() {
            Some(first) if first & 0x80 != 0 => ("-", negated(serial)),
            _ => ("", serial.to_vec()),
        };
        let skip = magnitude.iter().take_while(|byte| **byte == 0).count();
        let digits = magnitude.get(skip..).filter(|digits| !digits.is_empty()).unwrap_or(&[0]);
        let mut out = sign.to_owned();
        for byte in digits {
            let _ = write!(out, "{byte:02X}");
        }
        out
    }

    /// In PEM, with its final line feed.
    pub fn pem(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let body = STANDARD.encode(&self.der);
        let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = &*body;
        while !rest.is_empty() {
            let (line, behind) = rest.split_at_checked(64).unwrap_or((rest, ""));
            out.push_str(line);
            out.push('\n');
            rest = behind;
        }
        out.push_str("-----END CERTIFICATE-----\n");
        out
    }
}

/// The absolute value of a negative number in two's complement.
fn negated(number: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = number.iter().map(|byte| !byte).collect();
    for byte in out.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            break;
        }
    }
    out
}

/// Whether the key of `signer` made this signature over `message`.
pub fn signature_is_good(signer: &Certificate, message: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
    let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    known.iter().any(|known| {
        same_algorithm(&known.signature_alg_id(), algorithm)
            && same_algorithm(&known.public_key_alg_id(), signer.key_algorithm())
            && known.verify_signature(signer.key(), message, signature).is_ok()
    })
}

/// An algorithm may lack the NULL of its parameters.
pub(super) fn same_algorithm(known: &[u8], given: &[u8]) -> bool {
    known == given || known.strip_suffix(&[5, 0]).unwrap_or(known) == given
}

/// A name in a form that is equal for names that OpenSSL takes for equal: the case of letters and the kind of string do
/// not matter, nor does how much space there is.
pub(super) fn canonical(name: &Name) -> Vec<u8> {
    let mut out = Vec::new();
    for set in name.iter_rdn() {
        out.push(b'/');
        for attribute in set.iter() {
            out.extend_from_slice(&asn1::encode(asn1::OID, attribute.oid.as_bytes()));
            match text(attribute) {
                Some(text) => {
                    let words: Vec<&str> = text.split_ascii_whitespace().collect();
                    let folded = words.join(" ").to_ascii_lowercase();
                    out.extend_from_slice(&asn1::encode(0x0c, folded.as_bytes()));
                }
                None => out.extend_from_slice(&attribute.value.to_der().unwrap_or_default()),
            }
        }
    }
    out
}

/// The text of an attribute, if it is text.
fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    use der::Tag;
    let bytes = attribute.value.value();
    match attribute.value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            Some(bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|pair| match pair {
                    [high, low] => u16::from_be_bytes([*high, *low]),
                    _ => 0,
                })
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// OpenSSL's short names of what names are made of.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

fn attribute_name(oid: &ObjectIdentifier) -> Option<&'static str> {
    let text = oid.to_string();
    ATTRIBUTES.iter().find(|(known, _)| *known == text).map(|(_, name)| *name)
}

/// A name as `$ssl_client_s_dn` shows it: RFC 2253, but letters beyond ASCII as they are.
pub fn name_rfc2253(name: &Name) -> String {
    let sets: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for set in sets.into_iter().rev() {
        if !out.is_empty() {
            out.push(',');
        }
        for (n, attribute) in set.iter().enumerate() {
            if n > 0 {
                out.push('+');
            }
            match (attribute_name(&attribute.oid), text(attribute)) {
                (Some(short), Some(text)) => {
                    out.push_str(short);
                    out.push('=');
                    escape(&text, &mut out);
                }
                (short, _) => {
                    let oid = attribute.oid.to_string();
                    out.push_str(short.unwrap_or(&oid));
                    out.push_str("=#");
                    for byte in attribute.value.to_der().unwrap_or_default() {
                        let _ = write!(out, "{byte:02X}");
                    }
                }
            }
        }
    }
    out
}

fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (n, char) in text.chars().enumerate() {
        match char {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => {
                out.push('\\');
                out.push(char);
            }
            '#' if n == 0 => out.push_str("\\#"),
            ' ' if n == 0 || n == last => out.push_str("\\ "),
            '\0'..=' ' | '\x7f' if char != ' ' => {
                let _ = write!(out, "\\{:02X}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
}

/// A name as OpenSSL once showed it: `/C=NL/CN=x`.
pub fn name_legacy(name: &Name) -> String {
    let mut out = String::new();
    for set in name.iter_rdn() {
        for attribute in set.iter() {
            let oid = attribute.oid.to_string();
            out.push('/');
            out.push_str(attribute_name(&attribute.oid).unwrap_or(&oid));
            out.push('=');
            for byte in attribute.value.value() {
                match byte {
                    b' '..=b'~' => out.push(char::from(*byte)),
                    _ => {
                        let _ = write!(out, "\\x{byte:02X}");
                    }
                }
            }
        }
    }
    out
}

/// A moment as `$ssl_client_v_end` shows it: `Nov  3 08:49:37 2027 GMT`.
pub fn time_text(time: &x509_cert::time::Time) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = time.to_date_time();
    let month = MONTHS.get(usize::from(at.month()).saturating_sub(1)).copied().unwrap_or("Bad");
    let (day, hour, minute, second) = (at.day(), at.hour(), at.minutes(), at.seconds());
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02} {} GMT", at.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn made(set: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(vec!["x.example".into()]).unwrap();
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Certificate::from_der(&der).unwrap()
    }

    #[test]
    fn names_are_written_in_both_forms() {
        let made = made(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CountryName, "NL");
            params.distinguished_name.push(DnType::OrganizationName, "A, B \"C\"");
            params.distinguished_name.push(DnType::CommonName, "é x");
        });
        let name = made.parsed.tbs_certificate().subject();
        assert_eq!(name_rfc2253(name), "CN=é x,O=A\\, B \\\"C\\\",C=NL");
        assert_eq!(name_legacy(name), "/C=NL/O=A, B \"C\"/CN=\\xC3\\xA9 x");
        assert!(made.is_self_issued());
        assert!(made.is_signed_by(&made));
    }

    #[test]
    fn serials_are_hexadecimal() {
        let made = made(|params| params.serial_number = Some(rcgen::SerialNumber::from(0x0a1b_u64)));
        assert_eq!(made.serial_text(), "0A1B");
        assert_eq!(negated(&[0xff]), [1]);
    }
}
