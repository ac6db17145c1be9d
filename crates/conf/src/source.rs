//! The texts a configuration was read from, and positions in them.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names one text in [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A stretch of one text, and the line that a message about it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub file: FileId,
    /// Counted from 1. For words the line they start on, for directives the line of their `;` or `{`.
    pub line: u32,
    /// Byte offsets into the text.
    pub start: u32,
    pub end: u32,
}

/// Every text read, in reading order. A file that is included twice is read and listed once.
#[derive(Clone, Debug, Default)]
pub struct Files {
    sources: Vec<Source>,
    by_path: HashMap<PathBuf, FileId>,
}

#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: Arc<[u8]>,
    command_line: bool,
}

impl Files {
    /// Adds a file; one that is there already keeps its first text.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<[u8]>>) -> FileId {
        let path = path.into();
        if let Some(&known) = self.by_path.get(&path) {
            return known;
        }
        let id = self.push(path.clone(), text.into(), false);
        self.by_path.insert(path, id);
        id
    }

    /// Adds a text that came with `-g`: messages about it end in `in command line`.
    pub fn add_command_line(&mut self, name: &str, text: impl Into<Arc<[u8]>>) -> FileId {
        self.push(PathBuf::from(name), text.into(), true)
    }

    fn push(&mut self, path: PathBuf, text: Arc<[u8]>, command_line: bool) -> FileId {
        let id = FileId(u32::try_from(self.sources.len()).unwrap_or(u32::MAX));
        self.sources.push(Source { path, text, command_line });
        id
    }

    /// The file with this path, if it has been read.
    pub fn find(&self, path: &Path) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    /// The path the text was read from, as it was spelled.
    pub fn path(&self, id: FileId) -> &Path {
        self.get(id).map_or(Path::new(""), |source| &source.path)
    }

    /// The whole text.
    pub fn text(&self, id: FileId) -> &[u8] {
        self.get(id).map_or(&[], |source| &source.text)
    }

    /// A shared handle on the text.
    pub(crate) fn shared_text(&self, id: FileId) -> Arc<[u8]> {
        self.get(id).map_or_else(|| Arc::from([].as_slice()), |source| Arc::clone(&source.text))
    }

    /// Whether the text came with `-g`.
    pub fn is_command_line(&self, id: FileId) -> bool {
        self.get(id).is_some_and(|source| source.command_line)
    }

    /// The source line on which the span starts, without its end, and the column (in bytes) of the start.
    pub fn line(&self, span: Span) -> (&[u8], usize) {
        let text = self.text(span.file);
        let start = (span.start as usize).min(text.len());
        let from = memchr::memrchr(b'\n', &text[..start]).map_or(0, |at| at + 1);
        let to = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at);
        let line = &text[from..to];
        (line.strip_suffix(b"\r").unwrap_or(line), start - from)
    }

    /// The bytes of the span.
    pub fn slice(&self, span: Span) -> &[u8] {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or(&[])
    }

    /// `FILE:LINE`, or what nginx says instead for `-g`.
    pub(crate) fn place(&self, span: Span) -> String {
        if self.is_command_line(span.file) {
            return "command line".to_owned();
        }
        format!("{}:{}", String::from_utf8_lossy(self.path(span.file).as_os_str().as_bytes()), span.line)
    }

    /// All files in the order in which they were first read; `-T` prints them so. Texts of `-g` are left out.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Path, &[u8])> {
        (0..).zip(&self.sources).filter(|(_, source)| !source.command_line).map(|(id, source)| {
            let source: &Source = source;
            (FileId(id), source.path.as_path(), &*source.text)
        })
    }

    fn get(&self, id: FileId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_before_its_line_end() {
        let mut files = Files::default();
        let file = files.add("x", b"one\r\n  two;\nthree".as_slice());
        let span = |start, line| Span { file, line, start, end: start + 1 };
        assert_eq!(files.line(span(0, 1)), (b"one".as_slice(), 0));
        assert_eq!(files.line(span(7, 2)), (b"  two;".as_slice(), 2));
        assert_eq!(files.line(span(14, 3)), (b"three".as_slice(), 2));
        assert_eq!(files.line(span(999, 3)), (b"three".as_slice(), 5));
    }

    #[test]
    fn a_file_is_listed_once_and_the_command_line_never() {
        let mut files = Files::default();
        let first = files.add("a", b"1".as_slice());
        files.add_command_line("-g", b"2".as_slice());
        let last = files.add("b", b"3".as_slice());
        assert_eq!(files.add("a", b"4".as_slice()), first);
        let listed: Vec<_> =
            files.iter().map(|(id, path, text)| (id, path.to_owned(), text.to_owned())).collect();
        assert_eq!(listed, [(first, "a".into(), b"1".to_vec()), (last, "b".into(), b"3".to_vec())]);
    }
}
