//! Request heads: what is accepted, what is refused, and that arrival in pieces changes nothing.

use moonrest_proto::http1::{
    Field, FieldRules, HeadError, HeadLimits, Known, Method, Parse, RequestHead, Version,
};
use proptest::prelude::*;

const ROOMY: HeadLimits = HeadLimits { first: 1 << 20, large: 1 << 20, large_count: 4 };

fn parse(buf: &[u8]) -> Result<(Parse, RequestHead), HeadError> {
    let mut head = RequestHead::new();
    head.parse(buf, &ROOMY).map(|parsed| (parsed, head))
}

/// `method path args target version` of a request line.
fn check(line: &str, expect: &str) {
    let buf = format!("{line}\r\nHost: h\r\n\r\n");
    let buf = buf.as_bytes();
    let got = match parse(buf) {
        Err(error) => error.log_message(buf),
        Ok((Parse::Partial, _)) => "partial".to_owned(),
        Ok((Parse::Complete { .. }, head)) => {
            let text = |span: moonrest_proto::Span| String::from_utf8_lossy(span.of(buf)).into_owned();
            format!(
                "{} {} {} {} {:?}{}{}{}",
                text(head.method_name),
                text(head.path),
                if head.has_args { text(head.args) } else { "-".to_owned() },
                text(head.target),
                head.version,
                if head.complex { " complex" } else { "" },
                if head.has_host { " host=" } else { "" },
                text(head.host),
            )
        }
    };
    assert_eq!(got, expect, "{line:?}");
}

const REQUEST: &str = "client sent invalid request";
const METHOD: &str = "client sent invalid method";
const VERSION: &str = "client sent invalid version";

#[test]
fn origin_form() {
    check("GET / HTTP/1.1", "GET / - / Http11");
    check("GET /a/b.c?d=e&f HTTP/1.0", "GET /a/b.c d=e&f /a/b.c?d=e&f Http10");
    check("GET /a? HTTP/1.1", "GET /a  /a? Http11");
    check("GET /a?b?c%zz//. HTTP/1.1", "GET /a b?c%zz//. /a?b?c%zz//. Http11");
    check("GET /a#b?c HTTP/1.1", "GET /a - /a#b?c Http11 complex");
    check("GET /a?b#c?d#e HTTP/1.1", "GET /a b /a?b#c?d#e Http11 complex");
    check("GET /caf\u{e9}|{}\\^ HTTP/1.1", "GET /caf\u{e9}|{}\\^ - /caf\u{e9}|{}\\^ Http11");
    for path in ["//", "/a//b", "/.", "/..", "/a/./b", "/.htaccess", "/%41", "/a%"] {
        check(&format!("GET {path} HTTP/1.1"), &format!("GET {path} - {path} Http11 complex"));
    }
    for path in ["/a.", "/a..", "/a.b/c", "/a+b"] {
        check(&format!("GET {path} HTTP/1.1"), &format!("GET {path} - {path} Http11"));
    }
}

#[test]
fn absolute_form_rfc_9112_3_2_2() {
    check("GET http://h/a?b HTTP/1.1", "GET /a b /a?b Http11 host=h");
    check("GET http://h HTTP/1.1", "GET / - / Http11 host=h");
    check("GET http://h:80?a#b HTTP/1.1", "GET  a ?a#b Http11 complex host=h:80");
    check("GET http://h: HTTP/1.1", "GET / - / Http11 host=h:");
    check("GET HTTPS+a://[::1]:443/ HTTP/1.1", "GET / - / Http11 host=[::1]:443");
    check("GET http:///a HTTP/1.1", "GET /a - /a Http11 host="); // the empty host is refused by `host::validate`
    for target in [
        "http:/h",
        "http:h",
        "http",
        "http://u@h/",
        "http://h\\a",
        "http://a_b/",
        "http://[::1",
        "http://[a]b/",
    ] {
        check(&format!("GET {target} HTTP/1.1"), REQUEST);
    }
}

#[test]
fn authority_form_rfc_9112_3_2_3() {
    check("CONNECT h:443 HTTP/1.1", "CONNECT / - / Http11 host=h:443");
    check("CONNECT [::1]:443 HTTP/1.1", "CONNECT / - / Http11 host=[::1]:443");
    for target in ["h", "h:", "/", "h:443/", "[::1]", "h:80:90", "http://h:80/"] {
        check(&format!("CONNECT {target} HTTP/1.1"), REQUEST);
    }
}

#[test]
fn asterisk_form_is_refused_as_nginx_does() {
    check("OPTIONS * HTTP/1.1", REQUEST);
}

#[test]
fn methods() {
    check("PROPFIND / HTTP/1.1", "PROPFIND / - / Http11");
    check("X-MY_METHOD / HTTP/1.1", "X-MY_METHOD / - / Http11");
    for line in [
        "get / HTTP/1.1",
        "GET1 / HTTP/1.1",
        "G\u{1}T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET",
        "GET\t/ HTTP/1.1",
    ] {
        check(line, METHOD);
    }
    let (_, head) = parse(b"PATCH / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(head.method, Method::Patch);
    check("GET ", REQUEST);
}

#[test]
fn versions_rfc_9112_2_3() {
    check("GET / HTTP/1.9", "GET / - / Http11");
    check("GET /  HTTP/1.1  ", "GET / - / Http11");
    check("GET   / HTTP/1.1", "GET / - / Http11");
    for version in ["HTTP/2.0", "HTTP/9", "HTTP/10.1", "HTTP/3"] {
        check(&format!("GET / {version}"), VERSION);
    }
    for version in [
        "HTTP/0.9",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.1x",
        "HTTP/1.1 x",
        "http/1.1",
        "HTTP 1.1",
        "HTTP/1,1",
        "HTTP/+1.1",
        "H",
        "FTP/1.1",
        "/",
    ] {
        check(&format!("GET / {version}"), REQUEST);
    }
}

#[test]
fn control_characters_in_the_target_are_refused() {
    for byte in (0u8..0x20).chain([0x7f]) {
        if matches!(byte, b'\n') {
            continue;
        }
        for before in ["/a", "/?a", "/?a?b", "http://h/a", "http://h?a", "/a#b", "/a?b#c"] {
            check(&format!("GET {before}{}x HTTP/1.1", char::from(byte)), REQUEST);
        }
    }
}

#[test]
fn http_0_9_ends_with_its_line() {
    for (request, line) in [("GET /a\r\n", "GET /a"), ("GET /a\n", "GET /a"), ("GET /a  \r\n", "GET /a  ")] {
        let (parsed, head) = parse(request.as_bytes()).unwrap();
        assert_eq!(parsed, Parse::Complete { len: request.len() });
        assert_eq!(head.version, Version::Http09);
        assert_eq!(head.line.of(request.as_bytes()), line.as_bytes());
        assert!(head.protocol.is_empty());
    }
    assert_eq!(parse(b"HEAD /\r\n").err(), Some(HeadError::InvalidMethodInHttp09));
    assert_eq!(parse(b"GET /\rx").err(), Some(HeadError::InvalidRequest));
}

#[test]
fn blank_lines_before_a_request_are_skipped_rfc_9112_2_2() {
    let buf = b"\r\n\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
    let (parsed, head) = parse(buf).unwrap();
    assert_eq!(parsed, Parse::Complete { len: buf.len() - 4 });
    assert_eq!(head.start(), 5);
    assert_eq!(head.line.of(buf), b"GET / HTTP/1.1");
    assert_eq!(parse(b"\r\rGET / HTTP/1.1\r\n\r\n").err(), Some(HeadError::InvalidMethod));
    let (parsed, head) = parse(b"\r\n\r\n").unwrap();
    assert_eq!(parsed, Parse::Partial);
    assert!(head.is_blank(b"\r\n\r\n"));
}

/// The fields, or the message.
fn check_fields(fields: &str, expect: &[&str]) {
    let buf = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
    let buf = buf.as_bytes();
    let got = match parse(buf) {
        Err(error) => vec![error.log_message(buf)],
        Ok((Parse::Partial, _)) => vec!["partial".to_owned()],
        Ok((_, head)) => head.fields.iter().map(|field| show(field, buf)).collect(),
    };
    assert_eq!(got, expect, "{fields:?}");
}

fn show(field: &Field, buf: &[u8]) -> String {
    format!(
        "{}={}{}{}",
        String::from_utf8_lossy(field.name.of(buf)),
        String::from_utf8_lossy(field.value.of(buf)),
        if field.has_underscore() { " underscore" } else { "" },
        if field.has_odd_name() { " odd" } else { "" }
    )
}

#[test]
fn fields() {
    check_fields("Host: a\r\nX:  b c \t\nEmpty:", &["Host=a", "X=b c", "Empty="]);
    check_fields(
        "x_y: 1\r\nx.y: 2\r\n</x_>: 3",
        &["x_y=1 underscore", "x.y=2 odd", "</x_>=3 underscore odd"],
    );
    check_fields("a: \u{1}\u{80}", &["a=\u{1}\u{80}"]);
}

#[test]
fn broken_fields_are_refused() {
    let message = |text: &str| format!("client sent invalid header line: \"{text}...\"");
    check_fields(" a: b", &[&message("\\x20")]); // folding, RFC 9112, 5.2
    check_fields("a: b\r\n\tc: d", &[&message("\\x09")]);
    check_fields("a : b", &[&message("a\\x20")]); // RFC 9112, 5.1
    check_fields(": b", &[&message("\\x3a")]);
    check_fields("abc", &[&message("abc\\x0d")]);
    check_fields("a\u{2}: b", &[&message("a\\x02")]);
    check_fields("a: b\0", &[&message("a: b\\x00")]);
    check_fields("a: b\rc", &[&message("a: b\\x0d")]); // bare CR, RFC 9112, 2.2
    check_fields("a: b\r\r\n", &[&message("a: b\\x0d")]);
}

#[test]
fn known_fields_are_indexed() {
    let buf = b"GET / HTTP/1.1\r\nCookie: a\r\nHOST: h\r\ncookie: b\r\nX: y\r\n\r\n";
    let (_, head) = parse(buf).unwrap();
    assert_eq!(head.value(Known::Host, buf), Some(&b"h"[..]));
    assert_eq!(head.value(Known::Cookie, buf), Some(&b"a"[..]));
    assert_eq!(head.fields.all(Known::Cookie).count(), 2);
    assert!(head.fields.is_repeated(Known::Cookie) && !head.fields.is_repeated(Known::Host));
    assert!(head.field(Known::Range).is_none());
}

#[test]
fn odd_names_are_dropped_by_the_rules() {
    let buf = b"GET / HTTP/1.1\r\nx_y: 1\r\nHost: h\r\nx.y: 2\r\n\r\n";
    for (ignore_invalid, underscores, kept, gone) in
        [(true, false, 1, 2), (true, true, 2, 1), (false, false, 3, 0)]
    {
        let (_, mut head) = parse(buf).unwrap();
        let mut dropped = Vec::new();
        let rules = FieldRules { ignore_invalid, underscores };
        assert_eq!(head.filter(rules, kept, |field| dropped.push(field.line())), Ok(()));
        assert_eq!((head.fields.len(), dropped.len()), (kept, gone));
        assert_eq!(head.value(Known::Host, buf), Some(&b"h"[..]));
        assert_eq!(head.filter(rules, kept - 1, |_| ()), Err(HeadError::TooManyHeaders));
        if let Some(line) = dropped.last() {
            assert_eq!(line.of(buf), b"x.y: 2");
        }
    }
}

const SMALL: HeadLimits = HeadLimits { first: 128, large: 256, large_count: 2 };

fn check_limits(request: &str, expect: Result<(), u16>) {
    let got = RequestHead::new().parse(request.as_bytes(), &SMALL);
    assert_eq!(got.map(|_| ()).map_err(|error| error.status()), expect, "{request:?}");
    let mut head = RequestHead::new();
    let mut last = Ok(Parse::Partial);
    for len in 1..=request.len() {
        last = head.parse(&request.as_bytes()[..len], &SMALL);
        if last != Ok(Parse::Partial) {
            break;
        }
    }
    assert_eq!(last.map(|_| ()).map_err(|error| error.status()), expect, "{request:?} in single bytes");
}

#[test]
fn lines_do_not_span_buffers() {
    let line = |len: usize| format!("X: {}\r\n", "x".repeat(len - 5));
    let request =
        |uri: usize, fields: &str| format!("GET /{} HTTP/1.1\r\n{fields}\r\n", "u".repeat(uri - 16));
    check_limits(&request(128, ""), Ok(()));
    check_limits(&request(256, ""), Ok(()));
    check_limits(&request(257, ""), Err(414));
    check_limits(&request(100, &line(28)), Ok(()));
    check_limits(&request(100, &line(256)), Ok(()));
    check_limits(&request(100, &line(257)), Err(494));
    // The small buffer, and two of 256, each with the rest of a line that does not fit lost.
    check_limits(&request(100, &(line(200) + &line(200))), Ok(()));
    check_limits(&request(100, &(line(200) + &line(200) + &line(54))), Ok(()));
    check_limits(&request(100, &(line(200) + &line(200) + &line(55))), Err(494));
    check_limits(&request(200, &(line(200) + &line(200))), Err(494));
}

#[test]
fn a_head_without_a_buffer_left_for_its_fields_is_too_large() {
    let limits = HeadLimits { first: 128, large: 256, large_count: 0 };
    let message = |uri: usize| {
        let buf = format!("GET /{} HTTP/1.1\r\nX: y\r\n\r\n", "u".repeat(uri - 16));
        RequestHead::new().parse(buf.as_bytes(), &limits).map_err(|error| error.log_message(buf.as_bytes()))
    };
    assert_eq!(message(128), Err("client sent too large request".to_owned()));
    assert!(message(127).unwrap_err().starts_with("client sent too long header line: \"X: y"));
    assert_eq!(message(129), Err("client sent too long URI".to_owned()));
}

#[test]
fn messages_name_the_line_that_is_too_long() {
    let buf = format!("GET / HTTP/1.1\r\nA: b\r\nX: {}", "x".repeat(5000));
    let error = RequestHead::new().parse(buf.as_bytes(), &SMALL).unwrap_err();
    assert_eq!(error.status(), 494);
    let message = error.log_message(buf.as_bytes());
    assert!(message.starts_with("client sent too long header line: \"X: xxx"), "{message}");
    assert!(message.ends_with("x...\"") && message.len() < 2048);
    assert_eq!(error.action(), "reading client request headers");
}

#[test]
fn garbage_is_answered_before_its_line_ends() {
    for garbage in [&b"\x16\x03\x01"[..], b"HELO", b"GET x", b"GET / FTP"] {
        let mut head = RequestHead::new();
        let got = head.parse(garbage, &ROOMY);
        assert!(got.is_err() || garbage == b"HELO" || garbage == b"GET x", "{garbage:?}: {got:?}");
    }
}

#[test]
fn a_head_is_reusable() {
    let mut head = RequestHead::new();
    for buf in [
        &b"POST http://h/%41+?x#y HTTP/1.0\r\nCookie: a\r\nCookie: b\r\nx_y: z\r\n\r\n"[..],
        b"GET /\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut fresh = RequestHead::new();
        assert_eq!(head.parse(buf, &ROOMY), fresh.parse(buf, &ROOMY));
        assert_eq!(format!("{head:?}"), format!("{fresh:?}"));
    }
}

/// Everything observable about a parse, at the point where it ends.
fn outcome(buf: &[u8], steps: impl Iterator<Item = usize>) -> String {
    let mut head = RequestHead::new();
    for end in steps {
        match head.parse(&buf[..end], &ROOMY) {
            Ok(Parse::Partial) => {}
            Ok(Parse::Complete { len }) => {
                let fields: Vec<_> = head.fields.iter().map(|field| show(field, buf)).collect();
                return format!(
                    "{len} {:?} {:?} {:?} {:?} {:?} {:?} {} {fields:?}",
                    head.method, head.path, head.args, head.ext, head.target, head.line, head.complex
                );
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    "partial".to_owned()
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"GET http://h:80/a?b#c HTTP/1.0\n".to_vec()),
        Just(b"CONNECT h:80 HTTP/1.1\r\n".to_vec()),
        Just(b"GET /%2e/../a.b?x HTTP/1.1\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"Host: h\r\n".to_vec()),
        Just(b"X-Y_Z:  a b \n".to_vec()),
        Just(b"Content-Length: 1\r\n".to_vec()),
        "[A-Z]{1,8} /[ -~]{0,90} HTTP/1\\.[01]\r\n".prop_map(String::into_bytes),
        "[A-Za-z_.-]{1,20}: [ -~\t]{0,90}\r\n".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn single_bytes_give_what_the_whole_gives(buf in messages()) {
        let whole = outcome(&buf, std::iter::once(buf.len()));
        prop_assert_eq!(&outcome(&buf, 0..=buf.len()), &whole);
        prop_assert_eq!(&outcome(&buf, (0..buf.len()).step_by(7).chain([buf.len()])), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(buf in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let mut head = RequestHead::new();
        let _ = head.parse(&buf[..cut.min(buf.len())], &SMALL);
        let _ = head.parse(&buf, &SMALL);
        let _ = head.filter(FieldRules::default(), 5, |_| ());
        let _ = moonrest_proto::http1::framing(&head, &buf).map_err(|error| error.log_message(&buf));
    }
}
