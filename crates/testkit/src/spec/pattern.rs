//! Patterns of a specification: plain text, or a regular expression in Perl's notation.
use pcre2::bytes::{Regex, RegexBuilder};

use super::value::Value;
use crate::response::find;

/// Something to look for in a line or a body.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Text(Vec<u8>),
    Regex(Regex),
}

/// The modifiers that Test::Nginx adds for a section.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modifiers {
    pub dot_all: bool,
    pub multi_line: bool,
}

impl Pattern {
    /// A line's pattern: strings are plain text, expressions are expressions.
    pub(super) fn of(value: &Value) -> Result<Self, String> {
        match value {
            Value::Regex(source) => regex(source, Modifiers::default()).map(Self::Regex),
            other => Ok(Self::Text(other.bytes().ok_or("a pattern must be a string or qr//")?.to_vec())),
        }
    }

    /// The patterns of a section: a line each of a string, or the elements of a list.
    pub(super) fn list(value: &Value) -> Result<Vec<Self>, String> {
        match value {
            Value::Bytes(text) => Ok(text
                .split(|&b| b == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| Self::Text(line.into()))
                .collect()),
            other => {
                let defined = other.elements().into_iter().filter(|value| **value != Value::Undefined);
                defined.map(Self::of).collect()
            }
        }
    }

    /// The first match.
    pub(super) fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Text(needle) if needle.is_empty() => Some(&text[..0]),
            Self::Text(needle) => find(text, needle).map(|at| &text[at..at + needle.len()]),
            Self::Regex(regex) => regex.find(text).ok().flatten().map(|found| found.as_bytes()),
        }
    }

    /// Whether it occurs.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.find(text).is_some()
    }

    /// The pattern as a reader wrote it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
            Self::Regex(regex) => format!("qr/{}/", regex.as_str()),
        }
    }
}

/// Compiles a Perl expression.
pub(super) fn regex(source: &[u8], modifiers: Modifiers) -> Result<Regex, String> {
    // Perl prints the character set of an expression into it (`(?^u:`); the bytes compared here have none.
    let source =
        String::from_utf8_lossy(source).replace("(?^u", "(?^").replace("(?^a", "(?^").replace("(?^l", "(?^");
    let mut builder = RegexBuilder::new();
    builder.dotall(modifiers.dot_all).multi_line(modifiers.multi_line);
    builder.build(&source).map_err(|error| format!("the expression {source:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_string_are_plain_text() {
        let patterns = Pattern::list(&Value::Bytes(b"a.c\nb\n\n".to_vec())).unwrap();
        assert_eq!(patterns.len(), 2);
        assert!(patterns[0].matches(b"xa.cx") && !patterns[0].matches(b"abc"));
    }

    #[test]
    fn perl_expressions_match_as_in_perl() {
        let found = |source: &str, text: &str| {
            let pattern = Pattern::of(&Value::Regex(source.into())).unwrap();
            pattern.find(text.as_bytes()).map(|found| String::from_utf8_lossy(found).into_owned())
        };
        assert_eq!(found("(?^:a.c$)", "abc\n").as_deref(), Some("abc"));
        assert_eq!(found("(?^ui:A\\d+)", "xa12y").as_deref(), Some("a12"));
        assert_eq!(found("(?^s:a.c)", "a\nc").as_deref(), Some("a\nc"));
        assert_eq!(found("(?^:a.c)", "a\nc"), None);
    }
}
