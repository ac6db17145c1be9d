//! How connections end: lingering, clients that leave, half-closed connections.

use crate::{serve, serve_files};
use moonrest_testkit::logs::Level;
use std::time::{Duration, Instant};

#[test]
fn an_answer_survives_a_body_that_nobody_wants() {
    let server = serve("client_max_body_size 1k; location / { return 200 ok; }");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    // Closing at once would reset the connection, and the answer with it.
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..20 {
        client.send(&piece);
    }
    client.response().expect_status(413).expect_header("Connection", "close");
    let log = server.wait_for_log(Level::Error, "client intended to send too large body: 10000000 bytes");
    assert!(log.ends_with("client: 127.0.0.1, server: , request: \"POST / HTTP/1.1\", host: \"a\""), "{log}");
}

#[test]
fn an_answer_survives_requests_behind_the_last_one() {
    let server = serve("location / { return 200 ok; }");
    for _ in 0..20 {
        let mut client = server.connect();
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(vec![b'x'; 1 << 20]);
        client.response().expect_status(200);
    }
}

#[test]
fn lingering_ends() {
    let server = serve(
        "client_max_body_size 1; lingering_time 600ms; lingering_timeout 300ms; location / { return 200 ok; }",
    );
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    client.response().expect_status(413);
    let started = Instant::now();
    client.send_slowly("x".repeat(40), 1, Duration::from_millis(50));
    assert!(started.elapsed() > Duration::from_millis(600));
    client.expect_closed();
}

#[test]
fn lingering_can_be_turned_off_and_on() {
    let server = serve(
        "location / { return 200 ok; }
         location /always { lingering_close always; lingering_timeout 400ms; return 200 ok; }
         location /off { lingering_close off; return 200 ok; }",
    );
    let close_after = |path: &str| {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        client.response().expect_status(200);
        // What the client sees is the same: the end of the stream, at once.
        client.expect_closed();
    };
    close_after("/");
    close_after("/off");
    close_after("/always");
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let large = vec![b'y'; 3 << 20];
    let server = serve_files("location / { }", &[("html/large", &large)]);
    let mut client = server.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").half_close();
    assert_eq!(client.response().body.len(), large.len());
    client.expect_closed();
}

#[test]
fn clients_that_leave_are_noticed() {
    let large = vec![b'z'; 16 << 20];
    let server = serve_files("location / { }", &[("html/large", &large)]);
    // Before a word, within a head, while idle, within a body, within the answer.
    server.connect().close();
    let log = server.wait_for_log(Level::Info, "client closed connection while waiting for request");
    assert!(log.ends_with(&format!(", client: 127.0.0.1, server: {}", server.addr())), "{log}");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost").half_close();
    client.expect_closed();
    let log = server.wait_for_log(Level::Info, "client prematurely closed connection");
    let expect =
        "while reading client request headers, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\"";
    assert!(log.ends_with(expect), "{log}");
    server.wait_for_access("400 GET / HTTP/1.1 0");
    let mut client = server.connect();
    client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().expect_status(404);
    client.close();
    server.wait_for_log(Level::Info, "client 127.0.0.1 closed keepalive connection");
    let mut client = server.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").wait_until_read();
    client.reset();
    let line = server.wait_for_access("GET /large");
    let sent: usize = line.rsplit(' ').next().and_then(|sent| sent.parse().ok()).expect("a number");
    assert!(line.starts_with("200 ") && sent < large.len(), "{line}");
    server.get("/none").expect_status(404);
}

#[test]
fn status_444_closes_without_an_answer() {
    let server = serve("location / { return 444; }");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.expect_closed();
    server.wait_for_access("444 GET / HTTP/1.1 0");
}
