//! Header and trailer lines: their grammar and the names that the server acts on. RFC 9112, 5.

use super::scan::{ByteClass, line_break};
use crate::Span;

/// One header or trailer line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// Which name it is, if the server knows it.
    pub known: Known,
    flags: u8,
}

const UNDERSCORE: u8 = 1;
const ODD: u8 = 2;

impl Field {
    /// The name has characters other than letters, digits, `-` and `_`.
    #[inline]
    #[must_use]
    pub fn has_odd_name(&self) -> bool {
        self.flags & ODD != 0
    }

    /// The name has an underscore.
    #[inline]
    #[must_use]
    pub fn has_underscore(&self) -> bool {
        self.flags & UNDERSCORE != 0
    }

    /// Name and value as sent, for the log.
    #[must_use]
    pub fn line(&self) -> Span {
        Span::new(self.name.start as usize, self.value.end().max(self.name.end()))
    }

    /// Whether nginx would keep this line. <https://nginx.org/en/docs/http/ngx_http_core_module.html#ignore_invalid_headers>
    #[inline]
    #[must_use]
    pub fn is_accepted(&self, rules: FieldRules) -> bool {
        !rules.ignore_invalid || self.flags == 0 || (self.flags == UNDERSCORE && rules.underscores)
    }
}

/// `ignore_invalid_headers` and `underscores_in_headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRules {
    /// `ignore_invalid_headers`
    pub ignore_invalid: bool,
    /// `underscores_in_headers`
    pub underscores: bool,
}

impl Default for FieldRules {
    fn default() -> Self {
        Self { ignore_invalid: true, underscores: false }
    }
}

/// What stands at the beginning of a line of a head.
pub(super) enum FieldLine {
    /// A field; the next line begins at the offset.
    Field(Field, usize),
    /// The empty line that ends the head; what follows begins at the offset.
    End(usize),
    /// The line has not arrived entirely.
    Partial,
    /// The byte at the offset must not stand there.
    Bad(usize),
}

const NAME_UNDERSCORE: u8 = 1;
const NAME_ODD: u8 = 2;
const NAME_COLON: u8 = 3;
const NAME_BAD: u8 = 4;

/// Control characters and the space end the parse; whatever else is no token is only flagged, as in nginx.
static NAME: ByteClass = ByteClass::build(
    NAME_ODD,
    &[
        (b'A', b'Z', 0),
        (b'a', b'z', 0),
        (b'0', b'9', 0),
        (b'-', b'-', 0),
        (b'_', b'_', NAME_UNDERSCORE),
        (b':', b':', NAME_COLON),
        (0x00, 0x20, NAME_BAD),
        (0x7f, 0x7f, NAME_BAD),
    ],
);

/// Parses the line at `at`. With `BARE_LF`, a line may end in a LF alone, which nginx accepts in heads.
#[inline(always)]
pub(super) fn parse_line<const BARE_LF: bool>(buf: &[u8], at: usize) -> FieldLine {
    let line = buf.get(at..).unwrap_or_default();
    let mut flags = 0;
    let mut name_len = 0;
    let mut bytes = line.iter();
    loop {
        let Some(&byte) = bytes.next() else { return FieldLine::Partial };
        match NAME.of(byte) {
            0 => {}
            NAME_COLON if name_len > 0 => break,
            NAME_UNDERSCORE => flags |= UNDERSCORE,
            NAME_ODD => flags |= ODD,
            _ if name_len == 0 => return end_of_head::<BARE_LF>(buf, at),
            // Includes a line without a colon, a space before the colon, and folding (RFC 9112, 5.1 and 5.2).
            _ => return FieldLine::Bad(at + name_len),
        }
        name_len += 1;
    }

    let mut start = at + name_len + 1;
    while let Some(b' ' | b'\t') = buf.get(start) {
        start += 1;
    }
    let stop = line_break(buf, start);
    let next = match line_end::<BARE_LF>(buf, stop) {
        LineEnd::At(next) => next,
        LineEnd::Partial => return FieldLine::Partial,
        LineEnd::Bad(at) => return FieldLine::Bad(at),
    };
    let mut end = stop;
    while end > start && matches!(buf.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }

    let name = Span::new(at, at + name_len);
    let known = if flags == 0 { Known::lookup(name.of(buf)) } else { Known::Other };
    FieldLine::Field(Field { name, value: Span::new(start, end), known, flags }, next)
}

#[inline]
fn end_of_head<const BARE_LF: bool>(buf: &[u8], at: usize) -> FieldLine {
    match line_end::<BARE_LF>(buf, at) {
        LineEnd::At(next) => FieldLine::End(next),
        LineEnd::Partial => FieldLine::Partial,
        // The CR is what should not be there, not what follows it.
        LineEnd::Bad(_) => FieldLine::Bad(at),
    }
}

/// What was found where a line should end.
pub(super) enum LineEnd {
    /// The next line begins there.
    At(usize),
    Partial,
    /// Not a line end: the offset of the byte that breaks the rules.
    Bad(usize),
}

#[inline(always)]
pub(super) fn line_end<const BARE_LF: bool>(buf: &[u8], at: usize) -> LineEnd {
    match buf.get(at) {
        Some(b'\r') => match buf.get(at + 1) {
            Some(b'\n') => LineEnd::At(at + 2),
            Some(_) => LineEnd::Bad(at),
            None => LineEnd::Partial,
        },
        Some(b'\n') if BARE_LF => LineEnd::At(at + 1),
        Some(_) => LineEnd::Bad(at),
        None => LineEnd::Partial,
    }
}

macro_rules! known {
    ($($variant:ident $name:literal)*) => {
        /// Field names that the server acts on, in requests or in responses.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other name.
            #[default]
            Other,
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Known {
            /// Every name but `Other`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Size of a table indexed by `Known as usize`.
            pub const COUNT: usize = Self::ALL.len() + 1;

            /// The name in lower case, empty for `Other`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

known! {
    Te "te"
    Via "via"
    Host "host"
    Date "date"
    Etag "etag"
    Vary "vary"
    Link "link"
    Range "range"
    Depth "depth"
    Accept "accept"
    Cookie "cookie"
    Expect "expect"
    Status "status"
    Server "server"
    Pragma "pragma"
    Referer "referer"
    Upgrade "upgrade"
    Trailer "trailer"
    Refresh "refresh"
    Expires "expires"
    IfMatch "if-match"
    IfRange "if-range"
    Location "location"
    XRealIp "x-real-ip"
    Overwrite "overwrite"
    Connection "connection"
    UserAgent "user-agent"
    KeepAlive "keep-alive"
    SetCookie "set-cookie"
    Destination "destination"
    ContentType "content-type"
    IfNoneMatch "if-none-match"
    Authorization "authorization"
    ContentRange "content-range"
    CacheControl "cache-control"
    AcceptRanges "accept-ranges"
    LastModified "last-modified"
    ContentLength "content-length"
    AcceptEncoding "accept-encoding"
    AcceptLanguage "accept-language"
    XForwardedFor "x-forwarded-for"
    XAccelExpires "x-accel-expires"
    XAccelCharset "x-accel-charset"
    ProxyConnection "proxy-connection"
    ContentEncoding "content-encoding"
    WwwAuthenticate "www-authenticate"
    XAccelRedirect "x-accel-redirect"
    IfModifiedSince "if-modified-since"
    TransferEncoding "transfer-encoding"
    XAccelBuffering "x-accel-buffering"
    XAccelLimitRate "x-accel-limit-rate"
    ProxyAuthenticate "proxy-authenticate"
    IfUnmodifiedSince "if-unmodified-since"
    ProxyAuthorization "proxy-authorization"
    ContentDisposition "content-disposition"
}

impl Known {
    /// Which name this is, in any case of letters.
    #[inline]
    #[must_use]
    pub fn lookup(name: &[u8]) -> Self {
        match name.len() {
            2 => pick::<2>(name, &[Self::Te]),
            3 => pick::<3>(name, &[Self::Via]),
            4 => pick::<4>(name, &[Self::Host, Self::Date, Self::Etag, Self::Vary, Self::Link]),
            5 => pick::<5>(name, &[Self::Range, Self::Depth]),
            6 => pick::<6>(
                name,
                &[Self::Accept, Self::Cookie, Self::Expect, Self::Status, Self::Server, Self::Pragma],
            ),
            7 => {
                pick::<7>(name, &[Self::Referer, Self::Upgrade, Self::Trailer, Self::Refresh, Self::Expires])
            }
            8 => pick::<8>(name, &[Self::IfMatch, Self::IfRange, Self::Location]),
            9 => pick::<9>(name, &[Self::XRealIp, Self::Overwrite]),
            10 => pick::<10>(name, &[Self::Connection, Self::UserAgent, Self::KeepAlive, Self::SetCookie]),
            11 => pick::<11>(name, &[Self::Destination]),
            12 => pick::<12>(name, &[Self::ContentType]),
            13 => pick::<13>(
                name,
                &[
                    Self::IfNoneMatch,
                    Self::Authorization,
                    Self::ContentRange,
                    Self::CacheControl,
                    Self::AcceptRanges,
                    Self::LastModified,
                ],
            ),
            14 => pick::<14>(name, &[Self::ContentLength]),
            15 => pick::<15>(
                name,
                &[
                    Self::AcceptEncoding,
                    Self::AcceptLanguage,
                    Self::XForwardedFor,
                    Self::XAccelExpires,
                    Self::XAccelCharset,
                ],
            ),
            16 => pick::<16>(
                name,
                &[Self::ProxyConnection, Self::ContentEncoding, Self::WwwAuthenticate, Self::XAccelRedirect],
            ),
            17 => pick::<17>(name, &[Self::IfModifiedSince, Self::TransferEncoding, Self::XAccelBuffering]),
            18 => pick::<18>(name, &[Self::XAccelLimitRate, Self::ProxyAuthenticate]),
            19 => pick::<19>(
                name,
                &[Self::IfUnmodifiedSince, Self::ProxyAuthorization, Self::ContentDisposition],
            ),
            _ => Self::Other,
        }
    }
}

/// The one of `candidates`, all of length `N`, that `name` is.
#[inline(always)]
fn pick<const N: usize>(name: &[u8], candidates: &[Known]) -> Known {
    let Some(name) = name.first_chunk::<N>() else { return Known::Other };
    for known in candidates {
        if known.name().as_bytes().first_chunk::<N>().is_some_and(|lower| folds_to(name, lower)) {
            return *known;
        }
    }
    Known::Other
}

/// `name.eq_ignore_ascii_case(lower)`. Of the characters in a name only letters change under `| 0x20` (digits and
/// the hyphen have that bit), but others could be taken for them, so those are told apart by comparing again.
#[inline(always)]
fn folds_to<const N: usize>(name: &[u8; N], lower: &[u8; N]) -> bool {
    let mut different = 0;
    for (a, b) in name.iter().zip(lower) {
        different |= (a | 0x20) ^ b;
    }
    different == 0 && name.eq_ignore_ascii_case(lower)
}

/// Fields that a trailer must not carry: they frame, route, authenticate or direct the processing of the message
/// (RFC 9110, 6.5.1). Such lines are dropped.
#[must_use]
pub fn is_forbidden_in_trailer(known: Known) -> bool {
    matches!(
        known,
        Known::Te
            | Known::Host
            | Known::Range
            | Known::Cookie
            | Known::Expect
            | Known::Upgrade
            | Known::Trailer
            | Known::IfMatch
            | Known::IfRange
            | Known::Connection
            | Known::KeepAlive
            | Known::SetCookie
            | Known::ContentType
            | Known::IfNoneMatch
            | Known::Authorization
            | Known::ContentRange
            | Known::CacheControl
            | Known::ContentLength
            | Known::XRealIp
            | Known::XForwardedFor
            | Known::ProxyConnection
            | Known::ContentEncoding
            | Known::WwwAuthenticate
            | Known::IfModifiedSince
            | Known::TransferEncoding
            | Known::ProxyAuthenticate
            | Known::IfUnmodifiedSince
            | Known::ProxyAuthorization
            | Known::XAccelExpires
            | Known::XAccelRedirect
            | Known::XAccelBuffering
            | Known::XAccelLimitRate
            | Known::XAccelCharset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        const { assert!(Known::COUNT <= 128, "the duplicates mask has 128 bits") };
        for known in Known::ALL {
            let name = known.name();
            assert_eq!(Known::lookup(name.as_bytes()), *known, "{name}");
            assert_eq!(Known::lookup(name.to_ascii_uppercase().as_bytes()), *known, "{name}");
        }
    }

    #[test]
    fn near_misses_are_other_names() {
        for name in ["", "x", "hosu", "content_length", "content\rlength", "transfer-encodinG ", "HoSt "] {
            assert_eq!(Known::lookup(name.as_bytes()), Known::Other, "{name}");
        }
    }

    fn check(line: &str, expect: Option<(&str, &str)>) {
        let got = match parse_line::<true>(line.as_bytes(), 0) {
            FieldLine::Field(field, _) => Some((
                String::from_utf8_lossy(field.name.of(line.as_bytes())).into_owned(),
                String::from_utf8_lossy(field.value.of(line.as_bytes())).into_owned(),
            )),
            _ => None,
        };
        assert_eq!(got, expect.map(|(name, value)| (name.to_owned(), value.to_owned())), "{line:?}");
    }

    #[test]
    fn lines_are_split_as_rfc_9112_5_says() {
        check("Host: a\r\n", Some(("Host", "a")));
        check("Host:a\n", Some(("Host", "a")));
        check("Host:  a b \t \r\n", Some(("Host", "a b")));
        check("Host:\r\n", Some(("Host", "")));
        check("Host: \t \r\n", Some(("Host", "")));
        check("a.b: c\r\n", Some(("a.b", "c")));
        check("a: caf\u{e9}\r\n", Some(("a", "caf\u{e9}")));
        check("a: b\u{1}c\r\n", Some(("a", "b\u{1}c"))); // nginx: other controls are left in values
    }

    #[test]
    fn broken_lines_are_refused() {
        check("Host : a\r\n", None); // RFC 9112, 5.1
        check(" folded\r\n", None); // RFC 9112, 5.2
        check("\tfolded\r\n", None);
        check(": a\r\n", None);
        check("no colon\r\n", None);
        check("nocolon\r\n", None);
        check("a: b\rc\r\n", None);
        check("a: b\r\r\n", None);
        check("a: b\0c\r\n", None);
        check("a\u{7f}: b\r\n", None);
    }
}
