//! PROXY headers: no panic; a header that was read has the same meaning when written again; a prefix is incomplete.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use moonrest_proto::proxy_protocol::{Header, MAX, Parse, parse, tlv, write_v1};

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Err(error) => assert!(!error.log_message(data).is_empty()),
        Ok(Parse::Partial) => {}
        Ok(Parse::Complete { len, header }) => {
            assert!(len <= data.len() && len <= MAX);
            assert!(parse(&data[..len]) == Ok(Parse::Complete { len, header: header.clone() }));
            for cut in 0..len {
                assert_eq!(parse(&data[..cut]), Ok(Parse::Partial));
            }
            if let Some(header) = header {
                check(&header);
            }
        }
    }
});

fn check(header: &Header<'_>) {
    let (source, destination) = (header.source, header.destination);
    let ends = (SocketAddr::new(source.ip, source.port), SocketAddr::new(destination.ip, destination.port));
    let mut out = Vec::new();
    write_v1(Some(ends), &mut out);
    let Ok(Parse::Complete { header: Some(again), .. }) = parse(&out) else { panic!("{out:?}") };
    assert_eq!((again.source.ip, again.source.port), (source.ip, source.port));
    assert_eq!((again.destination.ip, again.destination.port), (destination.ip, destination.port));
    for name in
        ["alpn", "authority", "unique_id", "ssl", "netns", "0xea", "ssl_version", "ssl_verify", "ssl_0x22"]
    {
        let _ = tlv(header.tlvs, name);
    }
}
