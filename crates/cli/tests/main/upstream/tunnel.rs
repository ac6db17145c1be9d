//! Connections that switch protocols.

use super::proxy;
use moonrest_testkit::{Upstream, upstream::Act};
use std::time::Duration;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n";
const ASK: &str = "GET /t HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n";
const PASS: &str = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

#[test]
fn bytes_go_both_ways_until_one_side_ends() {
    let upstream = Upstream::start(vec![vec![
        Act::ReadRequest,
        Act::send(format!("{SWITCH}early")),
        Act::ReadUntil(b"ping".to_vec()),
        Act::send("pong"),
    ]]);
    let server = proxy(&upstream, PASS);
    let mut client = server.connect();
    client.send(ASK).send("ping");
    let all = client.read_to_end();
    let text = String::from_utf8_lossy(&all);
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.contains("Connection: upgrade\r\n") && text.contains("Upgrade: echo\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nearlypong"), "{text}");
    server.wait_for_access("/t 101");
}

#[test]
fn a_silent_tunnel_is_closed() {
    let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::send(SWITCH), Act::Hold]]);
    let mut server = proxy(&upstream, &format!("{PASS} proxy_read_timeout 200ms;"));
    server.allow_log("upstream timed out");
    let mut client = server.connect().with_timeout(Duration::from_secs(5));
    client.send(ASK);
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 101"));
    server.wait_for_log(
        moonrest_testkit::logs::Level::Error,
        "upstream timed out (110: Connection timed out) while proxying upgraded connection",
    );
}

#[test]
fn nothing_switches_that_was_not_asked_to() {
    let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::send(SWITCH), Act::Hold]]);
    for (directives, request) in
        [("", ASK), (PASS, "GET /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")]
    {
        let mut server = proxy(&upstream, directives);
        server.allow_log("upstream");
        server.request(request).expect_status(502);
    }
}
