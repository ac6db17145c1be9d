//! Numbers as text: what `%.14g` writes, faster.
use std::io::Write as _;

const POWERS: [f64; 18] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17];

/// Appends a finite number with up to `precision` (1 to 16) significant digits.
pub(super) fn write(out: &mut Vec<u8>, number: f64, precision: usize) {
    let bound = POWERS.get(precision).copied().unwrap_or(1e14);
    if number.abs() < bound && number.trunc() == number {
        if number.is_sign_negative() {
            out.push(b'-');
        }
        // Below 10^17: it fits.
        write_integer(out, number.abs() as u64);
    } else if !write_decimal(out, number, precision) {
        write_general(out, number, precision);
    }
}

/// Writes what has few digits behind its point: of 3.25 a product with a power of ten is whole. False if there is more
/// to it.
///
/// Digits whose value reads as this number are the nearest ones there are: up to 15 of them, no two decimals are the same
/// number. Quotient and operands are exact or rounded once, so the comparison is that of a reader.
fn write_decimal(out: &mut Vec<u8>, number: f64, precision: usize) -> bool {
    let size = number.abs();
    let Some(&bound) = POWERS.get(precision).filter(|_| precision <= 15) else { return false };
    if size < 1e-3 {
        return false;
    }
    for (places, &power) in POWERS.iter().enumerate().take(7).skip(1) {
        let scaled = size * power;
        if scaled >= bound {
            return false;
        }
        if scaled.trunc() == scaled && scaled / power == size {
            if number.is_sign_negative() {
                out.push(b'-');
            }
            let (scaled, power) = (scaled as u64, power as u64);
            write_integer(out, scaled / power);
            let mut digits = [b'0'; 8];
            let mut rest = scaled % power;
            for place in (1..=places).rev() {
                digits[place] += (rest % 10) as u8;
                rest /= 10;
            }
            digits[0] = b'.';
            // A product may have been rounded up to a whole number only with a place too many.
            let last = digits[..=places].iter().rposition(|digit| *digit != b'0').unwrap_or(0);
            out.extend_from_slice(&digits[..=last]);
            return true;
        }
    }
    false
}

fn write_integer(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while number > 0 && at > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// As `%.*g`: the shorter of both notations, without zeros at the end.
#[inline(never)]
fn write_general(out: &mut Vec<u8>, number: f64, precision: usize) {
    let mut text = [0u8; 40];
    let mut rest = &mut text[..];
    // `d.ddde-x`, rounded as C rounds: to the nearest, ties to even.
    if write!(rest, "{:.*e}", precision - 1, number.abs()).is_err() {
        return;
    }
    let left = rest.len();
    let used = text.len() - left;
    let text = &text[..used];
    let Some(mark) = text.iter().rposition(|byte| *byte == b'e') else { return };
    let exponent: i32 =
        std::str::from_utf8(&text[mark + 1..]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut digits = [0u8; 40];
    let mut count = 0;
    for byte in text[..mark].iter().filter(|byte| **byte != b'.') {
        digits[count] = *byte;
        count += 1;
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = &digits[..count];
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if exponent < -4 || exponent >= precision as i32 {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        if count <= whole {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', whole - count));
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::write;

    fn c(number: f64, precision: i32) -> String {
        let mut text = [0u8; 64];
        // SAFETY: room for any number in this format.
        let len = unsafe {
            libc::snprintf(text.as_mut_ptr().cast(), text.len(), c"%.*g".as_ptr(), precision, number)
        };
        String::from_utf8_lossy(&text[..len as usize]).into_owned()
    }

    fn check(number: f64) {
        for precision in 1..=16 {
            let mut out = Vec::new();
            write(&mut out, number, precision as usize);
            assert_eq!(String::from_utf8_lossy(&out), c(number, precision), "{number:e} with {precision}");
        }
    }

    #[test]
    fn numbers_read_as_those_of_printf() {
        for number in [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            0.1,
            1.5,
            2.5,
            0.25,
            1e14,
            1e15,
            123_456_789_012_345.0,
            100_000_000_000_005.0,
            100_000_000_000_015.0,
            1e-5,
            1e-4,
            0.000_123_45,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            9.999_999_999_999_999,
            99_999_999_999_999.9,
            1e100,
            2.675_640_114_297_263,
            1e16,
            1e17,
            9_007_199_254_740_993.0,
        ] {
            check(number);
            check(-number);
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let number = f64::from_bits(seed);
            if number.is_finite() {
                check(number);
            }
            check((seed % 1_000_000) as f64 / 1000.0);
            check((seed % 100_000_000_000) as f64 / 1e6);
            check((seed % 1_000_000_007) as f64 * 0.1);
        }
    }
}
