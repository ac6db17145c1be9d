//! Request bodies: limits, `Expect: 100-continue`, slow senders.

use crate::{responses, serve, statuses, talk};
use moonrest_testkit::{Server, logs::Level};
use std::{fs, time::Duration};

#[test]
fn a_body_has_a_limit() {
    let server = serve(
        "client_max_body_size 10; location / { return 200 ok; } location /any { client_max_body_size 0; return 200 ok; }",
    );
    let post = |path: &str, len: usize| {
        let body = "x".repeat(len);
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
    };
    assert_eq!(statuses(&talk(&server, post("/", 10))), [200]);
    assert_eq!(statuses(&talk(&server, post("/", 11))), [413]);
    assert_eq!(statuses(&talk(&server, post("/any", 100_000))), [200]);
}

#[test]
fn a_slow_body_keeps_the_connection() {
    let server = serve("location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    client.response().expect_status(200);
    client.send_slowly("x".repeat(20), 1, Duration::from_millis(2));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().expect_status(200);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.response().expect_status(200);
    client.send_slowly("5;x=y\r\nabcde\r\n0\r\nA: b\r\n\r\n", 1, Duration::from_millis(2));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().expect_status(200);
}

#[test]
fn a_client_that_waits_to_be_asked_is_not_asked_in_vain() {
    // Nobody reads this body: the answer comes instead of 100, and the body may still follow.
    let server = serve("location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let first = client.response();
    assert!(matches!(first.status, Some(100 | 200)), "{first:?}");
    if first.status == Some(100) {
        client.send("hello");
        client.response().expect_status(200);
    }
}

#[test]
fn too_large_is_said_before_the_body_is_sent() {
    let server = serve("client_max_body_size 10; location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    client.response().expect_status(413).expect_header("Connection", "close");
}

#[test]
fn large_bodies_pass_whatever_their_pieces() {
    let server = serve("client_max_body_size 0; location / { return 200 ok; }");
    for size in [1 << 10, 1 << 16, 1 << 20] {
        let mut client = server.connect();
        let body = vec![b'q'; 5 << 20];
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        for piece in body.chunks(size) {
            client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(statuses(&responses(&client.read_to_end())), [200], "{size}");
    }
}

/// Keeps what is PUT, by way of temporary files once bodies are larger than 1 KiB.
fn keeper(directives: &str) -> Server {
    let server = serve(&format!(
        "client_body_buffer_size 1k; {directives}
         location / {{ root html; dav_methods PUT; create_full_put_path on; }}"
    ));
    // Workers run as another user, if they can.
    let open = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
    for dir in ["", "html", "temp"] {
        fs::set_permissions(server.root().join(dir), open()).expect("it is ours");
    }
    server
}

#[test]
fn large_uploads_pass_through_temporary_files() {
    let server = keeper("client_max_body_size 0;");
    let body: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = server.connect();
    client
        .send(format!("PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()))
        .send(&body);
    client.response().expect_status(201);
    client.send("PUT /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(99_991) {
        client.send(format!("{:X}\r\n", piece.len())).send(piece).send("\r\n");
    }
    client.send("0\r\n\r\nPUT /small HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    client.response().expect_status(201);
    client.response().expect_status(201);
    let read = |name: &str| fs::read(server.root().join("html").join(name)).unwrap_or_default();
    assert!(read("length") == body);
    assert!(read("chunks") == body);
    assert_eq!(read("small"), b"hello");
    let left = fs::read_dir(server.root().join("temp/client_body")).expect("it is there").count();
    assert_eq!(left, 0, "temporary files remain");
}

#[test]
fn a_client_that_waits_to_be_asked_is_asked() {
    let server = keeper("");
    let mut client = server.connect();
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let asked = client.response();
    assert_eq!(String::from_utf8_lossy(&asked.head), "HTTP/1.1 100 Continue\r\n");
    client.send("hello");
    client.response().expect_status(201);
    // HTTP/1.0 knows no interim answers.
    client.send("PUT /y HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    client.response().expect_status(201);
}

#[test]
fn a_body_that_does_not_end() {
    let server = keeper("client_body_timeout 300ms;");
    let put = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc";
    let mut client = server.connect();
    client.send(put);
    client.expect_closed();
    server.wait_for_access("408 PUT /x HTTP/1.1 0");
    let mut client = server.connect();
    client.send(put).half_close();
    client.expect_closed();
    server.wait_for_access("400 PUT /x HTTP/1.1 0");
    server.wait_for_log(
        Level::Info,
        "client prematurely closed connection, client: 127.0.0.1, server: , request:",
    );
    assert!(!server.root().join("html/x").exists());
}

#[test]
fn broken_chunks_are_answered_when_the_body_is_wanted() {
    let server = keeper("client_max_body_size 10;");
    let put = |body: &str| {
        let mut client = server.connect();
        client.send(format!("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        let response = client.response();
        assert_eq!(response.header("Connection").as_deref(), Some("close"));
        response.status
    };
    assert_eq!(put("x\r\n"), Some(400));
    let log = server.wait_for_log(Level::Error, "client sent invalid chunked body");
    assert!(
        log.contains("invalid chunked body, client: 127.0.0.1, server: , request: \"PUT /x HTTP/1.1\""),
        "{log}"
    );
    assert_eq!(put("b\r\n01234567890\r\n0\r\n\r\n"), Some(413));
    server.wait_for_log(Level::Error, "client intended to send too large chunked body: ");
    assert!(!server.root().join("html/x").exists());
}

#[test]
fn a_body_that_trickles_is_given_up_if_a_rate_is_asked_for() {
    let server = keeper("client_body_timeout 400ms; client_body_min_rate 100;");
    let put = |name: &str| format!("PUT /{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n");
    let mut fast = server.connect();
    fast.send(put("fast")).send_slowly("x".repeat(60), 4, Duration::from_millis(20));
    fast.response().expect_status(201);
    let mut slow = server.connect();
    // Each byte comes long before the timeout, but all of them take four times as long as they may.
    slow.send(put("slow")).send_slowly("x".repeat(59), 1, Duration::from_millis(40));
    slow.expect_closed();
    server.wait_for_access("408 PUT /slow HTTP/1.1 0");
    assert!(!server.root().join("html/slow").exists());
}
