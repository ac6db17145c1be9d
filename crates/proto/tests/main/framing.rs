//! Framing of requests: RFC 9112, 6 and 9, and nginx's wording for each refusal.

use moonrest_proto::http1::framing::check_method;
use moonrest_proto::http1::{Body, Framing, HeadLimits, RequestHead, framing};

fn run(request: &str) -> (RequestHead, Result<Framing, (u16, String)>) {
    let buf = request.replace('\n', "\r\n") + "\r\n";
    let mut head = RequestHead::new();
    head.parse(buf.as_bytes(), &HeadLimits::default()).unwrap();
    let got = framing(&head, buf.as_bytes());
    (head, got.map_err(|error| (error.status(), error.log_message(buf.as_bytes()))))
}

fn check(fields: &str, expect: Result<Body, (u16, &str)>) {
    let (_, got) = run(&format!("POST / HTTP/1.1\nHost: h\n{fields}"));
    let got = got.map(|framing| framing.body);
    assert_eq!(got, expect.map_err(|(status, message)| (status, message.to_owned())), "{fields}");
}

#[test]
fn lengths_rfc_9112_6_2() {
    check("", Ok(Body::None));
    check("Content-Length: 0\n", Ok(Body::Length(0)));
    check("Content-Length: 0012\n", Ok(Body::Length(12)));
    check("Content-Length: 9223372036854775807\n", Ok(Body::Length(i64::MAX as u64)));
    for value in [
        "",
        "-1",
        "+1",
        "1 2",
        "1,1",
        "0x1",
        "1.0",
        "9223372036854775808",
        "18446744073709551616",
        "a",
        "1\u{1}",
    ] {
        check(
            &format!("Content-Length: {value}\n"),
            Err((400, "client sent invalid \"Content-Length\" header")),
        );
    }
    check(
        "Content-Length: 1\ncontent-length: 1\n",
        Err((
            400,
            "client sent duplicate header line: \"content-length: 1\", previous value: \"Content-Length: 1\"",
        )),
    );
}

#[test]
fn codings_rfc_9112_6_1() {
    check("Transfer-Encoding: chunked\n", Ok(Body::Chunked));
    check("Transfer-Encoding: CHUNKED\n", Ok(Body::Chunked));
    for value in
        ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;a=b", "\u{b}chunked"]
    {
        check(
            &format!("Transfer-Encoding: {value}\n"),
            Err((501, &format!("client sent unknown \"Transfer-Encoding\": \"{value}\""))),
        );
    }
    check(
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
        Err((
            400,
            "client sent duplicate header line: \"Transfer-Encoding: chunked\", previous value: \"Transfer-Encoding: chunked\"",
        )),
    );
    check(
        "Content-Length: 1\nTransfer-Encoding: chunked\n",
        Err((400, "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time")),
    );
    let (_, got) = run("POST / HTTP/1.0\nTransfer-Encoding: chunked\n");
    assert_eq!(got, Err((400, "client sent HTTP/1.0 request with \"Transfer-Encoding\" header".to_owned())));
}

#[test]
fn hosts_rfc_9112_3_2() {
    let (_, got) = run("GET / HTTP/1.1\n");
    assert_eq!(got, Err((400, "client sent HTTP/1.1 request without \"Host\" header".to_owned())));
    assert!(run("GET / HTTP/1.0\n").1.is_ok());
    let (_, got) = run("GET / HTTP/1.0\nHost: a\nHOST: b\n");
    assert_eq!(
        got,
        Err((400, "client sent duplicate host header: \"HOST: b\", previous value: \"Host: a\"".to_owned()))
    );
}

#[test]
fn what_nginx_wants_once() {
    for name in [
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Match",
        "If-None-Match",
        "Content-Range",
        "If-Range",
        "Expect",
        "Authorization",
        "Proxy-Authorization",
    ] {
        check(
            &format!("{name}: a\nX: y\n{name}: b\n"),
            Err((
                400,
                &format!("client sent duplicate header line: \"{name}: b\", previous value: \"{name}: a\""),
            )),
        );
    }
    for name in ["Cookie", "User-Agent", "Range", "X-Forwarded-For", "Accept"] {
        check(&format!("{name}: a\n{name}: b\n"), Ok(Body::None));
    }
}

fn check_connection(request: &str, keep_alive: bool, upgrade: bool) {
    let got = run(request).1.unwrap();
    assert_eq!((got.keep_alive, got.upgrade), (keep_alive, upgrade), "{request}");
}

#[test]
fn persistence_rfc_9112_9_3() {
    check_connection("GET / HTTP/1.1\nHost: h\n", true, false);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: Close\n", false, false);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: foo, close,bar\n", false, false);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: keep-alive\nConnection: close\n", false, false);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: enclosed\n", true, false);
    check_connection("GET / HTTP/1.0\n", false, false);
    check_connection("GET / HTTP/1.0\nConnection: Keep-Alive\n", true, false);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: Upgrade, keep-alive\nUpgrade: x\n", true, true);
    check_connection("GET / HTTP/1.1\nHost: h\nConnection: Upgrade\n", true, false);
    check_connection("GET / HTTP/1.1\nHost: h\nUpgrade: x\n", true, false);
}

#[test]
fn expectations_rfc_9110_10_1_1() {
    for (request, expect) in [
        ("GET / HTTP/1.1\nHost: h\nExpect: 100-Continue\n", true),
        ("GET / HTTP/1.0\nExpect: 100-continue\n", false),
        ("GET / HTTP/1.1\nHost: h\nExpect: 200-ok\n", false),
    ] {
        assert_eq!(run(request).1.unwrap().expect_continue, expect, "{request}");
    }
}

#[test]
fn connect_and_trace() {
    let check = |request: &str, allow_connect: bool, expect: Option<(u16, &str)>| {
        let (head, got) = run(request);
        let got = check_method(&head, &got.unwrap(), allow_connect).err();
        let got = got.map(|error| (error.status(), error.log_message(b"")));
        assert_eq!(got, expect.map(|(status, message)| (status, message.to_owned())), "{request}");
    };
    let connect = "CONNECT h:1 HTTP/1.1\nHost: h\n";
    check(connect, true, None);
    check(connect, false, Some((405, "client sent CONNECT method")));
    check("CONNECT h:1 HTTP/1.0\n", true, Some((405, "client sent CONNECT method")));
    check(&format!("{connect}Content-Length: 0\n"), true, None);
    check(
        &format!("{connect}Content-Length: 1\n"),
        true,
        Some((400, "client sent CONNECT request with body")),
    );
    check(
        &format!("{connect}Transfer-Encoding: chunked\n"),
        true,
        Some((400, "client sent CONNECT request with body")),
    );
    check("TRACE / HTTP/1.1\nHost: h\n", true, Some((405, "client sent TRACE method")));
    check("GET / HTTP/1.1\nHost: h\n", false, None);
}
