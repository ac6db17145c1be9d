//! The `Range` field against a known length. RFC 9110, 14.1.2 and 14.2; what is refused and what ignored, as nginx.
//! `If-Range` is the caller's.

use std::ops::Range;

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole content with 200, as if the field were not there.
    Whole,
    /// 416 with `Content-Range: bytes */length`.
    NotSatisfiable,
    /// 206 with the ranges found, one or several.
    Partial,
}

/// Bytes nginx counts for the head of each part of a multipart answer.
const PART: i64 = 256;
/// How much longer than the content a multipart answer may become.
const SLACK: i64 = 4096;

/// Parses the value of `Range` for content of `length` bytes into `out`. `max_ranges` is the directive of that name,
/// `None` if it was not given; a value of 0 switches ranges off.
pub fn parse(value: &[u8], length: u64, max_ranges: Option<u32>, out: &mut Vec<Range<u64>>) -> Outcome {
    out.clear();
    let Ok(length) = i64::try_from(length) else { return Outcome::Whole };
    let Some((unit, set)) = value.split_at_checked(6) else { return Outcome::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") || set.is_empty() || max_ranges == Some(0) {
        return Outcome::Whole;
    }
    let limit = max_ranges.map_or(usize::MAX, |max| max as usize);
    let mut size = 0i64;
    for spec in set.split(|byte| *byte == b',') {
        let Some((start, end)) = parse_spec(spec, length) else { return Outcome::NotSatisfiable };
        if start < end {
            let Some(sum) = size.checked_add(end - start) else { return Outcome::NotSatisfiable };
            size = sum;
            if out.len() >= limit {
                return Outcome::Whole;
            }
            out.push(start.unsigned_abs()..end.unsigned_abs());
        } else if start == 0 {
            return Outcome::Whole;
        }
    }
    match out.len() {
        0 => Outcome::NotSatisfiable,
        1 => Outcome::Partial,
        _ if size > length => Outcome::Whole,
        // Many small ranges must not cost more than the whole: a limit that a directive lifts.
        count if max_ranges.is_none() => {
            let parts = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(PART);
            if size.saturating_add(parts) > length.saturating_add(SLACK) {
                Outcome::Whole
            } else {
                Outcome::Partial
            }
        }
        _ => Outcome::Partial,
    }
}

/// One range of the set, its end excluded and cut to `length`; `None` if it breaks the grammar or a number is too large.
fn parse_spec(spec: &[u8], length: i64) -> Option<(i64, i64)> {
    let rest = skip_spaces(spec);
    if let [b'-', rest @ ..] = rest {
        let (suffix, rest) = parse_number(rest)?;
        skip_spaces(rest).is_empty().then_some(())?;
        return Some((if suffix < length { length - suffix } else { 0 }, length));
    }
    let (start, rest) = parse_number(rest)?;
    let rest = skip_spaces(skip_spaces(rest).strip_prefix(b"-")?);
    if rest.is_empty() {
        return Some((start, length));
    }
    let (last, rest) = parse_number(rest)?;
    skip_spaces(rest).is_empty().then_some(())?;
    Some((start, if last >= length { length } else { last + 1 }))
}

fn skip_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// The number at the start of `text`, and what follows it.
fn parse_number(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    if number.is_empty() {
        return None;
    }
    let value = number
        .iter()
        .try_fold(0i64, |value, digit| value.checked_mul(10)?.checked_add(i64::from(digit - b'0')))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, length: u64, max_ranges: Option<u32>, expect: &str) {
        let mut out = Vec::new();
        let got = match parse(value.as_bytes(), length, max_ranges, &mut out) {
            Outcome::Whole => "200".to_owned(),
            Outcome::NotSatisfiable => "416".to_owned(),
            Outcome::Partial => {
                let ranges: Vec<_> =
                    out.iter().map(|range| format!("{}..{}", range.start, range.end)).collect();
                ranges.join(" ")
            }
        };
        assert_eq!(got, expect, "{value} of {length}");
    }

    #[test]
    fn single_ranges() {
        check("bytes=0-8", 100, None, "0..9");
        check("bytes=-10", 100, None, "90..100");
        check("bytes=-100", 100, None, "0..100");
        check("bytes=-200", 100, None, "0..100");
        check("bytes=0-", 100, None, "0..100");
        check("BYTES=99-", 100, None, "99..100");
        check("bytes=90-1000", 100, None, "90..100");
        check("bytes= 1 - 2 ", 100, None, "1..3");
        check("bytes=0-0", 1, None, "0..1");
    }

    #[test]
    fn what_is_no_range_request_is_ignored() {
        for value in ["", "bytes", "bytes=", "byte=0-1", "items=0-1", "bytes 0-1"] {
            check(value, 100, None, "200");
        }
        check("bytes=0-1", 100, Some(0), "200");
        check("bytes=0-", 0, None, "200");
        check("bytes=-5", 0, None, "200");
    }

    #[test]
    fn what_cannot_be_satisfied() {
        for value in [
            "bytes=100-",
            "bytes=-0",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-a",
            "bytes=--1",
            "bytes=-",
            "bytes=,",
            "bytes=1-2,",
            "bytes= ",
            "bytes=1-2;3",
            "bytes=+1-2",
            "bytes=9223372036854775808-",
            "bytes=0-9223372036854775808",
            "bytes=-9223372036854775808",
            "bytes=1-2,x",
            "bytes=1\t-2",
            "bytes=0x1-2",
        ] {
            check(value, 100, None, "416");
        }
        check("bytes=5-", 0, None, "416");
    }

    #[test]
    fn several_ranges() {
        check("bytes=0-9, -10, 10-10", 10_000, None, "0..10 9990..10000 10..11");
        check("bytes=0-9,200-", 100, None, "0..10");
        check("bytes=5-3,0-9", 100, None, "0..10");
        check("bytes=0-9,20-29", 100, Some(1), "200");
        check("bytes=0-9,20-29", 100, Some(2), "0..10 20..30");
        check("bytes=0-99,0-99", 100, None, "200");
        check("bytes=0-9,0-0x", 100, None, "416");
    }

    #[test]
    fn many_small_ranges_are_not_worth_it() {
        let ranges = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        check(&ranges(17), 300, None, &vec!["0..1"; 17].join(" "));
        check(&ranges(18), 300, None, "200");
        check(&ranges(18), 300, Some(20), &vec!["0..1"; 18].join(" "));
    }

    #[test]
    fn sums_do_not_overflow() {
        let top = i64::MAX as u64;
        check("bytes=0-9223372036854775806,0-9223372036854775806", top, None, "416");
        check("bytes=0-9223372036854775806", top, None, "0..9223372036854775807");
        check("bytes=0-9223372036854775807", top, None, "0..9223372036854775807");
        check("bytes=0-1", u64::MAX, None, "200");
    }
}
