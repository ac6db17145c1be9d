//! Servers that speak HTTP/2, well or not: an answer that breaks off or breaks the rules never looks complete.

use super::proxy;
use crate::responses;
use moonrest_testkit::{Server, Upstream, logs::Level, upstream::Act};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const HTTP2: &str = "proxy_http_version 2;";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in the static table.
const OK: &[u8] = &[0x88];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Waits for a whole request without a body.
fn asked(stream: u8) -> Act {
    Act::ReadUntil(vec![HEADERS, END_HEADERS | END_STREAM, 0, 0, 0, stream])
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

fn answer(stream: u8, body: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, OK), frame(DATA, END_STREAM, stream, body)].concat()
}

fn ask(server: &Server, request: &str) -> Vec<u8> {
    let mut client = server.connect();
    client.send(request);
    client.read_to_end()
}

#[test]
fn an_upstream_may_close_at_every_byte_of_its_frames() {
    let bytes = [settings(), answer(1, b"hello")].concat();
    let head = settings().len() + frame(HEADERS, END_HEADERS, 1, OK).len();
    for more in ["", "proxy_buffering off;"] {
        let script = |end: usize| vec![asked(1), Act::Send(bytes[..end].to_vec()), Act::HalfClose];
        let upstream = Upstream::start((0..=bytes.len()).map(script).collect());
        let mut server = proxy(&upstream, &format!("{HTTP2} {more}"));
        server.allow_log("upstream prematurely closed connection");
        for end in 0..=bytes.len() {
            let got = ask(&server, GET);
            let text = String::from_utf8_lossy(&got).into_owned();
            if end < head {
                assert!(text.starts_with("HTTP/1.1 502"), "{end}: {text}");
            } else if end < bytes.len() {
                assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("0\r\n\r\n"), "{end}: {text}");
            } else {
                responses(&got)[0].expect_status(200).expect_body("hello");
            }
        }
        server.wait_for_log(Level::Error, "while reading response header from upstream");
    }
}

#[test]
fn frames_that_break_the_rules_are_refused() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a length that lies", vec![0, 0, 200, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x88]),
        ("a length beyond all limits", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]),
        ("not HTTP/2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        ("data before the head", frame(DATA, END_STREAM, 1, b"hello")),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, OK)),
        ("another frame amid the head", [frame(HEADERS, 0, 1, OK), frame(PING, 0, 0, &[0; 8])].concat()),
        ("an unknown stream", frame(HEADERS, END_HEADERS | END_STREAM, 3, OK)),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x84, 0x86])),
        ("a reset", frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])),
        ("a server that leaves", frame(GOAWAY, 0, 0, &[0; 8])),
        ("an empty update", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window beyond all limits", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("no status", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x40, 1, b'a', 1, b'b'])),
        ("an unknown index", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0x7f])),
        ("capitals", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88, 0x40, 1, b'A', 1, b'b'])),
        ("a line break", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88, 0x40, 1, b'a', 1, b'\n'])),
        ("padding that lies", frame(HEADERS, END_HEADERS | 8, 1, &[200, 0x88])),
        ("a flood of questions", frame(PING, 0, 0, &[1; 8]).repeat(5000)),
        (
            "a head that never ends",
            [frame(HEADERS, 0, 1, OK), frame(CONTINUATION, 0, 1, &[0x88]).repeat(3000)].concat(),
        ),
    ];
    let script =
        |bytes: &[u8]| vec![asked(1), Act::Send([settings(), bytes.to_vec()].concat()), Act::HalfClose];
    let mut scripts: Vec<_> = cases.iter().map(|(_, bytes)| script(bytes)).collect();
    scripts.push(vec![asked(1), Act::Send([settings(), answer(1, b"good")].concat()), Act::Hold]);
    let upstream = Upstream::start(scripts);
    let mut server = proxy(&upstream, HTTP2);
    server.allow_log("upstream");
    for (what, _) in &cases {
        let got = ask(&server, GET);
        let text = String::from_utf8_lossy(&got).into_owned();
        assert!(text.starts_with("HTTP/1.1 502"), "{what}: {text}");
    }
    responses(&ask(&server, GET))[0].expect_status(200).expect_body("good");
}

#[test]
fn bodies_that_break_the_rules_do_not_look_complete() {
    let head = |length: &[u8]| {
        // `content-length`, by its number.
        let field = [&[0x0f, 0x0d, u8::try_from(length.len()).unwrap()][..], length].concat();
        frame(HEADERS, END_HEADERS, 1, &[OK, &field].concat())
    };
    let cases: Vec<Vec<u8>> = vec![
        [head(b"9"), frame(DATA, END_STREAM, 1, b"hello")].concat(),
        [head(b"3"), frame(DATA, END_STREAM, 1, b"hello")].concat(),
        [head(b"5"), frame(DATA, 0, 1, b"hel"), frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])].concat(),
        [head(b"5"), frame(DATA, 0, 1, b"hel"), frame(GOAWAY, 0, 0, &[0; 8])].concat(),
        [head(b"5"), frame(DATA, 8, 1, &[200, b'h'])].concat(),
        [head(b"5"), frame(DATA, 0, 1, b"hel"), frame(HEADERS, END_HEADERS, 1, &[])].concat(),
    ];
    let script = |bytes: &Vec<u8>| vec![asked(1), Act::Send([settings(), bytes.clone()].concat()), Act::Hold];
    let upstream = Upstream::start(cases.iter().map(script).collect());
    let mut server = proxy(&upstream, HTTP2);
    server.allow_log("upstream");
    for bytes in &cases {
        let got = String::from_utf8_lossy(&ask(&server, GET)).into_owned();
        let whole =
            got.starts_with("HTTP/1.1 200") && got.ends_with("hello") && got.contains("Content-Length: 5");
        assert!(!whole, "{bytes:?}: {got}");
    }
}

#[test]
fn connections_are_used_again_until_the_upstream_leaves() {
    let leaving = frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
    let upstream = Upstream::start(vec![
        vec![
            asked(1),
            Act::Send([settings(), answer(1, b"one")].concat()),
            asked(3),
            Act::Send([answer(3, b"two"), leaving].concat()),
            Act::Hold,
        ],
        vec![asked(1), Act::Send([settings(), answer(1, b"three")].concat()), Act::Hold],
    ]);
    let server = proxy(&upstream, HTTP2);
    for body in ["one", "two", "three"] {
        server.get("/").expect_status(200).expect_body(body);
    }
    assert_eq!(upstream.recorded().len(), 2);
}

#[test]
fn a_connection_that_ended_while_it_waited_is_not_used() {
    let script = || vec![asked(1), Act::Send([settings(), answer(1, b"x")].concat()), Act::HalfClose];
    let upstream = Upstream::start(vec![script(), script()]);
    let server = proxy(&upstream, HTTP2);
    for _ in 0..2 {
        server.get("/").expect_status(200).expect_body("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(upstream.recorded().len(), 2);
}

#[test]
fn a_body_waits_for_the_upstreams_windows() {
    let body = "x".repeat(65_535) + "yz";
    // The head, and data up to the window.
    let more = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]);
    let of_stream = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
    let upstream = Upstream::start(vec![vec![
        Act::Read(65_535),
        Act::Wait(Duration::from_millis(200)),
        Act::Send([settings(), more, of_stream].concat()),
        Act::ReadUntil(vec![0, 0, 2, DATA, END_STREAM, 0, 0, 0, 1, b'y', b'z']),
        Act::Send(answer(1, b"got it")),
        Act::Hold,
    ]]);
    let server = proxy(&upstream, &format!("{HTTP2} client_body_buffer_size 128k;"));
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    server.request(&request).expect_status(200).expect_body("got it");
}
