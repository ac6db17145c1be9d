//! The test kit against a real server: the default binary, or what `MOONREST_BINARY` names.
mod cache;
mod http2;
mod http2_websocket;
mod tidy;

use std::time::Duration;

use moonrest_testkit::Server;
use moonrest_testkit::logs::Level;
use rustix::process::Signal;

const HELLO: &str = "master_process off;
    http { server { listen {{addr}}; location / { return 200 hello; } location /s { root {{root}}/html; } } }";

#[test]
fn a_server_answers_and_stops() {
    let mut server = Server::builder().file("html/s/a.txt", "content").start(HELLO);
    server.get("/").expect_status(200).expect_body("hello");
    server.get("/s/a.txt").expect_body("content");
    server.wait_for_access("GET /s/a.txt");
    server.signal(Signal::USR1);
    server.wait_for_log(Level::Notice, "reopening logs");
    assert!(server.stop(Signal::TERM));
}

#[test]
fn a_configuration_error_is_reported() {
    let failure = Server::builder().try_start("http { nonsense on; }").unwrap_err();
    assert!(failure.error_log.contains("unknown directive \"nonsense\""), "{failure:?}");
    assert_ne!(failure.status, Some(0));
}

#[test]
fn connections_are_pipelined_halved_and_reset() {
    let server = Server::start(HELLO);
    let mut client = server.connect();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.response().expect_status(200);
    client.response_to_head().expect_header("Connection", "close");
    client.expect_closed();

    let mut client = server.connect();
    client.expect_silence(Duration::from_millis(30)).send_slowly(
        "GET / HTTP/1.0\r\n\r\n",
        5,
        Duration::from_millis(1),
    );
    client.half_close().response().expect_body("hello");

    let mut client = server.connect();
    client.send("GET /reset HTTP/1.1\r\n");
    client.reset();
}
