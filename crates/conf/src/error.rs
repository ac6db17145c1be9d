//! Configuration errors: nginx's line first, then the source line, a caret and a hint.

use std::fmt;

use crate::{Directive, Files, Span};

/// How bad it is, in nginx's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
}

impl Level {
    /// The word nginx's log has between brackets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Notice => "notice",
        }
    }

    /// Whether the configuration cannot be used. An alert is urgent (`lua_code_cache off`), but stops nothing.
    pub fn is_fatal(self) -> bool {
        self <= Self::Error && self != Self::Alert
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One complaint about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub level: Level,
    /// nginx's words, without the place.
    pub message: String,
    /// The place; its line is the one nginx names.
    pub span: Option<Span>,
    /// What helps to repair it; shown on a terminal only.
    pub note: Option<String>,
    /// The [`Directive::order`] of what had been read before; [`ConfigError::merge`] goes by it.
    pub order: u32,
}

impl ConfigError {
    /// A complaint without a place.
    pub fn new(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: message.into(), span: None, note: None, order: 0 }
    }

    /// What stops a start.
    pub fn emerg(message: impl Into<String>) -> Self {
        Self::new(Level::Emerg, message)
    }

    /// What is worth a look.
    pub fn warn(message: impl Into<String>) -> Self {
        Self::new(Level::Warn, message)
    }

    /// The same, about this place.
    #[must_use]
    pub fn with_span(self, span: Span) -> Self {
        Self { span: Some(span), ..self }
    }

    /// The same, about this directive.
    #[must_use]
    pub fn at(self, directive: &Directive) -> Self {
        Self { span: Some(directive.span), order: directive.order, ..self }
    }

    /// The same, noticed at the `}` of this directive's block.
    #[must_use]
    pub fn at_close(self, directive: &Directive) -> Self {
        Self { span: Some(directive.close.unwrap_or(directive.span)), order: directive.close_order, ..self }
    }

    /// The same, with a hint.
    #[must_use]
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// All errors in nginx's order, which reads and checks in one pass: those that [`crate::parse`] returned, and those
    /// found by walking the tree.
    pub fn merge(syntax: Vec<Self>, mut found: Vec<Self>) -> Vec<Self> {
        found.extend(syntax);
        found.sort_by_key(|error| error.order);
        found
    }

    /// nginx's line without the level: `MESSAGE in FILE:LINE`.
    pub fn render(&self, files: &Files) -> String {
        match self.span {
            None => self.message.clone(),
            Some(span) => format!("{} in {}", self.message, files.place(span)),
        }
    }

    /// nginx's line, then for human eyes the source line with a caret, and the note.
    pub fn render_terminal(&self, files: &Files) -> String {
        let mut out = format!("[{}] {}", self.level, self.render(files));
        if let Some(span) = self.span {
            out.push_str(&excerpt(files, span));
        }
        if let Some(note) = &self.note {
            out.push_str("\n  = ");
            out.push_str(note);
        }
        out
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Longer lines are cut: minified Lua or a pasted key must not flood a terminal.
const MAX_EXCERPT: usize = 120;

/// The line the span starts on, and carets under what belongs to the span.
fn excerpt(files: &Files, span: Span) -> String {
    let (line, column) = files.line(span);
    let from = column.saturating_sub(MAX_EXCERPT / 2).min(line.len());
    let from = if line.len() <= MAX_EXCERPT { 0 } else { from };
    let to = line.len().min(from + MAX_EXCERPT);
    let column = column.clamp(from, to);
    let until = (column + (span.end.saturating_sub(span.start) as usize).max(1)).min(to);

    let number = line_of_start(files, span).to_string();
    let margin = " ".repeat(number.len());
    let carets = "^".repeat(visible(&line[column..until]).chars().count().max(1));
    let before: String = visible(&line[from..column]).chars().map(|_| ' ').collect();
    format!("\n{margin} |\n{number} | {}\n{margin} | {before}{carets}", visible(&line[from..to]))
}

/// The line the span begins on: a span over several lines may name its last.
fn line_of_start(files: &Files, span: Span) -> usize {
    let text = files.text(span.file);
    memchr::memchr_iter(b'\n', &text[..text.len().min(span.start as usize)]).count() + 1
}

/// A text for the terminal: a tab is one blank, so that carets line up; what would control the terminal is shown as `?`.
fn visible(bytes: &[u8]) -> String {
    let show = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(show).collect()
}
