//! Every wait for a client ends: heads, bodies, answers nobody reads, idle connections.

use crate::{serve, serve_files};
use moonrest_testkit::{Server, logs::Level};
use socket2::{Domain, Socket, Type};
use std::{
    io::Read,
    time::{Duration, Instant},
};

/// Connects, sends a request, and waits for the server to close without a word, which it does not do at once.
#[track_caller]
fn expect_timeout(server: &Server, request: &str) {
    let started = Instant::now();
    let mut client = server.connect();
    client.send(request).expect_closed();
    let took = started.elapsed();
    assert!(took > Duration::from_millis(250), "{request:?}: {took:?}");
}

#[test]
fn a_head_that_does_not_end() {
    let server = serve("client_header_timeout 300ms; location / { return 200 ok; }");
    expect_timeout(&server, "");
    let log = server.wait_for_log(Level::Info, "client timed out (110: Connection timed out)");
    let expect = format!("while waiting for request, client: 127.0.0.1, server: {}", server.addr());
    assert!(log.ends_with(&expect), "{log}");
    expect_timeout(&server, "GET / HT");
    let log = server.wait_for_log(Level::Info, "while reading client request line");
    assert!(log.ends_with("client: 127.0.0.1, server: , request: \"GET / HT\""), "{log}");
    expect_timeout(&server, "GET / HTTP/1.1\r\nHost: b\r\nX");
    let log = server.wait_for_log(Level::Info, "while reading client request headers");
    assert!(log.contains("client timed out (110: Connection timed out)"), "{log}");
    server.wait_for_access("408 GET / HTTP/1.1 0");
}

#[test]
fn a_head_timeout_is_not_renewed_by_single_bytes() {
    let server = serve("client_header_timeout 500ms; location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: ");
    let over = (0..400).any(|_| {
        client.send_slowly("a", 1, Duration::from_millis(50));
        server.access_log().contains("408 GET / HTTP/1.1 0")
    });
    assert!(over, "bytes were sent for twenty seconds");
    client.expect_closed();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = serve("keepalive_timeout 300ms; location / { return 200 ok; }");
    let started = Instant::now();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().expect_status(200);
    client.expect_closed();
    assert!(started.elapsed() > Duration::from_millis(250));
    assert!(!server.error_log().contains("timed out"));
}

#[test]
fn a_body_that_does_not_come_while_it_is_thrown_away() {
    let server = serve("lingering_timeout 300ms; location / { return 200 ok; }");
    let started = Instant::now();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");
    client.response().expect_status(200);
    client.expect_closed();
    assert!(started.elapsed() > Duration::from_millis(250));
}

/// A client with a small window that reads nothing.
fn deaf(server: &Server, request: &str) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small window");
    socket.connect(&server.addr().into()).expect("the server accepts");
    socket.send(request.as_bytes()).expect("the request leaves");
    socket
}

#[test]
fn an_answer_that_nobody_reads() {
    let large = vec![b'x'; 16 << 20];
    let files: &[(&str, &[u8])] = &[("html/large", &large)];
    let server = serve_files("send_timeout 500ms; location / { }", files);
    let mut socket = deaf(&server, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let log = server.wait_for_log(Level::Info, "client timed out (110: Connection timed out)");
    assert!(
        log.ends_with("client: 127.0.0.1, server: , request: \"GET /large HTTP/1.1\", host: \"a\""),
        "{log}"
    );
    let line = server.wait_for_access("GET /large");
    assert!(line.starts_with("200 "), "{line}");
    let sent: usize = line.rsplit(' ').next().and_then(|sent| sent.parse().ok()).expect("a number");
    assert!(sent > 0 && sent < large.len(), "{line}");
    let mut got = Vec::new();
    let end = socket.read_to_end(&mut got);
    assert!(end.is_ok(), "closed in order: {end:?}");
    assert!(got.len() < large.len());
}

#[test]
fn a_timed_out_connection_can_be_reset() {
    let large = vec![b'x'; 16 << 20];
    let files: &[(&str, &[u8])] = &[("html/large", &large)];
    let server = serve_files("send_timeout 300ms; reset_timedout_connection on; location / { }", files);
    let mut socket = deaf(&server, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_access("GET /large");
    std::thread::sleep(Duration::from_millis(100));
    let mut got = Vec::new();
    let end = socket.read_to_end(&mut got);
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_rate_holds() {
    let file = vec![b'r'; 30_000];
    let files: &[(&str, &[u8])] = &[("html/file", &file)];
    let server = serve_files(
        "location / { limit_rate 12k; } location /after/ { alias html/; limit_rate 1k; limit_rate_after 40k; }",
        files,
    );
    let time = |path: &str| {
        let started = Instant::now();
        let response = server.get(path);
        response.expect_status(200);
        assert_eq!(response.body.len(), file.len());
        started.elapsed()
    };
    // 12 KiB at once, the next ones after a second each.
    let took = time("/file");
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
    let took = time("/after/file");
    assert!(took < Duration::from_secs(20), "30 seconds would be needed otherwise: {took:?}");
}
