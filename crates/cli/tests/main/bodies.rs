//! Request bodies: limits, `Expect: 100-continue`, slow senders.

use crate::{responses, serve, statuses, talk};
use std::time::Duration;

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
