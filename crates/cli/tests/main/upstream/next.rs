//! Which failures lead to another server, and which must not.

use super::proxy_to;
use moonrest_testkit::{Upstream, upstream::Act};

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

fn broken() -> Upstream {
    Upstream::start(vec![vec![Act::ReadRequest]])
}

#[test]
fn a_server_that_breaks_off_is_passed_over() {
    let (bad, good) = (broken(), Upstream::answering(GOOD));
    let mut server = proxy_to(&[&bad, &good], "", "");
    server.allow_log("upstream prematurely closed connection");
    server.get("/x").expect_body("good");
    let line = server.wait_for_access("/x 200");
    assert!(line.contains(&format!("{}, {} 502, 200", bad.addr(), good.addr())), "{line}");
    // It is left alone for a while.
    server.get("/").expect_body("good");
    assert_eq!(bad.recorded().len(), 1);
}

#[test]
fn requests_that_change_something_are_not_repeated() {
    let (bad, good) = (broken(), Upstream::answering(GOOD));
    let mut server = proxy_to(&[&bad, &good], "", "");
    server.allow_log("upstream prematurely closed connection");
    server.request("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").expect_status(502);
    assert!(good.recorded().is_empty());
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_costs_no_attempt() {
    let upstream = Upstream::start(vec![
        vec![Act::ReadRequest, Act::send(GOOD), Act::ReadRequest],
        vec![Act::ReadRequest, Act::send(GOOD), Act::Hold],
    ]);
    let mut server = proxy_to(&[&upstream], "keepalive 1;", "");
    server.allow_log("upstream prematurely closed connection");
    server.get("/1").expect_body("good");
    server.get("/2").expect_body("good");
    assert_eq!(upstream.recorded().len(), 2);
}

#[test]
fn a_status_may_ask_for_another_server() {
    let bad = Upstream::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let good = Upstream::answering(GOOD);
    let server = proxy_to(&[&bad, &good], "", "proxy_next_upstream error http_503;");
    server.get("/").expect_body("good");
    let tries = proxy_to(&[&bad, &good], "", "proxy_next_upstream http_503; proxy_next_upstream_tries 1;");
    tries.get("/").expect_status(503).expect_body("busy");
}

#[test]
fn nobody_is_left() {
    let (one, two) = (broken(), broken());
    let mut server = proxy_to(&[&one, &two], "", "");
    server.allow_log("upstream");
    server.get("/1").expect_status(502);
    server.get("/2").expect_status(502);
    let line = server.wait_for_access("/2 502");
    assert!(line.contains("/2 502 u 502"), "{line}");
    server
        .wait_for_log(moonrest_testkit::logs::Level::Error, "no live upstreams while connecting to upstream");
}
