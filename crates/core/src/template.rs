//! Templates: texts with `$variables` and `$1` captures, compiled once (nginx's "complex values").

use crate::{ConfResult, Fault, Subject, VarId, Variables};
use moonrest_conf::Word;
use std::borrow::Cow;

/// A compiled text. Evaluating appends its pieces to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<[u8]>),
    Var(VarId),
    Capture(u8),
}

impl Template {
    /// Compiles a word of the configuration.
    ///
    /// # Errors
    /// nginx's `invalid variable name` and `the closing bracket in "x" variable is missing`.
    pub fn compile<S: Subject>(word: &Word, vars: &Variables<S>) -> ConfResult<Self> {
        Self::parse(&word.text, |name| vars.reference(name, Some(word.span)))
    }

    /// Compiles a text, asking `reference` for the number of each name.
    ///
    /// # Errors
    /// As [`Template::compile`].
    pub fn parse(text: &[u8], mut reference: impl FnMut(&str) -> VarId) -> ConfResult<Self> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if byte != b'$' {
                literal.push(byte);
                at += 1;
                continue;
            }
            at += 1;
            if let Some(digit @ b'1'..=b'9') = text.get(at).copied() {
                flush(&mut parts, &mut literal);
                parts.push(Part::Capture(digit - b'0'));
                at += 1;
                continue;
            }
            let braced = text.get(at) == Some(&b'{');
            let start = at + usize::from(braced);
            let len =
                text.iter().skip(start).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            let name = text.get(start..start + len).unwrap_or_default();
            let name = std::str::from_utf8(name).unwrap_or_default();
            at = start + len;
            if braced {
                if text.get(at) != Some(&b'}') {
                    return Err(Fault::message(format!(
                        "the closing bracket in \"{}\" variable is missing",
                        name
                    )));
                }
                at += 1;
            }
            if name.is_empty() {
                return Err(Fault::message("invalid variable name"));
            }
            flush(&mut parts, &mut literal);
            match name.as_bytes() {
                [digit @ b'1'..=b'9'] => parts.push(Part::Capture(digit - b'0')),
                _ => parts.push(Part::Var(reference(name))),
            }
        }
        flush(&mut parts, &mut literal);
        Ok(Self { parts: parts.into() })
    }

    /// A template without variables.
    pub fn literal(text: &[u8]) -> Self {
        let mut parts = Vec::new();
        flush(&mut parts, &mut text.to_vec());
        Self { parts: parts.into() }
    }

    /// The whole value, when it has no variables.
    pub fn as_static(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The one variable this template consists of.
    pub fn as_variable(&self) -> Option<VarId> {
        match &*self.parts {
            [Part::Var(id)] => Some(*id),
            _ => None,
        }
    }

    /// Whether it refers to `$1` … `$9`.
    pub fn has_captures(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(_)))
    }

    /// Appends the value; a variable without a value adds nothing.
    pub fn append<S: Subject>(&self, subject: &S, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Var(id) => {
                    subject.vars().append(subject, *id, out);
                }
                Part::Capture(n) => {
                    subject.capture(usize::from(*n), out);
                }
            }
        }
    }

    /// Like [`Template::append`], each value (not the literal text) passing through `escape`.
    pub fn append_escaped<S: Subject>(
        &self,
        subject: &S,
        out: &mut Vec<u8>,
        mut escape: impl FnMut(&[u8], &mut Vec<u8>),
    ) {
        let mut value = Vec::new();
        for part in &self.parts {
            value.clear();
            match part {
                Part::Text(text) => {
                    out.extend_from_slice(text);
                    continue;
                }
                Part::Var(id) => subject.vars().append(subject, *id, &mut value),
                Part::Capture(n) => subject.capture(usize::from(*n), &mut value),
            };
            escape(&value, out);
        }
    }

    /// Like [`Template::append`], the captures (not variables, not the literal text) added by `capture`.
    pub fn append_capturing<S: Subject>(
        &self,
        subject: &S,
        out: &mut Vec<u8>,
        mut capture: impl FnMut(usize, &mut Vec<u8>),
    ) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Var(id) => {
                    subject.vars().append(subject, *id, out);
                }
                Part::Capture(n) => capture(usize::from(*n), out),
            }
        }
    }

    /// The value; free of copies when there are no variables.
    pub fn eval<S: Subject>(&self, subject: &S) -> Cow<'_, [u8]> {
        if let Some(text) = self.as_static() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(64);
        self.append(subject, &mut out);
        Cow::Owned(out)
    }
}

fn flush(parts: &mut Vec<Part>, literal: &mut Vec<u8>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let mut names = Vec::new();
        let shown = match Template::parse(text.as_bytes(), |name| {
            names.push(name.to_owned());
            VarId(names.len() as u32 - 1)
        }) {
            Ok(template) => template
                .parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => format!("<{}>", String::from_utf8_lossy(text)),
                    Part::Var(id) => format!("${}", names[id.0 as usize]),
                    Part::Capture(n) => format!("#{n}"),
                })
                .collect::<String>(),
            Err(Fault::Message(message)) => message,
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn names_braces_and_captures_are_told_apart() {
        check("a$b-c", "<a>$b<-c>");
        check("${b}c$1x", "$b<c>#1<x>");
        check("$12", "#1<2>");
        check("${1}2", "#1<2>");
        check("$", "invalid variable name");
        check("a${b", "the closing bracket in \"b\" variable is missing");
        check("", "");
    }
}
