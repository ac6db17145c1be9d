//! Heads between text, which protocols write and the engine reads, and what the framing has.

use crate::phase::RequestError;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Fields of HTTP/1 connections: they end here, whoever set them.
const HOP_BY_HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// What the framing is to send, and the rest of the text: a body that the protocol has of its own.
pub(super) fn request(text: &[u8], secure: bool) -> Result<(Request<()>, Bytes), RequestError> {
    let broken = |what: &str| RequestError::internal(format!("invalid {what} in a request over HTTP/2"));
    let end = text.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(|| broken("head"))?;
    let (head, body) = text.split_at_checked(end + 4).ok_or_else(|| broken("head"))?;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default()).map_err(|_| broken("method"))?;
    let target = words.next().unwrap_or_default();
    let mut authority = None;
    let mut fields = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let at = memchr::memchr(b':', line).ok_or_else(|| broken("field"))?;
        let (name, value) = line.split_at_checked(at).ok_or_else(|| broken("field"))?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            authority = Some(Authority::try_from(value).map_err(|_| broken("host"))?);
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| broken("field name"))?;
        // The one thing that may be said about trailers.
        let te = name == http::header::TE && !value.eq_ignore_ascii_case(b"trailers");
        if !te && !HOP_BY_HOP.contains(&name.as_str()) {
            fields.append(name, HeaderValue::from_bytes(value).map_err(|_| broken("field value"))?);
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority.ok_or_else(|| broken("host"))?);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(encoded(target)));
    parts.path_and_query = Some(path.map_err(|_| broken("URI"))?);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| broken("URI"))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok((request, Bytes::copy_from_slice(body)))
}

/// A target without the bytes that the framing refuses.
fn encoded(target: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let utf8 = std::str::from_utf8(target).is_ok();
    let refused = |byte: u8| {
        matches!(byte, 0..=b' ' | b'#' | b'<' | b'>' | b'`' | b'\\' | b'^' | 0x7f) || (byte >= 0x80 && !utf8)
    };
    let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
    let mut out = Vec::with_capacity(target.len());
    for byte in target {
        if refused(*byte) {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.push(*byte);
        }
    }
    out
}

/// An answer's head as text.
pub(super) fn text(status: http::StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" \r\n");
    for (name, value) in fields {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Request<()>, RequestError> {
        request(text.as_bytes(), true).map(|(request, _)| request)
    }

    #[test]
    fn text_becomes_a_request() {
        let text =
            "PUT /a?b=<c> HTTP/2.0\r\nHost: x:81\r\nConnection: close\r\nTE: gzip\r\nX-A:  1\r\n\r\nbody";
        let (request, body) = request(text.as_bytes(), true).unwrap();
        assert_eq!(request.uri(), "https://x:81/a?b=%3Cc%3E");
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(body, "body");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert!(check("GET / HTTP/2.0\r\n\r\n").is_err());
        assert!(check("GET / HTTP/2.0\r\nHost: a b\r\n\r\n").is_err());
        assert!(check("GET / HTTP/2.0\r\nHost: a\r\nX Y: 1\r\n\r\n").is_err());
        assert!(check("G(T / HTTP/2.0\r\nHost: a\r\n\r\n").is_err());
        assert!(check("GET / HTTP/2.0\r\nHost: a\r\nno colon\r\n\r\n").is_err());
        assert!(check("GET / HTTP/2.0\r\nHost: a\r\n").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(encoded(b"/\xff#\\"), b"/%FF%23%5C");
        assert_eq!(encoded("/é".as_bytes()), "/é".as_bytes());
    }

    #[test]
    fn heads_become_text() {
        let mut fields = HeaderMap::new();
        fields.append("a", HeaderValue::from_static("1"));
        fields.append("a", HeaderValue::from_static("2"));
        assert_eq!(text(http::StatusCode::OK, &fields), b"HTTP/1.1 200 \r\na: 1\r\na: 2\r\n\r\n");
    }
}
