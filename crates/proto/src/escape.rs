//! Escaping of text for URIs, HTML and JSON, and the way back from percent-encoding, byte for byte as nginx does it.

/// Where escaped text is meant to stand: each place has its own set of characters to escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A path.
    Uri,
    /// Arguments.
    Args,
    /// One component: everything but unreserved characters.
    UriComponent,
    /// A link in an HTML attribute.
    Html,
    /// The target of a `Refresh`.
    Refresh,
    /// A memcached key.
    Memcached,
    /// A field for a mail authentication server.
    MailAuth,
    /// SMTP's xtext, which marks with `+` in place of `%` (RFC 3461, 4).
    MailXtext,
}

/// A bit per byte value: those that are escaped.
struct Set([u64; 4]);

impl Set {
    #[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
    const fn new(marks: &[u8], controls: bool, high: bool) -> Self {
        let mut bits = [0; 4];
        let mut n = 0;
        while n < marks.len() {
            bits[(marks[n] >> 6) as usize] |= 1 << (marks[n] & 63);
            n += 1;
        }
        if controls {
            bits[0] |= 0xffff_ffff;
        }
        if high {
            bits[2] = u64::MAX;
            bits[3] = u64::MAX;
        }
        Self(bits)
    }

    /// Everything but letters, digits and `-._~` (RFC 3986, 2.3).
    #[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
    const fn reserved() -> Self {
        let mut bits = [u64::MAX; 4];
        let mut byte = 0u8;
        while byte < 128 {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                bits[(byte >> 6) as usize] &= !(1 << (byte & 63));
            }
            byte += 1;
        }
        Self(bits)
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| (word >> (byte & 63)) & 1 != 0)
    }
}

static URI: Set = Set::new(b" \"#%<>?\\^`{|}\x7f", true, true);
static ARGS: Set = Set::new(b" \"#%&+;<>?\\^`{|}\x7f", true, true);
static URI_COMPONENT: Set = Set::reserved();
static HTML: Set = Set::new(b" \"#%'<>\\^`{|}\x7f", true, true);
// nginx: `~` is escaped here and `}` is not.
static REFRESH: Set = Set::new(b" \"'<>\\^`{|~\x7f", true, true);
static MEMCACHED: Set = Set::new(b" %", true, false);
static MAIL_XTEXT: Set = Set::new(b" +=\x7f", true, true);

impl Kind {
    fn set(self) -> &'static Set {
        match self {
            Self::Uri => &URI,
            Self::Args => &ARGS,
            Self::UriComponent => &URI_COMPONENT,
            Self::Html => &HTML,
            Self::Refresh => &REFRESH,
            Self::Memcached | Self::MailAuth => &MEMCACHED,
            Self::MailXtext => &MAIL_XTEXT,
        }
    }
}

/// Number of bytes that would be escaped, each growing by two.
#[must_use]
pub fn count(kind: Kind, src: &[u8]) -> usize {
    let set = kind.set();
    src.iter().filter(|byte| set.has(**byte)).count()
}

/// Appends `src`, escaped.
pub fn escape(kind: Kind, src: &[u8], out: &mut Vec<u8>) {
    let set = kind.set();
    let mark = if kind == Kind::MailXtext { b'+' } else { b'%' };
    out.reserve(src.len());
    for &byte in src {
        if set.has(byte) {
            out.extend_from_slice(&[mark, upper_hex(byte >> 4), upper_hex(byte & 15)]);
        } else {
            out.push(byte);
        }
    }
}

fn upper_hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'A' - 10 + digit }
}

/// The value of a hexadecimal digit.
#[inline]
#[must_use]
pub fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What is decoded, and where decoding stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unescape {
    /// Everything, to the end.
    All,
    /// Everything up to the first `?`, decoded or not, which is kept.
    Uri,
    /// As `Uri`, but only printable characters behind `%` in ASCII are decoded: what else is escaped stays so.
    Redirect,
}

/// Appends `src`, decoded, and gives the number of bytes of `src` that were used.
///
/// nginx: of an escape that is none, `%` and the digit go and what follows is dropped or kept, never reported.
pub fn unescape(kind: Unescape, src: &[u8], out: &mut Vec<u8>) -> usize {
    let stops = kind != Unescape::All;
    let mut at = 0;
    while let Some(&byte) = src.get(at) {
        at += 1;
        if byte != b'%' {
            out.push(byte);
            if byte == b'?' && stops {
                break;
            }
            continue;
        }
        let Some(&first) = src.get(at) else { break };
        at += 1;
        let Some(high) = hex_value(first) else {
            out.push(first);
            continue;
        };
        let Some(&second) = src.get(at) else { break };
        at += 1;
        let Some(low) = hex_value(second) else { continue };
        let decoded = (high << 4) | low;
        if decoded == b'?' && stops {
            out.push(decoded);
            break;
        }
        if kind == Unescape::Redirect && !(decoded > b'%' && decoded < 0x7f) {
            out.extend_from_slice(&[b'%', first, second]);
        } else {
            out.push(decoded);
        }
    }
    at
}

/// Appends `src` with `<`, `>`, `&` and `"` as HTML entities.
pub fn html(src: &[u8], out: &mut Vec<u8>) {
    out.reserve(src.len());
    for &byte in src {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(byte),
        }
    }
}

/// Appends `src` as the inside of a JSON string. Bytes that are no UTF-8 pass unchanged, as in nginx.
pub fn json(src: &[u8], out: &mut Vec<u8>) {
    out.reserve(src.len());
    for &byte in src {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[upper_hex(byte >> 4), upper_hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

/// Appends a string literal of MySQL's SQL, quotes included.
pub fn sql(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in value {
        let short = match byte {
            0 => b'0',
            b'\n' => b'n',
            b'\r' => b'r',
            0x08 => b'b',
            b'\t' => b't',
            0x1a => b'Z',
            b'\\' | b'\'' | b'"' => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend([b'\\', short]);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, input: &[u8], expect: &str) {
        let mut out = Vec::new();
        escape(kind, input, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expect, "{kind:?}");
        assert_eq!(out.len(), input.len() + 2 * count(kind, input));
    }

    const PRINTABLE: &[u8] = b" !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\x7f\x01\xe9";

    #[test]
    fn each_kind_escapes_what_nginx_escapes() {
        check(
            Kind::Uri,
            PRINTABLE,
            "%20!%22%23$%25&'()*+,-./09:;%3C=%3E%3F@AZ[%5C]%5E_%60az%7B%7C%7D~%7F%01%E9",
        );
        check(
            Kind::Args,
            PRINTABLE,
            "%20!%22%23$%25%26'()*%2B,-./09:%3B%3C=%3E%3F@AZ[%5C]%5E_%60az%7B%7C%7D~%7F%01%E9",
        );
        check(
            Kind::UriComponent,
            PRINTABLE,
            "%20%21%22%23%24%25%26%27%28%29%2A%2B%2C-.%2F09%3A%3B%3C%3D%3E%3F%40AZ%5B%5C%5D%5E_%60az%7B%7C%7D~%7F%01%E9",
        );
        check(
            Kind::Html,
            PRINTABLE,
            "%20!%22%23$%25&%27()*+,-./09:;%3C=%3E?@AZ[%5C]%5E_%60az%7B%7C%7D~%7F%01%E9",
        );
        check(
            Kind::Refresh,
            PRINTABLE,
            "%20!%22#$%&%27()*+,-./09:;%3C=%3E?@AZ[%5C]%5E_%60az%7B%7C}%7E%7F%01%E9",
        );
        check(Kind::Memcached, b" !%\x01\x7f", "%20!%25%01\x7f");
        check(Kind::MailAuth, b" !%\x01", "%20!%25%01");
        check(Kind::MailXtext, b" !%+=\x01\xe9", "+20!%+2B+3D+01+E9");
    }

    fn check_unescape(kind: Unescape, input: &str, expect: &str, used: usize) {
        let mut out = Vec::new();
        assert_eq!(unescape(kind, input.as_bytes(), &mut out), used, "{kind:?} {input}");
        assert_eq!(String::from_utf8_lossy(&out), expect, "{kind:?} {input}");
    }

    #[test]
    fn decoding_forgives_as_nginx_does() {
        check_unescape(Unescape::All, "a%20b%2Fc%2f?d%3F", "a b/c/?d?", 17);
        check_unescape(Unescape::All, "%zz%4", "zz", 5);
        check_unescape(Unescape::All, "%4zy", "y", 4);
        check_unescape(Unescape::All, "a%", "a", 2);
        check_unescape(Unescape::Uri, "a%20?b%20", "a ?", 5);
        check_unescape(Unescape::Uri, "a%3Fb", "a?", 4);
        check_unescape(Unescape::Redirect, "%20%41%7f%25%e9%2F", "%20A%7f%25%e9/", 18);
        check_unescape(Unescape::Redirect, "%41%3f%41", "A?", 6);
    }

    #[test]
    fn html_and_json() {
        let mut out = Vec::new();
        html(b"<a href=\"x&y\">'", &mut out);
        assert_eq!(out, b"&lt;a href=&quot;x&amp;y&quot;&gt;'");
        out.clear();
        json(b"a\"b\\c\n\r\t\x08\x0c\x01\x1f\x7f\xe9", &mut out);
        assert_eq!(out, b"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\\u001F\x7f\xe9");
    }
}
