//! Servers behind this one that break off, lie, dawdle or say too much.

mod encrypted;
mod frames;
mod hammer;
mod hostile;
mod next;
mod programs;
mod slow;
mod tunnel;

use crate::serve;
use moonrest_testkit::{Server, Upstream};

/// A server that passes everything to this upstream, over kept connections; `more` are further directives.
#[track_caller]
pub(crate) fn proxy(upstream: &Upstream, more: &str) -> Server {
    proxy_to(&[upstream], "keepalive 8;", more)
}

/// The same for several, with further directives of the `upstream` block.
#[track_caller]
pub(crate) fn proxy_to(upstreams: &[&Upstream], group: &str, more: &str) -> Server {
    let servers: String = upstreams.iter().map(|upstream| format!("server {};", upstream.addr())).collect();
    crate::builder().start(&format!(
        "worker_processes 1;
         http {{
             log_format u '$request_uri $status $upstream_addr $upstream_status $body_bytes_sent';
             access_log logs/access.log u;
             upstream u {{ {servers} {group} }}
             server {{ listen {{{{addr}}}}; {more} location / {{ proxy_pass http://u; }} }}
         }}"
    ))
}

/// A server without proxying whose configuration is refused.
#[test]
fn wrong_upstreams_are_refused_in_nginx_words() {
    let check = |directives: &str, expect: &str| {
        let conf = format!("http {{ {directives} }}");
        let failure = crate::builder().try_start(&conf).err();
        let text = failure.map(|failure| failure.stderr).unwrap_or_default();
        assert!(text.contains(expect), "{directives}: {text}");
    };
    check("upstream u { }", "no servers are inside upstream");
    check("upstream u { server 127.0.0.1:1 weight=0; }", "invalid parameter \"weight=0\"");
    check(
        "upstream u { server 127.0.0.1:1; } upstream u { server 127.0.0.1:1; }",
        "duplicate upstream \"u\"",
    );
    check("upstream u { server a:b; }", "invalid port in upstream \"a:b\"");
    check(
        "upstream u { server no.such.name.invalid:1; }",
        "host not found in upstream \"no.such.name.invalid:1\"",
    );
    check("upstream u { server 127.0.0.1:1 backup; }", "no servers in upstream \"u\"");
    check(
        "upstream u { hash $uri; server 127.0.0.1:1 backup; }",
        "balancing method does not support parameter \"backup\"",
    );
    check(
        "upstream u { server a resolve; }",
        "resolving names at run time requires upstream \"u\" to be in shared memory",
    );
    check(
        "upstream u { server 127.0.0.1:1; } server { location / { proxy_pass http://u:80; } }",
        "upstream \"u\" may not have port 80",
    );
    check(
        "server { location ~ x { proxy_pass http://127.0.0.1:1/a; } }",
        "\"proxy_pass\" cannot have URI part",
    );
    check("server { location / { proxy_pass 127.0.0.1:1; } }", "invalid URL prefix");
    check("server { proxy_buffers 1 4k; }", "there must be at least 2 \"proxy_buffers\"");
    let server = serve("location / { return 204; }");
    server.get("/").expect_status(204);
}
