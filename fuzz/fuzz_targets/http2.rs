//! HTTP/2 clients behind their preface: no panic, an end, and whole frames as an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_fuzz::Site;
use moonrest_http_modules::MODULES;

const CONF: &str = "http {
    client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s; send_timeout 2s; lingering_timeout 1s; access_log off;
    client_max_body_size 64k; client_body_buffer_size 64k;
    server { listen 127.0.0.1:1; http2 on; http2_max_concurrent_streams 8; large_client_header_buffers 4 2k;
        location / { return 200 'path $uri host $host length $http_content_length\n'; }
        location /body { echo_read_request_body; echo $request_body; }
        location /long { echo_duplicate 100000 abc; }
        location /error { return 404; }
    } }";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

thread_local! {
    static SITE: Site = Site::start(CONF, MODULES);
}

fuzz_target!(|data: &[u8]| {
    let answer = SITE.with(|site| site.talk(&[PREFACE, data].concat(), || {}));
    let mut rest = &answer[..];
    while let Some((&[a, b, c, kind, _, _, _, _, _], behind)) = rest.split_first_chunk::<9>() {
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        assert!(len <= 16_384 || kind == 0, "a frame that is too long");
        let Some(behind) = behind.get(len..) else { break };
        rest = behind;
    }
});
