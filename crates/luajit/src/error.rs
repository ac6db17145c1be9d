//! Errors that come out of Lua, and those that Rust functions raise into it.
use std::fmt;

use crate::reference::Ref;

/// What went wrong. Boxed, because errors are rare and results are not.
#[derive(Clone)]
pub struct LuaError(Box<Inner>);

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `error(...)`, or an operation that failed.
    Runtime,
    /// A chunk that cannot be compiled.
    Syntax,
    /// The VM's memory limit was reached.
    Memory,
    /// The n-th argument of a Rust function has the wrong type or value.
    Argument(u32),
    /// The run was stopped from outside.
    Interrupted,
    /// Something that cannot be done now: a coroutine that is running, a VM that is closed.
    Misuse,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Vec<u8>,
    traceback: Option<String>,
    /// The call stacks of the coroutines outside.
    outer: Vec<String>,
    /// The error value when it is not a string.
    object: Option<Ref>,
    /// Whether raising puts `chunk:line:` before the message.
    located: bool,
}

pub type LuaResult<T> = Result<T, LuaError>;

impl LuaError {
    pub(crate) fn of(kind: ErrorKind, message: impl Into<Vec<u8>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            traceback: None,
            outer: Vec::new(),
            object: None,
            located: false,
        }))
    }

    /// An error whose message gets the position of the Lua code that called (`chunk:line: message`), as C functions do.
    pub fn new(message: impl Into<Vec<u8>>) -> Self {
        let mut error = Self::of(ErrorKind::Runtime, message);
        error.0.located = true;
        error
    }

    /// An error with exactly this message.
    pub fn exactly(message: impl Into<Vec<u8>>) -> Self {
        Self::of(ErrorKind::Runtime, message)
    }

    /// An error whose value is any Lua value.
    pub fn object(value: Ref) -> Self {
        let mut error = Self::of(ErrorKind::Runtime, "(error object)");
        error.0.object = Some(value);
        error
    }

    /// `bad argument #n to 'function' (message)`.
    pub fn argument(n: u32, message: impl Into<Vec<u8>>) -> Self {
        Self::of(ErrorKind::Argument(n), message)
    }

    pub(crate) fn memory() -> Self {
        Self::of(ErrorKind::Memory, "not enough memory")
    }

    pub(crate) fn misuse(message: &str) -> Self {
        Self::of(ErrorKind::Misuse, message)
    }

    pub(crate) fn with_object(mut self, object: Ref) -> Self {
        self.0.object = Some(object);
        self
    }

    pub(crate) fn with_traceback(mut self, traceback: String) -> Self {
        self.0.traceback = Some(traceback);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message: the error value if it is a string or number, what its `__tostring` says, or a description.
    pub fn message(&self) -> &[u8] {
        &self.0.message
    }

    /// The error value, when it is not a string.
    pub fn value(&self) -> Option<&Ref> {
        self.0.object.as_ref()
    }

    /// The call stack at the point of the error: `\n\tframe` per frame, without a heading.
    pub fn traceback(&self) -> Option<&str> {
        self.0.traceback.as_deref()
    }

    /// `traceback`, and those of the coroutines through which the error came and of those added; for `format_coroutines`.
    pub fn tracebacks(&self) -> impl Iterator<Item = &str> {
        self.traceback().into_iter().chain(self.0.outer.iter().map(String::as_str))
    }

    /// Adds the call stack of a coroutine outside.
    pub fn add_traceback(&mut self, frames: String) {
        self.0.outer.push(frames);
    }

    pub(crate) fn is_located(&self) -> bool {
        self.0.located
    }
}

impl fmt::Display for LuaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0.message))
    }
}

impl fmt::Debug for LuaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        self.0.traceback.as_ref().map_or(Ok(()), |traceback| f.write_str(traceback))
    }
}

impl std::error::Error for LuaError {}

impl From<&str> for LuaError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for LuaError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}
