//! Requests behind one another on one connection.

use crate::{responses, serve, serve_files};
use std::time::Duration;

fn requests(count: usize) -> String {
    let one = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    let last = format!("GET /{count} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    (1..count).map(one).collect::<String>() + &last
}

fn expected(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("/{n}\n")).collect()
}

#[test]
fn hundreds_of_requests_in_one_packet() {
    let server = serve("keepalive_requests 1000; location / { return 200 \"$uri\n\"; }");
    let mut client = server.connect();
    client.send(requests(500));
    let got = responses(&client.read_to_end());
    assert_eq!(got.iter().map(|response| response.text()).collect::<Vec<_>>(), expected(500));
    server.wait_for_access("200 GET /500 ");
    assert_eq!(server.access_log().lines().count(), 500);
}

#[test]
fn requests_in_packets_of_any_size() {
    let server = serve("location / { return 200 \"$uri\n\"; }");
    for size in [1, 2, 3, 7, 31, 64] {
        let mut client = server.connect();
        client.send_slowly(requests(12), size, Duration::from_micros(200));
        let got = responses(&client.read_to_end());
        assert_eq!(got.iter().map(|response| response.text()).collect::<Vec<_>>(), expected(12), "{size}");
    }
}

#[test]
fn answers_larger_than_any_buffer_keep_their_order() {
    let large: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let server = serve_files("location / { }", &[("html/large", &large), ("html/small", b"small")]);
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut client = server.connect();
    let pair = get("/large", "") + &get("/small", "");
    client.send(pair.repeat(10) + &get("/small", "Connection: close\r\n"));
    let got = responses(&client.read_to_end());
    assert_eq!(got.len(), 21);
    for (n, response) in got.iter().enumerate() {
        let expect = if n % 2 == 0 && n < 20 { &large[..] } else { b"small" };
        assert!(response.body == expect, "answer {n} has {} bytes", response.body.len());
    }
}

#[test]
fn a_body_between_requests_is_skipped() {
    let server = serve("location / { return 200 \"$request_method\n\"; }");
    let body = "x".repeat(100_000);
    let mut client = server.connect();
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.send(format!("{post}{post}{get}"));
    let got = responses(&client.read_to_end());
    assert_eq!(got.iter().map(|response| response.text()).collect::<Vec<_>>(), ["POST\n", "POST\n", "GET\n"]);
}

#[test]
fn an_error_ends_the_line() {
    let server = serve("location / { return 200 ok; }");
    let mut client = server.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/9.9\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let got = responses(&client.read_to_end());
    assert_eq!(crate::statuses(&got), [200, 505]);
}
