//! Heads of responses as they are kept: written, and read again. What the cache holds is hostile input.

use super::Settings;
use moonrest_http::prelude::*;
use moonrest_proto::{
    date,
    http1::{Parse, ResponseHead},
};

/// Says that parts of the body may be answered; `Accept-Ranges` itself is made anew.
const ALLOW_RANGES: &[u8] = b"X-SRCache-Allow-Ranges";

/// The response's head, with the empty line at its end.
pub(super) fn write(r: &Request, settings: &Settings) -> Vec<u8> {
    let out = r.out();
    let hidden = |name: &[u8]| settings.hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
    let mut text = b"HTTP/1.1 ".to_vec();
    match (&out.status_line, moonrest_http::response::status_text(out.status)) {
        (Some(line), _) => text.extend_from_slice(line),
        (None, Some(line)) => text.extend_from_slice(line.as_bytes()),
        (None, None) => text.extend_from_slice(out.status.to_string().as_bytes()),
    }
    text.extend_from_slice(b"\r\n");
    let mut field = |name: &[u8], value: &[u8]| {
        if !hidden(name) {
            text.extend_from_slice(name);
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
    };
    if !out.content_type.is_empty() {
        let mut value = out.content_type.to_vec();
        if let Some(charset) = out.charset_to_send() {
            value.extend_from_slice(b"; charset=");
            value.extend_from_slice(charset);
        }
        field(b"Content-Type", &value);
    }
    if let Some(text) = &out.last_modified_text {
        field(b"Last-Modified", text);
    } else if let Some(seconds) = out.last_modified
        && matches!(out.status, 200 | 204 | 206 | 304)
    {
        field(b"Last-Modified", &date::http(seconds));
    }
    if out.allow_ranges {
        field(ALLOW_RANGES, b"1");
    }
    let apart: [(&[u8], &Option<Bytes>); 3] =
        [(b"ETag", &out.etag), (b"Location", &out.location), (b"Content-Encoding", &out.content_encoding)];
    for (name, value) in apart {
        if let Some(value) = value {
            field(name, value);
        }
    }
    for (name, value) in [(&b"Server"[..], &out.server), (b"Date", &out.date)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            field(name, value);
        }
    }
    for other in &out.fields {
        field(&other.name, &other.value);
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Makes what was kept the request's response; gives the length of the head.
///
/// # Errors
/// What is wrong with it, for the error log.
pub(super) fn read(r: &Request, kept: &[u8], most: usize) -> Result<usize, &'static str> {
    let status_line = memchr::memchr(b'\n', kept).ok_or(TRUNCATED)?;
    if !kept.starts_with(b"HTTP/1.") {
        return Err("srcache_fetch: cache sent invalid status line");
    }
    let mut head = ResponseHead::default();
    let len = match head.parse(kept) {
        Ok(Parse::Complete { len, .. }) => len,
        Ok(_) if longest_line(kept) > most => return Err(OVERFLOWN),
        Ok(_) => return Err(TRUNCATED),
        Err(_) => return Err("srcache_fetch: cache sent invalid header"),
    };
    if longest_line(kept.get(status_line + 1..len).unwrap_or_default()) > most {
        return Err(OVERFLOWN);
    }
    let mut out = r.out_mut();
    out.clear();
    out.status = head.status;
    for field in head.fields.iter() {
        let (name, value) = (field.name.of(kept), Bytes::copy_from_slice(field.value.of(kept)));
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" | b"connection" | b"keep-alive" | b"transfer-encoding" | b"accept-ranges" => {}
            b"x-srcache-allow-ranges" => out.allow_ranges = true,
            b"content-type" | b"location" | b"server" | b"date" | b"etag" | b"content-encoding" => {
                out.put(name, value);
            }
            b"last-modified" => {
                out.last_modified = date::parse_http(&value);
                out.last_modified_text = Some(value);
            }
            _ => out.add(name.to_vec(), value),
        }
    }
    Ok(len)
}

const TRUNCATED: &str = "srcache_fetch: cache sent truncated status line or headers";
const OVERFLOWN: &str = "srcache_fetch: header buffer overflown (maybe you should consider increasing \
                         srcache_header_buffer_size?)";

/// The length of the longest line, its end included.
fn longest_line(text: &[u8]) -> usize {
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_measured() {
        assert_eq!(longest_line(b"a\r\nlonger\r\n\r\n"), 8);
        assert_eq!(longest_line(b""), 0);
    }
}
