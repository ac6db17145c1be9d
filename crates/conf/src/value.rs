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
