//! The arguments of a directive, converted with nginx's error texts.

use crate::{ConfResult, Env, Fault, Subject, Template, Variables};
use moonrest_conf::{Body, Directive, Span, Word, value};
use std::path::PathBuf;

/// A directive being set, and what it may ask while it is.
pub struct Args<'a, S: Subject> {
    pub directive: &'a Directive,
    pub env: &'a Env<'a>,
    pub vars: &'a Variables<S>,
}

/// `name=value` of a `zone=name:size` parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneArg {
    pub name: String,
    /// Bytes; `None` when the parameter names a zone declared elsewhere.
    pub size: Option<u64>,
}

impl<'a, S: Subject> Args<'a, S> {
    /// How many arguments there are, the name not counted.
    pub fn len(&self) -> usize {
        self.directive.args.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.directive.args.is_empty()
    }

    /// The directive's name.
    pub fn name(&self) -> &'a str {
        self.directive.name.as_str().unwrap_or_default()
    }

    /// Where the directive stands.
    pub fn span(&self) -> Span {
        self.directive.span
    }

    /// All arguments.
    pub fn words(&self) -> &'a [Word] {
        &self.directive.args
    }

    /// Argument `n`, counted from 0.
    pub fn word(&self, n: usize) -> ConfResult<&'a Word> {
        self.directive.args.get(n).ok_or_else(|| self.wrong_count())
    }

    /// nginx's `invalid number of arguments in "name" directive`.
    pub fn wrong_count(&self) -> Fault {
        Fault::message(format!("invalid number of arguments in \"{}\" directive", self.name()))
    }

    /// The bytes of argument `n`.
    pub fn bytes(&self, n: usize) -> ConfResult<&'a [u8]> {
        Ok(&self.word(n)?.text)
    }

    /// Argument `n` as text; bytes that are no UTF-8 are refused.
    pub fn str(&self, n: usize) -> ConfResult<&'a str> {
        self.word(n)?.as_str().ok_or_else(|| self.invalid_value(n))
    }

    /// `invalid value "x"`.
    pub fn invalid_value(&self, n: usize) -> Fault {
        Fault::message(format!("invalid value \"{}\"", self.lossy(n)))
    }

    /// `invalid parameter "x"`.
    pub fn invalid_parameter(&self, n: usize) -> Fault {
        Fault::message(format!("invalid parameter \"{}\"", self.lossy(n)))
    }

    /// Argument `n` for messages.
    pub fn lossy(&self, n: usize) -> String {
        self.directive
            .args
            .get(n)
            .map_or_else(String::new, |word| String::from_utf8_lossy(&word.text).into_owned())
    }

    /// The directives or entries of the block that follows the arguments.
    pub fn block(&self) -> &'a [Directive] {
        match &self.directive.body {
            Body::Block(directives) => directives,
            _ => &[],
        }
    }

    /// The raw Lua text of a `*_by_lua_block`.
    pub fn lua(&self) -> Option<&'a Word> {
        match &self.directive.body {
            Body::Lua(text) => Some(text),
            _ => None,
        }
    }

    /// `on` or `off`.
    pub fn flag(&self, n: usize) -> ConfResult<bool> {
        value::parse_flag(self.bytes(n)?).ok_or_else(|| {
            Fault::message(format!(
                "invalid value \"{}\" in \"{}\" directive, it must be \"on\" or \"off\"",
                self.lossy(n),
                self.name()
            ))
        })
    }

    /// A size with `k` or `m`.
    pub fn size(&self, n: usize) -> ConfResult<u64> {
        value::parse_size(self.bytes(n)?).ok_or(Fault::Directive("invalid value".into()))
    }

    /// A size with `k`, `m` or `g`.
    pub fn offset(&self, n: usize) -> ConfResult<u64> {
        value::parse_offset(self.bytes(n)?).ok_or(Fault::Directive("invalid value".into()))
    }

    /// A time in milliseconds.
    pub fn msec(&self, n: usize) -> ConfResult<u64> {
        value::parse_msec(self.bytes(n)?).ok_or(Fault::Directive("invalid value".into()))
    }

    /// A time in seconds.
    pub fn sec(&self, n: usize) -> ConfResult<u64> {
        value::parse_sec(self.bytes(n)?).ok_or(Fault::Directive("invalid value".into()))
    }

    /// A number.
    pub fn uint(&self, n: usize) -> ConfResult<u64> {
        value::parse_uint(self.bytes(n)?).ok_or(Fault::Directive("invalid number".into()))
    }

    /// A text with variables.
    pub fn template(&self, n: usize) -> ConfResult<Template> {
        Template::compile(self.word(n)?, self.vars)
    }

    /// A path below the prefix.
    pub fn path(&self, n: usize) -> ConfResult<PathBuf> {
        self.env.full_path(self.bytes(n)?)
    }

    /// The name of a variable, written with its `$`.
    ///
    /// # Errors
    /// nginx's `invalid variable name "x"`.
    pub fn variable_name(&self, n: usize) -> ConfResult<&'a str> {
        match self.str(n)?.strip_prefix('$') {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(Fault::message(format!("invalid variable name \"{}\"", self.lossy(n)))),
        }
    }

    /// The value of `key=` among the arguments from `from` on.
    pub fn named(&self, from: usize, key: &str) -> Option<&'a [u8]> {
        self.directive
            .args
            .iter()
            .skip(from)
            .find_map(|word| word.text.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
    }

    /// Parses `name` or `name:size`, the value of a `zone=` parameter.
    ///
    /// # Errors
    /// nginx's `invalid zone size "x"` and `zone "x" is too small` (below 8 pages).
    pub fn zone_value(&self, text: &[u8]) -> ConfResult<ZoneArg> {
        let shown = String::from_utf8_lossy(text);
        let Some((name, size)) = shown.split_once(':') else {
            return Ok(ZoneArg { name: shown.into_owned(), size: None });
        };
        let bytes = value::parse_size(size.as_bytes())
            .ok_or_else(|| Fault::message(format!("invalid zone size \"zone={shown}\"")))?;
        if bytes < 8 * 4096 {
            return Err(Fault::message(format!("zone \"zone={shown}\" is too small")));
        }
        Ok(ZoneArg { name: name.to_owned(), size: Some(bytes) })
    }
}
