//! Variables of the response: its status, its size, its fields.

use super::{bytes, join, names_match, number};
use crate::{request::Request, response::FieldOut};
use moonrest_core::conf::value;
use moonrest_proto::{date, http1::Version};

pub(super) fn status(r: &Request, out: &mut Vec<u8>) -> bool {
    crate::decimal::append_three(out, u64::from(r.status()));
    true
}

impl Request {
    /// The status as it is logged: an error's own, or the response's; 9 for HTTP/0.9, 0 when there is none yet.
    pub fn status(&self) -> u16 {
        match (self.error_status.get(), self.out.borrow().status) {
            (0, 0) if self.version.get() == Version::Http09 => 9,
            (0, status) | (status, _) => status,
        }
    }
}

pub(super) fn bytes_sent(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.main().exchange.bytes_sent())
}

/// Everything behind the head, the marks of chunks included.
pub(super) fn body_bytes_sent(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.main().exchange.bytes_sent().saturating_sub(r.header_size.get()))
}

pub(super) fn completion(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.main().completed.get() { b"OK" } else { b"" })
}

pub(super) fn limit_rate(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.limit_rate.get().unwrap_or(0))
}

pub(super) fn set_limit_rate(r: &Request, text: Option<&[u8]>) {
    let text = text.unwrap_or_default();
    match value::parse_size(text) {
        Some(rate) => r.limit_rate.set(Some(rate)),
        None => crate::error!(r, "invalid $limit_rate \"{}\"", String::from_utf8_lossy(text)),
    }
}

pub(super) fn content_type(r: &Request, out: &mut Vec<u8>) -> bool {
    let head = r.out.borrow();
    if head.content_type.is_empty() {
        return false;
    }
    out.extend_from_slice(&head.content_type);
    if let Some(charset) = head.charset_to_send().filter(|_| r.header_sent.get()) {
        out.extend_from_slice(b"; charset=");
        out.extend_from_slice(charset);
    }
    true
}

pub(super) fn content_length(r: &Request, out: &mut Vec<u8>) -> bool {
    r.out.borrow().content_length.is_some_and(|length| number(out, length))
}

pub(super) fn location(r: &Request, out: &mut Vec<u8>) -> bool {
    let known = r.out.borrow().location.as_ref().map(|location| bytes(out, location));
    known.unwrap_or_else(|| listed(&r.out.borrow().fields, b"location", out))
}

pub(super) fn last_modified(r: &Request, out: &mut Vec<u8>) -> bool {
    let known = r.out.borrow().last_modified.map(|time| bytes(out, &date::http(time)));
    known.unwrap_or_else(|| listed(&r.out.borrow().fields, b"last_modified", out))
}

pub(super) fn connection(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(
        out,
        match (r.out.borrow().status, r.keepalive.get()) {
            (101, _) => b"upgrade",
            (_, true) => b"keep-alive",
            (_, false) => b"close",
        },
    )
}

pub(super) fn keep_alive(r: &Request, out: &mut Vec<u8>) -> bool {
    let seconds = r.loc().core.keepalive_header;
    r.keepalive.get() && seconds > 0 && bytes(out, b"timeout=") && number(out, seconds)
}

pub(super) fn transfer_encoding(r: &Request, out: &mut Vec<u8>) -> bool {
    r.chunked.get() && bytes(out, b"chunked")
}

/// `$sent_http_NAME`: all fields of that name, those that have a place of their own included.
pub(super) fn header(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let head = r.out.borrow();
    let own = match name {
        b"etag" => &head.etag,
        b"content_encoding" => &head.content_encoding,
        b"server" => &head.server,
        b"date" => &head.date,
        _ => &None,
    };
    match own {
        Some(value) if !value.is_empty() => bytes(out, value),
        _ => listed(&head.fields, name, out),
    }
}

pub(super) fn trailer(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    listed(&r.out.borrow().trailers, name, out)
}

fn listed(fields: &[FieldOut], name: &[u8], out: &mut Vec<u8>) -> bool {
    let same = fields.iter().filter(|field| names_match(name, &field.name));
    join(out, same.map(|field| &*field.value), b',')
}
