//! Chains of certificates, judged as OpenSSL judges them: the same order of checks, the same errors.
//!
//! The library's own verifier is not asked: it refuses what nginx's users rely on (roots that are shown by clients,
//! the oldest certificates), and has other words for what it finds.

use super::{
    asn1::{Elements, SEQUENCE},
    pem,
    revocation::{Crl, Revoked},
    x509::{Certificate, Unfit},
};
use der::Encode;
use rustls::pki_types::CertificateDer;
use std::{fmt, sync::Arc};
use x509_cert::ext::pkix::{
    ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName, constraints::name::GeneralSubtree,
    name::GeneralName,
};

macro_rules! failures {
    ($($name:ident $code:literal $text:literal)*) => {
        /// What is wrong with a chain.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Failure { $($name),* }

        impl Failure {
            /// OpenSSL's number for it.
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code),* }
            }

            /// By OpenSSL's number.
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// OpenSSL's words for it.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

failures! {
    Unspecified 1 "unspecified certificate verification error"
    IssuerMissing 2 "unable to get issuer certificate"
    CrlMissing 3 "unable to get certificate CRL"
    BadSignature 7 "certificate signature failure"
    CrlBadSignature 8 "CRL signature failure"
    NotYetValid 9 "certificate is not yet valid"
    Expired 10 "certificate has expired"
    CrlNotYetValid 11 "CRL is not yet valid"
    CrlExpired 12 "CRL has expired"
    SelfSigned 18 "self-signed certificate"
    SelfSignedInChain 19 "self-signed certificate in certificate chain"
    LocalIssuerMissing 20 "unable to get local issuer certificate"
    FirstUnverified 21 "unable to verify the first certificate"
    TooLong 22 "certificate chain too long"
    Revoked 23 "certificate revoked"
    NoAuthority 24 "invalid CA certificate"
    PathTooLong 25 "path length constraint exceeded"
    WrongPurpose 26 "unsuitable certificate purpose"
    UnknownCritical 34 "unhandled critical extension"
    NameNotPermitted 47 "permitted subtree violation"
    NameExcluded 48 "excluded subtree violation"
    UnsupportedConstraint 51 "unsupported name constraint type"
    WrongHost 62 "hostname mismatch"
}

impl Failure {
    /// Whether nginx's `optional_no_ca` lets it pass.
    pub fn is_about_issuers(self) -> bool {
        matches!(
            self,
            Self::SelfSigned | Self::SelfSignedInChain | Self::LocalIssuerMissing | Self::FirstUnverified
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A chain has failed: the first thing found wrong, and the last. OpenSSL's users see the one or the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failures {
    pub first: Failure,
    pub last: Failure,
}

/// Who is being checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Client,
    Server,
}

/// Whom to trust, and how far.
#[derive(Debug, Default)]
pub struct Store {
    pub anchors: Vec<Arc<Certificate>>,
    pub crls: Vec<Crl>,
    /// `ssl_verify_depth`: how many certificates may stand between the first and the root.
    pub depth: usize,
}

/// No more certificates of a peer than this are looked at.
const MAX_GIVEN: usize = 64;

impl Store {
    /// Adds the certificates of a PEM text.
    ///
    /// # Errors
    /// OpenSSL's words for what is wrong with it.
    pub fn add_pem(&mut self, text: &[u8]) -> Result<usize, String> {
        let blocks = pem::blocks(text);
        let mut count = 0;
        for block in blocks.iter().filter(|block| pem::is_certificate(&block.label)) {
            let der = block.certificate().ok_or(pem::BAD_BASE64)?;
            let certificate = Certificate::from_der(der).ok_or(pem::BAD_CERTIFICATE)?;
            if !self.anchors.iter().any(|known| known.der() == certificate.der()) {
                self.anchors.push(Arc::new(certificate));
            }
            count += 1;
        }
        if count == 0 { Err(pem::no_start_line("TRUSTED CERTIFICATE")) } else { Ok(count) }
    }

    /// Adds the revocation lists of a PEM text.
    ///
    /// # Errors
    /// OpenSSL's words for what is wrong with it.
    pub fn add_crls(&mut self, text: &[u8]) -> Result<(), String> {
        let blocks = pem::blocks(text);
        let before = self.crls.len();
        for block in blocks.iter().filter(|block| block.label == "X509 CRL") {
            let der = block.der.as_deref().ok_or(pem::BAD_BASE64)?;
            self.crls.push(Crl::from_der(der).ok_or(pem::BAD_CERTIFICATE)?);
        }
        if self.crls.len() == before { Err(pem::no_start_line("X509 CRL")) } else { Ok(()) }
    }

    /// Checks what a peer has shown: its own certificate first. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(
        &self,
        shown: &[CertificateDer<'_>],
        purpose: Purpose,
        now: i64,
    ) -> Result<Vec<Arc<Certificate>>, Failures> {
        let mut found = Found::default();
        let mut given = Vec::new();
        for der in shown.iter().take(MAX_GIVEN) {
            match Certificate::from_der(der) {
                Some(certificate) => given.push(Arc::new(certificate)),
                None => found.add(Failure::Unspecified),
            }
        }
        let Some(first) = given.first().cloned() else {
            return Err(Failures { first: Failure::Unspecified, last: Failure::Unspecified });
        };
        let chain = self.build(first, &given, &mut found);
        check_extensions(&chain, purpose, &mut found);
        check_constraints(&chain, &mut found);
        if !self.crls.is_empty() {
            self.check_revocation(&chain, now, &mut found);
        }
        check_signatures(&chain, now, &mut found);
        match found.0 {
            None => Ok(chain.certificates),
            Some(failures) => Err(failures),
        }
    }

    /// Puts the chain together: trusted issuers first.
    fn build(&self, first: Arc<Certificate>, given: &[Arc<Certificate>], found: &mut Found) -> Chain {
        let limit = self.depth.saturating_add(1);
        let mut chain = Chain { certificates: vec![first], trusted: None };
        loop {
            let count = chain.certificates.len();
            let Some(last) = chain.certificates.last().cloned() else { break };
            let rooted = last.is_self_issued();
            if count <= limit {
                if let Some(issuer) = find_issuer(&last, &self.anchors, &chain.certificates) {
                    chain.trusted.get_or_insert(if rooted { count - 1 } else { count });
                    if rooted {
                        // Shown by the peer, but known: ours is what counts.
                        chain.certificates.pop();
                        chain.certificates.push(issuer);
                        return chain;
                    }
                    chain.certificates.push(issuer.clone());
                    if issuer.is_self_issued() {
                        return chain;
                    }
                    continue;
                }
                if !rooted
                    && chain.trusted.is_none()
                    && let Some(issuer) = find_issuer(&last, given, &chain.certificates)
                {
                    chain.certificates.push(issuer);
                    continue;
                }
            }
            let trusted = chain.trusted.is_some();
            found.add(match (count, rooted) {
                _ if count > limit => Failure::TooLong,
                (1, true) => Failure::SelfSigned,
                (_, true) => Failure::SelfSignedInChain,
                _ if trusted => Failure::IssuerMissing,
                _ => Failure::LocalIssuerMissing,
            });
            break;
        }
        chain
    }

    /// Looks for every certificate in its issuer's list.
    fn check_revocation(&self, chain: &Chain, now: i64, found: &mut Found) {
        for (n, certificate) in chain.certificates.iter().enumerate() {
            let issuer = match chain.certificates.get(n + 1) {
                Some(issuer) => issuer,
                None if certificate.is_self_issued() => certificate,
                None => continue,
            };
            let lists: Vec<&Crl> =
                self.crls.iter().filter(|crl| crl.issuer() == certificate.issuer_form()).collect();
            // Of several lists the one that is in force.
            let list = lists.iter().find(|crl| crl.is_current(now)).or(lists.first());
            let Some(list) = list else {
                found.add(Failure::CrlMissing);
                continue;
            };
            match list.check(certificate, issuer, now) {
                Ok(()) => {}
                Err(Revoked::BadSignature) => found.add(Failure::CrlBadSignature),
                Err(Revoked::NotYetValid) => found.add(Failure::CrlNotYetValid),
                Err(Revoked::Expired) => found.add(Failure::CrlExpired),
                Err(Revoked::Listed) => found.add(Failure::Revoked),
            }
        }
    }
}

/// The failures so far.
#[derive(Default)]
struct Found(Option<Failures>);

impl Found {
    fn add(&mut self, failure: Failure) {
        match &mut self.0 {
            Some(known) => known.last = failure,
            None => self.0 = Some(Failures { first: failure, last: failure }),
        }
    }
}

struct Chain {
    certificates: Vec<Arc<Certificate>>,
    /// From here on they are ours.
    trusted: Option<usize>,
}

/// An issuer of `subject` that is not in the chain yet, unless it is `subject` itself. One whose key fits is best.
fn find_issuer(
    subject: &Certificate,
    among: &[Arc<Certificate>],
    chain: &[Arc<Certificate>],
) -> Option<Arc<Certificate>> {
    let fits = |candidate: &&Arc<Certificate>| {
        candidate.subject_form() == subject.issuer_form()
            && (candidate.der() == subject.der()
                || !chain.iter().any(|known| known.der() == candidate.der()))
            // A self-issued one is only replaced by itself.
            && (!subject.is_self_issued() || candidate.der() == subject.der())
    };
    let good = among.iter().filter(fits).find(|candidate| subject.is_signed_by(candidate));
    good.or_else(|| among.iter().find(fits)).cloned()
}

/// Extensions that are looked at here; others must not be critical.
const UNDERSTOOD: &[&str] = &[
    "2.5.29.14",             // subject key identifier
    "2.5.29.15",             // key usage
    "2.5.29.17",             // subject alternative name
    "2.5.29.19",             // basic constraints
    "2.5.29.30",             // name constraints
    "2.5.29.32",             // policies: any will do
    "2.5.29.35",             // authority key identifier
    "2.5.29.37",             // extended key usage
    "2.16.840.1.113730.1.1", // Netscape's kind of certificate
];

/// TLS web client, web server, and any.
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const ANY_USAGE: &str = "2.5.29.37.0";

fn check_extensions(chain: &Chain, purpose: Purpose, found: &mut Found) {
    // How many certificates that others issued stand below.
    let mut below = 0_usize;
    for (n, certificate) in chain.certificates.iter().enumerate() {
        let extensions = certificate.parsed.tbs_certificate().extensions();
        let foreign = extensions
            .into_iter()
            .flatten()
            .any(|extension| extension.critical && !UNDERSTOOD.contains(&&*extension.extn_id.to_string()));
        if foreign {
            found.add(Failure::UnknownCritical);
        }
        if n > 0 {
            match certificate.authority() {
                Err(Unfit) => found.add(Failure::NoAuthority),
                Ok(Some(limit)) if below > usize::from(limit) + 1 => found.add(Failure::PathTooLong),
                Ok(_) => {}
            }
        }
        if !suits(certificate, purpose, n == 0) {
            found.add(Failure::WrongPurpose);
        }
        if n == 0 || !certificate.is_self_issued() {
            below += 1;
        }
    }
}

/// Whether the usages that a certificate names include this one.
fn suits(certificate: &Certificate, purpose: Purpose, is_peer: bool) -> bool {
    let Ok(extended) = certificate.extension::<ExtendedKeyUsage>() else { return false };
    if let Some((_, usages)) = extended {
        let wanted = if purpose == Purpose::Client { CLIENT_AUTH } else { SERVER_AUTH };
        let named = usages.0.iter().map(ToString::to_string);
        if !named.into_iter().any(|usage| usage == wanted || (usage == ANY_USAGE && !is_peer)) {
            return false;
        }
    }
    if !is_peer {
        return true;
    }
    match certificate.extension::<KeyUsage>() {
        Err(Unfit) => false,
        Ok(None) => true,
        Ok(Some((_, usage))) => {
            let agrees = usage.key_agreement() || usage.digital_signature();
            agrees || (purpose == Purpose::Server && usage.key_encipherment())
        }
    }
}

fn check_signatures(chain: &Chain, now: i64, found: &mut Found) {
    let count = chain.certificates.len();
    for (n, certificate) in chain.certificates.iter().enumerate().rev() {
        match chain.certificates.get(n + 1) {
            Some(issuer) if !certificate.is_signed_by(issuer) => found.add(Failure::BadSignature),
            Some(_) => {}
            // The signature of a root on itself says nothing; a lone one that nobody vouches for is another matter.
            None if !certificate.is_self_issued() && count == 1 => found.add(Failure::FirstUnverified),
            None => {}
        }
        let (from, to) = certificate.validity();
        if now < from {
            found.add(Failure::NotYetValid);
        }
        if now > to {
            found.add(Failure::Expired);
        }
    }
}

/// Names must lie where the authorities above them may issue.
fn check_constraints(chain: &Chain, found: &mut Found) {
    for (n, authority) in chain.certificates.iter().enumerate().skip(1) {
        let constraints = match authority.extension::<NameConstraints>() {
            Ok(Some((_, constraints))) => constraints,
            Ok(None) => continue,
            Err(Unfit) => {
                found.add(Failure::UnsupportedConstraint);
                continue;
            }
        };
        for (below, certificate) in chain.certificates.iter().take(n).enumerate() {
            if below > 0 && certificate.is_self_issued() {
                continue;
            }
            if let Err(failure) = keeps_to(certificate, &constraints) {
                found.add(failure);
            }
        }
    }
}

fn keeps_to(certificate: &Certificate, constraints: &NameConstraints) -> Result<(), Failure> {
    let mut names = Vec::new();
    let tbs = certificate.parsed.tbs_certificate();
    if !tbs.subject().is_empty() {
        names.push(GeneralName::DirectoryName(tbs.subject().clone()));
    }
    match certificate.extension::<SubjectAltName>() {
        Ok(Some((_, alternatives))) => names.extend(alternatives.0),
        Ok(None) => names.extend(common_name(certificate).and_then(as_host)),
        Err(Unfit) => return Err(Failure::UnsupportedConstraint),
    }
    for name in &names {
        let lies_in = |trees: &[GeneralSubtree]| -> Result<(bool, bool), Failure> {
            let mut any = false;
            for tree in trees {
                if tree.minimum != 0 || tree.maximum.is_some() {
                    return Err(Failure::UnsupportedConstraint);
                }
                match within(name, &tree.base) {
                    Some(true) => return Ok((true, true)),
                    Some(false) => any = true,
                    None => {}
                }
            }
            Ok((any, false))
        };
        if let Some(excluded) = &constraints.excluded_subtrees
            && lies_in(excluded)?.1
        {
            return Err(Failure::NameExcluded);
        }
        if let Some(permitted) = &constraints.permitted_subtrees {
            let (any, inside) = lies_in(permitted)?;
            if any && !inside {
                return Err(Failure::NameNotPermitted);
            }
        }
        if unchecked_kind(name, constraints) {
            return Err(Failure::UnsupportedConstraint);
        }
    }
    Ok(())
}

/// Whether a constraint speaks about names of this kind in a way that is not understood here.
fn unchecked_kind(name: &GeneralName, constraints: &NameConstraints) -> bool {
    let trees = constraints.permitted_subtrees.iter().chain(&constraints.excluded_subtrees).flatten();
    let kind = std::mem::discriminant(name);
    trees.into_iter().any(|tree| {
        std::mem::discriminant(&tree.base) == kind
            && !matches!(
                name,
                GeneralName::DnsName(_)
                    | GeneralName::Rfc822Name(_)
                    | GeneralName::IpAddress(_)
                    | GeneralName::DirectoryName(_)
            )
    })
}

/// Whether a name lies within a subtree; `None` when the two are of different kinds.
fn within(name: &GeneralName, base: &GeneralName) -> Option<bool> {
    match (name, base) {
        (GeneralName::DnsName(name), GeneralName::DnsName(base)) => {
            Some(host_within(name.as_str(), base.as_str()))
        }
        (GeneralName::Rfc822Name(name), GeneralName::Rfc822Name(base)) => {
            let (name, base) = (name.as_str().to_ascii_lowercase(), base.as_str().to_ascii_lowercase());
            let host = name.rsplit_once('@').map_or(&*name, |(_, host)| host);
            Some(if base.contains('@') {
                name == base
            } else if base.starts_with('.') {
                host.ends_with(&base)
            } else {
                host == base
            })
        }
        (GeneralName::IpAddress(name), GeneralName::IpAddress(base)) => {
            let (name, base) = (name.as_bytes(), base.as_bytes());
            let (network, mask) = base.split_at_checked(base.len() / 2)?;
            let masked = || name.iter().zip(mask).zip(network).all(|((a, m), n)| a & m == n & m);
            Some(name.len() == network.len() && masked())
        }
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let (name, base) = (name.to_der().ok()?, base.to_der().ok()?);
            let name = Elements(&name).open(SEQUENCE)?.0;
            let base = Elements(&base).open(SEQUENCE)?.0;
            Some(name.starts_with(base))
        }
        _ => None,
    }
}

fn host_within(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.is_empty() {
        return true;
    }
    match name.strip_suffix(&*base) {
        Some("") => true,
        Some(rest) => base.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}

fn as_host(name: String) -> Option<GeneralName> {
    let looks = name.contains('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    if !looks {
        return None;
    }
    der::asn1::Ia5String::new(&name).ok().map(GeneralName::DnsName)
}

/// The last common name of the subject.
fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.parsed.tbs_certificate().subject();
    let last = subject.iter().filter(|attribute| attribute.oid.to_string() == "2.5.4.3").last()?;
    String::from_utf8(last.value.value().to_vec()).ok()
}

/// Whether a certificate is for a host, as OpenSSL's `X509_check_host` and `X509_check_ip` see it.
pub fn is_for_host(certificate: &Certificate, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let Ok(alternatives) = certificate.extension::<SubjectAltName>() else { return false };
    let names = alternatives.map(|(_, names)| names.0).unwrap_or_default();
    if let Some(address) = address {
        let octets = match address {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        if names.iter().any(|name| matches!(name, GeneralName::IpAddress(ip) if ip.as_bytes() == octets)) {
            return true;
        }
    }
    let mut has_hosts = false;
    for name in &names {
        if let GeneralName::DnsName(pattern) = name {
            has_hosts = true;
            if host_matches(pattern.as_str(), host) {
                return true;
            }
        }
    }
    !has_hosts && common_name(certificate).is_some_and(|name| host_matches(&name, host))
}

/// A pattern has at most one asterisk, in its first label, for all or part of that label of the host.
fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return !host.is_empty();
    }
    let Some((label, rest)) = pattern.split_once('.') else { return false };
    let Some((before, after)) = label.split_once('*') else { return false };
    let Some((host_label, host_rest)) = host.split_once('.') else { return false };
    // At least two labels must be given, and a label that is encoded is taken as it is.
    if !rest.contains('.') || after.contains('*') || rest.contains('*') {
        return false;
    }
    if host_label.to_ascii_lowercase().starts_with("xn--") && !(before.is_empty() && after.is_empty()) {
        return false;
    }
    let host_label = host_label.to_ascii_lowercase();
    rest.eq_ignore_ascii_case(host_rest)
        && host_label.len() > before.len() + after.len()
        && host_label.starts_with(&before.to_ascii_lowercase())
        && host_label.ends_with(&after.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
