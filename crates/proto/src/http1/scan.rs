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

/// Up to eight bytes from the start of `rest`, the first one lowest; zeros stand for what lies behind the end.
/// `whole` is any buffer that ends where `rest` ends.
#[inline(always)]
pub(super) fn word(rest: &[u8], whole: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(rest, whole),
    }
}

/// The last bytes of a buffer that is long enough are loaded with some before them, which are shifted out.
#[inline(always)]
fn last_word(rest: &[u8], whole: &[u8]) -> u64 {
    match whole.last_chunk() {
        _ if rest.is_empty() => 0,
        Some(bytes) => u64::from_le_bytes(*bytes) >> (64 - 8 * rest.len() as u32),
        None => rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    }
}

/// Flags, as the highest bit of each byte, those below 0x20. The lowest flag is always right: a borrow only
/// disturbs those above a true one.
#[inline(always)]
pub(super) fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGH
}

/// Flags the bytes that are a colon, in the same way.
#[inline(always)]
fn colons(word: u64) -> u64 {
    let zeros = word ^ (ONES * 0x3a);
    zeros.wrapping_sub(ONES) & !zeros & HIGH
}

/// The byte that the lowest flag belongs to.
#[inline(always)]
fn first_flag(flags: u64) -> usize {
    (flags.trailing_zeros() / 8) as usize
}

/// Index of the first colon, or the length.
#[inline(always)]
pub(super) fn colon(line: &[u8]) -> usize {
    let mut rest = line;
    while let Some((bytes, tail)) = rest.split_first_chunk() {
        let flags = colons(u64::from_le_bytes(*bytes));
        if flags != 0 {
            return line.len() - rest.len() + first_flag(flags);
        }
        rest = tail;
    }
    let at = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len());
    line.len() - rest.len() + at
}

/// Where the text of a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextEnd<'a> {
    /// The text, and what follows the line break.
    At(&'a [u8], &'a [u8]),
    /// The line goes on behind the bytes there are.
    Partial,
    /// The byte at the index must not stand in a line: a NUL, a CR without LF, or a LF alone.
    Bad(usize),
}

/// A line without a break up to here is looked at in larger pieces from here on.
const SHORT: usize = 16;

/// What is left behind the pieces without a control character.
#[inline(always)]
fn skip_text(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((piece, tail)) = rest.split_first_chunk::<32>() {
        // Without a branch per byte, so that it becomes a few vector instructions.
        if piece.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
            break;
        }
        rest = tail;
    }
    rest
}

/// Finds the end of the line that `lines` begins with. `whole` is any buffer that ends where `lines` ends.
#[inline(always)]
pub(super) fn text_end<'a, const BARE_LF: bool>(lines: &'a [u8], whole: &[u8]) -> TextEnd<'a> {
    let mut rest = lines;
    loop {
        let flags = match rest.split_first_chunk() {
            Some((bytes, tail)) => match below_space(u64::from_le_bytes(*bytes)) {
                0 => {
                    rest = if lines.len() - tail.len() == SHORT { skip_text(tail) } else { tail };
                    continue;
                }
                flags => flags,
            },
            // The zeros behind the end count, so there is always a flag.
            None => below_space(last_word(rest, whole)),
        };
        let Some(tail) = rest.get(first_flag(flags)..) else { return TextEnd::Partial };
        let len = lines.len() - tail.len();
        rest = match tail {
            [b'\r', b'\n', next @ ..] => return TextEnd::At(lines.get(..len).unwrap_or_default(), next),
            [] | [b'\r'] => return TextEnd::Partial,
            [b'\n', next @ ..] if BARE_LF => return TextEnd::At(lines.get(..len).unwrap_or_default(), next),
            [0 | b'\r' | b'\n', ..] => return TextEnd::Bad(len),
            [_, next @ ..] => next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_up_with_zeros() {
        let buf: Vec<u8> = (1..=20).collect();
        for len in 0..=buf.len() {
            for at in 0..=len {
                let mut expect = [0; 8];
                for (to, from) in expect.iter_mut().zip(&buf[at..len]) {
                    *to = *from;
                }
                assert_eq!(word(&buf[at..len], &buf[..len]), u64::from_le_bytes(expect));
            }
        }
    }

    #[test]
    fn the_first_colon_is_found_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for filler in [b'a', 0, b';', b'9', 0xba, 0xff] {
                    let mut line = vec![filler; len];
                    line[at] = b':';
                    assert_eq!(colon(&line), at);
                    assert_eq!(colon(&line[at + 1..]), len - at - 1);
                }
            }
        }
    }

    fn check(line: &[u8], lenient: TextEnd<'_>, strict: TextEnd<'_>) {
        assert_eq!(text_end::<true>(line, line), lenient, "{line:?}");
        assert_eq!(text_end::<false>(line, line), strict, "{line:?}");
    }

    #[test]
    fn the_first_break_is_found_wherever_it_stands() {
        for len in 0..100 {
            for at in 0..len {
                for filler in [b'a', b'\t', 0x1f, 0x80, 0xff, b' '] {
                    let mut line = vec![filler; len];
                    check(&line, TextEnd::Partial, TextEnd::Partial);
                    line[at] = 0;
                    check(&line, TextEnd::Bad(at), TextEnd::Bad(at));
                    line[at] = b'\n';
                    check(&line, TextEnd::At(&line[..at], &line[at + 1..]), TextEnd::Bad(at));
                    line[at] = b'\r';
                    let end = if at + 1 == len { TextEnd::Partial } else { TextEnd::Bad(at) };
                    check(&line, end, end);
                    if let Some(lf) = line.get_mut(at + 1) {
                        *lf = b'\n';
                        check(
                            &line,
                            TextEnd::At(&line[..at], &line[at + 2..]),
                            TextEnd::At(&line[..at], &line[at + 2..]),
                        );
                    }
                }
            }
        }
    }
}
