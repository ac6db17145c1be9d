//! Servers behind this one over TLS: handshakes that break off or break the rules, whom a connection leads to, and which
//! connections are used again.

use crate::builder;
use moonrest_testkit::{Server, Upstream, logs::Level, tls::Certificate, upstream::Act};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// A relay that lets only so many bytes of the answering side through on each connection.
struct Cutter {
    addr: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    allowed: Arc<AtomicUsize>,
}

impl Cutter {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let target = Arc::new(OnceLock::new());
        let allowed = Arc::new(AtomicUsize::new(0));
        let (to, limit) = (target.clone(), allowed.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(target) = to.get() else { continue };
                let Ok(server) = TcpStream::connect(target) else { continue };
                relay(client, server, limit.load(SeqCst));
            }
        });
        Self { addr, target, allowed }
    }
}

fn relay(mut client: TcpStream, mut server: TcpStream, limit: usize) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut left = limit;
        let mut buffer = [0; 4096];
        while left > 0 {
            let n = match server.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => n.min(left),
            };
            left -= n;
            if client.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// A server that passes requests to `https://to` with these directives.
fn front(to: impl std::fmt::Display, more: &str) -> Server {
    builder().start(&format!(
        "worker_processes 1;
         http {{ server {{ listen {{{{addr}}}}; {more} location / {{ proxy_pass https://{to}; }} }} }}"
    ))
}

#[test]
fn an_upstream_may_close_at_any_byte_of_the_handshake() {
    let own = Certificate::authority("a.example");
    let back = builder().file("conf/a.pem", own.pem.clone()).file("conf/a.key", own.key).start(
        "worker_processes 1;
         http {
             server {
                 listen {{addr}} ssl;
                 ssl_certificate a.pem;
                 ssl_certificate_key a.key;
                 location / { return 200 reached; }
             }
         }",
    );
    for version in ["TLSv1.2", "TLSv1.3"] {
        let cutter = Cutter::start();
        cutter.target.set(back.addr()).unwrap();
        let more = format!("proxy_ssl_protocols {version}; proxy_ssl_session_reuse off;");
        let mut server = front(cutter.addr, &more);
        server.allow_log("SSL");
        let mut refused = 0;
        for end in (0..20_000).step_by(23) {
            cutter.allowed.store(end, SeqCst);
            let response = server.get("/");
            if response.status == Some(200) {
                break;
            }
            response.expect_status(502);
            refused += 1;
        }
        assert!(refused > 10, "{version}: {refused}");
        cutter.allowed.store(usize::MAX, SeqCst);
        server.get("/").expect_status(200).expect_body("reached");
        let closed = server.wait_for_log(Level::Error, "peer closed connection in SSL handshake");
        assert!(closed.contains("while SSL handshaking to upstream"), "{closed}");
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let cases: Vec<Vec<u8>> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        // Records whose lengths lie, or are beyond all limits.
        vec![0x16, 3, 3, 0xff, 0xff, 2, 0, 0, 0],
        vec![0x16, 3, 3, 0, 9, 2, 0xff, 0xff, 0xff, 3, 3],
        vec![0x16, 3, 3, 0, 0],
        // Data before the handshake is over.
        [vec![0x17, 3, 3, 0, 5], b"hello".to_vec()].concat(),
        // handshake_failure, close_notify, and an alert that is too short.
        vec![0x15, 3, 3, 0, 2, 2, 40],
        vec![0x15, 3, 3, 0, 2, 1, 0],
        vec![0x15, 3, 3, 0, 1, 2],
        vec![0; 64],
    ];
    let script = |bytes: &Vec<u8>| vec![Act::Read(5), Act::Send(bytes.clone()), Act::HalfClose];
    let upstream = Upstream::start(cases.iter().map(script).collect());
    let mut server = front(upstream.addr(), "");
    server.allow_log("SSL");
    for bytes in &cases {
        let response = server.get("/");
        assert_eq!(response.status, Some(502), "{bytes:?}");
    }
    server.wait_for_log(
        Level::Error,
        "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)",
    );
    server.wait_for_log(Level::Error, "sslv3 alert handshake failure:SSL alert number 40");
}

#[test]
fn a_silent_upstream_times_out_in_the_handshake() {
    let upstream = Upstream::start(vec![vec![Act::Hold]]);
    let mut server = front(upstream.addr(), "proxy_connect_timeout 300ms;");
    server.allow_log("upstream timed out");
    server.get("/").expect_status(504);
    let line = server.wait_for_log(Level::Error, "upstream timed out (110: Connection timed out)");
    assert!(line.contains("while SSL handshaking to upstream"), "{line}");
}

#[test]
fn another_server_is_asked_when_a_handshake_fails() {
    let own = Certificate::authority("a.example");
    let broken = Upstream::start(vec![vec![Act::Read(5), Act::HalfClose]]);
    let mut server =
        builder().file("conf/a.pem", own.pem.clone()).file("conf/a.key", own.key).start(&format!(
            "worker_processes 1;
         http {{
             upstream u {{ server {}; server {{{{addr:back}}}} backup; }}
             server {{
                 listen {{{{addr:back}}}} ssl;
                 ssl_certificate a.pem;
                 ssl_certificate_key a.key;
                 location / {{ return 200 reached; }}
             }}
             server {{ listen {{{{addr}}}}; location / {{ proxy_pass https://u; }} }}
         }}",
            broken.addr()
        ));
    server.allow_log("SSL");
    server.get("/").expect_status(200).expect_body("reached");
}

#[test]
fn nothing_is_sent_to_whom_it_is_not_meant_for() {
    let (good, bad) = (Certificate::authority("good"), Certificate::authority("bad"));
    let own = good.issue("a.example");
    let mut server = builder()
        .file("conf/a.pem", own.pem.clone())
        .file("conf/a.key", own.key.clone())
        .file("conf/good.pem", good.pem.clone())
        .file("conf/bad.pem", bad.pem.clone())
        .start(
            "worker_processes 1;
             http {
                 upstream u { server {{addr:back}}; keepalive 8; }
                 log_format n '$uri $ssl_server_name $connection';
                 proxy_ssl_verify on;
                 proxy_ssl_trusted_certificate good.pem;
                 proxy_ssl_server_name on;
                 proxy_ssl_name a.example;
                 proxy_http_version 1.1;
                 proxy_set_header Connection '';
                 server {
                     listen {{addr:back}} ssl;
                     ssl_certificate a.pem;
                     ssl_certificate_key a.key;
                     access_log logs/back.log n;
                     location / { return 200 $ssl_server_name; }
                 }
                 server {
                     listen {{addr}};
                     location /good { proxy_pass https://u; }
                     location /name { proxy_pass https://u; proxy_ssl_name b.example; }
                     location /trust { proxy_pass https://u; proxy_ssl_trusted_certificate bad.pem; }
                     location /any { proxy_pass https://u; proxy_ssl_verify off; proxy_ssl_name $arg_n; }
                 }
             }",
        );
    server.allow_log("upstream SSL certificate");
    for _ in 0..3 {
        // A connection is kept by now that only the first location may use.
        server.get("/good").expect_status(200).expect_body("a.example");
        server.get("/name").expect_status(502);
        server.get("/trust").expect_status(502);
        server.get("/any?n=c.example").expect_status(200).expect_body("c.example");
        server.get("/any?n=d.example").expect_status(200).expect_body("d.example");
    }
    server.wait_for_log(Level::Error, "upstream SSL certificate does not match \"b.example\"");
    server.wait_for_log(
        Level::Error,
        "upstream SSL certificate verify error: (21:unable to verify the first certificate)",
    );
    let log = std::fs::read_to_string(server.root().join("logs/back.log")).unwrap();
    assert!(!log.contains("/name") && !log.contains("/trust"), "{log}");
    // Each name has its own connection, used by all of its requests.
    let connections: std::collections::BTreeSet<&str> =
        log.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!((connections.len(), log.lines().count()), (3, 9), "{log}");
}

#[test]
fn secrets_of_sessions_are_logged_on_demand() {
    let own = Certificate::authority("a.example");
    let server = builder().file("conf/a.pem", own.pem.clone()).file("conf/a.key", own.key).start(
        "worker_processes 1;
         http {
             server { listen {{addr:back}} ssl; ssl_certificate a.pem; ssl_certificate_key a.key; location / { return 204; } }
             server { listen {{addr}}; location / { proxy_pass https://{{addr:back}}; proxy_ssl_key_log logs/keys; } }
         }",
    );
    server.get("/").expect_status(204);
    let text = std::fs::read_to_string(server.root().join("logs/keys")).unwrap_or_default();
    assert!(text.contains("CLIENT_TRAFFIC_SECRET_0 "), "{text}");
}
