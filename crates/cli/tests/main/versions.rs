//! HTTP/0.9, 1.0 and 1.1: heads, keep-alive, bodies without a length.

use crate::{responses, serve, statuses, talk};

#[test]
fn http_0_9_is_answered_without_a_head() {
    let server = serve("location / { return 200 \"bare\n\"; }");
    let mut client = server.connect();
    client.send("GET /\r\n");
    assert_eq!(client.read_to_end(), b"bare\n");
    let mut client = server.connect();
    client.send("POST /\r\n");
    assert!(client.read_to_end().ends_with(b"</html>\r\n"));
    server.wait_for_access("200 GET / 5");
    server.wait_for_access("400 POST /");
}

#[test]
fn http_1_0_closes_unless_asked_otherwise() {
    let server = serve("location / { return 200 ok; }");
    let got = talk(&server, "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(statuses(&got), [200]);
    assert_eq!(got[0].header("Connection").as_deref(), Some("close"));
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    client.response().expect_status(200).expect_header("Connection", "keep-alive");
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.response().expect_status(200).expect_header("Connection", "close");
    client.expect_closed();
}

#[test]
fn http_1_1_stays_unless_asked_otherwise() {
    let server = serve("location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().expect_status(200).expect_header("Connection", "keep-alive");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n");
    client.response().expect_status(200).expect_header("Connection", "close");
    client.expect_closed();
}

#[test]
fn versions_are_digits() {
    let server = serve("location / { return 200 ok; }");
    for (version, status) in [
        ("HTTP/1.2", 200),
        ("HTTP/1.9", 200),
        ("HTTP/2.0", 505),
        ("HTTP/1.100", 400),
        ("HTTP/1.", 400),
        ("HTTP/.1", 400),
        ("HTTP/x.1", 400),
        ("HTTP/1.x", 400),
        ("http/1.1", 400),
        ("HTTPS/1.1", 400),
        ("HTTP/0.9", 400),
    ] {
        let got = talk(&server, format!("GET / {version}\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert_eq!(statuses(&got), [status], "{version}");
    }
}

#[test]
fn keep_alive_has_limits() {
    let server = serve("keepalive_requests 3; keepalive_timeout 10s 7s; location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    let got = responses(&client.read_to_end());
    assert_eq!(statuses(&got), [200, 200, 200]);
    assert_eq!(got[0].header("Keep-Alive").as_deref(), Some("timeout=7"));
    assert_eq!(got[2].header("Connection").as_deref(), Some("close"));
    let server = serve("keepalive_timeout 0; location / { return 200 ok; }");
    let got = talk(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(got[0].header("Connection").as_deref(), Some("close"));
}
