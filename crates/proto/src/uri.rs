//! Request targets: splitting, and the normalisation that locations, access rules and files are matched on.
//! Decoded once, dots resolved after decoding, never above the root. RFC 3986, 5.2.4 and 6.2.2; otherwise as nginx.

use std::ops::Range;

use crate::escape::{Unescape, hex_value, unescape};

/// The target breaks the grammar, climbs above the root, or has a wrong escape: 400, "client sent invalid request".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUri;

/// A target, split but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Before `?` and `#`.
    pub path: &'a [u8],
    /// Between `?` and `#`, if there is a `?`.
    pub args: Option<&'a [u8]>,
    /// The path must be normalised, or a fragment follows.
    pub complex: bool,
    /// The path has a `%`.
    pub quoted: bool,
    /// The path has a `+`.
    pub plus: bool,
}

/// Splits a target in origin form, as in a `:path` of HTTP/2: a `/`, then no control character and no space.
pub fn split(target: &[u8]) -> Result<Target<'_>, InvalidUri> {
    if target.first() != Some(&b'/') || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(InvalidUri);
    }
    let (whole, fragment) = cut(target, b'#');
    let (path, args) = cut(whole, b'?');
    let quoted = memchr::memchr(b'%', path).is_some();
    let dotted = path.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    Ok(Target {
        path,
        args,
        complex: quoted || dotted || fragment.is_some(),
        quoted,
        plus: memchr::memchr(b'+', path).is_some(),
    })
}

/// What stands before the first `mark` and, if it is there, what stands behind it.
fn cut(text: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(mark, text).and_then(|at| text.split_at_checked(at)) {
        Some((before, rest)) => (before, Some(rest.get(1..).unwrap_or_default())),
        None => (text, None),
    }
}

/// What is known of a path after normalisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalized {
    /// The extension, behind the last dot of the last segment: a range of the output.
    pub ext: Option<Range<usize>>,
    /// There was a `%`.
    pub quoted: bool,
    /// There is a `+`, decoded or not.
    pub plus: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Usual,
    Slash,
    Dot,
    DotDot,
}

/// Normalises a path that holds no `?` or `#` (an empty one is `/`): decodes `%xx`, resolves `.` and `..`, merges slashes if told to.
/// `out` is overwritten; on error its content means nothing.
pub fn normalize(path: &[u8], merge_slashes: bool, out: &mut Vec<u8>) -> Result<Normalized, InvalidUri> {
    out.clear();
    out.reserve(path.len().max(1));
    let mut result = Normalized::default();
    let mut ext = None;
    let mut state = State::Usual;
    let mut bytes = path.iter();
    if path.is_empty() {
        out.push(b'/');
    }
    while let Some(&byte) = bytes.next() {
        let mut byte = byte;
        if byte == b'%' {
            result.quoted = true;
            byte = decode(bytes.next(), bytes.next())?;
            // Decoded, these have no meaning left.
            if matches!(byte, b'%' | b'#' | b'?') {
                state = State::Usual;
                out.push(byte);
                continue;
            }
        }
        result.plus |= byte == b'+';
        state = match (state, byte) {
            (State::Usual, b'/') => {
                ext = None;
                out.push(b'/');
                State::Slash
            }
            (State::Usual, b'.') => {
                out.push(b'.');
                ext = Some(out.len());
                State::Usual
            }
            (State::Slash, b'/') => {
                if !merge_slashes {
                    out.push(b'/');
                }
                State::Slash
            }
            (State::Slash, b'.') => {
                out.push(b'.');
                State::Dot
            }
            (State::Dot, b'.') => {
                out.push(b'.');
                State::DotDot
            }
            (State::Dot, b'/') => {
                out.pop();
                State::Slash
            }
            (State::DotDot, b'/') => {
                climb(out)?;
                State::Slash
            }
            _ => {
                out.push(byte);
                State::Usual
            }
        };
    }
    match state {
        State::Dot => {
            out.pop();
        }
        State::DotDot => climb(out)?,
        State::Usual | State::Slash => {}
    }
    result.ext = ext.map(|start| start..out.len());
    Ok(result)
}

/// The byte of an escape; NUL is refused.
fn decode(first: Option<&u8>, second: Option<&u8>) -> Result<u8, InvalidUri> {
    let high = first.and_then(|digit| hex_value(*digit)).ok_or(InvalidUri)?;
    let low = second.and_then(|digit| hex_value(*digit)).ok_or(InvalidUri)?;
    match (high << 4) | low {
        0 => Err(InvalidUri),
        byte => Ok(byte),
    }
}

/// Takes `/..` and the segment before it off the end, leaving the slash in front of that segment.
fn climb(out: &mut Vec<u8>) -> Result<(), InvalidUri> {
    let parent = out.len().checked_sub(3).ok_or(InvalidUri)?;
    let slash =
        out.get(..parent).and_then(|head| head.iter().rposition(|byte| *byte == b'/')).ok_or(InvalidUri)?;
    out.truncate(slash + 1);
    Ok(())
}

/// The extension of a path that needed no normalisation or was rewritten: behind the last dot of the last segment,
/// unless the segment begins with that dot.
#[must_use]
pub fn extension(path: &[u8]) -> Option<&[u8]> {
    // Most last segments are too short for a vector search to pay.
    let mark = path.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    match path.get(..=mark)? {
        [.., b'/'] | [.., b'/', b'.'] | [b'.'] => None,
        _ => path.get(mark + 1..),
    }
}

/// Splits and decodes the target of a request that the server makes of itself (nginx's `ngx_http_parse_unsafe_uri`): the
/// path, decoded, and the arguments. A path that is empty, holds a zero byte or leads upwards is refused.
pub fn split_internal(target: &[u8]) -> Result<(Vec<u8>, &[u8]), InvalidUri> {
    let (path, args) = cut(target, b'?');
    let mut decoded = Vec::with_capacity(path.len());
    unescape(Unescape::All, path, &mut decoded);
    if is_unsafe(path) || is_unsafe(&decoded) {
        return Err(InvalidUri);
    }
    Ok((decoded, args.unwrap_or_default()))
}

/// Whether a path is empty, holds a zero byte or leads upwards.
pub fn is_unsafe(path: &[u8]) -> bool {
    path.is_empty() || path.contains(&0) || path.split(|b| *b == b'/').any(|part| part == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(merge_slashes: bool, path: &str, expect: Result<&str, InvalidUri>) {
        let mut out = Vec::new();
        let got = normalize(path.as_bytes(), merge_slashes, &mut out);
        assert_eq!(
            got.map(|_| String::from_utf8_lossy(&out).into_owned()),
            expect.map(str::to_owned),
            "{path}"
        );
    }

    fn check(path: &str, expect: &str) {
        check_with(true, path, Ok(expect));
    }

    fn check_invalid(path: &str) {
        check_with(true, path, Err(InvalidUri));
    }

    #[test]
    fn dots_are_resolved_as_rfc_3986_5_2_4_says() {
        check("/foo/bar/.", "/foo/bar/");
        check("/foo/bar/..", "/foo/");
        check("/foo/./bar", "/foo/bar");
        check("/foo/../bar", "/bar");
        check("/a/b/c/../../d", "/a/d");
        check("/a/b/../..", "/");
        check("/.a/..b/.../c..", "/.a/..b/.../c..");
        check("/", "/");
        check("", "/");
    }

    #[test]
    fn dots_and_slashes_count_after_decoding() {
        check("/foo/%2e%2E/bar", "/bar");
        check("/foo%2f..%2fbar", "/bar");
        check("/foo/.%2e/bar", "/bar");
        check("/a%2Fb", "/a/b");
    }

    #[test]
    fn decoding_happens_once() {
        check("/%252e%252e/", "/%2e%2e/");
        check("/a%3Fb%23c%25", "/a?b#c%");
        check("/.%3F", "/.?");
        check("/%02", "/\u{2}");
    }

    #[test]
    fn slashes_merge_unless_told_otherwise() {
        check("/foo//bar///baz", "/foo/bar/baz");
        check("//", "/");
        check_with(false, "/foo//../bar", Ok("/foo/bar"));
        check_with(false, "/foo///../bar", Ok("/foo//bar"));
        check_with(false, "//..", Ok("/"));
        check_with(true, "//..", Err(InvalidUri));
    }

    #[test]
    fn nothing_climbs_above_the_root() {
        for path in ["/..", "/../", "/../a", "/a/../..", "/a/../../b", "/%2e%2e", "/./..", "/%2e%2e%2f"] {
            check_invalid(path);
        }
    }

    #[test]
    fn wrong_escapes_are_refused() {
        for path in ["/%", "/%1", "/%zz", "/%1z", "/%00", "/a%", "/a%2", "/%%20"] {
            check_invalid(path);
        }
    }

    fn check_ext(path: &str, expect: Option<&str>) {
        let mut out = Vec::new();
        let got = normalize(path.as_bytes(), true, &mut out).unwrap();
        let ext = got.ext.map(|range| String::from_utf8_lossy(&out[range]).into_owned());
        assert_eq!(ext.as_deref(), expect, "{path}");
    }

    #[test]
    fn extensions() {
        check_ext("/a.b/c.tar.gz", Some("gz"));
        check_ext("/a.b/c", None);
        check_ext("/a/.htaccess", None);
        check_ext("/a.b/../c", None);
        check_ext("/a.", Some(""));
        check_ext("/a%2Ehtml", Some("html"));
        assert_eq!(extension(b"/a.b/c.tar.gz"), Some(&b"gz"[..]));
        assert_eq!(extension(b"/a.b/c"), None);
        assert_eq!(extension(b"/.b"), None);
    }

    #[test]
    fn targets_are_split() {
        let got = split(b"/a+b?c=/../%zz?d#e?f").unwrap();
        assert_eq!((got.path, got.args), (&b"/a+b"[..], Some(&b"c=/../%zz?d"[..])));
        assert!(got.complex && got.plus && !got.quoted);
        let got = split(b"/a?b").unwrap();
        assert!(!got.complex);
        assert_eq!(split(b"/#a?b").unwrap().args, None);
        for target in [&b""[..], b"a", b"/ ", b"/\x7f", b"/\0", b"?a", b"*"] {
            assert_eq!(split(target), Err(InvalidUri));
        }
    }

    #[test]
    fn ways_upwards_are_unsafe() {
        for path in ["", "..", "../x", "/a/..", "/a/../b", "/a\0b"] {
            assert!(is_unsafe(path.as_bytes()), "{path}");
        }
        for path in ["/", "/a", "/..a/b", "/a..", "a/.../b", "/a/./b"] {
            assert!(!is_unsafe(path.as_bytes()), "{path}");
        }
        assert_eq!(split_internal(b"/a%20b?c=%20"), Ok((b"/a b".to_vec(), &b"c=%20"[..])));
        assert_eq!(split_internal(b"/a/%2e%2e/b"), Err(InvalidUri));
        assert_eq!(split_internal(b"?a"), Err(InvalidUri));
    }
}
