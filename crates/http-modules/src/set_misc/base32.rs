//! Base32 with any alphabet.

/// RFC 4648's extended-hex alphabet in lower case.
pub(super) const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Appends `value` in groups of eight digits, the last one filled up with `=` if wanted.
pub(super) fn encode(value: &[u8], alphabet: &[u8; 32], padding: bool, out: &mut Vec<u8>) {
    for group in value.chunks(5) {
        let bits =
            group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - group.len()));
        let digits = (group.len() * 8).div_ceil(5);
        for digit in 0..8 {
            let index = usize::try_from(bits >> (35 - 5 * digit) & 31).unwrap_or(0);
            if digit < digits {
                out.extend(alphabet.get(index));
            } else if padding {
                out.push(b'=');
            }
        }
    }
}

/// What stands before the first `=`, decoded; bits that are left over do not count. `None` for other digits, and for
/// lengths that no value has.
pub(super) fn decode(text: &[u8], alphabet: &[u8; 32]) -> Option<Vec<u8>> {
    let text = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    if matches!(text.len() % 8, 1 | 3 | 6) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 8 * 5 + 5);
    for group in text.chunks(8) {
        let mut bits = 0_u64;
        for digit in group {
            // Of digits that the alphabet has twice the last one counts.
            let value = alphabet.iter().rposition(|known| known == digit)?;
            bits = bits << 5 | value as u64;
        }
        bits <<= 5 * (8 - group.len());
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(3..3 + group.len() * 5 / 8)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, padded: &str) {
        let mut out = Vec::new();
        encode(value.as_bytes(), ALPHABET, true, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), padded);
        assert_eq!(decode(&out, ALPHABET).as_deref(), Some(value.as_bytes()));
        out.clear();
        encode(value.as_bytes(), ALPHABET, false, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), padded.trim_end_matches('='));
        assert_eq!(decode(&out, ALPHABET).as_deref(), Some(value.as_bytes()));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        check("", "");
        check("a", "c4======");
        check("ab", "c5h0====");
        check("abc", "c5h66===");
        check("abcd", "c5h66p0=");
        check("12345", "64p36d1l");
    }

    #[test]
    fn impossible_texts_are_refused() {
        for text in ["c", "c5h", "c5h66p", "c!", "C4"] {
            assert_eq!(decode(text.as_bytes(), ALPHABET), None, "{text}");
        }
    }
}
