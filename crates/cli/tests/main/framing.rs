//! Where a request ends: everything by which one server sees one request and another sees two.

use crate::{serve, statuses, talk};
use moonrest_testkit::Server;

/// Behind each request stands another one, which must only be answered if the first was understood.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn server() -> Server {
    serve("location / { return 200 \"$uri\n\"; }")
}

#[track_caller]
fn check(server: &Server, request: &str, expect: &[u16]) {
    let got = talk(server, format!("{request}{NEXT}"));
    assert_eq!(statuses(&got), expect, "{request:?}");
    if let [.., last] = expect
        && *last >= 400
    {
        let last = got.last().expect("there is one");
        assert_eq!(last.header("Connection").as_deref(), Some("close"), "{request:?}");
    }
}

#[test]
fn a_length_is_one_number() {
    let server = server();
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    check(&server, &(post("Content-Length: 3") + "abc"), &[200, 200]);
    check(&server, &(post("Content-Length: 003") + "abc"), &[200, 200]);
    check(&server, &post("Content-Length: 0"), &[200, 200]);
    for broken in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: 3 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3.0",
        "Content-Length: 3;",
        "Content-Length: ",
        "Content-Length: abc",
        "Content-Length: 99999999999999999999",
        "Content-Length: 18446744073709551619",
        "Content-Length: 9223372036854775808",
    ] {
        check(&server, &(post(broken) + "abc"), &[400]);
    }
}

#[test]
fn a_coding_is_chunked_and_nothing_else() {
    let server = server();
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    check(&server, &post("Transfer-Encoding: chunked"), &[200, 200]);
    check(&server, &post("Transfer-Encoding: CHUNKED"), &[200, 200]);
    check(&server, &post("transfer-encoding:chunked"), &[200, 200]);
    for (fields, status) in [
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: chunked, identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: \"chunked\"", 501),
        ("Transfer-Encoding: chunked;q=1", 501),
        ("Transfer-Encoding:\x0bchunked", 501),
        ("Transfer-Encoding: ", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 13", 400),
        ("Content-Length: 13\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding\t: chunked", 400),
        (" Transfer-Encoding: chunked", 400),
        ("X: y\r\n Transfer-Encoding: chunked", 400),
        ("X: y\rTransfer-Encoding: chunked", 400),
        ("X: y\0Transfer-Encoding: chunked", 400),
    ] {
        check(&server, &post(fields), &[status]);
    }
}

#[test]
fn http_1_0_has_no_codings() {
    let server = server();
    let request = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&server, request, &[400]);
}

#[test]
fn chunks_are_read_strictly() {
    let server = server();
    let post = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "3;name=value\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    ] {
        check(&server, &post(body), &[200, 200]);
    }
    // The answer was made before the body was thrown away: what is broken in it ends the connection.
    for body in [
        "g\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "4\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "7fffffffffffffff1\r\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        ";x\r\nabc\r\n0\r\n\r\n",
        "0\r\nA: b\r\n\r",
    ] {
        let got = talk(&server, format!("{}{NEXT}", post(body)));
        assert!(!got.iter().any(|response| response.text() == "/next\n"), "{body:?} hides a request");
        assert!(got.len() <= 1, "{body:?}");
    }
}

#[test]
fn lines_end_as_lines_do() {
    let server = server();
    // A line feed alone ends a line (RFC 9112, 2.2), a carriage return alone does not.
    check(&server, "GET / HTTP/1.1\nHost: a\n\n", &[200, 200]);
    check(&server, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200]);
    for broken in [
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\tX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        "G\x01ET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n",
    ] {
        check(&server, broken, &[400]);
    }
}

#[test]
fn there_is_one_host() {
    let server = serve("location / { return 200 \"$host\n\"; }");
    let get = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
    check(&server, &get("Host: example.com"), &[200, 200]);
    check(&server, &get("Host: example.com:8080"), &[200, 200]);
    check(&server, &get("Host: [::1]:8080"), &[200, 200]);
    for broken in [
        "X: y",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a/b",
        "Host: a\0b",
        "Host: a..b",
        "Host: .",
        "Host: [::1",
    ] {
        check(&server, &get(broken), &[400]);
    }
    let got = talk(&server, format!("GET http://two.example/ HTTP/1.1\r\nHost: one.example\r\n\r\n{NEXT}"));
    assert_eq!(got[0].text(), "two.example\n", "the authority of the target wins");
    check(&server, "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
    check(&server, "GET http://a..b/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]);
}

#[test]
fn methods_that_are_not_for_us() {
    let server = server();
    check(&server, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", &[405]);
    check(&server, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", &[405]);
    check(&server, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200]);
}

#[test]
fn a_target_is_not_taken_for_another() {
    let server = server();
    let path = |target: &str| {
        let got = talk(&server, format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        got.first().map(|response| response.text()).unwrap_or_default()
    };
    assert_eq!(path("/a/../b"), "/b\n");
    assert_eq!(path("/a/%2e%2e/b"), "/b\n");
    assert_eq!(path("/a//b"), "/a/b\n");
    assert_eq!(path("/a/./b/."), "/a/b/\n");
    assert_eq!(path("/a%2fb"), "/a/b\n");
    assert_eq!(path("/a?b#c"), "/a\n");
    assert_eq!(path("/a#b"), "/a\n");
    assert_eq!(path("http://a/x%20y"), "/x y\n");
    for broken in ["/..", "/../a", "/a/../../b", "/%2e%2e/a", "/%zz", "/%4", "a", "*", ""] {
        check(&server, &format!("GET {broken} HTTP/1.1\r\nHost: a\r\n\r\n"), &[400]);
    }
}
