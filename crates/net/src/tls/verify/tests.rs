//! Chains made on the spot, and what is found wrong with them.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A certificate with its key and what it was made from.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

fn params(name: &str, ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = ca;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn make(params: CertificateParams, issuer: Option<&Made>) -> Made {
    let key = KeyPair::generate().unwrap();
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
        None => params.self_signed(&key),
    };
    Made { der: made.unwrap().der().clone(), params, key }
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);
/// In 2027.
const NOW: i64 = 1_800_000_000;

fn store(anchors: &[&Made], depth: usize) -> Store {
    let anchors = anchors.iter().map(|made| Arc::new(Certificate::from_der(&made.der).unwrap())).collect();
    Store { anchors, crls: Vec::new(), depth }
}

fn check(store: &Store, shown: &[&Made], expect: Result<(), Failure>) {
    let shown: Vec<_> = shown.iter().map(|made| made.der.clone()).collect();
    let result = store.verify(&shown, Purpose::Client, NOW);
    assert_eq!(result.map(drop).map_err(|failures| failures.last), expect);
}

#[test]
fn chains_lead_to_a_root_that_is_known() {
    let root = make(params("root", CA), None);
    let middle = make(params("middle", CA), Some(&root));
    let leaf = make(params("leaf", IsCa::NoCa), Some(&middle));
    check(&store(&[&root], 1), &[&leaf, &middle], Ok(()));
    check(&store(&[&root, &middle], 1), &[&leaf], Ok(()));
    check(&store(&[&root], 1), &[&leaf, &middle, &root], Ok(()));
    check(&store(&[&root], 1), &[&leaf], Err(Failure::FirstUnverified));
    check(&store(&[], 1), &[&leaf, &middle], Err(Failure::LocalIssuerMissing));
    check(&store(&[], 9), &[&leaf, &middle, &root], Err(Failure::SelfSignedInChain));
    check(&store(&[&middle], 1), &[&leaf], Err(Failure::IssuerMissing));
    check(&store(&[&root], 0), &[&leaf, &middle], Err(Failure::TooLong));
    check(&store(&[], 1), &[&root], Err(Failure::SelfSigned));
    check(&store(&[&root], 0), &[&root], Ok(()));
}

#[test]
fn another_key_or_another_time_is_noticed() {
    let root = make(params("root", CA), None);
    let other = make(params("root", CA), None);
    let leaf = make(params("leaf", IsCa::NoCa), Some(&root));
    check(&store(&[&other], 1), &[&leaf], Err(Failure::BadSignature));
    check(&store(&[&other, &root], 1), &[&leaf], Ok(()));
    check(&store(&[&other], 1), &[&root], Err(Failure::SelfSigned));
    let mut old = params("old", IsCa::NoCa);
    old.not_after = date_time_ymd(2021, 1, 1);
    check(&store(&[&root], 1), &[&make(old, Some(&root))], Err(Failure::Expired));
    let mut young = params("young", IsCa::NoCa);
    young.not_before = date_time_ymd(2039, 1, 1);
    check(&store(&[&root], 1), &[&make(young, Some(&root))], Err(Failure::NotYetValid));
}

#[test]
fn who_is_no_authority_issues_nothing() {
    let root = make(params("root", CA), None);
    let leaf = make(params("leaf", IsCa::ExplicitNoCa), Some(&root));
    let forged = make(params("forged", IsCa::NoCa), Some(&leaf));
    check(&store(&[&root], 9), &[&forged, &leaf], Err(Failure::NoAuthority));
    let mut mute = params("mute", CA);
    mute.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mute = make(mute, Some(&root));
    let below = make(params("below", IsCa::NoCa), Some(&mute));
    check(&store(&[&root], 9), &[&below, &mute], Err(Failure::NoAuthority));
    let short = make(params("short", IsCa::Ca(BasicConstraints::Constrained(0))), Some(&root));
    let middle = make(params("middle", CA), Some(&short));
    let deep = make(params("deep", IsCa::NoCa), Some(&middle));
    check(&store(&[&root], 9), &[&deep, &middle, &short], Err(Failure::PathTooLong));
    let direct = make(params("direct", IsCa::NoCa), Some(&short));
    check(&store(&[&root], 9), &[&direct, &short], Ok(()));
}

#[test]
fn usages_and_names_bind() {
    let root = make(params("root", CA), None);
    let mut server = params("server", IsCa::NoCa);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = make(server, Some(&root));
    check(&store(&[&root], 1), &[&server], Err(Failure::WrongPurpose));
    let shown = [server.der.clone()];
    assert!(store(&[&root], 1).verify(&shown, Purpose::Server, NOW).is_ok());

    let mut limited = params("limited", CA);
    limited.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("good.example".into())],
        excluded_subtrees: vec![rcgen::GeneralSubtree::DnsName("bad.good.example".into())],
    });
    let limited = make(limited, None);
    let named = |name: &str| make(params(name, IsCa::NoCa), Some(&limited));
    check(&store(&[&limited], 1), &[&named("a.good.example")], Ok(()));
    check(&store(&[&limited], 1), &[&named("evil.example")], Err(Failure::NameNotPermitted));
    check(&store(&[&limited], 1), &[&named("notgood.example")], Err(Failure::NameNotPermitted));
    check(&store(&[&limited], 1), &[&named("x.bad.good.example")], Err(Failure::NameExcluded));
}

#[test]
fn revocation_lists_count() {
    let mut root = params("root", CA);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = make(root, None);
    let numbered = |number: u64| {
        let mut params = params("leaf", IsCa::NoCa);
        params.serial_number = Some(SerialNumber::from(number));
        make(params, Some(&root))
    };
    let list = |until: i32| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(200_u64),
                revocation_time: date_time_ymd(2020, 6, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&root.params, &root.key);
        let pem = params.signed_by(&issuer).unwrap().pem().unwrap();
        let mut store = store(&[&root], 1);
        store.add_crls(pem.as_bytes()).unwrap();
        store
    };
    check(&list(2040), &[&numbered(199)], Ok(()));
    check(&list(2040), &[&numbered(200)], Err(Failure::Revoked));
    check(&list(2021), &[&numbered(199)], Err(Failure::CrlExpired));
    let mut foreign = list(2040);
    let other = make(params("other", CA), None);
    foreign.anchors = store(&[&other], 1).anchors;
    check(&foreign, &[&make(params("leaf", IsCa::NoCa), Some(&other))], Err(Failure::CrlMissing));
}

#[test]
fn hosts_match_as_openssl_matches_them() {
    for (pattern, host, expect) in [
        ("a.example.com", "A.example.com", true),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "a.b.example.com", false),
        ("f*.example.com", "foo.example.com", true),
        ("*.com", "example.com", false),
        ("*", "localhost", false),
        ("*.example.com", ".example.com", false),
        ("a.*.com", "a.b.com", false),
    ] {
        assert_eq!(host_matches(pattern, host), expect, "{pattern} {host}");
    }
}
