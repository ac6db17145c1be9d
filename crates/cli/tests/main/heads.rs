//! Heads that are too large or come too slowly, at each of their limits.

use crate::{serve, statuses, talk};
use moonrest_testkit::Server;
use std::time::Duration;

fn server() -> Server {
    serve(
        "client_header_buffer_size 1k; large_client_header_buffers 4 8k;
         location / { return 200 \"$http_x\n\"; }",
    )
}

fn status_of(server: &Server, request: &str) -> u16 {
    let got = talk(server, request);
    assert_eq!(got.len(), 1, "one answer to {} bytes", request.len());
    assert_eq!(got[0].header("Connection").as_deref(), Some("close"));
    got[0].status.unwrap_or(0)
}

#[test]
fn a_request_line_has_a_limit() {
    let server = server();
    let line = |len: usize| {
        let path = "a".repeat(len - "GET / HTTP/1.1\r\n".len());
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    };
    assert_eq!(status_of(&server, &line(1024)), 200);
    assert_eq!(status_of(&server, &line(8192)), 200);
    assert_eq!(status_of(&server, &line(8193)), 414);
    assert_eq!(status_of(&server, &line(300_000)), 414);
    server.wait_for_log(
        moonrest_testkit::logs::Level::Info,
        "client sent too long URI while reading client request line",
    );
}

#[test]
fn a_header_line_has_a_limit() {
    let server = server();
    let head = |len: usize| {
        let value = "b".repeat(len - "X: \r\n".len());
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {value}\r\n\r\n")
    };
    assert_eq!(status_of(&server, &head(1024)), 200);
    assert_eq!(status_of(&server, &head(8190)), 200);
    assert_eq!(status_of(&server, &head(8193)), 400);
    assert_eq!(status_of(&server, &head(300_000)), 400);
    let log = server
        .wait_for_log(moonrest_testkit::logs::Level::Info, "client sent too long header line: \"X: bbb");
    assert!(log.contains("...\" while reading client request headers, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\""), "{log}");
    server.wait_for_access("400 GET / HTTP/1.1");
}

#[test]
fn a_head_has_a_limit() {
    let server = server();
    let head = |count: usize| {
        let fields = format!("X: {}\r\n", "c".repeat(7000)).repeat(count);
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
    };
    assert_eq!(status_of(&server, &head(4)), 200);
    assert_eq!(status_of(&server, &head(5)), 400);
    assert_eq!(status_of(&server, &head(100)), 400);
    server.wait_for_log(moonrest_testkit::logs::Level::Info, "client sent too long header line: \"X: ccc");
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let server = server();
    let mut client = server.connect();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX: slow\r\n\r\n";
    client.send_slowly(request, 1, Duration::from_millis(1));
    client.response().expect_status(200).expect_body("slow\n");
    client.send_slowly(request, 2, Duration::from_millis(1));
    client.response().expect_status(200).expect_body("slow\n");
}

#[test]
fn fields_may_be_many() {
    let server = server();
    let fields = "a:b\r\n".repeat(900);
    let got = talk(&server, format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"));
    assert_eq!(statuses(&got), [200]);
}
