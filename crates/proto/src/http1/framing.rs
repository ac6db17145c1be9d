//! Where a request's body ends, and what happens to the connection behind it. RFC 9112, 6 and 9; RFC 9110, 10.1.1.

use super::field::{Field, Known};
use super::head::RequestHead;
use super::method::{Method, Version};

/// How the body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// Exactly so many bytes; 0 if the client said so.
    Length(u64),
    /// The chunked coding.
    Chunked,
}

/// What the fields of a request say about its body and its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// The body.
    pub body: Body,
    /// The client allows another request on this connection (`Connection`, or the version if it is silent).
    pub keep_alive: bool,
    /// `Connection` has the option `close`.
    pub connection_close: bool,
    /// `Connection` has the option `keep-alive`.
    pub connection_keep_alive: bool,
    /// `Connection` has the option `upgrade`, and there is an `Upgrade` field.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// Why a request is refused before anything else is looked at. The connection must be closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    DuplicateHost { field: Field, previous: Field },
    DuplicateField { field: Field, previous: Field },
    MissingHost,
    InvalidContentLength,
    LengthAndCoding,
    CodingInHttp10,
    UnknownCoding { field: Field },
    Connect,
    ConnectWithBody,
    Trace,
}

impl FramingError {
    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownCoding { .. } => 501,
            Self::Connect | Self::Trace => 405,
            _ => 400,
        }
    }

    /// nginx's message for the error log, level info.
    #[must_use]
    pub fn log_message(&self, buf: &[u8]) -> String {
        let text = |span: crate::Span| String::from_utf8_lossy(span.of(buf)).into_owned();
        let pair = |field: Field| format!("\"{}: {}\"", text(field.name), text(field.value));
        match *self {
            Self::DuplicateHost { field, previous } => {
                format!(
                    "client sent duplicate host header: {}, previous value: {}",
                    pair(field),
                    pair(previous)
                )
            }
            Self::DuplicateField { field, previous } => {
                format!(
                    "client sent duplicate header line: {}, previous value: {}",
                    pair(field),
                    pair(previous)
                )
            }
            Self::MissingHost => "client sent HTTP/1.1 request without \"Host\" header".to_owned(),
            Self::InvalidContentLength => "client sent invalid \"Content-Length\" header".to_owned(),
            Self::LengthAndCoding => {
                "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time".to_owned()
            }
            Self::CodingInHttp10 => {
                "client sent HTTP/1.0 request with \"Transfer-Encoding\" header".to_owned()
            }
            Self::UnknownCoding { field } => {
                format!("client sent unknown \"Transfer-Encoding\": \"{}\"", text(field.value))
            }
            Self::Connect => "client sent CONNECT method".to_owned(),
            Self::ConnectWithBody => "client sent CONNECT request with body".to_owned(),
            Self::Trace => "client sent TRACE method".to_owned(),
        }
    }
}

/// Fields that nginx refuses to see twice.
const UNIQUE: u64 = Known::set(&[
    Known::Host,
    Known::IfModifiedSince,
    Known::IfUnmodifiedSince,
    Known::IfMatch,
    Known::IfNoneMatch,
    Known::ContentLength,
    Known::ContentRange,
    Known::IfRange,
    Known::TransferEncoding,
    Known::Expect,
    Known::Authorization,
    Known::ProxyAuthorization,
]);

/// Refuses a head in which a field stands twice that must not.
#[inline]
pub fn check_unique(head: &RequestHead) -> Result<(), FramingError> {
    if head.fields.repeated() & UNIQUE != 0 { Err(duplicate(head)) } else { Ok(()) }
}

/// Decides on body and connection of a completely parsed request; to be called after `RequestHead::filter`.
/// The value of `Host` is not checked here (`host::validate`), nor whether the method is allowed (`check_method`).
#[inline]
pub fn framing(head: &RequestHead, buf: &[u8]) -> Result<Framing, FramingError> {
    let plain = head.version == Version::Http11
        && head.fields.repeated() == 0
        && !head.fields.frames()
        && head.fields.index_of(Known::Host).is_some();
    if plain { Ok(Framing { keep_alive: true, ..Framing::default() }) } else { framing_of_any(head, buf) }
}

fn framing_of_any(head: &RequestHead, buf: &[u8]) -> Result<Framing, FramingError> {
    check_unique(head)?;
    if head.version >= Version::Http11 && head.fields.index_of(Known::Host).is_none() {
        return Err(FramingError::MissingHost);
    }
    let mut framing = Framing { body: body(head, buf)?, ..Framing::default() };
    if let Some(first) = head.field(Known::Connection) {
        read_connection(first.value.of(buf), &mut framing);
        if head.fields.is_repeated(Known::Connection) {
            head.fields
                .all(Known::Connection)
                .for_each(|field| read_connection(field.value.of(buf), &mut framing));
        }
        framing.upgrade &= head.fields.index_of(Known::Upgrade).is_some();
    }
    framing.keep_alive = match head.version {
        Version::Http11 | Version::Http2 => !framing.connection_close,
        Version::Http10 => framing.connection_keep_alive && !framing.connection_close,
        Version::Http09 => false,
    };
    if let Some(expect) = head.value(Known::Expect, buf) {
        // nginx: any other expectation is ignored, as is one from HTTP/1.0 (RFC 9110, 10.1.1).
        framing.expect_continue =
            head.version >= Version::Http11 && expect.eq_ignore_ascii_case(b"100-continue");
    }
    Ok(framing)
}

/// Adds what a `Connection` says.
fn read_connection(value: &[u8], framing: &mut Framing) {
    // What most clients send, alone.
    if matches!(value, b"keep-alive" | b"Keep-Alive") {
        framing.connection_keep_alive = true;
        return;
    }
    for option in options(value) {
        framing.connection_close |= option.eq_ignore_ascii_case(b"close");
        framing.connection_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        framing.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
}

fn body(head: &RequestHead, buf: &[u8]) -> Result<Body, FramingError> {
    let length = match head.value(Known::ContentLength, buf) {
        None => None,
        Some(value) => Some(parse_length(value).ok_or(FramingError::InvalidContentLength)?),
    };
    let Some(coding) = head.field(Known::TransferEncoding) else {
        return Ok(length.map_or(Body::None, Body::Length));
    };
    if head.version < Version::Http11 {
        return Err(FramingError::CodingInHttp10);
    }
    if !coding.value.of(buf).eq_ignore_ascii_case(b"chunked") {
        return Err(FramingError::UnknownCoding { field: *coding });
    }
    if length.is_some() {
        return Err(FramingError::LengthAndCoding);
    }
    Ok(Body::Chunked)
}

/// A length in digits that fits a file offset (RFC 9110, 8.6). No sign, no space, no list.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length = 0u64;
    for digit in value {
        if !digit.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// CONNECT and TRACE: refused with 405 unless `allow_connect` (a directive of nginx 1.29.3) says otherwise.
#[inline]
pub fn check_method(head: &RequestHead, framing: &Framing, allow_connect: bool) -> Result<(), FramingError> {
    match head.method {
        Method::Connect if head.version != Version::Http11 || !allow_connect => Err(FramingError::Connect),
        Method::Connect if !matches!(framing.body, Body::None | Body::Length(0)) => {
            Err(FramingError::ConnectWithBody)
        }
        Method::Trace => Err(FramingError::Trace),
        _ => Ok(()),
    }
}

#[cold]
fn duplicate(head: &RequestHead) -> FramingError {
    for (index, field) in head.fields.iter().enumerate() {
        if !field.known.is_in(UNIQUE) || head.fields.index_of(field.known) == Some(index) {
            continue;
        }
        if let Some(previous) = head.field(field.known) {
            let (field, previous) = (*field, *previous);
            return match field.known {
                Known::Host => FramingError::DuplicateHost { field, previous },
                _ => FramingError::DuplicateField { field, previous },
            };
        }
    }
    FramingError::InvalidContentLength
}

/// The elements of a comma-separated list without the white space around them; empty ones are left out
/// (RFC 9110, 5.6.1).
pub fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}
