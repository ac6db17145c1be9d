//! Values as directives take them: sizes, times, numbers, flags.
//! <https://nginx.org/en/docs/syntax.html>

/// What nginx holds times, sizes and numbers in.
const MAX: u64 = i64::MAX as u64;

/// A number without sign, up to what nginx can hold.
pub fn parse_uint(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, |value, &byte| push_digit(value, byte))
}

fn push_digit(value: u64, byte: u8) -> Option<u64> {
    if !byte.is_ascii_digit() {
        return None;
    }
    value.checked_mul(10)?.checked_add(u64::from(byte - b'0')).filter(|&value| value <= MAX)
}

/// A size in bytes; `k` and `m` may follow.
pub fn parse_size(text: &[u8]) -> Option<u64> {
    let (&unit, number) = text.split_last()?;
    match unit {
        b'k' | b'K' => scaled(number, 1 << 10),
        b'm' | b'M' => scaled(number, 1 << 20),
        _ => parse_uint(text),
    }
}

/// An offset or size in bytes; `k`, `m` and `g` may follow.
pub fn parse_offset(text: &[u8]) -> Option<u64> {
    match text.split_last()? {
        (b'g' | b'G', number) => scaled(number, 1 << 30),
        _ => parse_size(text),
    }
}

fn scaled(number: &[u8], scale: u64) -> Option<u64> {
    parse_uint(number)?.checked_mul(scale).filter(|&value| value <= MAX)
}

/// A time in milliseconds: `1d 12h`, `30s`, `500ms`; a number alone is seconds. Years do not fit.
pub fn parse_msec(text: &[u8]) -> Option<u64> {
    parse_time(text, Unit::Month, 1000)
}

/// A time in seconds: `1y 6M`, `1h30m`; a number alone is seconds.
pub fn parse_sec(text: &[u8]) -> Option<u64> {
    parse_time(text, Unit::Start, 1)
}

/// Units go from large to small, each at most once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Start,
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Last,
}

const DAY: u64 = 24 * 60 * 60;

/// Reads a time. `first` is the unit passed already; `per_second` says in what the answer is.
fn parse_time(text: &[u8], first: Unit, per_second: u64) -> Option<u64> {
    let milliseconds = per_second == 1000;
    let (mut rest, mut step) = (text, first);
    let (mut total, mut value) = (0_u64, 0_u64);
    let mut valid = false;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte.is_ascii_digit() {
            value = push_digit(value, byte)?;
            valid = true;
            continue;
        }
        let millisecond = byte == b'm' && rest.first() == Some(&b's');
        let (unit, scale) = match byte {
            _ if millisecond && milliseconds => (Unit::Millisecond, 1),
            _ if millisecond => return None,
            b'y' => (Unit::Year, 365 * DAY * per_second),
            b'M' => (Unit::Month, 30 * DAY * per_second),
            b'w' => (Unit::Week, 7 * DAY * per_second),
            b'd' => (Unit::Day, DAY * per_second),
            b'h' => (Unit::Hour, 60 * 60 * per_second),
            b'm' => (Unit::Minute, 60 * per_second),
            b's' => (Unit::Second, per_second),
            b' ' => (Unit::Last, per_second),
            _ => return None,
        };
        // nginx: a blank after a number stands for seconds, so nothing that is as small may have come before.
        let limit = if unit == Unit::Last { Unit::Second } else { unit };
        if step >= limit {
            return None;
        }
        step = unit;
        if millisecond {
            rest = &rest[1..];
        }
        total = add(total, value, scale)?;
        value = 0;
        while let [b' ', tail @ ..] = rest {
            rest = tail;
        }
    }
    if valid { add(total, value, per_second) } else { None }
}

fn add(total: u64, value: u64, scale: u64) -> Option<u64> {
    value.checked_mul(scale)?.checked_add(total).filter(|&sum| sum <= MAX)
}

/// `on` or `off`, in any case.
pub fn parse_flag(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"on") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"off") {
        Some(false)
    } else {
        None
    }
}

/// A number with up to `digits` decimals, times ten to the power of `digits`: `12.5` with two is 1250.
pub fn parse_fixed_point(text: &[u8], digits: u32) -> Option<u64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let missing = usize::try_from(digits).ok()?.checked_sub(decimals.len())?;
    if text.is_empty() || digits == 0 {
        return None;
    }
    // nginx: a point alone is zero.
    let zeros = std::iter::repeat_n(&b'0', missing);
    whole.iter().chain(decimals).chain(zeros).try_fold(0, |value, &byte| push_digit(value, byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parser: impl Fn(&[u8]) -> Option<u64>, cases: &[(&str, Option<u64>)]) {
        for &(text, expect) in cases {
            assert_eq!(parser(text.as_bytes()), expect, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_digits_alone() {
        let max = "9223372036854775807";
        let more = "9223372036854775808";
        check(parse_uint, &[("0", Some(0)), ("007", Some(7)), (max, Some(MAX)), (more, None)]);
        check(
            parse_uint,
            &[("", None), ("-1", None), ("+1", None), ("1 ", None), ("1k", None), ("0x1", None)],
        );
    }

    #[test]
    fn sizes_have_one_unit_at_most() {
        check(parse_size, &[("1", Some(1)), ("1k", Some(1024)), ("2K", Some(2048)), ("3m", Some(3 << 20))]);
        check(
            parse_size,
            &[("", None), ("k", None), ("1g", None), ("1kk", None), ("1 k", None), ("1b", None)],
        );
        check(parse_size, &[("9007199254740991k", Some(MAX - 1023)), ("9007199254740992k", None)]);
        check(
            parse_offset,
            &[("1g", Some(1 << 30)), ("2G", Some(2 << 30)), ("1m", Some(1 << 20)), ("7", Some(7))],
        );
        check(parse_offset, &[("8589934592g", None), ("g", None), ("", None)]);
    }

    #[test]
    fn times_go_from_large_to_small() {
        check(parse_sec, &[("30", Some(30)), ("30s", Some(30)), ("1m", Some(60)), ("1h30m", Some(5400))]);
        check(parse_sec, &[("1y", Some(365 * DAY)), ("1M", Some(30 * DAY)), ("1w2d", Some(9 * DAY))]);
        check(
            parse_sec,
            &[("1m 30", Some(90)), ("1m  30s", Some(90)), ("30 ", Some(30)), ("1d5", Some(DAY + 5))],
        );
        check(parse_sec, &[("", None), ("s", None), ("1m1h", None), ("1m1m", None), ("1 m", None)]);
        check(parse_sec, &[("5ms", None), ("1.5s", None), ("-1", None), ("1D", None)]);
        // nginx: what follows a blank counts once more.
        check(parse_sec, &[(" 5", Some(5)), ("30  1", Some(31)), ("30 1 1", None)]);
        check(parse_sec, &[("292471208677y", Some(292_471_208_677 * 365 * DAY)), ("292471208678y", None)]);
    }

    #[test]
    fn milliseconds_know_no_years() {
        check(
            parse_msec,
            &[("5", Some(5000)), ("5ms", Some(5)), ("1s500ms", Some(1500)), ("1m", Some(60_000))],
        );
        check(parse_msec, &[("1w", Some(7 * DAY * 1000)), ("1y", None), ("1M", None), ("5ms1s", None)]);
        check(parse_msec, &[("9223372036854775", Some(MAX / 1000 * 1000)), ("9223372036854776", None)]);
    }

    #[test]
    fn flags_are_on_or_off_in_any_case() {
        assert_eq!(
            (parse_flag(b"on"), parse_flag(b"OFF"), parse_flag(b"yes")),
            (Some(true), Some(false), None)
        );
    }

    #[test]
    fn decimals_are_counted() {
        let two = |text: &[u8]| parse_fixed_point(text, 2);
        check(
            two,
            &[
                ("1", Some(100)),
                ("1.5", Some(150)),
                ("12.34", Some(1234)),
                ("1.", Some(100)),
                (".5", Some(50)),
            ],
        );
        check(two, &[("", None), ("1.234", None), ("1.2.3", None), ("x", None), ("-1", None)]);
    }
}
