//! Serialises HTTP/1 response heads, in nginx's order of fields.

use crate::{
    core::{Core, ServerTokens},
    decimal,
    request::Request,
    response::HeadersOut,
};
use moonrest_net::addr::Addr;
use moonrest_proto::{
    date,
    http1::{Method, Version},
};
use std::io::Write;

/// How the body of the response is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Delimited {
    /// By its length, or there is none.
    #[default]
    Length,
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The status line of an interim response.
pub(super) fn interim_line(status: u16) -> &'static str {
    status_line(status).unwrap_or("HTTP/1.1 100 Continue\r\n")
}

/// Appends the head of the request's response; `absolute` tells that `Location` was made a URL of this server.
pub(crate) fn append(r: &Request, out: &mut Vec<u8>, delimited: Delimited, absolute: bool) {
    let head = r.out.borrow();
    let core = &*r.loc().core;
    out.reserve(ROOM);
    if head.status == 200 && head.status_line.is_none() {
        out.extend_from_slice(OK);
    } else {
        append_status(&head, out);
    }
    if matches!(core.server_tokens, ServerTokens::On) && head.server.is_none() && head.date.is_none() {
        out.extend_from_slice(&r.worker.server_and_date());
    } else {
        append_server_and_date(r, &head, out);
    }
    if !head.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(&head.content_type);
        if let Some(charset) = head.charset_to_send() {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(charset);
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = head.content_length {
        out.extend_from_slice(b"Content-Length: ");
        decimal::append(out, length);
        out.extend_from_slice(b"\r\n");
    }
    match (&head.last_modified_text, head.last_modified) {
        (Some(text), _) => field(out, b"Last-Modified", text),
        (None, Some(time)) => {
            out.extend_from_slice(b"Last-Modified: ");
            out.extend_from_slice(&date::http(time));
            out.extend_from_slice(b"\r\n");
        }
        (None, None) => {}
    }
    if absolute && let Some(location) = &head.location {
        field(out, b"Location", location);
    }
    if delimited == Delimited::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    connection(r, core, head.status, out);
    // nginx: what was not made absolute here is a field like others.
    if !absolute && let Some(location) = &head.location {
        field(out, b"Location", location);
    }
    if let Some(etag) = &head.etag {
        out.extend_from_slice(b"ETag: ");
        out.extend_from_slice(etag);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(encoding) = &head.content_encoding {
        field(out, b"Content-Encoding", encoding);
    }
    for other in &head.fields {
        field(out, &other.name, &other.value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Most heads fit in this.
const ROOM: usize = 512;

const OK: &[u8; 17] = b"HTTP/1.1 200 OK\r\n";

fn append_status(head: &HeadersOut, out: &mut Vec<u8>) {
    match (&head.status_line, status_line(head.status)) {
        (None, Some(line)) => out.extend_from_slice(line.as_bytes()),
        (Some(text), _) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        (None, None) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            decimal::append_three(out, u64::from(head.status));
            out.extend_from_slice(b" \r\n");
        }
    }
}

fn append_server_and_date(r: &Request, head: &HeadersOut, out: &mut Vec<u8>) {
    match &head.server {
        Some(name) if name.is_empty() => {}
        Some(name) => field(out, b"Server", name),
        None => server(r, out),
    }
    match &head.date {
        Some(date) if date.is_empty() => {}
        Some(date) => field(out, b"Date", date),
        None => out.extend_from_slice(&r.worker.date_line()),
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Our own `Server` with the version.
pub(crate) const SERVER: &str = concat!("Server: moonrest/", env!("CARGO_PKG_VERSION"), "\r\n");

/// Our own `Server`.
fn server(r: &Request, out: &mut Vec<u8>) {
    match &r.loc().core.server_tokens {
        ServerTokens::On | ServerTokens::Build => out.extend_from_slice(SERVER.as_bytes()),
        ServerTokens::Off => out.extend_from_slice(b"Server: moonrest\r\n"),
        ServerTokens::Text(text) => {
            let value = text.eval(r);
            if !value.is_empty() {
                field(out, b"Server", &value);
            }
        }
    }
}

fn connection(r: &Request, core: &Core, status: u16, out: &mut Vec<u8>) {
    if status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        return;
    }
    if !r.keepalive.get() {
        out.extend_from_slice(b"Connection: close\r\n");
        return;
    }
    out.extend_from_slice(b"Connection: keep-alive\r\n");
    let seconds = core.keepalive_header;
    if seconds > 0 {
        let _ = write!(out, "Keep-Alive: timeout={seconds}\r\n");
    }
}

/// A path in `Location` becomes a URL of this server, if the location wants that; whether it did.
pub(super) fn make_location_absolute(r: &Request) -> bool {
    let path = match &r.out.borrow().location {
        Some(path) if path.starts_with(b"/") && r.loc().core.absolute_redirect => path.clone(),
        _ => return false,
    };
    let core = &r.loc().core;
    let tls = r.is_tls();
    let mut url = Vec::with_capacity(path.len() + 64);
    url.extend_from_slice(if tls { b"https://" } else { b"http://" });
    let host = r.host.borrow();
    if core.server_name_in_redirect {
        url.extend_from_slice(&r.srv().name);
    } else if host.is_empty() {
        r.with_local(|addr| append_local_host(addr, &mut url));
    } else {
        url.extend_from_slice(&host);
    }
    if core.port_in_redirect {
        let port = r.with_local(moonrest_net::addr::Addr::port);
        if port != 0 && port != if tls { 443 } else { 80 } {
            url.push(b':');
            decimal::append(&mut url, u64::from(port));
        }
    }
    url.extend_from_slice(&path);
    r.out.borrow_mut().location = Some(url.into());
    true
}

/// The address that the connection arrived at, as it stands in a URL.
fn append_local_host(addr: &Addr, out: &mut Vec<u8>) {
    match addr {
        Addr::Inet(_) => addr.append_text(out),
        Addr::Unix(_) => addr.append_with_port(out),
    }
}

/// How the body will be delimited; decides about keep-alive where the body's end must be the connection's.
pub(crate) fn delimit(r: &Request) -> Delimited {
    let out = r.out.borrow();
    if out.status == 101 || (r.method.get() == Method::Connect && out.status < 300) {
        // Another protocol follows.
        return Delimited::Close;
    }
    if r.header_only.get() || out.content_length.is_some() && !out.expect_trailers {
        return Delimited::Length;
    }
    drop(out);
    if r.version.get() == Version::Http11 && r.loc().core.chunked_transfer_encoding {
        r.out.borrow_mut().content_length = None;
        return Delimited::Chunked;
    }
    if r.out.borrow().content_length.is_some() {
        return Delimited::Length;
    }
    r.keepalive.set(false);
    Delimited::Close
}

macro_rules! status_lines {
    ($($status:literal $reason:literal)*) => {
        /// The status line as nginx sends it.
        fn status_line(status: u16) -> Option<&'static str> {
            Some(match status {
                $($status => concat!("HTTP/1.1 ", $status, " ", $reason, "\r\n"),)*
                _ => return None,
            })
        }

        /// Code and reason as nginx sends them.
        pub(crate) fn reason(status: u16) -> Option<&'static str> {
            Some(match status {
                $($status => concat!($status, " ", $reason),)*
                _ => return None,
            })
        }
    };
}

status_lines! {
    100 "Continue"
    101 "Switching Protocols"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    204 "No Content"
    206 "Partial Content"
    301 "Moved Permanently"
    302 "Moved Temporarily"
    303 "See Other"
    304 "Not Modified"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Time-out"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Request Entity Too Large"
    414 "Request-URI Too Large"
    415 "Unsupported Media Type"
    416 "Requested Range Not Satisfiable"
    421 "Misdirected Request"
    429 "Too Many Requests"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Temporarily Unavailable"
    504 "Gateway Time-out"
    505 "HTTP Version Not Supported"
    507 "Insufficient Storage"
}
