//! Answers of servers of every protocol that locations can pass requests to: no panic, an end, and an answer to the client
//! that has one well-formed head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_fuzz::{Site, Upstream};
use moonrest_http_modules::MODULES;
use moonrest_proto::http1::{Parse, ResponseHead};
use std::cell::RefCell;

/// Every `SOCKET` is the upstream's.
const CONF: &str = "http {
    client_header_timeout 2s; keepalive_timeout 2s; lingering_timeout 1s; access_log off;
    proxy_read_timeout 2s; fastcgi_read_timeout 2s; scgi_read_timeout 2s; uwsgi_read_timeout 2s; grpc_read_timeout 2s;
    memcached_read_timeout 2s;
    proxy_max_temp_file_size 0; fastcgi_max_temp_file_size 0; scgi_max_temp_file_size 0; uwsgi_max_temp_file_size 0;
    server { listen 127.0.0.1:1;
        location = /0 { proxy_pass http://unix:SOCKET:; proxy_http_version 1.1; proxy_intercept_errors off; }
        location = /1 { proxy_pass http://unix:SOCKET:; proxy_buffering off; proxy_pass_trailers on; }
        location = /2 { fastcgi_pass unix:SOCKET; fastcgi_param A b; fastcgi_keep_conn on; }
        location = /3 { fastcgi_pass unix:SOCKET; fastcgi_buffering off; }
        location = /4 { scgi_pass unix:SOCKET; }
        location = /5 { uwsgi_pass unix:SOCKET; uwsgi_buffering off; }
        location = /6 { grpc_pass unix:SOCKET; }
        location = /7 { proxy_pass http://unix:SOCKET:; proxy_http_version 2; }
        location = /8 { set $memcached_key a; memcached_pass unix:SOCKET; }
        location = /9 { redis2_query get a; redis2_pass unix:SOCKET; }
        location = /10 { fastcgi_pass unix:SOCKET; gunzip on; sub_filter a bb; sub_filter_once off; ssi on; }
        location = /11 { proxy_pass http://unix:SOCKET:; proxy_set_header Connection upgrade; proxy_set_header Upgrade x;
            proxy_http_version 1.1; }
    } }";
const LOCATIONS: u8 = 12;

thread_local! {
    static SITE: RefCell<(Upstream, Site)> = {
        let upstream = Upstream::start();
        let site = Site::start(&CONF.replace("SOCKET", upstream.path()), MODULES);
        RefCell::new((upstream, site))
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    SITE.with_borrow_mut(|(upstream, site)| {
        let method = if kind >= 128 { "POST" } else { "GET" };
        let request = format!(
            "{method} /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
            kind % LOCATIONS
        );
        let answer = site.talk(request.as_bytes(), || upstream.step(bytes));
        upstream.close();
        // Some end a connection instead of answering.
        if answer.is_empty() {
            return;
        }
        let mut head = ResponseHead::new();
        assert!(
            matches!(head.parse(&answer), Ok(Parse::Complete { .. })),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    });
});
