//! The field names that the server acts on, and the fast way to tell them apart.

use super::scan::word;

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
            pub const COUNT: usize = {
                assert!(Self::ALL.len() < 64, "sets of names are the bits of a word");
                Self::ALL.len() + 1
            };

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

impl Known {
    /// The name as a set of one: sets of names are words with a bit for each.
    #[inline]
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// The set of these names.
    #[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
    #[must_use]
    pub const fn set(names: &[Self]) -> u64 {
        let (mut set, mut n) = (0, 0);
        while n < names.len() {
            set |= names[n].bit();
            n += 1;
        }
        set
    }

    /// Whether the name is in a set.
    #[inline]
    #[must_use]
    pub const fn is_in(self, set: u64) -> bool {
        set & self.bit() != 0
    }
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

/// Tells which of the listed names begins with this word and, beyond eight bytes, ends with that one.
macro_rules! among {
    ($first:expr; $($known:ident)*) => {{
        $(
            const { assert!(Known::$known.name().len() <= 8) };
            if is_word::<{ Known::$known as u8 }, 0>($first) {
                return Known::$known;
            }
        )*
        Known::Other
    }};
    ($len:literal $first:expr, $last:expr; $($known:ident)*) => {{
        $(
            const { assert!(Known::$known.name().len() == $len) };
            if is_word::<{ Known::$known as u8 }, 0>($first)
                && is_word::<{ Known::$known as u8 }, { $len - 8 }>($last)
            {
                return Known::$known;
            }
        )*
        Known::Other
    }};
}

/// Whether `word` is the part of a name from `AT` on, in any case of letters; what lies behind the name does not count.
#[inline(always)]
fn is_word<const KNOWN: u8, const AT: usize>(word: u64) -> bool {
    let (text, mask) = const { text_and_mask(KNOWN, AT) };
    (word ^ text) & mask == 0
}

#[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
const fn text_and_mask(known: u8, at: usize) -> (u64, u64) {
    let name = Known::ALL[known as usize - 1].name().as_bytes();
    let (mut text, mut mask) = (0, 0);
    let mut n = 0;
    while n < 8 && at + n < name.len() {
        let byte = name[at + n];
        text |= (byte as u64) << (8 * n);
        // 0x20 tells lower from upper case.
        mask |= (if byte.is_ascii_alphabetic() { 0xdf } else { 0xff }) << (8 * n);
        n += 1;
    }
    (text, mask)
}

impl Known {
    /// Which name this is, in any case of letters.
    #[inline]
    #[must_use]
    pub fn lookup(name: &[u8]) -> Self {
        Self::of_name(name, name)
    }

    /// The same for a name at the start of `line`, comparing eight bytes at once.
    #[inline(always)]
    pub(super) fn of_name(name: &[u8], line: &[u8]) -> Self {
        let first = word(line, line);
        match name.len() {
            2 => among!(first; Te),
            3 => among!(first; Via),
            4 => among!(first; Host Date Etag Vary Link),
            5 => among!(first; Range Depth),
            6 => among!(first; Accept Cookie Expect Status Server Pragma),
            7 => among!(first; Referer Upgrade Trailer Refresh Expires),
            8 => among!(first; IfRange IfMatch Location),
            9..=19 => Self::of_long_name(name, first),
            _ => Self::Other,
        }
    }

    #[inline(always)]
    fn of_long_name(name: &[u8], first: u64) -> Self {
        let Some(last) = name.last_chunk() else { return Self::Other };
        let last = u64::from_le_bytes(*last);
        match name.len() {
            9 => among!(9 first, last; XRealIp Overwrite),
            10 => among!(10 first, last; UserAgent Connection KeepAlive SetCookie),
            11 => among!(11 first, last; Destination),
            12 => among!(12 first, last; ContentType),
            13 => {
                among!(13 first, last; IfNoneMatch Authorization CacheControl ContentRange AcceptRanges LastModified)
            }
            14 => among!(14 first, last; ContentLength),
            15 => {
                among!(15 first, last; AcceptEncoding AcceptLanguage XForwardedFor XAccelExpires XAccelCharset)
            }
            16 => among!(16 first, last; ProxyConnection ContentEncoding WwwAuthenticate XAccelRedirect),
            _ => Self::of_longest_name(name, first, last),
        }
    }

    /// Seventeen bytes and more: the two words leave out some in the middle.
    #[inline(never)]
    fn of_longest_name(name: &[u8], first: u64, last: u64) -> Self {
        let known = Self::by_ends(name.len(), first, last);
        if known.name().as_bytes().eq_ignore_ascii_case(name) { known } else { Self::Other }
    }

    fn by_ends(len: usize, first: u64, last: u64) -> Self {
        match len {
            17 => among!(17 first, last; IfModifiedSince TransferEncoding XAccelBuffering),
            18 => among!(18 first, last; XAccelLimitRate ProxyAuthenticate),
            _ => among!(19 first, last; IfUnmodifiedSince ProxyAuthorization ContentDisposition),
        }
    }
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
        for known in Known::ALL {
            let name = known.name();
            assert_eq!(Known::lookup(name.as_bytes()), *known, "{name}");
            assert_eq!(Known::lookup(name.to_ascii_uppercase().as_bytes()), *known, "{name}");
        }
    }

    #[test]
    fn near_misses_are_other_names() {
        for name in [
            "",
            "x",
            "hosu",
            "content_length",
            "content\rlength",
            "transfer-encodinx",
            "if-modified\rsince",
            "if-modifiee-since",
            "transfer-encodinG ",
            "HoSt ",
        ] {
            assert_eq!(Known::lookup(name.as_bytes()), Known::Other, "{name}");
        }
    }
}
