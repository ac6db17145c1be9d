//! `log_format`: compiled to pieces once, then appended to a line without intermediate copies.

use moonrest_http::{decimal, prelude::*};
use moonrest_proto::{escape, http1::Version};
use moonrest_sys::time;

/// What the format without a name of its own is called.
pub(super) const COMBINED: &[u8] = b"combined";
const COMBINED_TEXT: &[u8] =
    b"$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
    \"$http_referer\" \"$http_user_agent\"";

/// One `log_format`.
#[derive(Debug)]
pub(super) struct Format {
    pieces: Box<[Piece]>,
    escape: Escape,
}

#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    Own(Own),
    Variable(VarId),
}

/// Values that are taken from the request directly. nginx: their names are compared with case, unlike variables'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Pipe,
    TimeLocal,
    TimeIso8601,
    Msec,
    RequestTime,
    Status,
    BytesSent,
    BodyBytesSent,
    RequestLength,
}

impl Own {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"pipe" => Self::Pipe,
            b"time_local" => Self::TimeLocal,
            b"time_iso8601" => Self::TimeIso8601,
            b"msec" => Self::Msec,
            b"request_time" => Self::RequestTime,
            b"status" => Self::Status,
            b"bytes_sent" => Self::BytesSent,
            b"body_bytes_sent" => Self::BodyBytesSent,
            b"request_length" => Self::RequestLength,
            _ => return None,
        })
    }

    fn append(self, r: &Request, line: &mut Vec<u8>) {
        match self {
            Self::Pipe => line.push(if r.pipelined.get() { b'p' } else { b'.' }),
            Self::TimeLocal => line.extend_from_slice(&r.worker.local_times().log),
            Self::TimeIso8601 => line.extend_from_slice(&r.worker.local_times().iso8601),
            Self::Msec => {
                let now = time::wall();
                decimal::append_millis(line, now.secs.unsigned_abs() * 1000 + u64::from(now.millis()));
            }
            Self::RequestTime => {
                let ms = time::monotonic_ms().saturating_sub(r.started_ms.get());
                decimal::append_millis(line, ms);
            }
            Self::Status => decimal::append_three(line, u64::from(status(r))),
            Self::BytesSent => decimal::append(line, r.exchange.bytes_sent()),
            Self::BodyBytesSent => {
                decimal::append(line, r.exchange.bytes_sent().saturating_sub(r.header_size.get()));
            }
            Self::RequestLength => decimal::append(line, r.request_length.get()),
        }
    }
}

/// nginx: the status that `error_page` chose, the response's, 9 for an answer of HTTP/0.9 without one, or 0.
fn status(r: &Request) -> u16 {
    match (r.error_status.get(), r.out().status) {
        (0, 0) if r.version.get() == Version::Http09 => 9,
        (0, status) => status,
        (error, _) => error,
    }
}

/// `escape=` of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Default,
    Json,
    None,
}

impl Escape {
    fn named(name: &[u8]) -> ConfResult<Self> {
        match name {
            b"default" => Ok(Self::Default),
            b"json" => Ok(Self::Json),
            b"none" => Ok(Self::None),
            other => Err(Fault::message(format!(
                "unknown log format escaping \"{}\"",
                String::from_utf8_lossy(other)
            ))),
        }
    }

    /// Escapes what was appended from `start` on; bytes beyond ASCII only if `non_ascii` says so.
    fn apply(self, non_ascii: bool, line: &mut Vec<u8>, start: usize) {
        let classes = match self {
            Self::Default if non_ascii => SPECIAL | DELETE | BEYOND_ASCII,
            Self::Default => SPECIAL | DELETE,
            Self::Json => SPECIAL,
            Self::None => return,
        };
        let value = line.get(start..).unwrap_or_default();
        // Most values have nothing to escape, which is found out without a branch per byte.
        if is_plain(value) || value.iter().fold(0, |seen, byte| seen | class(*byte)) & classes == 0 {
            return;
        }
        let Some(at) = value.iter().position(|byte| class(*byte) & classes != 0) else { return };
        let rest = line.split_off(start + at);
        match self {
            Self::Json => escape::json(&rest, line),
            _ => hex_escape(&rest, classes, line),
        }
    }
}

/// Quotes, backslashes and control characters below the space.
const SPECIAL: u8 = 1;
const DELETE: u8 = 2;
const BEYOND_ASCII: u8 = 4;

/// What a byte is, from a table: every byte of every value is asked for.
#[inline]
fn class(byte: u8) -> u8 {
    #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
    static CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            classes[byte] = match byte as u8 {
                ..b' ' | b'"' | b'\\' => SPECIAL,
                0x7f => DELETE,
                0x80.. => BEYOND_ASCII,
                _ => 0,
            };
            byte += 1;
        }
        classes
    };
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Whether all bytes are printable ASCII but for quotes and backslashes, as far as eight of them show at once.
#[inline]
fn is_plain(value: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Flags, as the highest bit of a byte, those that are special: a borrow or a carry only adds to them.
    let special = |word: u64| {
        let zero = |word: u64| word.wrapping_sub(ONES);
        let controls = word.wrapping_sub(ONES * 0x20);
        let quotes = zero(word ^ (ONES * 0x22));
        let backslashes = zero(word ^ (ONES * 0x5c));
        let deletes = zero(word ^ (ONES * 0x7f));
        (word | controls | quotes | backslashes | deletes) & HIGH
    };
    let mut chunks = value.chunks_exact(8);
    let seen = chunks.by_ref().fold(0, |seen, chunk| match chunk.first_chunk() {
        Some(bytes) => seen | special(u64::from_ne_bytes(*bytes)),
        None => HIGH,
    });
    seen == 0 && chunks.remainder().iter().fold(0, |seen, byte| seen | class(*byte)) == 0
}

/// `\xHH` for the bytes of these classes.
fn hex_escape(value: &[u8], classes: u8, line: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| HEX.get(usize::from(n & 15)).copied().unwrap_or(b'0');
    for &byte in value {
        if class(byte) & classes != 0 {
            line.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte)]);
        } else {
            line.push(byte);
        }
    }
}

impl Format {
    /// Compiles the arguments of `log_format` from number `from` on; `reference` numbers variables by name.
    ///
    /// # Errors
    /// nginx's `unknown log format escaping "x"`, `invalid parameter "x"` and `the closing bracket in "x" variable is
    /// missing`.
    pub(super) fn compile<'t>(
        texts: impl IntoIterator<Item = &'t [u8]>,
        reference: impl FnMut(&str) -> VarId,
    ) -> ConfResult<Self> {
        let mut texts = texts.into_iter().peekable();
        let mut escape = Escape::Default;
        if let Some(name) = texts.peek().and_then(|text| text.strip_prefix(b"escape=")) {
            escape = Escape::named(name)?;
            texts.next();
        }
        let mut parser = Parser { pieces: Vec::new(), literal: Vec::new(), reference };
        for text in texts {
            parser.parse(text)?;
        }
        parser.seal();
        Ok(Self { pieces: parser.pieces.into(), escape })
    }

    /// The predefined format.
    ///
    /// # Errors
    /// None; its text is well-formed.
    pub(super) fn combined(reference: impl FnMut(&str) -> VarId) -> ConfResult<Self> {
        Self::compile([COMBINED_TEXT], reference)
    }

    /// Appends the line for a request, without its line feed. Bytes of values beyond ASCII are escaped if `non_ascii`
    /// says so.
    pub(super) fn append(&self, r: &Request, non_ascii: bool, line: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text),
                Piece::Own(own) => own.append(r, line),
                Piece::Variable(id) => {
                    let start = line.len();
                    if r.vars().append(r, *id, line) {
                        self.escape.apply(non_ascii, line, start);
                        continue;
                    }
                    line.truncate(start);
                    if self.escape == Escape::Default {
                        line.push(b'-');
                    }
                }
            }
        }
    }
}

/// Takes the texts of one format apart. Literal text that spans several arguments becomes one piece.
struct Parser<R> {
    pieces: Vec<Piece>,
    literal: Vec<u8>,
    reference: R,
}

impl<R: FnMut(&str) -> VarId> Parser<R> {
    fn seal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.literal).into()));
        }
    }

    fn parse(&mut self, text: &[u8]) -> ConfResult {
        let mut rest = text;
        loop {
            let Some(at) = memchr::memchr(b'$', rest) else {
                self.literal.extend_from_slice(rest);
                return Ok(());
            };
            let (literal, variable) = rest.split_at(at);
            self.literal.extend_from_slice(literal);
            let (name, after) = variable_name(variable)?;
            self.seal();
            let piece = match Own::named(name) {
                Some(own) => Piece::Own(own),
                None => Piece::Variable((self.reference)(std::str::from_utf8(name).unwrap_or_default())),
            };
            self.pieces.push(piece);
            rest = after;
        }
    }
}

/// The name of the variable that `text` begins with, and what follows it.
fn variable_name(text: &[u8]) -> ConfResult<(&[u8], &[u8])> {
    let after = text.get(1..).unwrap_or_default();
    let braced = after.starts_with(b"{");
    let after = after.get(usize::from(braced)..).unwrap_or_default();
    let len = after.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, after) = after.split_at(len);
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let after = match (braced, after.strip_prefix(b"}")) {
        (false, _) => after,
        (true, Some(after)) => after,
        (true, None) if name.is_empty() && after.is_empty() => {
            return Err(Fault::message(format!("invalid parameter \"{}\"", shown(text))));
        }
        (true, None) => {
            let message = format!("the closing bracket in \"{}\" variable is missing", shown(name));
            return Err(Fault::message(message));
        }
    };
    if name.is_empty() {
        return Err(Fault::message(format!("invalid parameter \"{}\"", shown(text))));
    }
    Ok((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], expect: &str) {
        let mut names = Vec::new();
        let compiled = Format::compile(texts.iter().map(|text| text.as_bytes()), |name| {
            names.push(name.to_owned());
            VarId(names.len() as u32 - 1)
        });
        let shown = match compiled {
            Ok(format) => {
                let pieces = format.pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => format!("<{}>", String::from_utf8_lossy(text)),
                    Piece::Own(own) => format!("{own:?}"),
                    Piece::Variable(id) => format!("${}", names[id.0 as usize]),
                });
                format!("{:?} {}", format.escape, pieces.collect::<String>())
            }
            Err(Fault::Message(message)) => message,
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(shown, expect, "{texts:?}");
    }

    #[test]
    fn formats_become_pieces() {
        check(&["$uri:$status"], "Default $uri<:>Status");
        check(&["a ", "b $Status", "-"], "Default <a b >$Status<->");
        check(&["escape=json", "{\"u\":\"${uri}x\"}"], "Json <{\"u\":\">$uri<x\"}>");
        check(&["escape=none"], "None ");
        check(&["$pipe${msec}$1"], "Default PipeMsec$1");
        check(&[""], "Default ");
    }

    #[test]
    fn broken_formats_are_refused_in_nginx_s_words() {
        check(&["escape=xml", "x"], "unknown log format escaping \"xml\"");
        check(&["a $"], "invalid parameter \"$\"");
        check(&["a ${"], "invalid parameter \"${\"");
        check(&["a $-b"], "invalid parameter \"$-b\"");
        check(&["${}"], "invalid parameter \"${}\"");
        check(&["a ${uri b"], "the closing bracket in \"uri\" variable is missing");
    }

    #[test]
    fn what_is_plain_has_no_class() {
        for byte in 0..=255 {
            for len in 1..20 {
                for at in 0..len {
                    let mut value = vec![b'a'; len];
                    value[at] = byte;
                    assert_eq!(is_plain(&value), class(byte) == 0, "{value:?}");
                }
            }
        }
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        let apply = |escape: Escape, non_ascii: bool, value: &[u8]| {
            let mut line = b"x\"".to_vec();
            line.extend_from_slice(value);
            escape.apply(non_ascii, &mut line, 2);
            line
        };
        let value = b"a\"b\\c\x1b\x7f\xe9~ ";
        assert_eq!(apply(Escape::Default, true, value), b"x\"a\\x22b\\x5Cc\\x1B\\x7F\\xE9~ ");
        assert_eq!(apply(Escape::Default, false, value), b"x\"a\\x22b\\x5Cc\\x1B\\x7F\xe9~ ");
        assert_eq!(apply(Escape::Json, true, b"a\"\n\x1b\xe9/"), b"x\"a\\\"\\n\\u001B\xe9/");
        assert_eq!(apply(Escape::None, true, b"a\"\n"), b"x\"a\"\n");
    }
}
