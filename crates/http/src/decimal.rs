//! Numbers written in decimal without the formatting machinery, for what is written in every response.

/// Appends a number.
#[inline]
pub fn append(out: &mut Vec<u8>, number: u64) {
    let digit = |by: u64| b'0' + (number / by % 10) as u8;
    // Lengths are mostly short; here all is known but the digits.
    match number {
        0..10 => out.push(digit(1)),
        10..100 => out.extend_from_slice(&[digit(10), digit(1)]),
        100..1000 => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        1000..10_000 => out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]),
        _ => append_long(out, number),
    }
}

fn append_long(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(digits(number, &mut [0; 20]));
}

/// The digits of a number, written at the end of `room`.
pub fn digits(number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    let mut rest = number;
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    room.get(at..).unwrap_or_default()
}

/// Appends a number of at least three digits.
pub fn append_three(out: &mut Vec<u8>, number: u64) {
    if number < 100 {
        out.push(b'0');
    }
    if number < 10 {
        out.push(b'0');
    }
    append(out, number);
}

/// Appends milliseconds as seconds with three places: `12.345`.
pub fn append_millis(out: &mut Vec<u8>, millis: u64) {
    append(out, millis / 1000);
    out.push(b'.');
    append_three(out, millis % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_seconds() {
        let text = |write: fn(&mut Vec<u8>, u64), number| {
            let mut out = Vec::new();
            write(&mut out, number);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(append, 0), "0");
        for number in (0..20_000).chain([99_999, 100_000, u64::from(u32::MAX)]) {
            assert_eq!(text(append, number), number.to_string());
        }
        assert_eq!(text(append, u64::MAX), u64::MAX.to_string());
        assert_eq!(text(append_three, 9), "009");
        assert_eq!(text(append_three, 99), "099");
        assert_eq!(text(append_three, 1000), "1000");
        assert_eq!(text(append_millis, 5), "0.005");
        assert_eq!(text(append_millis, 61_020), "61.020");
    }
}
