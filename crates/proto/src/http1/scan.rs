//! Byte classes and the eight-bytes-at-a-time scan that the head parsers share.

/// What a byte means at a place in the grammar: a table of 256 classes.
pub(super) struct ByteClass([u8; 256]);

impl ByteClass {
    /// Class `default` for every byte but those in `ranges`, each `(first, last, class)`; later ranges win.
    #[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
    pub(super) const fn build(default: u8, ranges: &[(u8, u8, u8)]) -> Self {
        let mut table = [default; 256];
        let mut range = 0;
        while range < ranges.len() {
            let (first, last, class) = ranges[range];
            let mut byte = first as usize;
            while byte <= last as usize {
                table[byte] = class;
                byte += 1;
            }
            range += 1;
        }
        Self(table)
    }

    #[inline(always)]
    pub(super) fn of(&self, byte: u8) -> u8 {
        self.0.get(usize::from(byte)).copied().unwrap_or_default()
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Index of the first NUL, CR or LF at or after `from`; `buf.len()` if there is none.
#[inline(always)]
pub(super) fn line_break(buf: &[u8], from: usize) -> usize {
    let mut rest = buf.get(from..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        // The lowest flag set marks the first byte below 0x20: a borrow can only disturb those above a true one.
        let word = u64::from_le_bytes(*chunk);
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        if below == 0 {
            rest = tail;
            continue;
        }
        let at = (below.trailing_zeros() / 8) as usize;
        match chunk.get(at) {
            Some(0 | b'\r' | b'\n') => return buf.len() - rest.len() + at,
            _ => rest = rest.get(at + 1..).unwrap_or_default(),
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, 0 | b'\r' | b'\n')).unwrap_or(rest.len());
    buf.len() - rest.len() + at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_break_is_found_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for stop in [0, b'\r', b'\n'] {
                    for filler in [b'a', b'\t', 0x1f, 0x80, 0xff, b' '] {
                        let mut buf = vec![filler; len];
                        buf[at] = stop;
                        for from in 0..=at {
                            assert_eq!(line_break(&buf, from), at);
                        }
                        assert_eq!(line_break(&buf, at + 1), len);
                    }
                }
            }
        }
    }
}
