//! HTTPS on the wire: handshakes that work and handshakes that do not, sessions, clients' certificates, and what an
//! idle connection costs.

use crate::{builder, idle::anonymous, statuses, talk};
use moonrest_testkit::{
    Server,
    logs::Level,
    tls::{Certificate, End, Hello},
};
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use std::time::Duration;

/// Servers on one socket for TLS, with `a.pem` and `a.key`, and these directives in `http`.
fn start(directives: &str, files: &[(&str, &Certificate)]) -> Server {
    let own = Certificate::authority("a.example");
    let mut builder = builder().file("conf/a.pem", own.pem.clone()).file("conf/a.key", own.key.clone());
    for (name, certificate) in files {
        builder = builder
            .file(&format!("conf/{name}.pem"), certificate.pem.clone())
            .file(&format!("conf/{name}.key"), certificate.key.clone());
    }
    builder.start(&format!(
        "worker_processes 1;
         http {{
             log_format short '$status $request $ssl_client_verify';
             access_log logs/access.log short;
             ssl_certificate a.pem;
             ssl_certificate_key a.key;
             {directives}
         }}"
    ))
}

fn serve(directives: &str) -> Server {
    start(&format!("server {{ listen {{{{addr}}}} ssl; {directives} }}"), &[])
}

#[test]
fn requests_are_answered_in_both_versions() {
    let server = serve("location / { return 200 '$ssl_protocol $ssl_server_name $scheme$https'; }");
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let mut client = Hello::with("a.example", &[version], None).connect(server.addr());
        let response = client.get("a.example", "/");
        assert_eq!(response.text(), format!("{name} a.example httpson"));
        let all = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500) + "GET / HTTP/1.0\r\n\r\n";
        let (answers, end) = client.send(all).read_to_end();
        assert_eq!(statuses(&crate::responses(&answers)), vec![200; 501]);
        assert_eq!(end, End::Orderly);
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ n >> 9) as u8).collect();
    let own = Certificate::authority("a.example");
    let server = builder()
        .file("conf/a.pem", own.pem)
        .file("conf/a.key", own.key)
        .file("html/big", body.clone())
        .start(
            "user root; worker_processes 1; http { access_log off; client_max_body_size 10m; sendfile on;
             server { listen {{addr}} ssl; ssl_certificate a.pem; ssl_certificate_key a.key; root html;
                      location /put { dav_methods PUT; create_full_put_path on; client_body_buffer_size 16k; } } }",
        );
    let mut client = Hello::to("a.example").connect(server.addr());
    assert!(client.get("a", "/big").body == body);
    let head = format!("PUT /put/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(head).send(&body);
    assert_eq!(client.response().status, Some(201));
    assert!(client.get("a", "/put/x").body == body);
}

#[test]
fn a_client_that_reads_slowly_gets_everything() {
    let body = vec![b'x'; 4_000_000];
    let own = Certificate::authority("a.example");
    let server = builder()
        .file("conf/a.pem", own.pem)
        .file("conf/a.key", own.key)
        .file("html/big", body.clone())
        .start(
            "worker_processes 1; http { access_log off; output_buffers 2 64k; sendfile off;
             server { listen {{addr}} ssl sndbuf=16k; ssl_certificate a.pem; ssl_certificate_key a.key;
                      ssl_buffer_size 4k; root html; } }",
        );
    let mut client = Hello::to("a.example").connect(server.addr());
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /big HTTP/1.0\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        assert!(client.response().body == body);
    }
}

#[test]
fn the_name_chooses_server_and_certificate() {
    let other = Certificate::authority("b.example");
    let server = start(
        "server { listen {{addr}} ssl; server_name a.example; location / { return 200 a; } }
         server { listen {{addr}} ssl; server_name b.example *.b.example;
                  ssl_certificate b.pem; ssl_certificate_key b.key; location / { return 200 b; } }
         server { listen {{addr}} ssl; server_name r.example; ssl_reject_handshake on; }",
        &[("b", &other)],
    );
    let ask = |name: &str, host: &str| {
        let mut client = Hello::to(name).connect(server.addr());
        let shown = client.connection().peer_certificates().unwrap()[0].to_vec();
        let text = client.get(host, "/").text();
        (text, other.pem.contains(&moonrest_testkit::tls::base64_line(&shown)))
    };
    assert_eq!(ask("a.example", "a.example"), ("a".into(), false));
    assert_eq!(ask("b.example", "b.example"), ("b".into(), true));
    assert_eq!(ask("x.b.example", "x.b.example"), ("b".into(), true));
    assert_eq!(ask("unknown.example", "unknown.example"), ("a".into(), false));
    // nginx: the request's host decides again.
    assert_eq!(ask("b.example", "a.example"), ("a".into(), true));
    let refused = Hello::to("r.example").try_connect(server.addr()).unwrap_err().to_string();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    server.wait_for_log(
        Level::Info,
        "SSL_do_handshake() failed (SSL: error:0A0000EA:SSL routines::callback failed)",
    );
}

#[test]
fn plain_requests_are_told_so() {
    let server = serve("location / { return 200 ok; }");
    let answers = talk(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(statuses(&answers), [400]);
    assert!(answers[0].text().contains("The plain HTTP request was sent to HTTPS port"));
    server.wait_for_access("400 GET / HTTP/1.1");
    server.wait_for_log(Level::Info, "client sent plain HTTP request to HTTPS port");
}

#[test]
fn protocols_are_negotiated_or_refused() {
    let server = serve("location / { return 200 '$ssl_alpn_protocol'; }");
    let hello = |protocols: &[&str]| Hello::to("a.example").offering(protocols);
    let mut client = hello(&["http/1.0", "http/1.1"]).connect(server.addr());
    assert_eq!(client.get("a", "/").text(), "http/1.1");
    let refused = hello(&["nonsense"]).try_connect(server.addr()).unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    server.wait_for_log(Level::Info, "error:0A0000EB:SSL routines::no application protocol");
}

#[test]
fn clients_certificates_are_judged_with_each_request() {
    let good = Certificate::authority("good");
    let bad = Certificate::authority("bad");
    let server = start(
        "ssl_client_certificate good.pem;
         server { listen {{addr}} ssl; server_name on.example; ssl_verify_client on;
                  location / { return 200 '$ssl_client_verify $ssl_client_s_dn'; } }
         server { listen {{addr}} ssl; server_name optional.example; ssl_verify_client optional;
                  location / { return 200 '$ssl_client_verify'; } }
         server { listen {{addr}} ssl; server_name any.example; ssl_verify_client optional_no_ca;
                  location / { return 200 '$ssl_client_verify'; } }
         server { listen {{addr}} ssl; server_name off.example; location / { return 200 '$ssl_client_verify'; } }",
        &[("good", &good)],
    );
    let user = good.issue("user");
    let ask = |name: &str, shown: Option<&Certificate>, host: &str| {
        for version in [&TLS12, &TLS13] {
            let mut client = Hello::with(name, &[version], shown).connect(server.addr());
            let answer = client.get(host, "/");
            if version.version == rustls::ProtocolVersion::TLSv1_3 {
                return (answer.status.unwrap(), answer.text());
            }
        }
        unreachable!()
    };
    assert_eq!(ask("on.example", Some(&user), "on.example"), (200, "SUCCESS CN=user".into()));
    assert_eq!(ask("on.example", None, "on.example").0, 400);
    server.wait_for_access("400 GET / HTTP/1.1 NONE");
    assert_eq!(ask("on.example", Some(&bad), "on.example").0, 400);
    server.wait_for_access("400 GET / HTTP/1.1 FAILED:self-signed certificate");
    server.wait_for_log(Level::Info, "client SSL certificate verify error: (18:self-signed certificate)");
    assert_eq!(ask("optional.example", None, "optional.example"), (200, "NONE".into()));
    assert_eq!(ask("optional.example", Some(&bad), "optional.example").0, 400);
    assert_eq!(ask("any.example", Some(&bad), "any.example"), (200, "FAILED:self-signed certificate".into()));
    assert_eq!(ask("off.example", Some(&user), "off.example"), (200, "NONE".into()));
    // Let in for one name, a client does not get at what another one guards.
    assert_eq!(ask("off.example", Some(&user), "on.example").0, 421);
    assert_eq!(ask("off.example", Some(&user), "off.example").0, 200);
}

#[test]
fn sessions_are_gone_on_with_where_they_were_made() {
    let guard = Certificate::authority("guard");
    let server = start(
        "server { listen {{addr}} ssl; server_name a.example;
                  location / { return 200 $ssl_session_reused; } }
         server { listen {{addr:second}} ssl; server_name a.example;
                  ssl_verify_client optional_no_ca; ssl_client_certificate guard.pem;
                  location / { return 200 $ssl_session_reused; } }
         server { listen {{addr:third}} ssl; server_name a.example; ssl_session_tickets off;
                  ssl_session_cache shared:one:1m; location / { return 200 $ssl_session_reused; } }
         server { listen {{addr:fourth}} ssl; server_name a.example; ssl_session_tickets off;
                  location / { return 200 $ssl_session_reused; } }",
        &[("guard", &guard)],
    );
    for version in [&TLS12, &TLS13] {
        let fresh = || Hello::with("a.example", &[version], None);
        let ask_as = |hello: &Hello, addr| {
            let mut client = hello.connect(addr);
            let text = client.get("a.example", "/").text();
            let resumed = client.connection().handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, text == "r");
            resumed
        };
        let hello = fresh();
        let ask = |addr| ask_as(&hello, addr);
        assert_eq!([ask(server.addr()), ask(server.addr())], [false, true]);
        // What was agreed on without a certificate is worth nothing where one is asked for.
        assert!(!ask(server.named_addr("second")));
        assert!(ask(server.named_addr("second")));
        for (name, expect) in [("third", [false, true]), ("fourth", [false, false])] {
            let (hello, addr) = (fresh(), server.named_addr(name));
            assert_eq!([ask_as(&hello, addr), ask_as(&hello, addr)], expect, "{name}");
        }
    }
}

#[test]
fn early_data_is_told_apart_and_taken_once() {
    let server = serve("ssl_early_data on; location / { return 200 '$ssl_session_reused$ssl_early_data'; }");
    let hello = Hello::with("a.example", &[&TLS13], None).early();
    assert_eq!(hello.connect(server.addr()).get("a", "/").text(), ".");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut client, taken) = hello.connect_early(server.addr(), request);
    assert!(taken);
    assert_eq!(client.response().text(), "r1");
    assert_eq!(client.get("a", "/").text(), "r");
    // Where early data is not wanted it is thrown away, and the request comes again.
    let server = serve("location / { return 200 '$ssl_early_data'; }");
    let (mut client, taken) = hello.connect_early(server.addr(), request);
    assert!(!taken);
    assert_eq!(client.get("a", "/").text(), "");
}

#[test]
fn a_handshake_may_end_anywhere() {
    let server = serve("location / { return 200 ok; }");
    let first = Hello::to("a.example").first_bytes();
    for cut in (0..first.len()).step_by(7) {
        let mut client = server.connect();
        client.send(&first[..cut]);
        client.half_close();
        let _ = client.read_to_end();
    }
    for at in (0..first.len()).step_by(5) {
        let mut changed = first.clone();
        changed[at] ^= 0x55;
        let mut client = server.connect();
        client.send(&changed);
        client.half_close();
        let _ = client.read_to_end();
    }
    // One byte at a time, and behind it nothing but its end.
    server.connect().send_slowly(&first, 100, Duration::from_millis(1)).half_close().read_to_end();
    server.wait_for_log(Level::Info, "peer closed connection in SSL handshake while SSL handshaking");
    assert_eq!(Hello::to("a.example").connect(server.addr()).get("a", "/").text(), "ok");
}

#[test]
fn rubbish_within_a_session_ends_it() {
    let server = serve("location / { return 200 ok; }");
    let mut client = Hello::to("a.example").connect(server.addr());
    assert_eq!(client.get("a", "/").text(), "ok");
    client.send_raw([23, 3, 3, 0, 32]).send_raw([0; 32]);
    assert_eq!(client.read_to_end(), (Vec::new(), End::Abrupt));
    assert_eq!(Hello::to("a.example").connect(server.addr()).get("a", "/").text(), "ok");
}

#[test]
fn silence_in_a_handshake_is_timed() {
    let server = serve("client_header_timeout 200ms; location / { return 200 ok; }");
    let first = Hello::to("a.example").first_bytes();
    server.connect().expect_closed();
    server.connect().send(&first[..50]).expect_closed();
    let mut whole = server.connect();
    whole.send(&first);
    let _ = whole.read_to_end();
    server.wait_for_log(Level::Info, "client timed out (110: Connection timed out) while SSL handshaking");
}

#[test]
fn the_proxy_protocol_comes_before_the_handshake() {
    let server = start(
        "server { listen {{addr}} ssl proxy_protocol; location / { return 200 '$proxy_protocol_addr $https'; } }",
        &[],
    );
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    let mut client = Hello::to("a.example").try_connect_behind(server.addr(), header).unwrap();
    assert_eq!(client.get("a", "/").text(), "192.0.2.1 on");
}

#[test]
fn an_idle_connection_takes_less_than_eight_kilobytes() {
    let server = serve("keepalive_timeout 600s; location / { return 200 ok; }");
    let hello = Hello::with("a.example", &[&TLS13], None);
    let open = |count: usize| -> Vec<_> {
        let open_one = |_| {
            let mut client = hello.connect(server.addr());
            assert_eq!(client.get("a", "/").text(), "ok");
            client
        };
        (0..count).map(open_one).collect()
    };
    let warm = open(100);
    let before = anonymous(server.pid());
    let clients = open(400);
    let each = anonymous(server.pid()).saturating_sub(before) / clients.len();
    drop(warm);
    assert!(each < 8_000, "{each} bytes each");
}
