//! Limits that several connections, workers or generations share, and requests that go on behind an answer.

use crate::{builder, serve, statuses, talk};
use moonrest_testkit::{Server, logs::Level};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const GET_A: &str = "GET /?key=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn with_http(workers: usize, http: &str, directives: &str) -> Server {
    builder().start(&format!(
        "worker_processes {workers};
         http {{ {http} access_log logs/access.log; server {{ listen {{{{addr}}}}; {directives} }} }}"
    ))
}

#[test]
fn a_delayed_request_is_dropped_when_its_client_leaves() {
    let server = with_http(
        1,
        "limit_req_zone $arg_key zone=one:1m rate=1r/m;",
        "location / { limit_req zone=one burst=9; empty_gif; }",
    );
    server.get("/?key=a").expect_status(200);
    let mut client = server.connect();
    client.send(GET_A);
    server.wait_for_log(Level::Warn, "delaying request, excess:");
    drop(client);
    let line = server.wait_for_log(Level::Info, "client prematurely closed connection");
    assert!(line.contains("request: \"GET /?key=a HTTP/1.1\""), "{line}");
    server.wait_for_access(" 499 ");
}

#[test]
fn a_delayed_request_is_answered_in_the_end() {
    let server = with_http(
        1,
        "limit_req_zone $arg_key zone=one:1m rate=5r/s;",
        "location / { limit_req zone=one burst=9; empty_gif; }",
    );
    let started = Instant::now();
    for _ in 0..3 {
        server.get("/?key=a").expect_status(200);
    }
    let took = started.elapsed().as_millis();
    assert!((350..10_000).contains(&took), "{took}");
}

#[test]
fn no_request_too_many_passes_however_many_workers_there_are() {
    let server = with_http(
        4,
        "limit_req_zone $arg_key zone=one:1m rate=1r/m;",
        "location / { limit_req zone=one burst=20 nodelay; limit_req_log_level info; empty_gif; }",
    );
    let addr = server.addr();
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    (0..10)
                        .filter(|_| {
                            let mut client = moonrest_testkit::Client::connect(addr);
                            client.send(GET_A);
                            client.response().status == Some(200)
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    // The first, and the burst behind it.
    assert_eq!(passed, 21);
}

#[test]
fn counts_outlive_a_reload() {
    let server = with_http(
        1,
        "limit_req_zone $arg_key zone=one:1m rate=1r/m;",
        "location / { limit_req zone=one; empty_gif; }",
    );
    server.get("/?key=a").expect_status(200);
    server.signal(Signal::HUP);
    server.wait_for_log(Level::Notice, "gracefully shutting down");
    server.get("/?key=a").expect_status(503);
    server.get("/?key=b").expect_status(200);
}

#[test]
fn connections_are_counted_while_their_requests_last() {
    let server = with_http(
        2,
        "limit_conn_zone $arg_key zone=one:1m;",
        "location / { limit_conn one 2; limit_conn_log_level warn; limit_rate $arg_rate; empty_gif; }",
    );
    let slow = "GET /?key=a&rate=5 HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut first, mut second) = (server.connect(), server.connect());
    // Whoever is being answered has been counted. Asking before that would take the place of one of them.
    first.send(slow).wait_for_bytes(5);
    second.send(slow).wait_for_bytes(5);
    // An error page is as slow.
    server.get("/?key=a&rate=0").expect_status(503);
    server.wait_for_log(Level::Warn, "limiting connections by zone \"one\"");
    server.get("/?key=b").expect_status(200);
    drop(first);
    let passed = moonrest_testkit::process::poll(Duration::from_secs(20), || {
        (server.get("/?key=a").status == Some(200)).then_some(())
    });
    assert!(passed.is_some(), "one has left");
}

#[test]
fn a_connection_that_stays_open_counts_only_while_a_request_lasts() {
    let server =
        with_http(1, "limit_conn_zone $arg_key zone=one:1m;", "location / { limit_conn one 1; empty_gif; }");
    let mut idle = server.connect();
    idle.send("GET /?key=a HTTP/1.1\r\nHost: x\r\n\r\n");
    idle.response().expect_status(200);
    server.get("/?key=a").expect_status(200);
    // So do pipelined ones.
    let both = "GET /?key=a HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + GET_A;
    assert_eq!(statuses(&talk(&server, both)), [200, 200]);
}

#[test]
fn a_mirror_holds_the_connection_but_not_the_answer() {
    let server = with_http(
        1,
        "limit_req_zone $server_addr zone=slow:1m rate=30r/m;",
        "location /m { mirror /copy; empty_gif; }
         location /copy { internal; limit_req zone=slow burst=9; empty_gif; }",
    );
    // The second copy is due two seconds after the first, whenever that comes.
    let started = Instant::now();
    server.get("/m").expect_status(200);
    let mut client = server.connect();
    client.send("GET /m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.response().expect_status(200);
    assert!(started.elapsed() < Duration::from_millis(1_900), "the answer does not wait");
    client.expect_closed();
    assert!(started.elapsed() > Duration::from_millis(1_900), "the connection does");
}

#[test]
fn a_body_is_read_before_it_is_mirrored() {
    let server = serve(
        "location /m { mirror /copy; client_max_body_size 3; empty_gif; error_page 405 =200 /done; }
         location /done { return 200 done; }
         location /copy { internal; return 204; }",
    );
    let post = |body: &str| {
        format!(
            "POST /m HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    assert_eq!(statuses(&talk(&server, post("3\r\nabc\r\n0\r\n\r\n"))), [200]);
    assert_eq!(statuses(&talk(&server, post("4\r\nabcd\r\n0\r\n\r\n"))), [413]);
}
