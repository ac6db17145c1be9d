//! Response heads as HTTP/2 has them: fields in nginx's order, names in lower case.

use crate::{core::ServerTokens, request::Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use moonrest_proto::date;
use std::cell::RefCell;

/// Fields that most heads have at most.
const USUAL: usize = 6;

/// The head of the request's response. A field that HTTP/2 cannot carry is left out.
pub(super) fn response(r: &Request) -> Response<()> {
    let mut response = Response::new(());
    let out = r.out.borrow();
    *response.status_mut() = StatusCode::from_u16(out.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    // As many as most have, in one piece.
    map.reserve(USUAL);
    match &out.server {
        Some(name) => put(map, header::SERVER, name),
        None => server(r, map),
    }
    match &out.date {
        Some(date) => put(map, header::DATE, date),
        None => {
            map.insert(header::DATE, date(r));
        }
    }
    if !out.content_type.is_empty() {
        match out.charset_to_send() {
            None => put_shared(map, header::CONTENT_TYPE, out.content_type.clone()),
            Some(charset) => {
                let value = [&*out.content_type, b"; charset=", charset].concat();
                put_shared(map, header::CONTENT_TYPE, value.into());
            }
        }
    }
    if let Some(length) = out.content_length {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(time) = out.last_modified {
        put(map, header::LAST_MODIFIED, &date::http(time));
    }
    if let Some(location) = &out.location {
        put_shared(map, header::LOCATION, location.clone());
    }
    if let Some(etag) = &out.etag {
        put_shared(map, header::ETAG, etag.clone());
    }
    if let Some(encoding) = &out.content_encoding {
        put_shared(map, header::CONTENT_ENCODING, encoding.clone());
    }
    for other in &out.fields {
        append(map, &other.name, &other.value);
    }
    response
}

/// Fields behind the body.
pub(super) fn trailers(r: &Request) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in &r.out.borrow().trailers {
        append(&mut map, &field.name, &field.value);
    }
    map
}

/// Adds a field, unless it belongs to HTTP/1 connections alone.
pub(super) fn append(map: &mut HeaderMap, name: &[u8], value: &Bytes) {
    const HTTP1_ONLY: [&[u8]; 5] =
        [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    if HTTP1_ONLY.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return;
    }
    let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value.clone()))
    else {
        return;
    };
    map.append(name, value);
}

/// The value of `Date`, which all responses of a second share.
fn date(r: &Request) -> HeaderValue {
    thread_local! {
        static DATE: RefCell<(i64, HeaderValue)> = const { RefCell::new((i64::MIN, HeaderValue::from_static(""))) };
    }
    let now = r.worker.now();
    DATE.with_borrow_mut(|(second, value)| {
        if *second != now
            && let Ok(text) = HeaderValue::from_bytes(&date::http(now))
        {
            (*second, *value) = (now, text);
        }
        value.clone()
    })
}

fn put(map: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_bytes(value) {
        map.insert(name, value);
    }
}

fn put_shared(map: &mut HeaderMap, name: HeaderName, value: Bytes) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        map.insert(name, value);
    }
}

fn server(r: &Request, map: &mut HeaderMap) {
    const FULL: HeaderValue = HeaderValue::from_static(concat!("moonrest/", env!("CARGO_PKG_VERSION")));
    match &r.loc().core.server_tokens {
        ServerTokens::On | ServerTokens::Build => {
            map.insert(header::SERVER, FULL);
        }
        ServerTokens::Off => {
            map.insert(header::SERVER, HeaderValue::from_static("moonrest"));
        }
        ServerTokens::Text(text) => put(map, header::SERVER, &text.eval(r)),
    }
}
