//! Heads of upstreams' answers, and where their bodies end. RFC 9112, 4 and 6.3. Upstreams are as untrusted as clients:
//! what cannot be read in one way only is refused, which the caller answers with 502.

use super::field::{Field, FieldLine, Fields, Known, parse_line};
use super::framing::{options, parse_length};
use super::head::Parse;
use super::method::{Method, Version};
use super::scan::{TextEnd, text_end};
use crate::Span;

/// A parsed response head. Spans point into the buffer that was parsed; reuse the value to reuse its memory.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 1.0 or 1.1.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    /// Status and reason as sent: `404 Not Found`.
    pub status_line: Span,
    /// The reason, perhaps empty.
    pub reason: Span,
    /// The header fields in the order sent. Names with odd characters are among them; `Fields::filter` removes them.
    pub fields: Fields,
    at: usize,
    resume: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    StatusLine,
    Fields,
    Done,
}

/// Why a response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// No status line of HTTP/1.0 or 1.1.
    InvalidStatusLine,
    /// A header line that breaks the grammar: from where to the byte that does.
    InvalidHeader {
        line: usize,
        at: usize,
    },
    /// More fields than can be indexed.
    TooManyHeaders,
    DuplicateField {
        field: Field,
        previous: Field,
    },
    InvalidContentLength {
        field: Field,
    },
    LengthAndCoding,
    CodingInHttp10,
    UnknownCoding {
        field: Field,
    },
}

impl ResponseError {
    /// nginx's message for the error log, level error.
    #[must_use]
    pub fn log_message(&self, buf: &[u8]) -> String {
        let text = |span: Span| String::from_utf8_lossy(span.of(buf)).into_owned();
        let pair = |field: Field| format!("\"{}: {}\"", text(field.name), text(field.value));
        match *self {
            Self::InvalidStatusLine => "upstream sent no valid HTTP/1.0 header".to_owned(),
            Self::InvalidHeader { line, at } => {
                let text = String::from_utf8_lossy(buf.get(line..at).unwrap_or_default());
                let byte = buf.get(at).copied().unwrap_or_default();
                format!("upstream sent invalid header: \"{text}\\x{byte:02x}...\"")
            }
            Self::TooManyHeaders => "upstream sent too many header lines".to_owned(),
            Self::DuplicateField { field, previous } => {
                format!(
                    "upstream sent duplicate header line: {}, previous value: {}",
                    pair(field),
                    pair(previous)
                )
            }
            Self::InvalidContentLength { field } => {
                format!("upstream sent invalid \"Content-Length\" header: {}", pair(field))
            }
            Self::LengthAndCoding => {
                "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
                    .to_owned()
            }
            Self::CodingInHttp10 => {
                "upstream sent HTTP/1.0 response with \"Transfer-Encoding\" header".to_owned()
            }
            Self::UnknownCoding { field } => {
                format!("upstream sent unknown \"Transfer-Encoding\": \"{}\"", text(field.value))
            }
        }
    }
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseHead {
    /// An empty head, ready to parse.
    #[must_use]
    pub fn new() -> Self {
        Self::reusing(Vec::new())
    }

    /// The same, with memory that another head had.
    #[must_use]
    pub fn reusing(memory: Vec<Field>) -> Self {
        Self {
            version: Version::Http10,
            status: 0,
            status_line: Span::default(),
            reason: Span::default(),
            fields: Fields::reusing(memory),
            at: 0,
            resume: 0,
            stage: Stage::Fresh,
        }
    }

    /// Gives the memory of a head that is no longer needed.
    pub fn memory(&mut self) -> Vec<Field> {
        self.fields.take()
    }

    /// Makes it the same as another one, keeping its memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.version = other.version;
        self.status = other.status;
        self.status_line = other.status_line;
        self.reason = other.reason;
        self.fields.copy_from(&other.fields);
        self.at = other.at;
        self.resume = other.resume;
        self.stage = other.stage;
    }

    /// Makes it ready for the next response, keeping its memory. `parse` does so itself after `Complete` or an error.
    pub fn reset(&mut self) {
        self.version = Version::Http10;
        self.status = 0;
        self.status_line = Span::default();
        self.reason = Span::default();
        self.fields.clear();
        self.at = 0;
        self.resume = 0;
        self.stage = Stage::Fresh;
    }

    /// Whether nothing was parsed since it was made or reset.
    #[inline]
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.stage == Stage::Fresh
    }

    /// Parses `buf`, which holds the response from its first byte. After `Partial`, call again with the same bytes and
    /// more behind them; how many there may be is the caller's limit. An interim response ([`Self::is_interim`]) is
    /// complete in itself: the next head follows it.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Parse, ResponseError> {
        if buf.len() > i32::MAX as usize {
            return Err(ResponseError::TooManyHeaders);
        }
        let result = self.advance(buf);
        if result != Ok(Parse::Partial) {
            self.stage = Stage::Done;
        }
        result
    }

    fn advance(&mut self, buf: &[u8]) -> Result<Parse, ResponseError> {
        if matches!(self.stage, Stage::Fresh | Stage::Done) {
            if self.stage == Stage::Done {
                self.reset();
            }
            self.fields.reserve();
            self.stage = Stage::StatusLine;
        } else if memchr::memchr3(b'\n', b'\r', 0, buf.get(self.resume..).unwrap_or_default()).is_none()
            && self.resume > self.at + "HTTP/1.1 200".len()
        {
            // The line is still not whole, and what it begins with has been checked.
            self.resume = buf.len();
            return Ok(Parse::Partial);
        }
        if self.stage == Stage::StatusLine {
            let Some(next) = self.parse_status_line(buf)? else {
                self.resume = buf.len();
                return Ok(Parse::Partial);
            };
            self.at = next;
            self.stage = Stage::Fields;
        }
        let mut lines = buf.get(self.at..).unwrap_or_default();
        loop {
            match parse_line::<true>(buf, lines) {
                FieldLine::Field(field, next) => {
                    self.fields.push(field);
                    lines = next;
                    self.at = buf.len() - next.len();
                }
                FieldLine::End(rest) => {
                    if self.fields.len() > Fields::MAX {
                        return Err(ResponseError::TooManyHeaders);
                    }
                    return Ok(Parse::Complete { len: buf.len() - rest.len() });
                }
                FieldLine::Partial => {
                    self.resume = buf.len();
                    return Ok(Parse::Partial);
                }
                FieldLine::Bad(at) => return Err(ResponseError::InvalidHeader { line: self.at, at }),
            }
        }
    }

    /// `HTTP/1.x`, one space, three digits, then a space and a reason or nothing; gives the offset of the next line.
    fn parse_status_line(&mut self, buf: &[u8]) -> Result<Option<usize>, ResponseError> {
        const START: &[u8] = b"HTTP/1.";
        let Some((start, rest)) = buf.split_first_chunk::<7>() else {
            return if START.starts_with(buf) { Ok(None) } else { Err(ResponseError::InvalidStatusLine) };
        };
        if start != START {
            return Err(ResponseError::InvalidStatusLine);
        }
        // Each byte must fit its place, so that a wrong one is noticed before the line is whole.
        for (byte, is_digit) in rest.iter().zip([true, false, true, true, true]) {
            if byte.is_ascii_digit() != is_digit || (!is_digit && *byte != b' ') {
                return Err(ResponseError::InvalidStatusLine);
            }
        }
        let Some((&[minor, _, a, b, c], rest)) = rest.split_first_chunk() else { return Ok(None) };
        self.version = if minor == b'0' { Version::Http10 } else { Version::Http11 };
        self.status = [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        if self.status < 100 {
            return Err(ResponseError::InvalidStatusLine);
        }
        let code = "HTTP/1.1 ".len();
        let reason = match rest {
            [b' ', reason @ ..] => reason,
            [] | [b'\r' | b'\n', ..] => rest,
            _ => return Err(ResponseError::InvalidStatusLine),
        };
        match text_end::<true>(reason, buf) {
            TextEnd::At(text, next) => {
                let from = buf.len() - reason.len();
                self.reason = Span::new(from, from + text.len());
                self.status_line = Span::new(code, from + text.len());
                Ok(Some(buf.len() - next.len()))
            }
            TextEnd::Partial => Ok(None),
            TextEnd::Bad(_) => Err(ResponseError::InvalidStatusLine),
        }
    }

    /// Another head follows this one: 1xx, but for 101, which ends HTTP on the connection (RFC 9110, 15.2).
    #[inline]
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none, whatever the fields say.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// The end of the connection is its end.
    UntilClose,
    /// What follows is not HTTP: 101, or the answer to CONNECT. Whether it was asked for is the caller's to check.
    Tunnel,
}

/// What a response says about its body and its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFraming {
    /// The body.
    pub body: ResponseBody,
    /// The length announced, which the answer to HEAD and 304 have without a body.
    pub content_length: Option<u64>,
    /// After the body, the connection can be used again.
    pub keep_alive: bool,
    /// `Connection` has the option `upgrade`, and there is an `Upgrade` field.
    pub upgrade: bool,
}

/// Decides on body and connection of the response to a request with `method` (RFC 9112, 6.3).
pub fn response_framing(
    head: &ResponseHead,
    buf: &[u8],
    method: Method,
) -> Result<ResponseFraming, ResponseError> {
    for known in [Known::ContentLength, Known::TransferEncoding] {
        if head.fields.is_repeated(known) {
            let mut all = head.fields.all(known);
            if let (Some(previous), Some(field)) = (all.next(), all.next()) {
                return Err(ResponseError::DuplicateField { field: *field, previous: *previous });
            }
        }
    }
    let content_length = match head.fields.first(Known::ContentLength) {
        None => None,
        Some(field) => match parse_length(field.value.of(buf)) {
            None => return Err(ResponseError::InvalidContentLength { field: *field }),
            length => length,
        },
    };
    let is_chunked = match head.fields.first(Known::TransferEncoding) {
        None => false,
        Some(_) if content_length.is_some() => return Err(ResponseError::LengthAndCoding),
        Some(_) if head.version < Version::Http11 => return Err(ResponseError::CodingInHttp10),
        Some(field) if field.value.of(buf).eq_ignore_ascii_case(b"chunked") => true,
        Some(field) => return Err(ResponseError::UnknownCoding { field: *field }),
    };
    let body = match head.status {
        101 => ResponseBody::Tunnel,
        200..=299 if method == Method::Connect => ResponseBody::Tunnel,
        100..=199 | 204 | 304 => ResponseBody::None,
        _ if method == Method::Head => ResponseBody::None,
        _ if is_chunked => ResponseBody::Chunked,
        _ => content_length.map_or(ResponseBody::UntilClose, ResponseBody::Length),
    };
    let mut close = head.version < Version::Http11;
    let mut upgrade = false;
    for field in head.fields.all(Known::Connection) {
        let value = field.value.of(buf);
        // What nearly all of them say.
        if value == b"keep-alive" || value.eq_ignore_ascii_case(b"keep-alive") {
            continue;
        }
        for option in options(value) {
            close |= option.eq_ignore_ascii_case(b"close");
            upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
    let delimited = !matches!(body, ResponseBody::UntilClose | ResponseBody::Tunnel);
    Ok(ResponseFraming {
        body,
        content_length,
        keep_alive: delimited && !close,
        upgrade: upgrade && head.fields.index_of(Known::Upgrade).is_some(),
    })
}
