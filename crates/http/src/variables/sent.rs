//! Variables of what the client sent.

use super::{bytes, join, names_match, number, unless_empty};
use crate::{basic_auth, request::Request};
use moonrest_proto::{
    cookie,
    http1::{Body, Known},
    query,
};
use std::cell::RefCell;

/// The version of nginx whose behaviour this is (`$nginx_version`).
pub const fn nginx_version() -> &'static str {
    "1.31.3"
}

pub(super) fn uri(r: &Request, out: &mut Vec<u8>) -> bool {
    // nginx: a path that could not be decoded is empty, but there.
    bytes(out, &r.uri.borrow()) && (!r.uri.borrow().is_empty() || r.complex_uri.get())
}

pub(super) fn args(r: &Request, out: &mut Vec<u8>) -> bool {
    unless_empty(out, &r.args.borrow())
}

pub(super) fn set_args(r: &Request, value: Option<&[u8]>) {
    let mut args = r.args.borrow_mut();
    args.clear();
    args.extend_from_slice(value.unwrap_or_default());
    r.valid_unparsed_uri.set(false);
}

pub(super) fn is_args(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.args.borrow().is_empty() { b"" } else { b"?" })
}

pub(super) fn request_line(r: &Request, out: &mut Vec<u8>) -> bool {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    let line = head.line.of(&block);
    if !line.is_empty() {
        return bytes(out, line);
    }
    // The line could not be parsed: what there is of it.
    let start = block.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = block.get(start..).unwrap_or_default();
    let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
    unless_empty(out, rest.get(..end).unwrap_or_default())
}

pub(super) fn request_uri(r: &Request, out: &mut Vec<u8>) -> bool {
    unless_empty(out, r.head.borrow().target.of(&r.block.borrow()))
}

pub(super) fn method(r: &Request, out: &mut Vec<u8>) -> bool {
    let main = r.main();
    let head = main.head.borrow();
    if head.method != main.method.get() {
        // An error page is fetched with GET, whatever was asked for.
        return bytes(out, main.method.get().name().as_bytes());
    }
    unless_empty(out, head.method_name.of(&main.block.borrow()))
}

pub(super) fn protocol(r: &Request, out: &mut Vec<u8>) -> bool {
    unless_empty(out, r.head.borrow().protocol.of(&r.block.borrow()))
}

pub(super) fn host(r: &Request, out: &mut Vec<u8>) -> bool {
    let host = r.host.borrow();
    bytes(out, if host.is_empty() { &r.srv().name } else { &host })
}

pub(super) fn port(r: &Request, out: &mut Vec<u8>) -> bool {
    super::port(out, r.main().port.get())
}

pub(super) fn is_port(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.main().port.get() == 0 { b"" } else { b":" })
}

/// The field as sent; of a body in chunks the length once it has been read.
pub(super) fn content_length(r: &Request, out: &mut Vec<u8>) -> bool {
    let sent =
        r.head.borrow().fields.value(Known::ContentLength, &r.block.borrow()).map(|value| bytes(out, value));
    sent.unwrap_or_else(|| {
        let main = r.main();
        let body = main.body.borrow();
        match main.framing.get().body {
            Body::Length(length) => number(out, length),
            Body::Chunked if body.state == crate::body::BodyState::Complete => number(out, body.received),
            _ => false,
        }
    })
}

pub(super) fn content_type(r: &Request, out: &mut Vec<u8>) -> bool {
    known(r, Known::ContentType, out, b',')
}

pub(super) fn cookies(r: &Request, out: &mut Vec<u8>) -> bool {
    known(r, Known::Cookie, out, b';')
}

pub(super) fn known(r: &Request, known: Known, out: &mut Vec<u8>, separator: u8) -> bool {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    join(out, head.fields.all(known).map(|field| field.value.of(&block)), separator)
}

/// `$http_NAME`: all fields of that name.
pub(super) fn header(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    let same = |field: &&moonrest_proto::http1::Field| names_match(name, field.name.of(&block));
    join(out, head.fields.iter().filter(same).map(|field| field.value.of(&block)), b',')
}

pub(super) fn cookie(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    let fields = head.fields.all(Known::Cookie).map(|field| field.value.of(&block));
    cookie::find(fields, name).is_some_and(|value| bytes(out, value))
}

pub(super) fn argument(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    query::find(&r.args.borrow(), name).is_some_and(|value| bytes(out, value))
}

pub(super) fn remote_user(r: &Request, out: &mut Vec<u8>) -> bool {
    basic_auth::credentials(r).is_some_and(|credentials| bytes(out, credentials.user()))
}

/// The body, if it was read and is in memory.
pub(super) fn body(r: &Request, out: &mut Vec<u8>) -> bool {
    let body = r.body.borrow();
    if body.file.is_some() || body.memory.is_empty() {
        return false;
    }
    body.memory.iter().for_each(|piece| out.extend_from_slice(piece));
    true
}

pub(super) fn body_file(r: &Request, out: &mut Vec<u8>) -> bool {
    r.body.borrow().file.as_ref().is_some_and(|file| bytes(out, &file.path))
}

pub(super) fn length(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.main().request_length.get())
}

/// 32 hexadecimal digits, at random.
pub(super) fn id(_: &Request, out: &mut Vec<u8>) -> bool {
    /// Random bytes asked of the kernel at once.
    const STORE: usize = 512;
    thread_local! {
        static RANDOM: RefCell<(usize, [u8; STORE])> = const { RefCell::new((STORE, [0; STORE])) };
    }
    RANDOM.with_borrow_mut(|(used, store)| {
        if *used + 16 > STORE {
            if moonrest_sys::random::fill(store).is_err() {
                return false;
            }
            *used = 0;
        }
        for byte in store.get(*used..*used + 16).unwrap_or_default() {
            out.extend(
                [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }),
            );
        }
        *used += 16;
        true
    })
}
