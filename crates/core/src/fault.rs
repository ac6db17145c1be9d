//! Why a directive was refused. The caller adds the directive's name and place.

use moonrest_conf::{ConfigError, Span};
use std::borrow::Cow;

/// What a directive's setter answers.
pub type ConfResult<T = ()> = Result<T, Fault>;

/// A refusal, in one of the three forms nginx prints.
#[derive(Debug)]
pub enum Fault {
    /// `"name" directive TEXT in FILE:LINE`, for example `is duplicate`.
    Directive(Cow<'static, str>),
    /// `TEXT in FILE:LINE`.
    Message(String),
    /// An error that already knows its place.
    Error(Box<ConfigError>),
}

impl Fault {
    /// `"name" directive is duplicate`.
    pub const DUPLICATE: Self = Self::Directive(Cow::Borrowed("is duplicate"));

    /// A complete message without its place.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// A text that follows `"name" directive `.
    pub fn directive(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Directive(text.into())
    }

    /// The error to print for directive `name` at `span`.
    pub fn at(self, name: &str, span: Span) -> ConfigError {
        match self {
            Self::Directive(text) => {
                ConfigError::emerg(format!("\"{name}\" directive {text}")).with_span(span)
            }
            Self::Message(text) => ConfigError::emerg(text).with_span(span),
            Self::Error(error) => {
                let mut error = *error;
                error.span = error.span.or(Some(span));
                error
            }
        }
    }
}

impl Fault {
    /// The error to print when there is no place to name.
    pub fn nowhere(self) -> ConfigError {
        match self {
            Self::Directive(text) => ConfigError::emerg(text.into_owned()),
            Self::Message(text) => ConfigError::emerg(text),
            Self::Error(error) => *error,
        }
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        Self::Error(Box::new(error))
    }
}

/// Stores a setting that may be given once per block.
pub fn set_once<T>(slot: &mut Option<T>, value: T) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    *slot = Some(value);
    Ok(())
}
