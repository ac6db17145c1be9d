//! Splits one text into statements: the words up to a `;`, a `{`, a `}` or the end.
//!
//! ```text
//!          blank, comment            quote            byte after `\`
//!         ┌────┐                  ┌─────────► Quoted ◄──────────┐
//!         ▼    │   other byte     │              │ same quote   (escaped bytes, line ends
//!      Between ┴──────────► Bare  │              ▼               and `;{}` are part of it)
//!         ▲                  │    │         After quote
//!         └── blank ; { ─────┴────┴── blank ; { ) ┘  anything else: unexpected
//! ```
//!
//! An error is reported once and as nginx words it; then the lexer goes on where the next statement plausibly
//! begins. What such a statement said is lost (`Statement::damaged`), so that nobody complains about it a second time.

use std::sync::Arc;

use crate::{ConfigError, FileId, Span, Word};

/// nginx: its buffer. No word or comment may be longer, the byte that ends it included.
const MAX_PARAMETER: usize = 4096;

/// After so many errors nobody reads on, and going back to forgotten quotes would cost too much.
pub(crate) const MAX_ERRORS: usize = 100;

/// Reads statements from one text.
pub(crate) struct Lexer {
    text: Arc<[u8]>,
    file: FileId,
    command_line: bool,
    pos: usize,
    line: u32,
    /// Where the first word of the statement began.
    statement: usize,
    /// Where the current word or comment began, and on which line.
    start: usize,
    start_line: u32,
    /// The quote that is open.
    quote: Option<u8>,
    /// The current word is known to be too long.
    too_long: bool,
    /// Recovery had to guess: braces need not match any more.
    pub(crate) doubtful: bool,
}

/// What the lexer hands to the parser.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) words: Vec<Word>,
    pub(crate) end: End,
    /// The byte that ended it.
    pub(crate) span: Span,
    /// An error in it has been reported: its words mean nothing.
    pub(crate) damaged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Semicolon,
    Open,
    Close,
    /// The text is over.
    Eof,
}

/// Why there is no next byte.
enum Stop {
    Eof,
    TooLong,
}

/// What to do after an error.
enum Recovery {
    /// The statement is over.
    End(End),
    /// Forget the statement, a new one begins here.
    Restart,
}

impl Lexer {
    pub(crate) fn new(text: Arc<[u8]>, file: FileId, command_line: bool) -> Self {
        // Editors on Windows begin a file with a byte order mark; nginx would take it for a part of the first name.
        let pos = if text.starts_with(b"\xEF\xBB\xBF") && !command_line { 3 } else { 0 };
        Self {
            text,
            file,
            command_line,
            pos,
            line: 1,
            statement: pos,
            start: pos,
            start_line: 1,
            quote: None,
            too_long: false,
            doubtful: false,
        }
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.text.get(self.pos..).unwrap_or(&[])
    }

    /// The offset and line of the next byte.
    pub(crate) fn position(&self) -> (usize, u32) {
        (self.pos, self.line)
    }

    /// Goes on after `len` bytes that somebody else has read.
    pub(crate) fn skip(&mut self, len: usize) {
        let to = self.pos.saturating_add(len).min(self.text.len());
        self.line += count_lines(&self.text[self.pos..to]);
        self.pos = to;
    }

    /// Reads no further.
    pub(crate) fn stop(&mut self) {
        self.pos = self.text.len();
    }

    /// How many blanks the line at this offset begins with.
    pub(crate) fn indent_of(&self, offset: usize) -> usize {
        let head = &self.text[..offset.min(self.text.len())];
        let from = memchr::memrchr(b'\n', head).map_or(0, |at| at + 1);
        self.text[from..].iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count()
    }

    pub(crate) fn span(&self, start: usize, end: usize, line: u32) -> Span {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { file: self.file, line, start: offset(start), end: offset(end) }
    }

    /// The byte read last, on the line reached.
    fn here(&self) -> Span {
        self.span(self.pos.saturating_sub(1), self.pos, self.line)
    }

    fn error(&self, message: impl Into<String>, span: Span) -> ConfigError {
        ConfigError::emerg(message).with_span(span)
    }

    /// The next statement.
    pub(crate) fn next(&mut self, errors: &mut Vec<ConfigError>) -> Statement {
        let mut words = Vec::new();
        let mut damaged = false;
        self.begin();
        loop {
            let end = match self.step(&mut words, &mut damaged, errors) {
                Ok(None) => continue,
                Ok(Some(end)) => end,
                Err(Recovery::End(end)) => {
                    damaged = true;
                    end
                }
                Err(Recovery::Restart) => {
                    if errors.len() >= MAX_ERRORS {
                        self.stop();
                        self.doubtful = true;
                    }
                    words.clear();
                    damaged = false;
                    self.begin();
                    continue;
                }
            };
            return Statement { words, end, span: self.here(), damaged };
        }
    }

    /// A new word may begin at the next byte.
    fn begin(&mut self) {
        self.start = self.pos;
        self.start_line = self.line;
        self.quote = None;
        self.too_long = false;
    }

    /// Reads one blank, comment or word; `Some` ends the statement.
    fn step(
        &mut self,
        words: &mut Vec<Word>,
        damaged: &mut bool,
        errors: &mut Vec<ConfigError>,
    ) -> Result<Option<End>, Recovery> {
        let first = match self.read(damaged, errors) {
            Ok(byte) => byte,
            Err(Stop::Eof) if words.is_empty() => return Ok(Some(End::Eof)),
            Err(stop) => return Err(self.stopped(stop, errors)),
        };
        self.start = self.pos - 1;
        self.start_line = self.line;
        if words.is_empty() {
            self.statement = self.start;
        }
        self.too_long = false;
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => Ok(None),
            b'#' => {
                self.comment(errors);
                Ok(None)
            }
            b';' | b'{' if words.is_empty() => self.unexpected_end(first, *damaged, errors),
            b';' => Ok(Some(End::Semicolon)),
            b'{' => Ok(Some(End::Open)),
            b'}' if words.is_empty() => Ok(Some(End::Close)),
            b'}' => {
                errors.push(self.missing_semicolon(words));
                Err(Recovery::End(End::Close))
            }
            b'"' | b'\'' => self.quoted(first, words, damaged, errors),
            _ => self.bare(first, words, damaged, errors),
        }
    }

    /// The next byte. Counts lines and holds words to their limit.
    fn read(&mut self, damaged: &mut bool, errors: &mut Vec<ConfigError>) -> Result<u8, Stop> {
        let Some(&byte) = self.text.get(self.pos) else {
            return Err(Stop::Eof);
        };
        if self.pos - self.start == MAX_PARAMETER && !self.too_long && !self.command_line {
            self.too_long = true;
            *damaged = true;
            errors.push(self.too_long_error());
            if self.quote.is_some() && self.quote_was_forgotten() {
                return Err(Stop::TooLong);
            }
        }
        self.pos += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Ok(byte)
    }

    fn too_long_error(&self) -> ConfigError {
        let message = match self.quote {
            Some(quote) => format!(
                "too long parameter, probably missing terminating \"{}\" character",
                char::from(quote)
            ),
            None => {
                let head = self.text.get(self.start..self.start + 10).unwrap_or(&[]);
                format!("too long parameter \"{}...\" started", String::from_utf8_lossy(head))
            }
        };
        let from = self.start - usize::from(self.quote.is_some());
        self.error(message, self.span(from, from + 1, self.start_line))
    }

    /// Reads to the end of the line.
    fn comment(&mut self, errors: &mut Vec<ConfigError>) {
        let len = memchr::memchr(b'\n', self.rest()).unwrap_or(self.rest().len());
        let limit = MAX_PARAMETER - 1; // the `#` has been read
        if len >= limit && self.rest().len() > limit && !self.command_line {
            // nginx: its buffer is full. Nothing is lost with the rest of a comment.
            errors.push(self.too_long_error());
        }
        self.skip(len);
        self.start = self.pos;
    }

    /// `;` or `{` with nothing before it.
    fn unexpected_end(
        &mut self,
        byte: u8,
        damaged: bool,
        errors: &mut Vec<ConfigError>,
    ) -> Result<Option<End>, Recovery> {
        if !damaged {
            let message = format!("unexpected \"{}\"", char::from(byte));
            errors.push(self.error(message, self.here()));
        }
        if byte == b';' {
            return Err(Recovery::Restart);
        }
        self.doubtful = true;
        Err(Recovery::End(End::Open))
    }

    /// `}` after words.
    fn missing_semicolon(&self, words: &[Word]) -> ConfigError {
        let error = self.error("unexpected \"}\"", self.here());
        match words {
            [name, ..] => error.with_note(format!(
                "\"{}\" on line {} is not terminated by \";\"",
                name.lossy(),
                name.span.line
            )),
            [] => error,
        }
    }

    /// A word without quotes, whose first byte has been read.
    fn bare(
        &mut self,
        first: u8,
        words: &mut Vec<Word>,
        damaged: &mut bool,
        errors: &mut Vec<ConfigError>,
    ) -> Result<Option<End>, Recovery> {
        let mut escaped = first == b'\\';
        // `{` after `$` is a part of the word, and so is every further one after it.
        let mut variable = first == b'$';
        loop {
            let byte = match self.read(damaged, errors) {
                Ok(byte) => byte,
                Err(stop) => return Err(self.stopped(stop, errors)),
            };
            if escaped {
                escaped = false;
                continue;
            }
            if byte == b'{' && variable {
                continue;
            }
            variable = byte == b'$';
            escaped = byte == b'\\';
            let end = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => None,
                b';' => Some(End::Semicolon),
                b'{' => Some(End::Open),
                _ => continue,
            };
            let to = self.pos - 1;
            words.push(Word {
                text: unescape(&self.text[self.start..to]),
                span: self.span(self.start, to, self.start_line),
                quoted: false,
            });
            return Ok(end);
        }
    }

    /// A word in quotes, of which the opening one has been read, and what follows the closing one.
    fn quoted(
        &mut self,
        quote: u8,
        words: &mut Vec<Word>,
        damaged: &mut bool,
        errors: &mut Vec<ConfigError>,
    ) -> Result<Option<End>, Recovery> {
        self.start = self.pos;
        self.quote = Some(quote);
        let mut escaped = false;
        loop {
            let byte = match self.read(damaged, errors) {
                Ok(byte) => byte,
                Err(stop) => return Err(self.stopped(stop, errors)),
            };
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == quote {
                break;
            }
        }
        words.push(Word {
            text: unescape(&self.text[self.start..self.pos - 1]),
            span: self.span(self.start - 1, self.pos, self.start_line),
            quoted: true,
        });
        self.quote = None;

        match self.read(damaged, errors) {
            Ok(b' ' | b'\t' | b'\r' | b'\n') => Ok(None),
            Ok(b';') => Ok(Some(End::Semicolon)),
            Ok(b'{') => Ok(Some(End::Open)),
            Ok(b')') => {
                // nginx: so that `if ("$a" = "b")` reads well, the parenthesis begins the next word.
                self.start = self.pos - 1;
                self.start_line = self.line;
                self.too_long = false;
                self.bare(b')', words, damaged, errors)
            }
            Ok(byte) => self.junk_after_quote(byte, words, damaged, errors),
            Err(stop) => Err(self.stopped(stop, errors)),
        }
    }

    /// Something sticks to a closing quote.
    fn junk_after_quote(
        &mut self,
        byte: u8,
        words: &mut Vec<Word>,
        damaged: &mut bool,
        errors: &mut Vec<ConfigError>,
    ) -> Result<Option<End>, Recovery> {
        let shown = String::from_utf8_lossy(&[byte]).into_owned();
        let error = self.error(format!("unexpected \"{shown}\""), self.here());
        if self.quote_was_forgotten() {
            errors.push(error.with_note(self.forgotten_quote_note()));
            return Err(self.restart_after_quote());
        }
        errors.push(error.with_note("a quoted word ends at its closing quote; a blank must follow"));
        *damaged = true;
        if byte == b'}' {
            return Err(Recovery::End(End::Close));
        }
        self.start = self.pos - 1;
        self.too_long = true; // one complaint is enough
        self.bare(byte, words, damaged, errors)
    }

    /// The text ended inside a statement, or a word does not.
    fn stopped(&mut self, stop: Stop, errors: &mut Vec<ConfigError>) -> Recovery {
        let forgotten = self.quote.is_some() && self.quote_was_forgotten();
        if matches!(stop, Stop::Eof) {
            let message = if self.command_line {
                "unexpected end of parameter, expecting \";\""
            } else {
                "unexpected end of file, expecting \";\" or \"}\""
            };
            let span = match self.quote {
                Some(_) => self.span(self.start - 1, self.start, self.line),
                None => self.span(self.statement, self.text.len(), self.line),
            };
            let error = self.error(message, span);
            errors.push(match self.quote {
                Some(_) => error.with_note(self.forgotten_quote_note()),
                None => error,
            });
        }
        self.doubtful = true;
        if forgotten { self.restart_after_quote() } else { Recovery::End(End::Eof) }
    }

    /// Whether the line of the opening quote ends as if the quote had been closed before.
    fn quote_was_forgotten(&self) -> bool {
        let read = &self.text[self.start..self.pos];
        memchr::memchr(b'\n', read)
            .is_some_and(|at| matches!(last_visible(&read[..at]), Some(b';' | b'{' | b'}')))
    }

    fn forgotten_quote_note(&self) -> String {
        format!("the quote opened on line {} is probably not closed", self.start_line)
    }

    /// Goes back to the line after that of the opening quote.
    fn restart_after_quote(&mut self) -> Recovery {
        self.doubtful = true;
        let len = memchr::memchr(b'\n', &self.text[self.start..]).unwrap_or(0);
        let last = last_visible(&self.text[self.start..self.start + len]);
        self.pos = (self.start + len + 1).min(self.text.len());
        self.line = self.start_line + 1;
        match last {
            Some(b'{') => Recovery::End(End::Open),
            Some(b'}') => Recovery::End(End::Close),
            _ => Recovery::Restart,
        }
    }
}

/// The last byte that is no blank.
fn last_visible(line: &[u8]) -> Option<u8> {
    line.trim_ascii_end().last().copied()
}

/// How many lines end in here.
pub(crate) fn count_lines(text: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', text).count()).unwrap_or(u32::MAX)
}

/// Takes away the backslashes that stand for something; all others are part of the word.
fn unescape(raw: &[u8]) -> Box<[u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else {
        return raw.into();
    };
    let (head, mut rest) = raw.split_at(first);
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(head);
    while let [byte, tail @ ..] = rest {
        let escaped = match (byte, tail.first()) {
            (b'\\', Some(&next @ (b'"' | b'\'' | b'\\'))) => Some(next),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        out.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[1..] } else { tail };
    }
    out.into()
}
