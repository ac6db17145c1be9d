//! Serialises HTTP/1 response heads, in nginx's order of fields.

use crate::{
    core::{Core, ServerTokens},
    decimal,
    request::Request,
    response::HeadersOut,
};
use moonrest_net::addr::Addr;
use moonrest_proto::http1::{Method, Version};

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

/// The status line of an interim response, with its break.
pub(super) fn interim_line(status: u16) -> [&'static str; 2] {
    [status_line(status).unwrap_or("HTTP/1.1 100 Continue"), "\r\n"]
}

/// Appends the head of the request's response; `absolute` tells that `Location` was made a URL of this server.
/// Each line but the first brings the break before it, so that name and break are written as one.
pub(crate) fn append(r: &Request, core: &Core, out: &mut Vec<u8>, delimited: Delimited, absolute: bool) {
    let head = &*r.out.borrow();
    out.reserve(ROOM);
    let ok = head.status == 200 && head.status_line.is_none();
    let ours = matches!(core.server_tokens, ServerTokens::On) && head.server.is_none() && head.date.is_none();
    match (ok, ours) {
        (true, true) => r.worker.append_ok(out),
        _ => append_start(r, head, ours, out),
    }
    if !head.content_type.is_empty() {
        line(out, b"\r\nContent-Type: ", &head.content_type);
        if let Some(charset) = head.charset_to_send() {
            line(out, b"; charset=", charset);
        }
    }
    if let Some(length) = head.content_length {
        out.extend_from_slice(b"\r\nContent-Length: ");
        decimal::append(out, length);
    }
    match (&head.last_modified_text, head.last_modified) {
        (Some(text), _) => line(out, LAST_MODIFIED, text),
        (None, Some(time)) => {
            out.extend_from_slice(LAST_MODIFIED);
            r.worker.append_file_time(time, out);
        }
        (None, None) => {}
    }
    if absolute && let Some(location) = &head.location {
        line(out, LOCATION, location);
    }
    if delimited == Delimited::Chunked {
        out.extend_from_slice(b"\r\nTransfer-Encoding: chunked");
    }
    connection(r, core, head.status, out);
    // nginx: what was not made absolute here is a field like others.
    if !absolute && let Some(location) = &head.location {
        line(out, LOCATION, location);
    }
    if let Some(etag) = &head.etag {
        line(out, b"\r\nETag: ", etag);
    }
    if let Some(encoding) = &head.content_encoding {
        line(out, b"\r\nContent-Encoding: ", encoding);
    }
    for other in &head.fields {
        line(out, b"\r\n", &other.name);
        line(out, b": ", &other.value);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Most heads fit in this.
const ROOM: usize = 512;

/// The status line of most answers.
pub(crate) const OK: &str = "HTTP/1.1 200 OK";
const LAST_MODIFIED: &[u8] = b"\r\nLast-Modified: ";
const LOCATION: &[u8] = b"\r\nLocation: ";

/// A break with the name behind it, and the value.
#[inline(always)]
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// Status line, `Server` and `Date`, where one of them is out of the ordinary.
fn append_start(r: &Request, head: &HeadersOut, ours: bool, out: &mut Vec<u8>) {
    match (&head.status_line, status_line(head.status)) {
        (None, Some(line)) => out.extend_from_slice(line.as_bytes()),
        (Some(text), _) => line(out, b"HTTP/1.1 ", text),
        (None, None) => {
            out.extend_from_slice(b"HTTP/1.1 ");
            decimal::append_three(out, u64::from(head.status));
            out.push(b' ');
        }
    }
    if ours {
        r.worker.append_server_and_date(out);
        return;
    }
    match &head.server {
        Some(name) if name.is_empty() => {}
        Some(name) => line(out, SERVER_NAME, name),
        None => server(r, out),
    }
    match &head.date {
        Some(date) if date.is_empty() => {}
        Some(date) => line(out, b"\r\nDate: ", date),
        None => r.worker.append_date(out),
    }
}

/// Our own `Server` with the version.
pub(crate) const SERVER: &str = concat!("\r\nServer: moonrest/", env!("CARGO_PKG_VERSION"));
const SERVER_NAME: &[u8] = b"\r\nServer: ";

/// Our own `Server`.
fn server(r: &Request, out: &mut Vec<u8>) {
    match &r.loc().core.server_tokens {
        ServerTokens::On | ServerTokens::Build => out.extend_from_slice(SERVER.as_bytes()),
        ServerTokens::Off => line(out, SERVER_NAME, b"moonrest"),
        ServerTokens::Text(text) => {
            let value = text.eval(r);
            if !value.is_empty() {
                line(out, SERVER_NAME, &value);
            }
        }
    }
}

fn connection(r: &Request, core: &Core, status: u16, out: &mut Vec<u8>) {
    if status == 101 {
        out.extend_from_slice(b"\r\nConnection: upgrade");
        return;
    }
    if !r.keepalive.get() {
        out.extend_from_slice(b"\r\nConnection: close");
        return;
    }
    out.extend_from_slice(b"\r\nConnection: keep-alive");
    let seconds = core.keepalive_header;
    if seconds > 0 {
        out.extend_from_slice(b"\r\nKeep-Alive: timeout=");
        decimal::append(out, seconds);
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
pub(crate) fn delimit(r: &Request, core: &Core) -> Delimited {
    let out = r.out.borrow();
    if out.status == 101 || (r.method.get() == Method::Connect && out.status < 300) {
        // Another protocol follows.
        return Delimited::Close;
    }
    if r.header_only.get() || out.content_length.is_some() && !out.expect_trailers {
        return Delimited::Length;
    }
    drop(out);
    if r.version.get() == Version::Http11 && core.chunked_transfer_encoding {
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
        /// The status line as nginx sends it, without its break.
        fn status_line(status: u16) -> Option<&'static str> {
            Some(match status {
                $($status => concat!("HTTP/1.1 ", $status, " ", $reason),)*
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
