//! The request's head, from the text that a protocol writes.

use crate::phase::RequestError;
use bytes::Bytes;
use moonrest_proto::http2::hpack;

/// Fields of HTTP/1 connections: they end here, whoever set them.
const HOP_BY_HOP: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// What a request begins with.
pub(super) struct Head {
    /// Header fields, encoded.
    pub block: Vec<u8>,
    /// The rest of the text: a body that the protocol has of its own.
    pub body: Bytes,
}

/// Reads `METHOD TARGET VERSION`, `Host` for the authority, and other fields.
pub(super) fn head(text: &[u8], secure: bool) -> Result<Head, RequestError> {
    let broken = || RequestError::internal("a request over HTTP/2 cannot be written");
    let end = memchr::memmem::find(text, b"\r\n\r\n").ok_or_else(broken)?;
    let (head, body) = text.split_at_checked(end + 4).ok_or_else(broken)?;
    let lines = || {
        let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.filter(|line| !line.is_empty())
    };
    let fields = || {
        lines().skip(1).filter_map(|line| {
            let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
            Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
        })
    };
    let mut words = lines().next().unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(broken()) };
    let authority = fields().find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map(|(_, value)| value);
    let mut block = Vec::with_capacity(head.len());
    hpack::encode_request(method, secure, target, authority.unwrap_or_default(), &mut block);
    for (name, value) in fields() {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        // The one thing that may be said about it is that trailers are understood.
        let other_te = is(b"te") && !value.eq_ignore_ascii_case(b"trailers");
        if !is(b"host") && !other_te && !HOP_BY_HOP.iter().any(|known| is(known)) {
            hpack::encode_field(name, value, &mut block);
        }
    }
    Ok(Head { block, body: Bytes::copy_from_slice(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_fields() {
        let text =
            "PUT /a?b=<c> HTTP/2.0\r\nHost: x:81\r\nConnection: close\r\nTE: gzip\r\nX-A:  1\r\n\r\nbody";
        let head = head(text.as_bytes(), true).unwrap();
        let mut shown = Vec::new();
        let found = hpack::decode(&head.block, 1000, |name, value| {
            shown.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            Ok(())
        });
        assert_eq!(found, Ok(()));
        assert_eq!(shown, [":method=PUT", ":scheme=https", ":path=/a?b=<c>", ":authority=x:81", "x-a=1"]);
        assert_eq!(head.body, "body");
        assert!(super::head(b"GET / HTTP/2.0\r\nHost: a\r\n", false).is_err());
    }
}
