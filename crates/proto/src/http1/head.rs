//! Request heads: request line and header fields, parsed from one contiguous buffer, again and again as it fills.
//! RFC 9112, 2.2, 3 and 5; where nginx is more lenient and it is harmless, as nginx.
//!
//! ```
//! use moonrest_proto::http1::{HeadLimits, Parse, RequestHead};
//! let mut head = RequestHead::new();
//! let buf = b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! assert_eq!(head.parse(buf, &HeadLimits::default()), Ok(Parse::Complete { len: buf.len() }));
//! assert_eq!(head.path.of(buf), b"/a");
//! assert_eq!(head.args.of(buf), b"b=c");
//! ```

use super::field::{Field, FieldLine, FieldRules, Fields, Known, parse_line};
use super::limits::{HeadLimits, LineBudget};
use super::method::{Method, Version};
use super::request_line;
use crate::Span;

/// A parsed request head. Spans point into the buffer that was parsed; reuse the value to reuse its memory.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method, if it is one of those with a name.
    pub method: Method,
    /// The method as sent.
    pub method_name: Span,
    /// The target as `$request_uri` shows it: without scheme and host of an absolute target.
    pub target: Span,
    /// The path before `?` and `#`, not decoded; empty if `empty_path`.
    pub path: Span,
    /// The arguments between `?` and `#`.
    pub args: Span,
    /// The path's extension (behind its last dot); meaningful unless `complex`.
    pub ext: Span,
    /// There was a `?`, perhaps with nothing behind it.
    pub has_args: bool,
    /// The path must be normalised (`uri::normalize`) before it is used: it has `%`, `//` or `/.`, is empty, or a
    /// fragment follows.
    pub complex: bool,
    /// The path has a `%`.
    pub quoted: bool,
    /// The path has a `+`.
    pub plus: bool,
    /// An absolute target without a path but with arguments (`http://host?args`): the path is `/`.
    pub empty_path: bool,
    /// The scheme of an absolute target.
    pub scheme: Span,
    /// Host and port of an absolute target or of CONNECT; to be checked with `host::validate`.
    pub host: Span,
    /// `host` was there, even if empty.
    pub has_host: bool,
    /// The version as far as it matters.
    pub version: Version,
    /// The version as sent (`$server_protocol`); empty for HTTP/0.9.
    pub protocol: Span,
    /// The request line without its line break.
    pub line: Span,
    /// The header fields in the order sent.
    pub fields: Fields,
    stage: Stage,
    start: usize,
    at: usize,
    resume: usize,
    budget: LineBudget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    RequestLine,
    Fields,
    Done,
}

/// A partial line of up to this length is parsed again whenever bytes arrive, so that garbage is answered at once;
/// a longer one only when its end may have come, so that a slow sender does not cost quadratic time.
const EAGER: usize = 64;

/// How far the parser came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// The head ends at `len`; what follows is the body or the next request.
    Complete {
        /// Bytes of the buffer that belong to the head, blank lines before it included.
        len: usize,
    },
    /// More bytes are needed.
    Partial,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    InvalidMethod,
    InvalidRequest,
    InvalidVersion,
    InvalidMethodInHttp09,
    /// A header line that breaks the grammar: from where to the byte that does.
    InvalidHeader {
        line: usize,
        at: usize,
    },
    /// The request line does not fit into one of the buffers.
    TooLongUri,
    /// A header line does not fit, or there is no buffer left for it: where it starts.
    TooLongHeader {
        line: usize,
    },
    /// No buffer is left for the first header line.
    TooLargeRequest,
    /// More than `max_headers`.
    TooManyHeaders,
}

impl HeadError {
    /// The status to answer with; 494 is nginx's own and goes out as 400.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidMethod
            | Self::InvalidRequest
            | Self::InvalidMethodInHttp09
            | Self::InvalidHeader { .. } => 400,
            Self::InvalidVersion => 505,
            Self::TooLongUri => 414,
            Self::TooLongHeader { .. } | Self::TooLargeRequest | Self::TooManyHeaders => 494,
        }
    }

    /// What the connection was doing, as nginx words it: it follows the message behind "while".
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::InvalidMethod
            | Self::InvalidRequest
            | Self::InvalidVersion
            | Self::InvalidMethodInHttp09
            | Self::TooLongUri => "reading client request line",
            _ => "reading client request headers",
        }
    }

    /// nginx's message for the error log, level info.
    #[must_use]
    pub fn log_message(&self, buf: &[u8]) -> String {
        match *self {
            Self::InvalidMethod => "client sent invalid method".to_owned(),
            Self::InvalidRequest => "client sent invalid request".to_owned(),
            Self::InvalidVersion => "client sent invalid version".to_owned(),
            Self::InvalidMethodInHttp09 => "client sent invalid method in HTTP/0.9 request".to_owned(),
            Self::InvalidHeader { line, at } => {
                let text = String::from_utf8_lossy(buf.get(line..at).unwrap_or_default());
                let byte = buf.get(at).copied().unwrap_or_default();
                format!("client sent invalid header line: \"{text}\\x{byte:02x}...\"")
            }
            Self::TooLongUri => "client sent too long URI".to_owned(),
            Self::TooLongHeader { line } => {
                let rest = buf.get(line..).unwrap_or_default();
                let text = String::from_utf8_lossy(rest.get(..1748).unwrap_or(rest));
                format!("client sent too long header line: \"{text}...\"")
            }
            Self::TooLargeRequest => "client sent too large request".to_owned(),
            Self::TooManyHeaders => "client sent too many header lines".to_owned(),
        }
    }
}

impl Default for RequestHead {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestHead {
    /// An empty head, ready to parse.
    #[must_use]
    pub fn new() -> Self {
        Self {
            method: Method::Other,
            method_name: Span::default(),
            target: Span::default(),
            path: Span::default(),
            args: Span::default(),
            ext: Span::default(),
            has_args: false,
            complex: false,
            quoted: false,
            plus: false,
            empty_path: false,
            scheme: Span::default(),
            host: Span::default(),
            has_host: false,
            version: Version::Http09,
            protocol: Span::default(),
            line: Span::default(),
            fields: Fields::default(),
            stage: Stage::Fresh,
            start: 0,
            at: 0,
            resume: 0,
            budget: LineBudget::default(),
        }
    }

    /// Makes it ready for the next request, keeping its memory. `parse` does so itself after `Complete` or an error.
    #[inline]
    pub fn reset(&mut self) {
        self.fields.clear();
        self.stage = Stage::Fresh;
        self.reset_line();
    }

    #[inline]
    fn reset_line(&mut self) {
        self.method = Method::Other;
        self.method_name = Span::default();
        self.version = Version::Http09;
        self.target = Span::default();
        self.path = Span::default();
        self.args = Span::default();
        self.ext = Span::default();
        self.has_args = false;
        self.complex = false;
        self.quoted = false;
        self.plus = false;
        self.empty_path = false;
        self.scheme = Span::default();
        self.host = Span::default();
        self.has_host = false;
        self.protocol = Span::default();
        self.line = Span::default();
    }

    /// Parses `buf`, which holds the request from its first byte. After `Partial`, call again with the same bytes and
    /// more behind them (the buffer may have moved). What was parsed completely is not looked at again.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse, HeadError> {
        if buf.len() > i32::MAX as usize {
            return Err(HeadError::TooLargeRequest);
        }
        let result = self.advance(buf, limits);
        if result != Ok(Parse::Partial) {
            self.stage = Stage::Done;
        }
        result
    }

    /// Parses a request line alone, which is all of `buf`; its fields follow as [`Self::push`] writes them. `false`
    /// when that is no line, or more than one.
    pub fn parse_line(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        self.reset();
        self.stage = Stage::Done;
        (self.at, self.resume) = (0, 0);
        Ok(self.parse_request_line(buf)? == Some(buf.len()))
    }

    #[inline(always)]
    fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse, HeadError> {
        if matches!(self.stage, Stage::Fresh | Stage::Done) {
            if self.stage == Stage::Done {
                self.reset();
            }
            self.budget = LineBudget::default();
            self.at = 0;
            self.resume = 0;
            self.stage = Stage::RequestLine;
        } else if !self.line_may_be_whole(buf) {
            return self.wait(buf, limits);
        }

        if self.stage == Stage::RequestLine {
            let Some(next) = self.parse_request_line(buf)? else { return self.wait(buf, limits) };
            self.budget = LineBudget::new(self.start, limits);
            self.budget.charge(self.start, next, limits).map_err(|_| HeadError::TooLongUri)?;
            self.at = next;
            if self.version == Version::Http09 {
                return Ok(Parse::Complete { len: next });
            }
            self.stage = Stage::Fields;
        }
        self.parse_fields(buf, limits)
    }

    #[inline(always)]
    fn parse_request_line(&mut self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        // A server should ignore empty lines before the request line: RFC 9112, 2.2.
        loop {
            match buf.get(self.at) {
                Some(b'\n') => self.at += 1,
                Some(b'\r') => match buf.get(self.at + 1) {
                    Some(b'\n') => self.at += 2,
                    Some(_) => return Err(HeadError::InvalidMethod),
                    None => return Ok(None),
                },
                _ => break,
            }
        }
        self.start = self.at;
        if self.resume != 0 {
            self.reset_line(); // what an earlier attempt left
        }
        request_line::parse(buf, self.start, self)
    }

    #[inline(always)]
    fn parse_fields(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse, HeadError> {
        let mut lines = buf.get(self.at..).unwrap_or_default();
        loop {
            let parsed = parse_line::<true>(buf, lines);
            let at = buf.len() - lines.len();
            match parsed {
                FieldLine::Field(field, next) => {
                    if self.budget.charge(at, buf.len() - next.len(), limits).is_err() {
                        return Err(self.no_room(at));
                    }
                    self.fields.push(field);
                    lines = next;
                }
                FieldLine::End(rest) => {
                    let next = buf.len() - rest.len();
                    if self.budget.charge(at, next, limits).is_err() {
                        return Err(self.no_room(at));
                    }
                    self.at = next;
                    if self.fields.len() > Fields::MAX {
                        return Err(HeadError::TooManyHeaders);
                    }
                    return Ok(Parse::Complete { len: next });
                }
                FieldLine::Partial => {
                    self.at = at;
                    return self.wait(buf, limits);
                }
                FieldLine::Bad(bad) => return Err(HeadError::InvalidHeader { line: at, at: bad }),
            }
        }
    }

    /// Whether it is worth parsing the unfinished line again.
    fn line_may_be_whole(&self, buf: &[u8]) -> bool {
        if self.resume.saturating_sub(self.at) < EAGER {
            return true;
        }
        memchr::memchr3(b'\n', b'\r', 0, buf.get(self.resume..).unwrap_or_default()).is_some()
    }

    #[cold]
    fn wait(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse, HeadError> {
        self.resume = buf.len();
        if self.stage == Stage::RequestLine {
            self.budget = LineBudget::new(self.at, limits);
        }
        if self.budget.has_room_for_more(self.at, buf.len().max(self.at), limits).is_err() {
            return Err(self.no_room(self.at));
        }
        Ok(Parse::Partial)
    }

    #[cold]
    fn no_room(&self, line: usize) -> HeadError {
        match self.stage {
            Stage::Fields if self.fields.is_empty() && self.budget.is_used_up_at(line) => {
                HeadError::TooLargeRequest
            }
            Stage::Fields => HeadError::TooLongHeader { line },
            _ => HeadError::TooLongUri,
        }
    }

    /// Offset of the request line: blank lines before it are no part of `$request_length`.
    #[inline]
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// After `Partial`: nothing but blank lines has come, which the caller may drop (and then `reset`).
    #[must_use]
    pub fn is_blank(&self, buf: &[u8]) -> bool {
        self.stage == Stage::RequestLine && self.at >= buf.len()
    }

    /// After `Partial`: where the unfinished line starts.
    #[must_use]
    pub fn unfinished_line(&self) -> usize {
        self.at
    }

    /// After `Partial`: the request line has been read, header lines are awaited.
    #[must_use]
    pub fn has_request_line(&self) -> bool {
        self.stage == Stage::Fields
    }

    /// The first field of this name.
    #[inline]
    #[must_use]
    pub fn field(&self, known: Known) -> Option<&Field> {
        self.fields.first(known)
    }

    /// The value of the first field of this name.
    #[inline]
    #[must_use]
    pub fn value<'b>(&self, known: Known, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.fields.value(known, buf)
    }

    /// Removes the fields that `rules` do not accept, telling `dropped` of each, and checks their number: what nginx
    /// does with `ignore_invalid_headers`, `underscores_in_headers` and `max_headers`. A dropped one is logged as
    /// `client sent invalid header line: "…"` with [`Field::line`].
    pub fn filter(
        &mut self,
        rules: FieldRules,
        max_headers: usize,
        dropped: impl FnMut(&Field),
    ) -> Result<(), HeadError> {
        self.fields.filter(rules, dropped);
        if self.fields.len() > max_headers {
            return Err(HeadError::TooManyHeaders);
        }
        Ok(())
    }
}
