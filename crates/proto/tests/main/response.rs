//! Responses: RFC 9112, 4 and 6.3, and reliability towards upstreams.

use moonrest_proto::Span;
use moonrest_proto::http1::response::{ResponseBody as Body, ResponseHead, response_framing};
use moonrest_proto::http1::{Method, Parse, Version};
use proptest::prelude::*;

fn line(line: &str, expect: &str) {
    let buf = format!("{line}\r\n\r\n");
    let mut head = ResponseHead::new();
    let got = match head.parse(buf.as_bytes()) {
        Err(error) => error.log_message(buf.as_bytes()),
        Ok(Parse::Partial) => "partial".to_owned(),
        Ok(Parse::Complete { len }) => {
            assert_eq!(len, buf.len());
            let text = |span: Span| String::from_utf8_lossy(span.of(buf.as_bytes())).into_owned();
            format!("{:?} {} [{}] [{}]", head.version, head.status, text(head.status_line), text(head.reason))
        }
    };
    assert_eq!(got, expect, "{line:?}");
}

#[test]
fn status_lines() {
    line("HTTP/1.1 200 OK", "Http11 200 [200 OK] [OK]");
    line("HTTP/1.0 404 Not Found", "Http10 404 [404 Not Found] [Not Found]");
    line("HTTP/1.1 204 ", "Http11 204 [204 ] []");
    line("HTTP/1.1 299", "Http11 299 [299] []");
    line("HTTP/1.9 999 \u{e9}\t ", "Http11 999 [999 \u{e9}\t ] [\u{e9}\t ]");
    for text in [
        "",
        "200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200.1 OK",
        "HTTP/1.1 099 x",
        "HTTP/1.10 200 OK",
        "HTTP/1. 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "ICY 200 OK",
        "\r\nHTTP/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "<html>",
    ] {
        line(text, "upstream sent no valid HTTP/1.0 header");
    }
}

#[test]
fn header_lines() {
    let check = |fields: &str, expect: Result<usize, &str>| {
        let buf = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let mut head = ResponseHead::new();
        let got = head.parse(buf.as_bytes()).map_err(|error| error.log_message(buf.as_bytes()));
        assert_eq!(got.map(|_| head.fields.len()), expect.map_err(str::to_owned), "{fields:?}");
    };
    check("A: b\r\nSet-Cookie: c\nx_y: z", Ok(3));
    check("A b", Err("upstream sent invalid header: \"A\\x20...\""));
    check("A: b\r\n c", Err("upstream sent invalid header: \"\\x20...\""));
    check("A: b\rc", Err("upstream sent invalid header: \"A: b\\x0d...\""));
    check("A: b\0", Err("upstream sent invalid header: \"A: b\\x00...\""));
    check("HTTP/1.1 200 OK", Err("upstream sent invalid header: \"HTTP/1.1\\x20...\""));
}

fn check(method: Method, response: &str, expect: Result<(Body, bool), &str>) {
    let buf = response.replace('\n', "\r\n") + "\r\n";
    let mut head = ResponseHead::new();
    assert_eq!(head.parse(buf.as_bytes()), Ok(Parse::Complete { len: buf.len() }), "{response}");
    let got = response_framing(&head, buf.as_bytes(), method);
    let got = got.map(|framing| (framing.body, framing.keep_alive));
    assert_eq!(
        got.map_err(|error| error.log_message(buf.as_bytes())),
        expect.map_err(str::to_owned),
        "{response}"
    );
}

#[test]
fn bodies_rfc_9112_6_3() {
    let length = "HTTP/1.1 200 OK\nContent-Length: 5\n";
    check(Method::Get, length, Ok((Body::Length(5), true)));
    check(Method::Head, length, Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n", Ok((Body::Chunked, true)));
    check(Method::Head, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 200 OK\n", Ok((Body::UntilClose, false)));
    check(Method::Head, "HTTP/1.1 200 OK\n", Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 204 No Content\n", Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 304 Not Modified\nContent-Length: 5\n", Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 100 Continue\n", Ok((Body::None, true)));
    check(Method::Get, "HTTP/1.1 101 Switching Protocols\n", Ok((Body::Tunnel, false)));
    check(Method::Connect, "HTTP/1.1 200 OK\nContent-Length: 5\n", Ok((Body::Tunnel, false)));
    check(Method::Connect, "HTTP/1.1 403 Forbidden\nContent-Length: 5\n", Ok((Body::Length(5), true)));
    check(
        Method::Get,
        "HTTP/1.0 200 OK\nContent-Length: 0\nConnection: keep-alive\n",
        Ok((Body::Length(0), false)),
    );
    check(
        Method::Get,
        "HTTP/1.1 200 OK\nContent-Length: 0\nConnection: x, Close\n",
        Ok((Body::Length(0), false)),
    );
}

#[test]
fn what_cannot_be_framed() {
    let head = "HTTP/1.1 200 OK\n";
    check(
        Method::Get,
        &format!("{head}Content-Length: 5\nContent-Length: 5\n"),
        Err(
            "upstream sent duplicate header line: \"Content-Length: 5\", previous value: \"Content-Length: 5\"",
        ),
    );
    for value in ["", "+5", "5,5", "0x5", "9223372036854775808"] {
        check(
            Method::Head,
            &format!("{head}Content-Length: {value}\n"),
            Err(&format!("upstream sent invalid \"Content-Length\" header: \"Content-Length: {value}\"")),
        );
    }
    check(
        Method::Get,
        &format!("{head}Content-Length: 5\nTransfer-Encoding: chunked\n"),
        Err("upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"),
    );
    check(
        Method::Get,
        &format!("{head}Transfer-Encoding: gzip, chunked\n"),
        Err("upstream sent unknown \"Transfer-Encoding\": \"gzip, chunked\""),
    );
    check(
        Method::Get,
        "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n",
        Err("upstream sent HTTP/1.0 response with \"Transfer-Encoding\" header"),
    );
}

#[test]
fn interim_responses_are_told_from_final_ones() {
    for (status, interim) in [(100, true), (101, false), (103, true), (199, true), (200, false)] {
        let mut head = ResponseHead::new();
        let buf = format!("HTTP/1.1 {status} x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        assert!(matches!(head.parse(buf.as_bytes()), Ok(Parse::Complete { len: 18 })));
        assert_eq!((head.version, head.is_interim()), (Version::Http11, interim));
    }
}

fn outcome(buf: &[u8], steps: impl Iterator<Item = usize>) -> String {
    let mut head = ResponseHead::new();
    for end in steps {
        match head.parse(&buf[..end]) {
            Ok(Parse::Partial) => {}
            Ok(Parse::Complete { len }) => {
                return format!("{len} {} {:?} {:?}", head.status, head.reason, &head.fields[..]);
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    "partial".to_owned()
}

proptest! {
    #[test]
    fn single_bytes_give_what_the_whole_gives(
        start in prop::sample::select(vec!["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404\n", "HTTP/1.1 200", "HTTP/1.1 2x", ""]),
        fields in prop::collection::vec("[A-Za-z_-]{0,9}: ?[ -~\t]{0,30}\r?\n", 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let buf = [start.as_bytes(), fields.concat().as_bytes(), b"\r\n", &rest[..]].concat();
        let whole = outcome(&buf, std::iter::once(buf.len()));
        prop_assert_eq!(&outcome(&buf, 0..=buf.len()), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(start: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let buf = if start { [b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat() } else { bytes };
        let mut head = ResponseHead::new();
        if head.parse(&buf).is_ok() {
            let _ = response_framing(&head, &buf, Method::Get).map_err(|error| error.log_message(&buf));
        }
    }
}
