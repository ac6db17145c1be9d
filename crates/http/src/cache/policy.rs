//! For how long an answer may be kept, by its own fields: `X-Accel-Expires`, `Cache-Control`, `Expires`, `Set-Cookie`,
//! `Vary`. RFC 9111 as far as nginx follows it, RFC 5861.

use super::file::MOST_VARY;
use crate::upstream::mask;
use moonrest_proto::{
    date,
    http1::{Known, ResponseHead},
};

/// What the fields say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Until when, in seconds since 1970; 0 when they do not say.
    pub valid: i64,
    /// Seconds after that in which a stale answer may be given while another is fetched, or none can be had.
    pub updating: i64,
    pub error: i64,
    /// They say that it must not be kept, unless a field that counts more says otherwise.
    refused: bool,
    expired: bool,
    /// It must not be kept.
    forbidden: bool,
    accel: bool,
    /// The value of `Vary`.
    pub vary: Vec<u8>,
}

impl Freshness {
    /// Reads the head's fields, but for those that are ignored.
    pub(crate) fn of(head: &ResponseHead, block: &[u8], ignored: u32, now: i64) -> Self {
        let mut fresh = Self::default();
        let fields = &head.fields;
        for (index, field) in fields.iter().enumerate() {
            let value = field.value.of(block);
            let first = || fields.index_of(field.known) == Some(index);
            match field.known {
                Known::XAccelExpires if ignored & mask::IGNORE_ACCEL_EXPIRES == 0 && first() => {
                    fresh.accel(value, now);
                }
                Known::Expires if ignored & mask::IGNORE_EXPIRES == 0 && first() => fresh.expires(value, now),
                Known::CacheControl if ignored & mask::IGNORE_CACHE_CONTROL == 0 => fresh.control(value, now),
                Known::SetCookie if ignored & mask::IGNORE_SET_COOKIE == 0 => fresh.forbidden = true,
                Known::Vary if ignored & mask::IGNORE_VARY == 0 => fresh.vary(value),
                _ => {}
            }
        }
        fresh
    }

    /// Whether the answer may be kept at all.
    pub(crate) fn allows(&self) -> bool {
        !self.refused && !self.expired && !self.forbidden
    }

    fn accel(&mut self, value: &[u8], now: i64) {
        self.accel = true;
        let valid = match value.strip_prefix(b"@") {
            Some(at) => decimal(at),
            None => match decimal(value) {
                Some(0) => {
                    self.forbidden = true;
                    return;
                }
                seconds => seconds.map(|seconds| now.saturating_add(seconds)),
            },
        };
        if let Some(valid) = valid {
            self.valid = valid;
            (self.refused, self.expired) = (false, false);
        }
    }

    fn expires(&mut self, value: &[u8], now: i64) {
        if self.valid != 0 {
            return;
        }
        match date::parse_http(value) {
            Some(at) if at >= now => self.valid = at,
            _ => self.expired = true,
        }
    }

    fn control(&mut self, value: &[u8], now: i64) {
        if self.valid == 0 || !self.accel {
            if ["no-cache", "no-store", "private"].iter().any(|word| find(value, word.as_bytes()).is_some()) {
                self.refused = true;
                return;
            }
            match after(value, b"s-maxage=").or_else(|| after(value, b"max-age=")) {
                None => {}
                Some(None) => {
                    self.forbidden = true;
                    return;
                }
                Some(Some(0)) => {
                    self.refused = true;
                    return;
                }
                Some(Some(seconds)) => {
                    self.valid = now.saturating_add(seconds);
                    self.expired = false;
                }
            }
        }
        match after(value, b"stale-while-revalidate=") {
            None => {}
            Some(None) => {
                self.forbidden = true;
                return;
            }
            Some(Some(seconds)) => (self.updating, self.error) = (seconds, seconds),
        }
        match after(value, b"stale-if-error=") {
            None => {}
            Some(None) => self.forbidden = true,
            Some(Some(seconds)) => self.error = seconds,
        }
    }

    fn vary(&mut self, value: &[u8]) {
        if value == b"*" {
            self.forbidden = true;
            return;
        }
        if !self.vary.is_empty() {
            self.vary.extend_from_slice(b", ");
        }
        self.vary.extend_from_slice(value);
        self.forbidden |= self.vary.len() > MOST_VARY;
    }
}

/// Where `word` stands in `text`, whatever its case.
fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|part| part.eq_ignore_ascii_case(word))
}

/// The seconds behind `name`: none if it is not there; `Some(None)` if they are no number.
fn after(text: &[u8], name: &[u8]) -> Option<Option<i64>> {
    let rest = text.get(find(text, name)? + name.len()..)?;
    let end = rest.iter().position(|byte| matches!(byte, b',' | b';' | b' ')).unwrap_or(rest.len());
    let digits = rest.get(..end).unwrap_or_default();
    if !digits.iter().all(u8::is_ascii_digit) {
        return Some(None);
    }
    let seconds =
        digits.iter().fold(0_i64, |n, byte| n.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
    Some(Some(seconds))
}

fn decimal(text: &[u8]) -> Option<i64> {
    moonrest_core::conf::value::parse_uint(text).and_then(|number| i64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid for how long, stale while updated, stale on errors; none when it is not kept.
    fn check(fields: &str, expect: Option<(i64, i64, i64)>) {
        let block = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let mut head = ResponseHead::new();
        head.parse(block.as_bytes()).unwrap();
        let now = 1_000_000_000;
        let fresh = Freshness::of(&head, block.as_bytes(), 0, now);
        let valid = if fresh.valid == 0 { 0 } else { fresh.valid - now };
        let got = fresh.allows().then_some((valid, fresh.updating, fresh.error));
        assert_eq!(got, expect, "{fields}");
    }

    #[test]
    fn fields_say_for_how_long() {
        check("", Some((0, 0, 0)));
        check("Cache-Control: max-age=10\r\n", Some((10, 0, 0)));
        check("Cache-Control: public, MAX-AGE=10, s-maxage=20\r\n", Some((20, 0, 0)));
        check("Cache-Control: max-age=0\r\n", None);
        check("Cache-Control: max-age=x\r\n", None);
        check("Cache-Control: private\r\n", None);
        check("Cache-Control: max-age=99999999999999999999\r\n", Some((i64::MAX - 1_000_000_000, 0, 0)));
        check("Cache-Control: max-age=1, stale-while-revalidate=5\r\n", Some((1, 5, 5)));
        check("Cache-Control: max-age=1\r\nCache-Control: stale-if-error=7\r\n", Some((1, 0, 7)));
        check("Expires: Thu, 31 Dec 2037 23:55:55 GMT\r\n", Some((1_145_916_555, 0, 0)));
        check("Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\n", None);
        check("Expires: never\r\nCache-Control: max-age=5\r\n", Some((5, 0, 0)));
        check("X-Accel-Expires: 0\r\nCache-Control: max-age=5\r\n", None);
        check("X-Accel-Expires: 3\r\nCache-Control: no-store, stale-if-error=2\r\n", Some((3, 0, 2)));
        check("Cache-Control: no-cache\r\nX-Accel-Expires: 3\r\n", Some((3, 0, 0)));
        check("X-Accel-Expires: @1000000007\r\n", Some((7, 0, 0)));
    }

    #[test]
    fn cookies_and_anything_that_varies_are_not_kept() {
        check("Set-Cookie: a=b\r\nCache-Control: max-age=10\r\n", None);
        check("Vary: *\r\n", None);
        check("Vary: Accept\r\n", Some((0, 0, 0)));
        check(&format!("Vary: {}\r\n", "x".repeat(129)), None);
    }
}
