//! Regular expressions as nginx has them: PCRE2, compiled once, with JIT.

use crate::{ConfResult, Fault};
use parking_lot::Mutex;
use pcre2::bytes::CaptureLocations;
use std::{fmt, sync::Arc};

/// A compiled expression and its capture names.
#[derive(Clone)]
pub struct Regex {
    inner: pcre2::bytes::Regex,
    /// Name and number of each named group.
    names: Box<[(Box<str>, usize)]>,
    pattern: Box<str>,
    /// The engine's memory of the last match, for the next one in whichever thread finds it here.
    spare: Arc<Mutex<Option<CaptureLocations>>>,
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern).finish()
    }
}

/// Where the groups of a match lie: `offsets[2n]..offsets[2n+1]`; unmatched groups are empty.
pub type Groups = Vec<(usize, usize)>;

/// PCRE2 could neither match nor rule a match out: its number for the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatchFailure(pub i32);

impl MatchFailure {
    /// nginx's line about it.
    pub fn describe(self, regex: &Regex, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        format!("pcre2_match() failed: {} on \"{text}\" using \"{}\"", self.0, regex.pattern)
    }
}

/// How often a match may go back at one place of its subject before it counts as failed. PCRE2 has ten million by itself,
/// with which patterns like `(a+)+$` keep a worker busy for a minute, given the right URI; with this it is below a second.
/// A pattern may begin with a limit of its own, `(*LIMIT_MATCH=1000000)`.
const MATCH_LIMIT: u32 = 100_000;
const OWN_LIMIT: &str = "(*LIMIT_MATCH=";

impl Regex {
    /// Compiles `pattern`; `caseless` is `~*`.
    ///
    /// # Errors
    /// nginx's `pcre2_compile() failed: … in "pattern" at "rest"`.
    pub fn new(pattern: &[u8], caseless: bool) -> ConfResult<Self> {
        let text = std::str::from_utf8(pattern)
            .map_err(|_| Fault::message("the regular expression is not valid UTF-8"))?;
        let limit = match text.starts_with(OWN_LIMIT) {
            true => String::new(),
            false => format!("{OWN_LIMIT}{MATCH_LIMIT})"),
        };
        let inner = pcre2::bytes::RegexBuilder::new()
            .caseless(caseless)
            .jit_if_available(true)
            .build(&format!("{limit}{text}"))
            .map_err(|error| Fault::message(describe(text, limit.len(), &error)))?;
        let names = inner
            .capture_names()
            .iter()
            .enumerate()
            .filter_map(|(n, name)| Some((name.as_deref()?.into(), n)))
            .collect();
        Ok(Self { inner, names, pattern: text.into(), spare: Arc::default() })
    }

    /// Whether it matches anywhere. A failure of the engine (match limit) counts as no match.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.try_is_match(subject).unwrap_or(false)
    }

    /// The same, for rules that must not be got round by making the engine fail.
    ///
    /// # Errors
    /// When the engine gives up (match limit, stack).
    pub fn try_is_match(&self, subject: &[u8]) -> Result<bool, MatchFailure> {
        self.inner.is_match(subject).map_err(|error| MatchFailure(error.code()))
    }

    /// The groups of the first match; group 0 is the whole match. A failure of the engine counts as no match.
    pub fn captures(&self, subject: &[u8], groups: &mut Groups) -> bool {
        self.try_captures(subject, groups).unwrap_or(false)
    }

    /// The same, for rules that must not be got round by making the engine fail.
    ///
    /// # Errors
    /// When the engine gives up (match limit, stack).
    pub fn try_captures(&self, subject: &[u8], groups: &mut Groups) -> Result<bool, MatchFailure> {
        groups.clear();
        let spare = self.spare.try_lock().and_then(|mut spare| spare.take());
        let mut locations = spare.unwrap_or_else(|| self.inner.capture_locations());
        let result = match self.inner.captures_read(&mut locations, subject) {
            Ok(Some(_)) => {
                groups.extend((0..locations.len()).map(|n| locations.get(n).unwrap_or((0, 0))));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(MatchFailure(error.code())),
        };
        if let Some(mut spare) = self.spare.try_lock() {
            *spare = Some(locations);
        }
        result
    }

    /// The named groups.
    pub fn names(&self) -> &[(Box<str>, usize)] {
        &self.names
    }

    /// How many groups there are, the whole match included.
    pub fn group_count(&self) -> usize {
        self.inner.captures_len()
    }

    /// The source text.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// PCRE2's text alone, without the crate's words around it.
fn engine_text(error: &pcre2::Error) -> String {
    let shown = error.to_string();
    shown.rsplit_once(": ").map_or_else(|| shown.clone(), |(_, text)| text.to_owned())
}

/// `before`: bytes that the engine saw in front of the pattern.
fn describe(pattern: &str, before: usize, error: &pcre2::Error) -> String {
    match error.offset().map(|offset| offset.saturating_sub(before)) {
        Some(offset) if offset < pattern.len() => {
            let rest = pattern.get(offset..).unwrap_or_default();
            format!("pcre2_compile() failed: {} in \"{pattern}\" at \"{rest}\"", engine_text(error))
        }
        _ => format!("pcre2_compile() failed: {} in \"{pattern}\"", engine_text(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_pattern_is_said_with_its_place() {
        let check = |pattern: &[u8], expect: &str| match Regex::new(pattern, false) {
            Err(Fault::Message(text)) => assert_eq!(text, format!("pcre2_compile() failed: {expect}")),
            other => panic!("{other:?}"),
        };
        check(b"a(b", r#"missing closing parenthesis in "a(b""#);
        check(b"a)b", r#"unmatched closing parenthesis in "a)b" at ")b""#);
    }

    #[test]
    fn hostile_subjects_do_not_take_long() {
        let subject = format!("{}!", "a".repeat(16)).repeat(480);
        let started = std::time::Instant::now();
        let regex = Regex::new(br"(a+)+$", false).unwrap();
        let found = regex.try_captures(subject.as_bytes(), &mut Groups::new());
        assert!(found != Ok(true) && started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        assert!(regex.try_is_match("a".repeat(40).as_bytes()).is_ok());
        let patient = Regex::new(br"(*LIMIT_MATCH=9000000)^(a+)+$", false).unwrap();
        let subject = format!("{}!", "a".repeat(20));
        assert_eq!(patient.try_is_match(subject.as_bytes()), Ok(false));
        let hasty = Regex::new(br"^(a+)+$", false).unwrap();
        assert_eq!(hasty.try_is_match(subject.as_bytes()), Err(MatchFailure(-47)));
    }

    #[test]
    fn an_endless_search_is_a_failure_and_not_a_mismatch() {
        let regex = Regex::new(br"^(a+)+$(*SKIP)x|^(?:a+)+(?=(b))c", false).unwrap();
        let mut groups = Groups::new();
        assert_eq!(regex.try_captures(b"zz", &mut groups), Ok(false));
        let slow = Regex::new(br"^((a|aa)+)*[^a]$", false).unwrap();
        let subject = [b"a".repeat(200), b"ab".to_vec(), b"aa".to_vec()].concat();
        assert!(slow.try_captures(&subject, &mut groups).is_err());
        assert!(!slow.captures(&subject, &mut groups));
    }
}
