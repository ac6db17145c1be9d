//! Certificates, revocation lists and answers of OCSP responders: no panic, whatever they hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_net::tls::{
    ocsp::{Question, Signer, responder},
    rustls::pki_types::CertificateDer,
    verify::{Purpose, Store, is_for_host},
    x509::{Certificate, name_legacy, name_rfc2253, time_text},
};

fuzz_target!(|data: &[u8]| {
    let mut store = Store { depth: 9, ..Store::default() };
    let _ = (store.add_pem(data), store.add_crls(data));
    let shown = CertificateDer::from(data.to_vec());
    let _ = store.verify(&[shown.clone(), shown], Purpose::Client, 1_800_000_000);
    let Some(certificate) = Certificate::from_der(data) else { return };
    let tbs = certificate.parsed.tbs_certificate();
    let _ = (name_rfc2253(tbs.subject()), name_legacy(tbs.issuer()), time_text(&tbs.validity().not_after));
    let _ = (certificate.serial_text(), certificate.pem(), is_for_host(&certificate, "a.example"));
    let _ = responder(&certificate);
    let question = Question { certificate: &certificate, issuer: &certificate };
    let _ = (question.encode(), question.check(data, &Signer::Authorized, 1_800_000_000));
});
