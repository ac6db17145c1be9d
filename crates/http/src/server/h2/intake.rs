//! Makes a request of a stream's head. It is written out as HTTP/1 would have it, and the request line read by the same
//! parser, so that all that follows sees one kind of head, and one set of rules checks it.

use super::{stream::Stream, websocket::Key};
use crate::{
    http2,
    request::{Memory, NewRequest, Request, RequestRef},
    server::{
        h1::H1,
        intake::{accept_fields, find_server, set_uri},
    },
};
use h2::ext::Protocol;
use http::{header, request::Parts};
use moonrest_proto::http1::{
    Body, Framing, HeadError, HeadLimits, Known, Version,
    framing::{check_method, check_unique, parse_length},
};
use moonrest_rt::clock;
use std::rc::Rc;

/// The request, and the status of the error in its head if there is one.
pub(super) fn request(h1: &Rc<H1>, stream: &Rc<Stream>, parts: &Parts) -> (RequestRef, Option<u16>) {
    h1.conn.requests.set(h1.conn.requests.get() + 1);
    let memory = h1.worker.take_memory();
    let written = write_head(parts, stream, &memory);
    let server = h1.conn.server.get();
    let new = NewRequest {
        worker: h1.worker.clone(),
        conn: h1.conn.clone(),
        exchange: stream.clone(),
        server,
        location: h1.worker.http.server(server).location,
        parent: None,
    };
    let r = Request::start_in(memory, new);
    r.request_length.set(r.block.borrow().len() as u64);
    r.started_ms.set(clock::monotonic_ms());
    r.version.set(Version::Http2);
    r.keepalive.set(true);
    let nowhere = parts.uri.authority().is_none() && !parts.headers.contains_key(header::HOST);
    let status = match written {
        _ if nowhere => {
            crate::info!(r, "client sent neither \":authority\" nor \"Host\" header");
            name_version(&r);
            Some(400)
        }
        Ok(true) => {
            name_version(&r);
            r.method.set(r.head.borrow().method);
            accept(h1, stream, &r, parts).err()
        }
        Ok(false) => {
            crate::info!(r, "client sent a malformed HTTP/2 request");
            Some(400)
        }
        Err(error) => {
            r.action.set(error.action());
            let message = error.log_message(&r.block.borrow());
            crate::info!(r, "{message}");
            name_version(&r);
            Some(error.status())
        }
    };
    (r, status)
}

/// What of a head is larger than `large_client_header_buffers` allow: a field, or all of them.
pub(super) fn too_large(parts: &Parts, limits: &HeadLimits) -> Option<&'static str> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let pseudo = [
        (":method", Some(parts.method.as_str())),
        (":scheme", parts.uri.scheme_str().or(Some("http"))),
        (":path", parts.uri.path_and_query().map(|path| path.as_str())),
        (":authority", authority),
    ];
    let (field, mut room) = (limits.large as usize, limits.large as usize * limits.large_count as usize);
    let mut excess = |name: usize, value: usize| {
        if name.max(value) > field {
            return Some(" field");
        }
        let left = room.checked_sub(name + value);
        room = left.unwrap_or(0);
        if left.is_none() { Some("") } else { None }
    };
    pseudo
        .iter()
        .find_map(|(name, value)| excess(name.len(), (*value)?.len()))
        .or_else(|| parts.headers.iter().find_map(|(name, value)| excess(name.as_str().len(), value.len())))
}

/// `$server_protocol` and `$request` say which version it was; the text has the same length.
fn name_version(r: &Request) {
    let span = r.head.borrow().protocol;
    let mut block = r.block.borrow_mut();
    let text = block.get_mut(span.start as usize..(span.start + span.len) as usize);
    if let Some(text) = text.filter(|text| text.len() == 8) {
        text.copy_from_slice(b"HTTP/2.0");
    }
}

/// Writes the head as text, and where in it things stand; `false` when there is no such text.
fn write_head(parts: &Parts, stream: &Stream, memory: &Memory) -> Result<bool, HeadError> {
    let (mut block, mut head) = (memory.block.borrow_mut(), memory.head.borrow_mut());
    let (out, head) = (&mut *block, &mut *head);
    let tunnel = parts.extensions.get::<Protocol>();
    // A WebSocket is asked for as HTTP/1 would (RFC 8441, 5): whatever handles those handles these.
    let method = if tunnel.is_some() { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match parts.uri.path_and_query() {
        Some(target) => out.extend_from_slice(target.as_str().as_bytes()),
        None if method == "CONNECT" => out.extend_from_slice(authority.unwrap_or_default()),
        None => return Ok(false),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut right = head.parse_line(out)?;
    if let Some(authority) = authority {
        right &= head.push(out, b"host", authority);
    }
    if tunnel.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
        let Some(key) = Key::new() else { return Ok(false) };
        right &= head.push(out, b"upgrade", b"websocket");
        right &= head.push(out, b"connection", b"upgrade");
        right &= head.push(out, b"sec-websocket-key", key.text().as_bytes());
        stream.is_websocket(key);
    }
    let mut cookies: Option<Vec<u8>> = None;
    for (name, value) in &parts.headers {
        match (name, authority) {
            // Both are there: they must say the same (RFC 9113, 8.3.1).
            (&header::HOST, Some(authority)) => right &= authority.eq_ignore_ascii_case(value.as_bytes()),
            (&header::SEC_WEBSOCKET_KEY, _) if tunnel.is_some() => {}
            (&header::COOKIE, _) => {
                // Crumbs are put together again (RFC 9113, 8.2.3).
                match &mut cookies {
                    Some(cookies) => cookies.extend([b"; ", value.as_bytes()].concat()),
                    None => cookies = Some(value.as_bytes().to_vec()),
                }
            }
            _ => right &= head.push(out, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if let Some(cookies) = cookies {
        right &= head.push(out, b"cookie", &cookies);
    }
    out.extend_from_slice(b"\r\n");
    Ok(right)
}

fn accept(h1: &H1, stream: &Stream, r: &RequestRef, parts: &Parts) -> Result<(), u16> {
    r.action.set("reading client request line");
    {
        let (head, block) = (r.head.borrow(), r.block.borrow());
        set_uri(h1, r, &head, &block)?;
        r.action.set("reading client request headers");
        find_server(h1, r, &head, &block)?;
    }
    if !h1.addr_conf.http2 && !http2::Settings::of(&h1.worker.http, r.server.get()).enabled {
        crate::info!(
            r,
            "client attempted to request the server name for which the negotiated protocol is disabled"
        );
        return Err(421);
    }
    let websocket = stream.websocket().is_some();
    let ours = u64::from(parts.uri.authority().is_some()) + if websocket { 3 } else { 0 };
    accept_fields(h1, r, ours)?;
    if let Some(protocol) = parts.extensions.get::<Protocol>().filter(|_| !websocket) {
        crate::info!(r, "client sent CONNECT for the unsupported protocol \"{}\"", protocol.as_str());
        return Err(501);
    }
    let length = r.head.borrow().value(Known::ContentLength, &r.block.borrow()).map(parse_length);
    let body = match length {
        Some(None) => {
            crate::info!(r, "client sent invalid \"Content-Length\" header");
            return Err(400);
        }
        _ if websocket || stream.has_no_body() => Body::None,
        Some(Some(length)) => Body::Length(length),
        // Whatever comes until the stream's end.
        None => Body::Chunked,
    };
    let framing = Framing { body, keep_alive: true, upgrade: websocket, ..Framing::default() };
    let checked = {
        let block = r.block.borrow();
        let head = r.head.borrow();
        let checked = check_unique(&head).and_then(|()| check_method(&head, &framing, false));
        checked.map_err(|error| (error.status(), error.log_message(&block)))
    };
    if let Err((status, message)) = checked {
        crate::info!(r, "{message}");
        return Err(status);
    }
    r.framing.set(framing);
    r.action.set("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_measured_as_nginx_does() {
        let limits = HeadLimits { first: 512, large: 512, large_count: 1 };
        let check = |name: usize, value: usize, expected: Option<&str>| {
            let request =
                http::Request::get("http://localhost/t2.html").header("x".repeat(name), "y".repeat(value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(too_large(&parts, &limits), expected, "{name} {value}");
        };
        // The others have 53 bytes.
        check(8, 451, None);
        check(8, 452, Some(""));
        check(8, 513, Some(" field"));
        check(513, 8, Some(" field"));
    }
}
