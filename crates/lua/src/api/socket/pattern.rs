//! The pattern of `receiveuntil`, found in a stream that comes in pieces and may be given to Lua in pieces.

use super::inbox::Taken;
use std::cell::Cell;

/// A pattern, compiled.
pub(super) struct Pattern {
    text: Box<[u8]>,
    /// For each length of a matched prefix, the length of its longest proper prefix that also ends it.
    falls: Box<[usize]>,
    inclusive: bool,
    /// It was found by a call that reads in pieces: the next call says so.
    pub ended: Cell<bool>,
}

impl Pattern {
    /// Compiles a text that is not empty.
    pub(super) fn new(text: &[u8], inclusive: bool) -> Self {
        let mut falls = vec![0; text.len() + 1];
        let mut len = 0;
        for (at, byte) in text.iter().enumerate().skip(1) {
            while len > 0 && text.get(len) != Some(byte) {
                len = falls.get(len).copied().unwrap_or(0);
            }
            len += usize::from(text.get(len) == Some(byte));
            if let Some(fall) = falls.get_mut(at + 1) {
                *fall = len;
            }
        }
        Self { text: text.into(), falls: falls.into(), inclusive, ended: Cell::new(false) }
    }

    /// The state after a byte that does not continue the match of `state` bytes.
    fn fall(&self, state: usize, byte: u8) -> usize {
        let mut state = state;
        while state > 0 {
            state = self.falls.get(state).copied().unwrap_or(0);
            if self.text.get(state) == Some(&byte) {
                return state + 1;
            }
        }
        0
    }
}

/// How far a call has come.
pub(super) struct Matching {
    /// Bytes looked at.
    scanned: usize,
    /// How many of the last ones begin the pattern.
    state: usize,
    /// How many more bytes this call may give, if that is limited.
    rest: Option<usize>,
}

impl Matching {
    /// `size` 0 is no limit.
    pub(super) fn new(size: usize) -> Self {
        Self { scanned: 0, state: 0, rest: (size > 0).then_some(size) }
    }

    /// Bytes that are certainly no part of the pattern.
    pub(super) fn settled(&self) -> usize {
        self.scanned - self.state
    }

    /// Looks at the bytes from the beginning of the call on.
    ///
    /// A limit is not exact: a beginning of the pattern that turns out to be none comes whole, as upstream gives it.
    pub(super) fn advance(&mut self, pattern: &Pattern, unread: &[u8]) -> Option<Taken> {
        while let Some(&byte) = unread.get(self.scanned) {
            if pattern.text.get(self.state) == Some(&byte) {
                self.scanned += 1;
                self.state += 1;
                if self.state == pattern.text.len() {
                    pattern.ended.set(self.rest.is_some());
                    let len = if pattern.inclusive { self.scanned } else { self.settled() };
                    return Some(Taken { len, used: self.scanned });
                }
                continue;
            }
            if self.state == 0 {
                self.skip(pattern, unread);
                if self.rest == Some(0) {
                    return Some(self.so_far());
                }
                continue;
            }
            let next = pattern.fall(self.state, byte);
            let (state, given) = if next >= 2 {
                self.scanned += 1;
                (next, self.state + 1 - next)
            } else {
                (0, self.state)
            };
            self.state = state;
            if let Some(rest) = &mut self.rest {
                if *rest <= given {
                    *rest = 0;
                    return Some(self.so_far());
                }
                *rest -= given;
            }
        }
        None
    }

    /// Passes over bytes that cannot begin the pattern.
    fn skip(&mut self, pattern: &Pattern, unread: &[u8]) {
        let ahead = unread.get(self.scanned..).unwrap_or_default();
        let first = pattern.text.first().copied().unwrap_or(0);
        let mut count = memchr::memchr(first, ahead).unwrap_or(ahead.len());
        if let Some(rest) = &mut self.rest {
            count = count.min(*rest);
            *rest -= count;
        }
        self.scanned += count;
    }

    fn so_far(&self) -> Taken {
        Taken { len: self.settled(), used: self.settled() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything in pieces of `size`; `|` between them, `.` where the pattern was found.
    fn pieces(pattern: &str, size: usize, input: &str, step: usize) -> String {
        let pattern = Pattern::new(pattern.as_bytes(), false);
        let (mut buffer, mut out) = (Vec::new(), Vec::new());
        let mut matching = Matching::new(size);
        for piece in input.as_bytes().chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(taken) = matching.advance(&pattern, &buffer) {
                out.extend_from_slice(&buffer[..taken.len]);
                out.push(if taken.used > taken.len { b'.' } else { b'|' });
                buffer.drain(..taken.used);
                matching = Matching::new(size);
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn check(pattern: &str, size: usize, input: &str, expect: &str) {
        for step in 1..=input.len() {
            assert_eq!(pieces(pattern, size, input, step), expect, "{pattern} {size} {input} {step}");
        }
    }

    #[test]
    fn patterns_that_overlap_themselves_are_found() {
        check("abcabd", 0, "abcabcabd", "abc.");
        check("aa", 0, "baaa", "b.");
        check("--abc", 0, "hello, world ------abc", "hello, world ----.");
        check("ababc", 0, "abababc", "ab.");
        check("x", 0, "x", ".");
    }

    #[test]
    fn limited_pieces_may_be_longer_where_the_pattern_was_in_doubt() {
        check("--abc", 4, "hello, world ------abc", "hell|o, w|orld| ---|-.");
        check("aaab", 2, "xaaxaab", "xaa|xaa|");
    }
}
