//! `-f`, `-d`, `-e`, `-x`: conditions about files.

use moonrest_http::{core::DisableSymlinks, prelude::*};
use moonrest_sys::{
    file::FileStat,
    symlinks::{self, Symlinks},
};
use std::io;

/// What is asked of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileTest {
    File,
    Directory,
    Exists,
    Executable,
}

impl FileTest {
    /// The test that a letter behind `-` stands for.
    pub(super) fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'f' => Some(Self::File),
            b'd' => Some(Self::Directory),
            b'e' => Some(Self::Exists),
            b'x' => Some(Self::Executable),
            _ => None,
        }
    }

    /// Whether `path` passes. What cannot be examined does not.
    pub(super) fn passes(self, r: &Request, path: &[u8]) -> bool {
        let (mode, from) = symlink_rules(r, path);
        match symlinks::stat(path, mode, from) {
            Ok(stat) => self.holds(&stat),
            Err(failed) => {
                report(r, path, failed.call, &failed.error);
                false
            }
        }
    }

    fn holds(self, stat: &FileStat) -> bool {
        match self {
            Self::File => stat.is_file(),
            Self::Directory => stat.is_dir(),
            Self::Exists => stat.is_file() || stat.is_dir() || stat.is_link(),
            Self::Executable => stat.mode & 0o100 != 0,
        }
    }
}

/// `disable_symlinks` as it applies to `path`: which links may be followed, and how much of the name is trusted.
fn symlink_rules(r: &Request, path: &[u8]) -> (Symlinks, usize) {
    let (mode, from) = match &r.loc().core.disable_symlinks {
        DisableSymlinks::Off => return (Symlinks::Follow, 0),
        DisableSymlinks::On { from } => (Symlinks::Refuse, from),
        DisableSymlinks::IfNotOwner { from } => (Symlinks::SameOwner, from),
    };
    let Some(from) = from else { return (mode, 0) };
    let mut trusted = from.eval(r);
    if let [rest @ .., b'/'] = &*trusted {
        trusted = rest.to_vec().into();
    }
    let covers = path.starts_with(&trusted) && path.get(trusted.len()) == Some(&b'/');
    (mode, if covers { trusted.len() } else { 0 })
}

fn report(r: &Request, path: &[u8], call: &str, error: &io::Error) {
    let expected = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.kind() == io::ErrorKind::InvalidFilename;
    if !expected {
        let text = moonrest_core::env::os_error(error);
        moonrest_http::crit!(r, "{call} \"{}\" failed ({text})", String::from_utf8_lossy(path));
    }
}
