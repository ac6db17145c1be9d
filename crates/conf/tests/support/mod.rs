//! Files in memory, and the one-line forms that tests compare.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use moonrest_conf::{Body, Directive, Loader, Tree, parse, parse_param, quote};

/// Texts by path. A path that ends in a slash is a directory.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect())
    }
}

impl Loader for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.to_string_lossy().ends_with('/') {
            return Err(io::Error::from_raw_os_error(21));
        }
        self.0.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    /// Knows one star, which stands for anything.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.to_string_lossy().into_owned();
        let (head, tail) = pattern.split_once('*').unwrap_or((&pattern, ""));
        let matches = |path: &&PathBuf| {
            let path = path.to_string_lossy();
            path.starts_with(head) && path.ends_with(tail)
        };
        Ok(self.0.keys().filter(matches).cloned().collect())
    }
}

/// Reads `/etc/nginx.conf` with this text.
pub(crate) fn read(text: &str) -> (Tree, Vec<String>) {
    read_files(&[("/etc/nginx.conf", text)])
}

/// Reads `/etc/nginx.conf` of these files.
pub(crate) fn read_files(files: &[(&str, &str)]) -> (Tree, Vec<String>) {
    let (tree, errors) = parse(&Memory::new(files), Path::new("/etc"), Path::new("nginx.conf"));
    let errors = errors.iter().map(|error| error.render(&tree.files)).collect();
    (tree, errors)
}

/// The errors of a text, without the file's name: `message:LINE`.
pub(crate) fn errors(text: &str) -> Vec<String> {
    read(text).1.iter().map(|line| line.replace(" in /etc/nginx.conf:", " @")).collect()
}

/// The errors of what stands after `-g`.
pub(crate) fn command_line_errors(text: &str) -> Vec<String> {
    let (tree, errors) = parse_param(&Memory::default(), Path::new("/etc/nginx.conf"), text.as_bytes());
    errors.iter().map(|error| error.render(&tree.files)).collect()
}

/// The directives on one line, each word quoted where it must be.
pub(crate) fn show(directives: &[Directive]) -> String {
    let one = |directive: &Directive| {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        let words: Vec<_> =
            words.map(|word| String::from_utf8_lossy(&quote(word.as_bytes())).into_owned()).collect();
        match &directive.body {
            Body::None => format!("{};", words.join(" ")),
            Body::Block(children) => format!("{} {{ {} }}", words.join(" "), show(children)),
            Body::Lua(code) => format!("{} <{}>", words.join(" "), code.lossy()),
        }
    };
    directives.iter().map(one).collect::<Vec<_>>().join(" ")
}
