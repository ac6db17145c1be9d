//! The request line: method, target, version. RFC 9112, 3.
//!
//! ```text
//! blank lines → method → spaces → target ┬→ line end (HTTP/0.9)
//!                                        └→ spaces → HTTP/1.x → spaces → line end
//! target: /path?args#fragment · scheme://host:port/path?args · (CONNECT) host:port
//! ```

use super::head::{HeadError, RequestHead};
use super::method::{Method, Version};
use super::scan::ByteClass;
use crate::Span;

/// `None`: the line has not arrived entirely.
type Progress<T> = Result<Option<T>, HeadError>;

const METHOD_CHAR: u8 = 1;
const SCHEME_CHAR: u8 = 2;
const HOST_CHAR: u8 = 4;
const LITERAL_CHAR: u8 = 8;

/// Upper-case letters, `_` and `-` make methods; what else there is follows RFC 3986, 3.1 and 3.2.2.
static CLASS: ByteClass = ByteClass::build(
    0,
    &[
        (b'!', b'!', LITERAL_CHAR),
        (b'$', b'$', LITERAL_CHAR),
        (b'&', b',', LITERAL_CHAR),
        (b'+', b'+', SCHEME_CHAR | LITERAL_CHAR),
        (b'-', b'-', METHOD_CHAR | SCHEME_CHAR | HOST_CHAR | LITERAL_CHAR),
        (b'.', b'.', SCHEME_CHAR | HOST_CHAR | LITERAL_CHAR),
        (b'0', b'9', SCHEME_CHAR | HOST_CHAR | LITERAL_CHAR),
        (b':', b';', LITERAL_CHAR),
        (b'=', b'=', LITERAL_CHAR),
        (b'A', b'Z', METHOD_CHAR | SCHEME_CHAR | HOST_CHAR | LITERAL_CHAR),
        (b'_', b'_', METHOD_CHAR | LITERAL_CHAR),
        (b'a', b'z', SCHEME_CHAR | HOST_CHAR | LITERAL_CHAR),
        (b'~', b'~', LITERAL_CHAR),
    ],
);

/// First index at or after `at` whose byte is not of the class; `None` if the bytes end before.
#[inline(always)]
fn skip_class(buf: &[u8], at: usize, class: u8) -> Option<usize> {
    let rest = buf.get(at..)?;
    rest.iter().position(|byte| CLASS.of(*byte) & class == 0).map(|n| at + n)
}

#[inline(always)]
fn skip_spaces(buf: &[u8], mut at: usize) -> usize {
    while let Some(b' ') = buf.get(at) {
        at += 1;
    }
    at
}

/// Parses the request line at `start` into `head`; gives the offset of the next line.
#[inline(always)]
pub(super) fn parse(buf: &[u8], start: usize, head: &mut RequestHead) -> Progress<usize> {
    let line = buf.get(start..).unwrap_or_default();
    let (method, len) = if line.starts_with(b"GET /") {
        (Method::Get, 3)
    } else if line.starts_with(b"POST /") {
        (Method::Post, 4)
    } else {
        return parse_any(buf, start, head);
    };
    head.method_name = Span::new(start, start + len);
    head.method = method;
    let Some(target_end) = parse_path(buf, start + len + 1, head)? else { return Ok(None) };
    parse_rest(buf, start, target_end, head)
}

fn parse_any(buf: &[u8], start: usize, head: &mut RequestHead) -> Progress<usize> {
    let Some(method_end) = skip_class(buf, start, METHOD_CHAR) else { return Ok(None) };
    if method_end == start || buf.get(method_end) != Some(&b' ') {
        return Err(HeadError::InvalidMethod);
    }
    head.method_name = Span::new(start, method_end);
    head.method = Method::from_name(head.method_name.of(buf));

    let target = skip_spaces(buf, method_end);
    let parsed = match buf.get(target) {
        None => None,
        Some(_) if head.method == Method::Connect => parse_authority(buf, target, head)?,
        Some(b'/') => parse_path(buf, target, head)?,
        Some(byte) if byte.is_ascii_alphabetic() => parse_absolute(buf, target, head)?,
        // nginx: `OPTIONS *` is refused, too.
        Some(_) => return Err(HeadError::InvalidRequest),
    };
    let Some(target_end) = parsed else { return Ok(None) };
    parse_rest(buf, start, target_end, head)
}

/// Parses what follows the target.
#[inline(always)]
fn parse_rest(buf: &[u8], start: usize, target_end: usize, head: &mut RequestHead) -> Progress<usize> {
    if buf.get(target_end..).is_some_and(|rest| rest.starts_with(b" HTTP/1.1\r\n"))
        && head.method != Method::Connect
    {
        head.version = Version::Http11;
        head.protocol = Span::new(target_end + 1, target_end + 9);
        head.line = Span::new(start, target_end + 9);
        return Ok(Some(target_end + 11));
    }
    parse_any_rest(buf, start, target_end, head)
}

fn parse_any_rest(buf: &[u8], start: usize, target_end: usize, head: &mut RequestHead) -> Progress<usize> {
    let Some((line_end, next)) = parse_version(buf, target_end, head)? else { return Ok(None) };

    head.line = Span::new(start, line_end);
    if head.version == Version::Http09 && head.method != Method::Get {
        return Err(HeadError::InvalidMethodInHttp09);
    }
    Ok(Some(next))
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 4;
const PLUS: u8 = 8;
// What ends a path begins here.
const FRAGMENT: u8 = 16;
const QUERY: u8 = 17;
const END: u8 = 18;
const CONTROL: u8 = 19;

static TARGET: ByteClass = ByteClass::build(
    PLAIN,
    &[
        (0x00, 0x1f, CONTROL),
        (0x7f, 0x7f, CONTROL),
        (b'\r', b'\r', END),
        (b'\n', b'\n', END),
        (b' ', b' ', END),
        (b'/', b'/', SLASH),
        (b'.', b'.', DOT),
        (b'%', b'%', PERCENT),
        (b'+', b'+', PLUS),
        (b'?', b'?', QUERY),
        (b'#', b'#', FRAGMENT),
    ],
);

/// Parses path, arguments and fragment, beginning at a `/` or `?`; the target as a whole starts there, too.
/// Gives the offset of what ends it.
#[inline(always)]
fn parse_path(buf: &[u8], path: usize, head: &mut RequestHead) -> Progress<usize> {
    let Some(mut rest) = buf.get(path..) else { return Ok(None) };
    if let [b'/', b' ', ..] = rest {
        head.path = Span::new(path, path + 1);
        head.target = head.path;
        return Ok(Some(path + 1));
    }
    // What was seen, what of it stood behind a slash, and what the byte before was.
    let (mut seen, mut behind, mut last) = (0, 0, 0);
    let stop = loop {
        let [byte, tail @ ..] = rest else { return Ok(None) };
        let class = TARGET.of(*byte);
        if class >= FRAGMENT {
            break class;
        }
        seen |= class;
        behind |= class * (last & SLASH);
        last = class;
        rest = tail;
    };
    if stop == CONTROL {
        return Err(HeadError::InvalidRequest);
    }
    let end = buf.len() - rest.len();
    head.path = Span::new(path, end);
    if seen != SLASH || behind != 0 {
        head.plus |= seen & PLUS != 0;
        head.quoted |= seen & PERCENT != 0;
        // A second slash or a dot must be resolved.
        head.complex |= behind & (SLASH | DOT) != 0 || seen & PERCENT != 0;
        if seen & DOT != 0 {
            head.ext = extension(buf, head.path);
        }
    }
    let mut target_end = end;
    if stop != END {
        let Some(end) = parse_query(buf, end, head)? else { return Ok(None) };
        target_end = end;
    }
    head.target = Span::new(path, target_end);
    Ok(Some(target_end))
}

/// What stands behind the last dot of the last segment.
fn extension(buf: &[u8], path: Span) -> Span {
    let text = path.of(buf);
    let dot =
        text.iter().rposition(|byte| matches!(byte, b'.' | b'/')).filter(|at| text.get(*at) == Some(&b'.'));
    dot.map_or(Span::default(), |dot| Span::new(path.start as usize + dot + 1, path.end()))
}

/// Parses what follows the path, beginning at `?` or `#`.
fn parse_query(buf: &[u8], at: usize, head: &mut RequestHead) -> Progress<usize> {
    let rest = buf.get(at..).unwrap_or_default();
    let mut fragment = None;
    for (n, &byte) in rest.iter().enumerate() {
        match TARGET.of(byte) {
            END => {
                let end = at + n;
                let args_end = fragment.unwrap_or(end);
                head.complex |= fragment.is_some();
                if args_end > at {
                    head.has_args = true;
                    head.args = Span::new(at + 1, args_end);
                }
                return Ok(Some(end));
            }
            FRAGMENT if fragment.is_none() => fragment = Some(at + n),
            CONTROL => return Err(HeadError::InvalidRequest),
            _ => {}
        }
    }
    Ok(None)
}

/// `scheme://host[:port]` and what may follow: RFC 9112, 3.2.2.
#[cold]
fn parse_absolute(buf: &[u8], start: usize, head: &mut RequestHead) -> Progress<usize> {
    let Some(scheme_end) = skip_class(buf, start, SCHEME_CHAR) else { return Ok(None) };
    for (n, expected) in b"://".iter().enumerate() {
        match buf.get(scheme_end + n) {
            None => return Ok(None),
            Some(byte) if byte == expected => {}
            Some(_) => return Err(HeadError::InvalidRequest),
        }
    }
    head.scheme = Span::new(start, scheme_end);
    let Some(host_end) = parse_host(buf, scheme_end + 3, head)? else { return Ok(None) };
    match buf.get(host_end) {
        None => Ok(None),
        Some(b'/') => parse_path(buf, host_end, head),
        Some(b'?') => {
            head.empty_path = true;
            head.complex = true;
            parse_path(buf, host_end, head)
        }
        Some(b' ') => {
            // The path is "/": the first slash of the scheme's serves as the text of it.
            head.path = Span::new(scheme_end + 1, scheme_end + 2);
            head.target = head.path;
            Ok(Some(host_end))
        }
        Some(_) => Err(HeadError::InvalidRequest),
    }
}

/// `host:port`, the target of CONNECT: RFC 9112, 3.2.3.
#[cold]
fn parse_authority(buf: &[u8], start: usize, head: &mut RequestHead) -> Progress<usize> {
    let Some(host_end) = parse_host(buf, start, head)? else { return Ok(None) };
    let has_port = {
        let host = head.host.of(buf);
        let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && host.len().checked_sub(digits + 1).and_then(|colon| host.get(colon)) == Some(&b':')
    };
    match buf.get(host_end) {
        None => return Ok(None),
        Some(b' ') if has_port => {}
        Some(_) => return Err(HeadError::InvalidRequest),
    }
    Ok(Some(host_end))
}

/// Host and port; sets `head.host` to both, gives the offset behind them.
fn parse_host(buf: &[u8], start: usize, head: &mut RequestHead) -> Progress<usize> {
    let host_end = if buf.get(start) == Some(&b'[') {
        match skip_class(buf, start + 1, LITERAL_CHAR) {
            None => return Ok(None),
            Some(end) if buf.get(end) == Some(&b']') => Some(end + 1),
            Some(_) => return Err(HeadError::InvalidRequest),
        }
    } else {
        skip_class(buf, start, HOST_CHAR)
    };
    let Some(mut end) = host_end else { return Ok(None) };
    if buf.get(end) == Some(&b':') {
        end += 1;
        while let Some(b'0'..=b'9') = buf.get(end) {
            end += 1;
        }
    }
    if end >= buf.len() {
        return Ok(None);
    }
    head.has_host = true;
    head.host = Span::new(start, end);
    Ok(Some(end))
}

/// Parses what follows the target; gives the end of the line's text and the offset of the next line.
#[inline(always)]
fn parse_version(buf: &[u8], at: usize, head: &mut RequestHead) -> Progress<(usize, usize)> {
    let start = skip_spaces(buf, at);
    let Some(rest) = buf.get(start..) else { return Ok(None) };
    let end = match rest.first_chunk::<8>() {
        Some(b"HTTP/1.1") => {
            head.version = Version::Http11;
            start + 8
        }
        Some(b"HTTP/1.0") => {
            head.version = Version::Http10;
            start + 8
        }
        _ => match parse_unusual_version(rest, head)? {
            None => return Ok(None),
            Some(0) => {
                head.version = Version::Http09;
                start
            }
            Some(len) => start + len,
        },
    };
    head.protocol = Span::new(start, end);
    if head.method == Method::Connect && end > start {
        // As for an absolute target without a path, the slash of "HTTP/" serves as the path.
        head.path = Span::new(start + 4, start + 5);
        head.target = head.path;
    }

    let stop = if end > start { skip_spaces(buf, end) } else { end };
    // In HTTP/0.9 nginx counts the spaces as part of the line; so do we.
    match buf.get(stop..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(Some((stop, stop + 2))),
        [b'\n', ..] => Ok(Some((stop, stop + 1))),
        [] | [b'\r'] => Ok(None),
        _ => Err(HeadError::InvalidRequest),
    }
}

/// Length of the version token at the start of `rest`: 0 if the line ends instead (HTTP/0.9).
/// The token is exactly `HTTP/` digit `.` digit (RFC 9112, 2.3); nginx would take `HTTP/1.01`.
#[cold]
fn parse_unusual_version(rest: &[u8], head: &mut RequestHead) -> Progress<usize> {
    if let Some(b'\r' | b'\n') = rest.first() {
        return Ok(Some(0));
    }
    for (n, expected) in b"HTTP/".iter().enumerate() {
        match rest.get(n) {
            None => return Ok(None),
            Some(byte) if byte == expected => {}
            Some(_) => return Err(HeadError::InvalidRequest),
        }
    }
    match rest.get(5) {
        None => return Ok(None),
        Some(b'1') => {}
        Some(b'2'..=b'9') => return Err(HeadError::InvalidVersion),
        Some(_) => return Err(HeadError::InvalidRequest),
    }
    match rest.get(6) {
        None => return Ok(None),
        Some(b'.') => {}
        Some(b'0'..=b'9') => return Err(HeadError::InvalidVersion),
        Some(_) => return Err(HeadError::InvalidRequest),
    }
    match rest.get(7) {
        None => Ok(None),
        Some(b'0') => {
            head.version = Version::Http10;
            Ok(Some(8))
        }
        Some(b'1'..=b'9') => {
            head.version = Version::Http11;
            Ok(Some(8))
        }
        Some(_) => Err(HeadError::InvalidRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of up to this many of the bytes that matter in a path.
    fn texts(len: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..len {
            last = last
                .iter()
                .flat_map(|text| b"a/.%+".iter().map(|byte| [text.as_slice(), &[*byte]].concat()))
                .collect();
            all.extend_from_slice(&last);
        }
        all
    }

    #[test]
    fn what_a_path_has_is_seen_wherever_it_stands() {
        for text in texts(5) {
            let path = [b"/", text.as_slice()].concat();
            let line = [b"GET ", path.as_slice(), b"?/.. HTTP/1.1\r\n"].concat();
            let mut head = RequestHead::new();
            assert_eq!(parse(&line, 0, &mut head), Ok(Some(line.len())));
            let has = |what: &[u8]| path.windows(what.len()).any(|window| window == what);
            assert_eq!(head.path.of(&line), path);
            assert_eq!(head.args.of(&line), b"/..");
            assert_eq!((head.quoted, head.plus), (has(b"%"), has(b"+")), "{path:?}");
            assert_eq!(head.complex, has(b"//") || has(b"/.") || has(b"%"), "{path:?}");
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let ext = name.iter().rposition(|byte| *byte == b'.').map_or(&b""[..], |dot| &name[dot + 1..]);
            assert_eq!(head.ext.of(&line), ext, "{path:?}");
        }
    }
}
