//! What a configuration says: directives, their words and blocks, before anybody knows what they mean.

use std::borrow::Cow;

use crate::{Files, Span};

/// A configuration as it was read, its includes expanded in place.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub files: Files,
    pub directives: Vec<Directive>,
}

/// A word after quotes and escapes were taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: Box<[u8]>,
    /// Quotes included.
    pub span: Span,
    pub quoted: bool,
}

impl Word {
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The word, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.text).ok()
    }

    /// The word for a message.
    pub fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }
}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        *self.text == *other.as_bytes()
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// A name, its arguments, and what follows them.
#[derive(Clone, Debug)]
pub struct Directive {
    pub name: Word,
    pub args: Vec<Word>,
    pub body: Body,
    /// From the name to the `;` or `{`. The line is that of the latter: the one nginx reports.
    pub span: Span,
    /// The `}` of a block: nginx reports its line once a block has been read.
    pub close: Option<Span>,
    /// Place in reading order, in which directives and closing braces count, over the whole configuration.
    /// See [`crate::ConfigError::order`].
    pub order: u32,
    /// The place of its closing brace, or again its own.
    pub close_order: u32,
}

/// What ends a directive.
#[derive(Clone, Debug)]
pub enum Body {
    /// A semicolon.
    None,
    /// A block of directives.
    Block(Vec<Directive>),
    /// The raw text between the braces; the line of its span is the line of the opening brace.
    Lua(Word),
}

impl Directive {
    /// The directives of a block; empty for what has none.
    pub fn children(&self) -> &[Self] {
        match &self.body {
            Body::Block(children) => children,
            Body::None | Body::Lua(_) => &[],
        }
    }

    /// Whether a `{` follows, of either kind.
    pub fn has_block(&self) -> bool {
        !matches!(self.body, Body::None)
    }
}
