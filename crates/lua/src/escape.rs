//! Escaping as the Lua API does it: its sets of bytes differ from nginx's own (`moonrest_proto::escape`).
//! <https://github.com/openresty/lua-nginx-module#ngxescape_uri>

use std::borrow::Cow;

/// By byte value: 1 for those that are escaped.
pub(crate) struct Set([u8; 256]);

impl Set {
    #[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
    const fn new(marks: &[u8], controls: u32, high: bool) -> Self {
        let mut escaped = [0; 256];
        let mut n = 0;
        while n < 256 {
            escaped[n] = if n < 32 { (controls >> n & 1) as u8 } else { (n >= 128 && high) as u8 };
            n += 1;
        }
        n = 0;
        while n < marks.len() {
            escaped[marks[n] as usize] = 1;
            n += 1;
        }
        Self(escaped)
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)] != 0
    }

    /// Number of bytes that would be escaped, each growing by two.
    pub(crate) fn count(&self, text: &[u8]) -> usize {
        text.iter().filter(|byte| self.has(**byte)).count()
    }

    /// The text escaped, byte by byte.
    pub(crate) fn bytes<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = u8> + 't {
        text.iter().flat_map(|&byte| {
            let (three, len) = if self.has(byte) {
                ([b'%', upper_hex(byte >> 4), upper_hex(byte & 15)], 3)
            } else {
                ([byte, 0, 0], 1)
            };
            three.into_iter().take(len)
        })
    }

    /// The text, escaped if need be.
    pub(crate) fn escaped<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        if text.iter().fold(0, |any, byte| any | self.0[usize::from(*byte)]) == 0 {
            return Cow::Borrowed(text);
        }
        Cow::Owned(self.bytes(text).collect())
    }

    /// Appends the text, escaped.
    pub(crate) fn append(&self, text: &[u8], out: &mut Vec<u8>) {
        out.reserve(text.len());
        if self.count(text) == 0 { out.extend_from_slice(text) } else { out.extend(self.bytes(text)) }
    }
}

fn upper_hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'A' - 10 + digit }
}

const CONTROLS: u32 = u32::MAX;

/// `ngx.escape_uri(s, type)`, by type. 2 is the default: everything but letters, digits and `-_.!~*'()`.
static TYPES: [Set; 7] = [
    Set::new(b" #%?\x7f", CONTROLS, true),
    Set::new(b" #%+?\x7f", CONTROLS, true),
    Set::new(b" \"#$%&+,/:;<=>?@[\\]^`{|}\x7f", CONTROLS, true),
    Set::new(b" \"#%'\x7f", CONTROLS, true),
    Set::new(b" \"'\x7f", CONTROLS, true),
    Set::new(b" %", CONTROLS, false),
    Set::new(b" %", CONTROLS, false),
];

/// What cannot stand in the name of a header field.
pub(crate) static HEADER_NAME: Set = Set::new(b" \"(),/:;<=>?@[\\]{}\x7f", CONTROLS, true);
/// What cannot stand in its value: control characters but the tab.
pub(crate) static HEADER_VALUE: Set = Set::new(b"\x7f", CONTROLS & !(1 << 9), false);

/// The set of a type of `ngx.escape_uri`.
pub(crate) fn of_type(kind: i32) -> &'static Set {
    usize::try_from(kind).ok().and_then(|kind| TYPES.get(kind)).unwrap_or(component())
}

/// The default: what stands in a component of a URI.
pub(crate) fn component() -> &'static Set {
    &TYPES[2]
}

/// Decodes `%xx`, and `+` as a space, in place; gives the length. What is no escape stays.
pub(crate) fn unescape_in_place(text: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while let Some(&byte) = text.get(from) {
        from += 1;
        let decoded = match byte {
            b'+' => b' ',
            b'%' => match (hex(text.get(from)), hex(text.get(from + 1))) {
                (Some(high), Some(low)) => {
                    from += 2;
                    (high << 4) | low
                }
                _ => b'%',
            },
            byte => byte,
        };
        if let Some(place) = text.get_mut(to) {
            *place = decoded;
        }
        to += 1;
    }
    to
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    moonrest_proto::escape::hex_value(*digit?)
}

/// The same into a buffer of its own.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let len = unescape_in_place(&mut out);
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_own_bytes() {
        let check = |kind, expect: &str| {
            let mut out = Vec::new();
            of_type(kind).append(b"a b#%+?\"'/~\x7f\xe9\n", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect, "type {kind}");
            assert_eq!(out.len(), 14 + 2 * of_type(kind).count(b"a b#%+?\"'/~\x7f\xe9\n"));
        };
        check(0, "a%20b%23%25+%3F\"'/~%7F%E9%0A");
        check(1, "a%20b%23%25%2B%3F\"'/~%7F%E9%0A");
        check(2, "a%20b%23%25%2B%3F%22'%2F~%7F%E9%0A");
        check(3, "a%20b%23%25+?%22%27/~%7F%E9%0A");
        check(4, "a%20b#%+?%22%27/~%7F%E9%0A");
    }

    #[test]
    fn field_values_keep_their_line() {
        let mut out = Vec::new();
        HEADER_VALUE.append(b"a\tb\r\nc: \xe9", &mut out);
        assert_eq!(out, b"a\tb%0D%0Ac: \xe9");
        out.clear();
        HEADER_NAME.append(b"X-A: b\n", &mut out);
        assert_eq!(out, b"X-A%3A%20b%0A");
    }

    #[test]
    fn broken_escapes_stay() {
        for (text, expect) in [("a%20b+c", "a b c"), ("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("", "")] {
            assert_eq!(unescaped(text.as_bytes()), expect.as_bytes());
        }
    }
}
