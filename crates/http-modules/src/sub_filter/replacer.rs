//! Finds texts in a body that comes in parts, cut anywhere: linear in the body, holding back no more than what may be
//! the beginning of a match.

use aho_corasick::{AhoCorasick, BuildError, Input, MatchKind};
use moonrest_http::prelude::*;

/// Texts to look for, in the order in which they are tried at the same place.
pub(super) struct Patterns {
    /// In lower case, with the number each is known by.
    texts: Vec<(usize, Vec<u8>)>,
    /// For each text the length of the longest border of each of its prefixes (Knuth, Morris, Pratt).
    borders: Vec<Vec<usize>>,
    search: AhoCorasick,
    longest: usize,
}

impl Patterns {
    /// Prepares the search.
    ///
    /// # Errors
    /// When the texts are too long all together.
    pub(super) fn new(texts: Vec<(usize, Vec<u8>)>) -> Result<Self, BuildError> {
        let texts: Vec<_> = texts.into_iter().map(|(n, text)| (n, text.to_ascii_lowercase())).collect();
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostFirst)
            .build(texts.iter().map(|(_, text)| text))?;
        let borders = texts.iter().map(|(_, text)| borders(text)).collect();
        let longest = texts.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
        Ok(Self { texts, borders, search, longest })
    }

    /// The same without the text at `index`; `None` when it was the last one.
    fn without(&self, index: usize) -> Option<Self> {
        let mut texts = self.texts.clone();
        texts.remove(index);
        if texts.is_empty() { None } else { Self::new(texts).ok() }
    }

    /// The earliest place from `from` on where the rest of `hay` may be the beginning of a text, and the first of the
    /// texts it may become.
    fn partial(&self, hay: &[u8], from: usize) -> (usize, usize) {
        let start = from.max(hay.len().saturating_sub(self.longest.saturating_sub(1)));
        let tail = hay.get(start..).unwrap_or_default();
        let mut best = (hay.len(), usize::MAX);
        for (n, ((_, text), borders)) in self.texts.iter().zip(&self.borders).enumerate() {
            // Only so much of the tail can be a proper prefix of this text.
            let tail =
                tail.get(tail.len().saturating_sub(text.len().saturating_sub(1))..).unwrap_or_default();
            let matched = longest_prefix_at_end(text, borders, tail);
            if matched > 0 && hay.len() - matched < best.0 {
                best = (hay.len() - matched, n);
            }
        }
        best
    }
}

fn borders(text: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; text.len()];
    let mut k: usize = 0;
    for i in 1..text.len() {
        while k > 0 && text.get(i) != text.get(k) {
            k = borders.get(k - 1).copied().unwrap_or(0);
        }
        if text.get(i) == text.get(k) {
            k += 1;
        }
        if let Some(border) = borders.get_mut(i) {
            *border = k;
        }
    }
    borders
}

/// How many bytes at the end of `tail`, which is shorter than `text`, are a prefix of `text`.
fn longest_prefix_at_end(text: &[u8], borders: &[usize], tail: &[u8]) -> usize {
    let mut k: usize = 0;
    for byte in tail {
        let byte = byte.to_ascii_lowercase();
        while k > 0 && text.get(k) != Some(&byte) {
            k = borders.get(k - 1).copied().unwrap_or(0);
        }
        if text.get(k) == Some(&byte) {
            k += 1;
        }
    }
    k
}

/// What stands next in the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Bytes),
    /// The pattern of this number stood here.
    Match(usize),
}

/// The search through one body.
pub(super) struct Replacer {
    /// `None` when nothing is looked for any more.
    patterns: Option<Arc<Patterns>>,
    /// Each pattern is looked for until it is found.
    once: bool,
    hay: Bytes,
    /// How much of `hay` was dealt with.
    at: usize,
    /// A match that follows the text handed out last.
    found: Option<usize>,
    /// From where on `hay` may be the beginning of a match, and the first pattern it may become.
    partial: (usize, usize),
    /// Everything that can be decided was handed out.
    waiting: bool,
}

impl Replacer {
    pub(super) fn new(patterns: Arc<Patterns>, once: bool) -> Self {
        Self {
            patterns: Some(patterns),
            once,
            hay: Bytes::new(),
            at: 0,
            found: None,
            partial: (0, usize::MAX),
            waiting: true,
        }
    }

    /// Takes the next part of the body. Only when [`Replacer::next`] has given everything.
    pub(super) fn take(&mut self, data: Bytes) {
        let held = self.hay.get(self.at..).unwrap_or_default();
        self.hay = if held.is_empty() { data } else { [held, &data].concat().into() };
        self.at = 0;
        self.waiting = false;
        self.look_at_end();
    }

    /// The body ends here, or something that is no text follows: what was held back is decided.
    pub(super) fn finish(&mut self) {
        self.partial = (self.hay.len(), usize::MAX);
        self.waiting = false;
    }

    /// Whether [`Replacer::next`] has more to give.
    pub(super) fn has_more(&self) -> bool {
        !self.waiting
    }

    fn look_at_end(&mut self) {
        self.partial = match &self.patterns {
            Some(patterns) => patterns.partial(&self.hay, self.at),
            None => (self.hay.len(), usize::MAX),
        };
    }

    /// The next part; `None` when more of the body must come first.
    pub(super) fn next(&mut self) -> Option<Part> {
        if let Some(number) = self.found.take() {
            return Some(Part::Match(number));
        }
        if self.waiting {
            return None;
        }
        let Some((start, end, index)) = self.search() else {
            self.waiting = true;
            let end = self.partial.0.max(self.at);
            return self.text(end, end);
        };
        let number = self.matched(index);
        self.found = Some(number);
        let text = self.text(start, end);
        if self.at > self.partial.0 {
            self.look_at_end();
        }
        text.or_else(|| self.found.take().map(Part::Match))
    }

    /// The next match that later bytes cannot change.
    fn search(&self) -> Option<(usize, usize, usize)> {
        let patterns = self.patterns.as_ref()?;
        let found = patterns.search.find(Input::new(&*self.hay).span(self.at..self.hay.len()))?;
        let index = found.pattern().as_usize();
        let (from, first) = self.partial;
        let decided = found.start() < from || (found.start() == from && index < first);
        decided.then_some((found.start(), found.end(), index))
    }

    fn matched(&mut self, index: usize) -> usize {
        let Some(patterns) = self.patterns.clone() else { return 0 };
        if self.once {
            self.patterns = patterns.without(index).map(Arc::new);
            // Other texts may begin elsewhere.
            self.partial.0 = 0;
        }
        patterns.texts.get(index).map_or(0, |(number, _)| *number)
    }

    /// Hands out the text up to `end` and goes on at `next`.
    fn text(&mut self, end: usize, next: usize) -> Option<Part> {
        let text = (end > self.at && end <= self.hay.len()).then(|| Part::Text(self.hay.slice(self.at..end)));
        self.at = next;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces each pattern by its number in brackets, with the body cut into parts of every length.
    fn check(patterns: &[&str], once: bool, body: &str, expect: &str) {
        for step in 1..=body.len().max(1) {
            let texts = patterns.iter().map(|text| text.as_bytes().to_vec()).enumerate().collect();
            let mut replacer = Replacer::new(Arc::new(Patterns::new(texts).unwrap()), once);
            let mut out = Vec::new();
            let mut drain = |replacer: &mut Replacer| {
                while let Some(part) = replacer.next() {
                    match part {
                        Part::Text(text) => out.extend_from_slice(&text),
                        Part::Match(n) => out.extend_from_slice(format!("[{n}]").as_bytes()),
                    }
                }
                assert!(!replacer.has_more());
            };
            for part in body.as_bytes().chunks(step) {
                replacer.take(Bytes::copy_from_slice(part));
                drain(&mut replacer);
            }
            replacer.finish();
            drain(&mut replacer);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{patterns:?} in {body}, {step} at a time");
        }
    }

    #[test]
    fn matches_are_found_across_parts() {
        check(&["abc"], false, "xxABCabcab", "xx[0][0]ab");
        check(&["abc"], true, "xxabcabcab", "xx[0]abcab");
        check(&["aab"], false, "aaaabaab", "aa[0][0]");
        check(&["abac"], false, "ababac", "ab[0]");
        check(&["a"], false, "aaa", "[0][0][0]");
        check(&["x"], false, "", "");
    }

    #[test]
    fn the_leftmost_match_wins_and_then_the_first_pattern() {
        check(&["abcdef", "bc"], false, "abcd abcdef bc", "a[1]d [0] [1]");
        check(&["ab", "abc"], false, "abc", "[0]c");
        check(&["abc", "ab"], false, "abc abd ab", "[0] [1]d [1]");
        check(&["abcde", "bcd", "c"], false, "abcd c", "a[1] [2]");
    }

    #[test]
    fn each_pattern_is_replaced_once() {
        check(&["a", "b"], true, "abab", "[0][1]ab");
        check(&["ab", "abc"], true, "abcabcabc", "[0]c[1]abc");
        check(&["aa", "aab"], true, "aaaab aab aab", "[0][1] aab aab");
    }

    #[test]
    fn only_what_may_become_a_match_is_held_back() {
        let texts = vec![(0, b"<title>".to_vec())];
        let mut replacer = Replacer::new(Arc::new(Patterns::new(texts).unwrap()), false);
        replacer.take(Bytes::from_static(b"some text <"));
        assert_eq!(replacer.next(), Some(Part::Text(Bytes::from_static(b"some text "))));
        assert_eq!(replacer.next(), None);
        replacer.take(Bytes::from_static(b"TI"));
        assert_eq!(replacer.next(), None);
        replacer.take(Bytes::from_static(b"X "));
        assert_eq!(replacer.next(), Some(Part::Text(Bytes::from_static(b"<TIX "))));
    }

    #[test]
    fn it_agrees_with_a_naive_search() {
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let word = |len: u64, random: &mut dyn FnMut(u64) -> u64| -> String {
                (0..len).map(|_| if random(2) == 0 { 'a' } else { 'b' }).collect()
            };
            let count = 1 + random(3);
            let patterns: Vec<String> = (0..count)
                .map(|_| {
                    let len = 1 + random(4);
                    word(len, &mut random)
                })
                .collect();
            let body = word(12, &mut random);
            let mut expect = String::new();
            let mut rest = &body[..];
            while !rest.is_empty() {
                match patterns.iter().position(|text| rest.starts_with(text.as_str())) {
                    Some(n) => {
                        expect += &format!("[{n}]");
                        rest = &rest[patterns[n].len()..];
                    }
                    None => {
                        expect.push_str(&rest[..1]);
                        rest = &rest[1..];
                    }
                }
            }
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            check(&patterns, false, &body, &expect);
        }
    }
}
