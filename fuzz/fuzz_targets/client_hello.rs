//! The first message of TLS clients: no panic; spans lie within; what was complete is so with more behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::tls::{Parse, parse};

fuzz_target!(|data: &[u8]| {
    if let Parse::Complete(hello) = parse(data) {
        let body = hello.body.len();
        for span in [hello.session_id, hello.ciphers, hello.alpn, hello.groups, hello.extensions] {
            assert!(span.end() <= body);
        }
        assert!(hello.server_name().is_none_or(|name| name.len() <= body));
        let _ = (hello.protocols().count(), hello.newest_version(), hello.extension(5));
        let more = [data, b"more"].concat();
        assert_eq!(parse(&more), Parse::Complete(hello));
    }
});
