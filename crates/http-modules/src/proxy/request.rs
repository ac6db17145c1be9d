//! The request that the upstream gets.

use super::{
    Settings,
    headers::{BodyFields, append_checked},
    pass::Target,
};
use moonrest_http::{
    prelude::*,
    upstream::{RequestLength, States},
};
use moonrest_proto::{escape, http1::Method};
use std::ops::Range;

/// What was written.
pub(super) struct Written {
    /// The part that log lines show.
    pub uri: Range<usize>,
    /// The answer has no body.
    pub head: bool,
    /// The body goes out in chunks.
    pub chunked: bool,
    /// An upgrade is asked for.
    pub upgrades: bool,
}

/// Appends request line, fields and, if the configuration has one, the body.
pub(super) fn append(
    settings: &Settings,
    target: &Target,
    pass_headers: bool,
    length: RequestLength,
    r: &Request,
    out: &mut Vec<u8>,
) -> Result<Written, RequestError> {
    append_method(settings, r, out)?;
    let head = out.eq_ignore_ascii_case(b"HEAD");
    out.push(b' ');
    let start = out.len();
    append_uri(settings, target, r, out);
    if out.len() == start {
        return Err(RequestError::internal("zero length URI to proxy"));
    }
    let uri = start..out.len();
    out.extend_from_slice(if settings.http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    append_host(settings, target, r, out);
    let own_body = settings.body.as_ref().map(|body| body.eval(r));
    let body = match (&own_body, length) {
        (Some(body), _) => BodyFields { length: Some(body.len() as u64), chunked: false },
        (None, RequestLength::None) => BodyFields { length: None, chunked: false },
        (None, RequestLength::Known(length)) => BodyFields { length: Some(length), chunked: false },
        (None, RequestLength::Unknown) => BodyFields { length: None, chunked: true },
    };
    let headers = settings.headers(r);
    let upgrades = headers.append(r, &body, out);
    if pass_headers {
        headers.append_clients(r, out);
    }
    out.extend_from_slice(b"\r\n");
    if let Some(body) = &own_body {
        out.extend_from_slice(body);
    }
    Ok(Written { uri, head, chunked: body.chunked, upgrades })
}

fn append_method(settings: &Settings, r: &Request, out: &mut Vec<u8>) -> Result<(), RequestError> {
    let as_get = || r.find_ctx::<States>().is_some_and(|states| states.asks_as_get());
    match &settings.method {
        _ if r.method.get() == Method::Head && as_get() => out.extend_from_slice(b"GET"),
        Some(method) => method.append(r, out),
        None => {
            let head = r.head.borrow();
            if r.method.get() == head.method && !r.is_subrequest() {
                out.extend_from_slice(head.method_name.of(&r.block.borrow()));
            } else {
                out.extend_from_slice(r.method.get().name().as_bytes());
            }
        }
    }
    if out.is_empty() || out.iter().any(|byte| !byte.is_ascii_graphic()) {
        let shown = String::from_utf8_lossy(out);
        return Err(RequestError::internal(format!("invalid method \"{shown}\" to proxy")));
    }
    Ok(())
}

/// Appends the key of a kept answer: scheme, host, and the URI that the upstream is asked for.
pub(super) fn append_cache_key(settings: &Settings, target: &Target, r: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(&target.start);
    append_uri(settings, target, r, out);
}

fn append_uri(settings: &Settings, target: &Target, r: &Request, out: &mut Vec<u8>) {
    if target.whole {
        append_safe(&target.uri, out);
        return;
    }
    if target.uri.is_empty() && r.valid_unparsed_uri.get() {
        out.extend_from_slice(r.head.borrow().target.of(&r.block.borrow()));
        return;
    }
    let uri = r.uri();
    let replaced = if r.valid_location.get() && !target.uri.is_empty() {
        settings.pass.location.len().min(uri.len())
    } else {
        0
    };
    if r.valid_location.get() {
        out.extend_from_slice(&target.uri);
    }
    let rest = uri.get(replaced..).unwrap_or_default();
    if r.complex_uri.get() || r.internal.get() {
        escape::escape(escape::Kind::Uri, rest, out);
    } else {
        append_safe(rest, out);
    }
    let args = r.args.borrow();
    if !args.is_empty() {
        out.push(b'?');
        append_safe(&args, out);
    }
}

/// Appends what cannot end the request line: white space and control characters are escaped.
fn append_safe(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !text.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        out.extend_from_slice(text);
        return;
    }
    let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
    for byte in text {
        if *byte <= b' ' || *byte == 0x7f {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.push(*byte);
        }
    }
}

fn append_host(settings: &Settings, target: &Target, r: &Request, out: &mut Vec<u8>) {
    let Some(host) = &settings.headers.host else {
        if !target.host.is_empty() {
            out.extend_from_slice(&target.host_line);
        }
        return;
    };
    let start = out.len();
    out.extend_from_slice(b"Host: ");
    let value_at = out.len();
    append_checked(host, r, out);
    if out.len() == value_at && !settings.http10 {
        out.extend_from_slice(&target.host);
    }
    if out.len() == value_at {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_ends_the_request_line() {
        let mut out = Vec::new();
        append_safe(b"/a b\r\nc%20", &mut out);
        assert_eq!(out, b"/a%20b%0D%0Ac%20");
    }
}
