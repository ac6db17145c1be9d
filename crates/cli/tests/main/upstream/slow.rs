//! Clients that take their time: the upstream is done early, memory stays bounded, and not a byte is lost.

use super::proxy;
use moonrest_testkit::{Response, Upstream, logs::Level, process::poll, response::Context, upstream::Act};
use std::time::Duration;

/// Bytes that show where they belong.
fn content(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|n| format!("{n:07}\n").into_bytes()).collect()
}

fn upstream(body: &[u8], chunked: bool) -> Upstream {
    let mut answer = Vec::new();
    if chunked {
        answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(10_007) {
            answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            answer.extend_from_slice(piece);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n\r\n");
    } else {
        answer.extend_from_slice(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
        );
        answer.extend_from_slice(body);
    }
    Upstream::start(vec![vec![Act::ReadRequest, Act::Send(answer)]])
}

/// Asks, waits until `ready`, then reads everything.
fn check(directives: &str, chunked: bool, ready: impl Fn(&moonrest_testkit::Server, &Upstream)) {
    let body = content(12_000_000);
    let upstream = upstream(&body, chunked);
    let server = proxy(&upstream, directives);
    let mut client = server.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.wait_for_bytes(1);
    ready(&server, &upstream);
    let all = client.read_to_end();
    let response = Response::parse(&all, Context { head_request: false, at_end: true }).unwrap();
    assert!(response.body == body, "{directives}: {} bytes instead of {}", response.body.len(), body.len());
}

fn done(_: &moonrest_testkit::Server, upstream: &Upstream) {
    let done = poll(Duration::from_secs(10), || {
        upstream.recorded().first().is_some_and(|record| record.done).then_some(())
    });
    assert!(done.is_some(), "the upstream waits for the client");
}

fn not_done(_: &moonrest_testkit::Server, upstream: &Upstream) {
    std::thread::sleep(Duration::from_millis(300));
    assert!(!upstream.recorded()[0].done, "the upstream does not wait for the client");
}

#[test]
fn what_does_not_fit_into_memory_goes_to_a_file() {
    check("", false, |server, upstream| {
        done(server, upstream);
        let line = server.wait_for_log(Level::Warn, "an upstream response is buffered to a temporary file");
        assert!(line.contains("while reading upstream, client:"), "{line}");
    });
    check("sendfile on;", true, done);
    check("gzip on; gzip_types *; sub_filter nothing something;", true, done);
}

#[test]
fn without_files_the_upstream_waits() {
    check("proxy_max_temp_file_size 0;", false, not_done);
    check("proxy_max_temp_file_size 64k;", true, not_done);
    check("proxy_buffering off;", false, not_done);
    check("proxy_buffering off;", true, not_done);
}

#[test]
fn the_time_in_which_the_client_lets_us_wait_is_not_the_upstreams() {
    let wait = |_: &moonrest_testkit::Server, _: &Upstream| std::thread::sleep(Duration::from_millis(700));
    check("proxy_max_temp_file_size 0; proxy_read_timeout 300ms;", false, wait);
    check("proxy_buffering off; proxy_read_timeout 300ms;", false, wait);
}
