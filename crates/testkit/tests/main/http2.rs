//! HTTP/2 clients that do not keep to it: what no proper client would send.
#![allow(clippy::unwrap_used, reason = "a test stops by panicking")]

use moonrest_testkit::{Server, client::Client, logs::Level};
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const CONF: &str = "master_process off;
    http { server { listen {{addr}}; http2 on; client_header_timeout 1s; location / { return 200 hello; } } }";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A client whose preface was sent.
fn connect(server: &Server) -> Client {
    let mut client = server.connect();
    client.send([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat());
    client
}

/// The codes of the GOAWAY frames among what was received.
fn goaways(mut bytes: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some(([a, b, c, kind, ..], _)) = bytes.split_first_chunk::<9>() {
        let end = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == GOAWAY {
            codes.push(u32::from_be_bytes(bytes[13..17].try_into().unwrap()));
        }
        bytes = &bytes[end..];
    }
    codes
}

#[test]
fn a_head_that_does_not_end_costs_the_connection() {
    let server = Server::start(CONF);
    // `:method GET` and `:scheme http` of the static table.
    let begun = frame(HEADERS, 1, 1, b"\x82\x86");
    let ended = frame(HEADERS, 5, 1, b"\x82\x86\x84");
    for (what, head) in [("between frames", &begun[..]), ("within a frame", &ended[..ended.len() - 1])] {
        let start = Instant::now();
        let mut client = connect(&server);
        client.send(head);
        let received = client.read_to_end();
        assert_eq!(goaways(&received), [1], "{what}: {received:?}");
        assert!(start.elapsed() > Duration::from_millis(900), "{what}");
        assert!(start.elapsed() < Duration::from_secs(8), "{what}");
    }
    server.wait_for_log(
        Level::Info,
        "client timed out (110: Connection timed out) while processing HTTP/2 connection",
    );
}

#[test]
fn further_parts_of_a_head_give_it_no_further_time() {
    let server = Server::start(CONF);
    let mut client = connect(&server);
    let start = Instant::now();
    client.send(frame(HEADERS, 1, 1, b"\x82\x86\x84"));
    let part = frame(CONTINUATION, 0, 1, b"\x84");
    client.send_slowly(part.repeat(8), part.len(), Duration::from_millis(100));
    assert_eq!(goaways(&client.read_to_end()), [1]);
    assert!(start.elapsed() < Duration::from_secs(8));
}
