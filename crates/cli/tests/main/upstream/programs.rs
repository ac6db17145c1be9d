//! FastCGI, SCGI, uwsgi and memcached on the wire: what the server behind is sent, and what becomes of its answers.

use crate::serve;
use moonrest_testkit::upstream::{Act, Upstream};

/// A FastCGI record.
fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, high, low, padding, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(padding), 0);
    bytes
}

const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const END: u8 = 3;

fn fastcgi(answer: Vec<u8>, directives: &str) -> (Upstream, moonrest_testkit::Server) {
    // The empty STDIN record ends a request.
    let ends = vec![1, 5, 0, 1, 0, 0, 0, 0];
    let upstream = Upstream::start(vec![vec![Act::ReadUntil(ends), Act::Send(answer), Act::Hold]]);
    let server = serve(&format!(
        "location / {{ fastcgi_pass {}; fastcgi_param SCRIPT_NAME $fastcgi_script_name; fastcgi_param EMPTY ''
         if_not_empty; fastcgi_index index.php; {directives} }}",
        upstream.addr()
    ));
    (upstream, server)
}

#[test]
fn fastcgi_sends_parameters_and_takes_records_apart() {
    let mut answer = record(STDOUT, b"Status: 201 Made\r\nX-A: b\r\n", 3);
    answer.extend(record(STDERR, b"a warning\n", 0));
    answer.extend(record(STDOUT, b"\r\nhel", 1));
    answer.extend(record(STDOUT, b"lo", 0));
    answer.extend(record(STDOUT, b"", 0));
    answer.extend(record(END, &[0; 8], 0));
    let (upstream, server) = fastcgi(answer, "");
    let response = server.request("GET /dir/ HTTP/1.1\r\nHost: a.b:81\r\nX-One: 1\r\nX-One: 2\r\n\r\n");
    assert_eq!(
        (response.status, response.header("X-A").as_deref(), response.header("Status")),
        (Some(201), Some("b"), None)
    );
    assert_eq!(response.body, b"hello");
    let sent = upstream.recorded()[0].text();
    for parameter in ["\u{b}\u{14}SCRIPT_NAME/dir/index.php", "HTTP_HOSTa.b:81", "HTTP_X_ONE1, 2"] {
        // Lengths stand before names; the name and value stand together.
        let wanted = parameter.trim_start_matches(['\u{b}', '\u{14}']);
        assert!(sent.contains(wanted), "{wanted} in {sent:?}");
    }
    assert!(!sent.contains("EMPTY"), "{sent:?}");
    assert!(server.error_log().contains("FastCGI sent in stderr: \"a warning\""));
}

#[test]
fn fastcgi_answers_that_break_off_are_not_passed_as_whole() {
    // No head at all.
    let (_upstream, server) = fastcgi(record(END, &[0; 8], 0), "");
    assert_eq!(server.get("/").status, Some(502));
    // An impossible record.
    let (_upstream, server) = fastcgi(vec![9, 9, 9, 9, 9, 9, 9, 9], "");
    assert_eq!(server.get("/").status, Some(502));
    // More than was announced.
    let mut answer = record(STDOUT, b"Content-Length: 2\r\n\r\nabc", 0);
    answer.extend(record(END, &[0; 8], 0));
    let (_upstream, server) = fastcgi(answer, "");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let bytes = client.read_to_end();
    assert!(bytes.ends_with(b"\r\n\r\nab"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn fastcgi_bodies_go_in_records() {
    let mut answer = record(STDOUT, b"\r\nok", 0);
    answer.extend(record(END, &[0; 8], 0));
    let (upstream, server) = fastcgi(answer, "client_body_buffer_size 200k;");
    let body = "~".repeat(150_000);
    let response = server
        .request(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!((response.status, &response.body[..]), (Some(200), &b"ok"[..]));
    let sent = upstream.recorded()[0].bytes.clone();
    assert_eq!(sent.iter().filter(|byte| **byte == b'~').count(), 150_000);
}

#[test]
fn scgi_and_uwsgi_frame_their_requests() {
    let answer = "Status: 404 Nowhere\nContent-Type: text/x\n\nnothing";
    let upstream = Upstream::start(vec![vec![Act::ReadUntil(b",".to_vec()), Act::send(answer)]]);
    let server = serve(&format!("location / {{ scgi_pass {}; scgi_param A b; }}", upstream.addr()));
    let response = server.get("/");
    assert_eq!((response.status, &response.body[..]), (Some(404), &b"nothing"[..]));
    let sent = upstream.recorded()[0].text();
    let (length, rest) = sent.split_once(':').unwrap();
    assert_eq!(rest.len(), length.parse::<usize>().unwrap() + 1, "{sent:?}");
    assert!(rest.starts_with("CONTENT_LENGTH\u{0}0\u{0}A\u{0}b\u{0}"), "{sent:?}");
    assert!(rest.contains("\u{0}SCGI\u{0}1\u{0}"), "{sent:?}");

    let upstream = Upstream::start(vec![vec![
        Act::ReadUntil(b"HTTP_HOST".to_vec()),
        Act::send("HTTP/1.1 202 Taken\r\n\r\nfine"),
    ]]);
    let server = serve(&format!(
        "location / {{ uwsgi_pass {}; uwsgi_param A b; uwsgi_modifier1 5; }}",
        upstream.addr()
    ));
    let response = server.get("/");
    assert_eq!((response.status, &response.body[..]), (Some(202), &b"fine"[..]));
    let sent = upstream.recorded()[0].bytes.clone();
    assert_eq!((sent[0], sent[3]), (5, 0));
    assert_eq!(&sent[4..10], b"\x01\0A\x01\0b");
}

#[test]
fn memcached_values_are_answers() {
    let answer = b"VALUE /a%20b 0 5\r\nhello\r\nEND\r\n".to_vec();
    let script = vec![Act::ReadUntil(b"\r\n".to_vec()), Act::Send(answer), Act::Hold];
    let missing = vec![Act::ReadUntil(b"\r\n".to_vec()), Act::send("END\r\n"), Act::Hold];
    let forged =
        vec![Act::ReadUntil(b"\r\n".to_vec()), Act::send("VALUE other 0 1\r\nx\r\nEND\r\n"), Act::Hold];
    let upstream = Upstream::start(vec![script, missing, forged]);
    let server = serve(&format!(
        "location / {{ set $memcached_key $uri; memcached_pass {}; default_type text/x; }}",
        upstream.addr()
    ));
    let response = server.get("/a%20b");
    assert_eq!((response.status, &response.body[..]), (Some(200), &b"hello"[..]));
    assert_eq!(response.header("Content-Type").as_deref(), Some("text/x"));
    assert_eq!(upstream.recorded()[0].text(), "get /a%20b\r\n");
    assert_eq!(server.get("/missing").status, Some(404));
    assert_eq!(server.get("/wanted").status, Some(502));
}
