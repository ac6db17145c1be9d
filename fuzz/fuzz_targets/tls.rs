//! What TLS hands to our own parsers: tickets, files of their keys, chains and keys in PEM and DER, OCSP answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_net::tls::{
    certificate::{chain, chain_from_der, private_key, private_key_from_der, split_der},
    names,
    ocsp::check_form,
    pem,
    rustls::server::ProducesTickets as _,
    ticket::{TicketKey, Ticketer},
};
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let ticketer = Ticketer::new(Vec::new(), Vec::new(), 300);
    assert!(ticketer.decrypt(data).is_none(), "nobody has sealed this");
    if let Some(key) = TicketKey::from_file(data) {
        let ticketer = Ticketer::new(vec![Arc::new(key)], Vec::new(), 300);
        let ticket = ticketer.encrypt(data).expect("a key seals");
        assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(data));
    }
    for block in pem::blocks(data) {
        let _ = (block.certificate().is_some(), block.field("DEK-Info").is_some());
    }
    let _ = (chain(data).is_ok(), chain_from_der(data).is_some());
    let _ = (private_key(data, &[b"secret".to_vec()]).is_ok(), private_key_from_der(data).is_some());
    if let Some((first, rest)) = split_der(data) {
        assert_eq!(first.len() + rest.len(), data.len());
    }
    let _ = check_form(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (names::is_cipher(text), names::group_number(text));
    }
});
