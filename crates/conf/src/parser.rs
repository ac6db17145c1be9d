//! Builds the tree of directives: blocks, includes and Lua bodies.
//!
//! Neither blocks nor includes recurse: both live on stacks of their own, whose heights are bounded.
//! <https://nginx.org/en/docs/ngx_core_module.html#include>

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::lexer::{End, Lexer, MAX_ERRORS, Statement, count_lines};
use crate::loader::NoFiles;
use crate::lua::{self, Unclosed};
use crate::{Body, ConfigError, Directive, FileId, Files, Level, Loader, Span, Tree, Word, glob};

/// Blocks may be nested so deep; whoever walks the tree may recurse.
pub const MAX_BLOCK_DEPTH: usize = 100;

/// Files may include each other so deep.
pub const MAX_INCLUDE_DEPTH: usize = 100;

/// So many includes are carried out; a few files that include each other in turn would grow without a bound.
const MAX_INCLUDES: usize = 100_000;

/// Reads a configuration file and what it includes. A relative `file` is taken relative to `prefix`; what it includes
/// is relative to the directory of `file`.
pub fn parse(loader: &dyn Loader, prefix: &Path, file: &Path) -> (Tree, Vec<ConfigError>) {
    let path = full_name(prefix, file);
    let mut parser = Parser::new(loader, directory(&path));
    parser.work.push(Work::Open { path, from: None });
    parser.run();
    parser.finish()
}

/// Reads directives given on the command line (`-g`), where there are no blocks. What they include is relative to the
/// directory of `conf_file`.
pub fn parse_param(loader: &dyn Loader, conf_file: &Path, text: &[u8]) -> (Tree, Vec<ConfigError>) {
    parse_command_line(loader, directory(conf_file), "command line", text)
}

/// Reads a text that stands alone, as if it came from the command line; every include fails.
pub fn parse_text(name: &str, text: &[u8]) -> (Tree, Vec<ConfigError>) {
    parse_command_line(&NoFiles, PathBuf::new(), name, text)
}

fn parse_command_line(
    loader: &dyn Loader,
    directory: PathBuf,
    name: &str,
    text: &[u8],
) -> (Tree, Vec<ConfigError>) {
    let mut parser = Parser::new(loader, directory);
    let file = parser.files.add_command_line(name, text);
    parser.work.push(Work::Read(Lexer::new(parser.files.shared_text(file), file, true), 1));
    parser.run();
    parser.finish()
}

/// A path as nginx completes it: the prefix goes before what does not start at the root.
pub fn full_name(prefix: &Path, name: &Path) -> PathBuf {
    prefix.join(name)
}

/// Everything up to the last slash, spelled as it is.
fn directory(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let end = memchr::memrchr(b'/', bytes).map_or(0, |at| at + 1);
    PathBuf::from(OsStr::from_bytes(&bytes[..end]))
}

struct Parser<'a> {
    loader: &'a dyn Loader,
    conf_prefix: PathBuf,
    files: Files,
    errors: Vec<ConfigError>,
    /// What is to be read, innermost include last.
    work: Vec<Work>,
    /// The blocks that are open, innermost last; the first stands for the whole configuration.
    blocks: Vec<Block>,
    order: u32,
    includes: usize,
}

enum Work {
    /// A file that is to be read, and the include that wants it.
    Open { path: PathBuf, from: Option<Span> },
    /// A text that is being read, and how many blocks were open when it began.
    Read(Lexer, usize),
}

#[derive(Default)]
struct Block {
    /// The directive whose block this is; none if what it said was not understood.
    head: Option<Directive>,
    /// What the block begins with, for messages about its end.
    opened: Option<(String, Span)>,
    children: Vec<Directive>,
}

impl<'a> Parser<'a> {
    fn new(loader: &'a dyn Loader, conf_prefix: PathBuf) -> Self {
        Self {
            loader,
            conf_prefix,
            files: Files::default(),
            errors: Vec::new(),
            work: Vec::new(),
            blocks: vec![Block::default()],
            order: 0,
            includes: 0,
        }
    }

    fn finish(mut self) -> (Tree, Vec<ConfigError>) {
        self.close_blocks(1);
        let directives = self.blocks.pop().map(|root| root.children).unwrap_or_default();
        (Tree { files: self.files, directives }, self.errors)
    }

    fn run(&mut self) {
        while let Some(work) = self.work.last_mut() {
            if self.errors.len() >= MAX_ERRORS {
                return;
            }
            match work {
                Work::Open { path, from } => {
                    let (path, from) = (std::mem::take(path), *from);
                    self.work.pop();
                    self.open(path, from);
                }
                Work::Read(lexer, base) => {
                    let base = *base;
                    let known = self.errors.len();
                    let statement = lexer.next(&mut self.errors);
                    self.stamp(known);
                    self.accept(statement, base);
                }
            }
        }
    }

    /// Says of new errors where in the reading order they are.
    fn stamp(&mut self, known: usize) {
        for error in self.errors.iter_mut().skip(known) {
            error.order = self.order;
        }
    }

    fn report(&mut self, error: ConfigError) {
        self.errors.push(ConfigError { order: self.order, ..error });
    }

    fn lexer(&mut self) -> Option<&mut Lexer> {
        match self.work.last_mut() {
            Some(Work::Read(lexer, _)) => Some(lexer),
            _ => None,
        }
    }

    /// Reads a file and puts it on top of the work.
    fn open(&mut self, path: PathBuf, from: Option<Span>) {
        let file = match self.load(&path, from) {
            Ok(file) => file,
            Err(error) => return self.report(error),
        };
        let reading = |work: &Work| matches!(work, Work::Read(lexer, _) if lexer.file() == file);
        let depth = self.work.iter().filter(|work| matches!(work, Work::Read(..))).count();
        self.includes += 1;
        let problem = if self.work.iter().any(reading) {
            "is included by itself"
        } else if depth >= MAX_INCLUDE_DEPTH {
            "is included too deep"
        } else if self.includes > MAX_INCLUDES {
            "is one include too many"
        } else {
            let text = self.files.shared_text(file);
            self.work.push(Work::Read(Lexer::new(text, file, false), self.blocks.len()));
            return;
        };
        let error = ConfigError::emerg(format!("\"{}\" {problem}", path.display()));
        self.report(ConfigError { span: from, ..error });
    }

    /// Reads a file that may have been read before.
    fn load(&mut self, path: &Path, from: Option<Span>) -> Result<FileId, ConfigError> {
        if let Some(known) = self.files.find(path) {
            return Ok(known);
        }
        match self.loader.read(path) {
            Ok(text) if u32::try_from(text.len()).is_ok() => Ok(self.files.add(path, text)),
            Ok(_) => {
                let error = ConfigError::emerg(format!("\"{}\" is too large", path.display()));
                Err(ConfigError { span: from, ..error })
            }
            // nginx: a directory can be opened; that it cannot be read is said without a place.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(ConfigError::new(Level::Crit, failed("pread()", path, &error)))
            }
            Err(error) => {
                Err(ConfigError { span: from, ..ConfigError::emerg(failed("open()", path, &error)) })
            }
        }
    }

    fn accept(&mut self, statement: Statement, base: usize) {
        match statement.end {
            End::Eof => self.end_text(base),
            End::Close => self.close(statement.span, base),
            End::Semicolon => self.semicolon(statement),
            End::Open => self.open_block(statement),
        }
    }

    /// A text is over, and with it what was left open in it.
    fn end_text(&mut self, base: usize) {
        let Some(Work::Read(lexer, _)) = self.work.pop() else { return };
        let unclosed =
            self.blocks.get(base..).and_then(<[Block]>::last).and_then(|block| block.opened.clone());
        if let Some((name, opened)) = unclosed.filter(|_| !lexer.doubtful) {
            let line = lexer.position().1;
            self.report(
                ConfigError::emerg("unexpected end of file, expecting \"}\"")
                    .with_span(Span { line, ..opened })
                    .with_note(format!("the block of \"{name}\" on line {} is not closed", opened.line)),
            );
        }
        self.close_blocks(base);
    }

    /// Ends the blocks above this height, for want of their own ends.
    fn close_blocks(&mut self, height: usize) {
        while self.blocks.len() > height.max(1) {
            self.close_block(None);
        }
    }

    fn close(&mut self, span: Span, base: usize) {
        self.order += 1;
        if self.blocks.len() > base {
            return self.close_block(Some(span));
        }
        let doubtful = self.lexer().is_none_or(|lexer| std::mem::replace(&mut lexer.doubtful, true));
        if !doubtful {
            self.report(
                ConfigError::emerg("unexpected \"}\"").with_span(span).with_note("no block is open here"),
            );
        }
    }

    fn close_block(&mut self, close: Option<Span>) {
        let Some(block) = self.blocks.pop() else { return };
        if let Some(mut directive) = block.head {
            directive.body = Body::Block(block.children);
            directive.close = close;
            directive.close_order = self.order;
            self.push(directive);
        }
    }

    fn push(&mut self, directive: Directive) {
        if let Some(block) = self.blocks.last_mut() {
            block.children.push(directive);
        }
    }

    fn semicolon(&mut self, statement: Statement) {
        let Some(directive) = self.directive(statement) else { return };
        if directive.name == "include" {
            return self.include(&directive);
        }
        self.push(directive);
    }

    /// Makes a directive of words that can be trusted.
    fn directive(&mut self, statement: Statement) -> Option<Directive> {
        self.order += 1;
        let mut words = statement.words.into_iter();
        let name = words.next().filter(|_| !statement.damaged)?;
        let span = Span { start: name.span.start, ..statement.span };
        let args = words.collect();
        Some(Directive {
            name,
            args,
            body: Body::None,
            span,
            close: None,
            order: self.order,
            close_order: self.order,
        })
    }

    fn include(&mut self, directive: &Directive) {
        let [name] = &*directive.args else {
            let message = "invalid number of arguments in \"include\" directive";
            return self.report(ConfigError::emerg(message).at(directive));
        };
        let path = full_name(&self.conf_prefix, Path::new(OsStr::from_bytes(name.as_bytes())));
        let from = Some(directive.span);
        if !glob::is_pattern(&path) {
            return self.work.push(Work::Open { path, from });
        }
        match self.loader.glob(&path) {
            Ok(paths) => self.work.extend(paths.into_iter().rev().map(|path| Work::Open { path, from })),
            Err(error) => {
                self.report(ConfigError::emerg(failed("glob()", &path, &error)).at(directive));
            }
        }
    }

    fn open_block(&mut self, statement: Statement) {
        if self.files.is_command_line(statement.span.file) {
            let message = "block directives are not supported in -g option";
            self.report(ConfigError::emerg(message).with_span(statement.span));
            return self.give_up();
        }
        let opened = statement
            .words
            .first()
            .map(|name| (name.lossy().into_owned(), Span { start: name.span.start, ..statement.span }));
        if statement.words.first().is_some_and(|name| name.text.ends_with(b"_by_lua_block")) {
            return self.lua_block(statement);
        }
        let mut head = self.directive(statement);
        if let Some(include) = head.take_if(|head| head.name == "include") {
            let message = "directive \"include\" is not terminated by \";\"";
            self.report(ConfigError::emerg(message).at(&include));
        }
        if self.blocks.len() > MAX_BLOCK_DEPTH {
            let error = ConfigError::emerg("too many nested blocks");
            self.report(ConfigError { span: opened.map(|(_, span)| span), ..error });
            return self.give_up();
        }
        self.blocks.push(Block { head, opened, children: Vec::new() });
    }

    /// Reads no further in the current text.
    fn give_up(&mut self) {
        if let Some(lexer) = self.lexer() {
            lexer.stop();
            lexer.doubtful = true;
        }
    }

    /// Takes the text up to the brace that ends it.
    fn lua_block(&mut self, statement: Statement) {
        let head_at = statement.words.first().map_or(0, |name| name.span.start as usize);
        let directive = self.directive(statement);
        let Some(lexer) = self.lexer() else { return };
        let (start, line) = lexer.position();
        let len = match lua::body_len(lexer.rest()) {
            Ok(len) => len,
            Err(unclosed) => {
                let error = lua_error(lexer, &unclosed, head_at);
                skip_broken_lua(lexer, head_at);
                return self.report(error);
            }
        };
        let text = lexer.rest().get(..len).unwrap_or(&[]).into();
        let body = Word { text, span: lexer.span(start, start + len, line), quoted: false };
        lexer.skip(len + 1);
        let close = lexer.span(start + len, start + len + 1, lexer.position().1);
        self.order += 1;
        if let Some(mut directive) = directive {
            directive.body = Body::Lua(body);
            directive.close = Some(close);
            directive.close_order = self.order;
            self.push(directive);
        }
    }
}

/// A failed system call as nginx words it.
fn failed(call: &str, path: &Path, error: &io::Error) -> String {
    let text = error.to_string();
    let reason = match error.raw_os_error() {
        Some(code) => format!("{code}: {}", text.split(" (os error").next().unwrap_or(&text)),
        None => text,
    };
    format!("{call} \"{}\" failed ({reason})", path.display())
}

/// OpenResty's words for a Lua block without an end.
fn lua_error(lexer: &Lexer, unclosed: &Unclosed, head_at: usize) -> ConfigError {
    let (start, line) = lexer.position();
    let line_at = |at: usize| line + count_lines(lexer.rest().get(..at).unwrap_or(&[]));
    match unclosed {
        Unclosed::LongBracket { at, closing } => ConfigError::emerg(format!(
            "Lua code block missing the closing long bracket \"{}\", the inlined Lua code may be too long",
            String::from_utf8_lossy(closing)
        ))
        .with_span(lexer.span(start + at, start + at + closing.len(), line_at(*at))),
        Unclosed::Block { last_open } => {
            ConfigError::emerg("unexpected end of file, expecting terminating characters for lua code block")
                // nginx: the line of the brace opened last.
                .with_span(lexer.span(head_at, start, last_open.map_or(line, line_at)))
                .with_note(format!("the Lua block that begins on line {line} is not closed"))
        }
    }
}

/// Goes on after the first line that begins with a `}` under the name of the directive, as a person would.
fn skip_broken_lua(lexer: &mut Lexer, head_at: usize) {
    lexer.doubtful = true;
    let indent = lexer.indent_of(head_at);
    let rest = lexer.rest();
    let closes = |at: &usize| {
        let blanks = rest[at + 1..].iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
        blanks == indent && rest.get(at + 1 + blanks) == Some(&b'}')
    };
    match memchr::memchr_iter(b'\n', rest).find(closes) {
        Some(at) => lexer.skip(at + 1 + indent + 1),
        None => lexer.stop(),
    }
}
