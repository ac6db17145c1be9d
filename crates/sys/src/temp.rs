//! Temporary files in hashed directories, as `client_body_temp_path dir 1 2` has them.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#client_body_temp_path>
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::file::{self, WriteMode};
use crate::{random, tree};

/// A directory for temporary or cached files and the lengths of up to three levels of directories in it; 0: no level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TempDir {
    /// Without a final slash.
    pub path: Vec<u8>,
    pub levels: [u8; 3],
}

/// A new, empty file, open for reading and writing.
#[derive(Debug)]
pub struct TempFile {
    pub fd: OwnedFd,
    /// The name it has, or had.
    pub path: Vec<u8>,
}

impl TempDir {
    /// Where a file of this name lives: the last characters of the name make the directories, from its end on.
    /// `d`, levels 1 and 2, name `0000012345`: `d/5/34/0000012345`. A name too short for a level has it empty.
    pub fn file_path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + name.len() + 16);
        path.extend_from_slice(&self.path);
        let mut rest = name;
        for level in self.depth() {
            let (before, part) = rest.split_at(rest.len().saturating_sub(level));
            path.push(b'/');
            path.extend_from_slice(part);
            rest = before;
        }
        path.push(b'/');
        path.extend_from_slice(name);
        path
    }

    /// Makes the level directories of a path that [`Self::file_path`] gave.
    ///
    /// # Errors
    /// Those of `mkdir`. The directory itself must exist.
    pub fn make_levels(&self, path: &[u8]) -> io::Result<()> {
        let mut end = self.path.len();
        for level in self.depth() {
            end += level + 1;
            match tree::make(&path[..end.min(path.len())], 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Creates a file with a name nobody has. Unless `persistent` the name is removed at once and only the
    /// descriptor keeps the file. `mode` 0 is nginx's 0600.
    ///
    /// # Errors
    /// The path that could not be made or opened, with the error of `open` or `mkdir`.
    pub fn create(&self, persistent: bool, mode: u32) -> Result<TempFile, (Vec<u8>, io::Error)> {
        create(persistent, mode, |number| {
            let path = self.file_path(format!("{number:010}").as_bytes());
            match open(&path, mode) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.levels[0] != 0 => {
                    let opened = self.make_levels(&path).and_then(|()| open(&path, mode));
                    (path, opened)
                }
                opened => (path, opened),
            }
        })
    }

    fn depth(&self) -> impl Iterator<Item = usize> {
        self.levels.into_iter().take_while(|&level| level != 0).map(usize::from)
    }
}

/// Creates `name.0000000001` beside a file that it is to replace by a rename.
///
/// # Errors
/// As [`TempDir::create`].
pub fn create_beside(name: &[u8], mode: u32) -> Result<TempFile, (Vec<u8>, io::Error)> {
    create(true, mode, |number| {
        let path = [name, format!(".{number:010}").as_bytes()].concat();
        let opened = open(&path, mode);
        (path, opened)
    })
}

fn open(path: &[u8], mode: u32) -> io::Result<OwnedFd> {
    file::open_write(path, WriteMode::New, if mode == 0 { 0o600 } else { mode })
}

fn create(
    persistent: bool,
    mode: u32,
    attempt: impl Fn(u32) -> (Vec<u8>, io::Result<OwnedFd>),
) -> Result<TempFile, (Vec<u8>, io::Error)> {
    let mut number = next_number(false);
    loop {
        let (path, opened) = attempt(number);
        match opened {
            Ok(fd) => {
                if persistent {
                    // `mode` is exact when it was given: the umask does not count.
                    if mode != 0 {
                        let mode = rustix::fs::Mode::from_raw_mode(mode);
                        rustix::fs::fchmod(&fd, mode).map_err(|error| (path.clone(), error.into()))?;
                    }
                } else {
                    file::remove(&path).map_err(|error| (path.clone(), error))?;
                }
                return Ok(TempFile { fd, path });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = next_number(true),
            Err(error) => return Err((path, error)),
        }
    }
}

/// Counts up; a collision means that another process counts in the same directory, so jump far away.
fn next_number(collision: bool) -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let step = if collision { random::number().map_or(123_457, |n| n as u32 | 1) } else { 1 };
    LAST.fetch_add(step, Ordering::Relaxed).wrapping_add(step)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    fn temp_dir(dir: &Scratch, levels: [u8; 3]) -> TempDir {
        let path = dir.join("temp");
        fs::create_dir(dir.path("temp")).unwrap();
        TempDir { path, levels }
    }

    #[test]
    fn levels_come_from_the_end_of_the_name() {
        let check = |levels, name: &str, expect: &str| {
            let dir = TempDir { path: b"/c".to_vec(), levels };
            assert_eq!(dir.file_path(name.as_bytes()), expect.as_bytes());
        };
        check([0, 0, 0], "0000012345", "/c/0000012345");
        check([1, 2, 0], "0000012345", "/c/5/34/0000012345");
        check([2, 2, 2], "0000012345", "/c/45/23/01/0000012345");
        check([1, 2, 0], "b7f54b2df7773722d382f4809d65029c", "/c/c/29/b7f54b2df7773722d382f4809d65029c");
        check([1, 2, 0], "x", "/c/x//x");
    }

    #[test]
    fn directories_appear_when_needed() {
        let dir = Scratch::new();
        let temp = temp_dir(&dir, [1, 2, 0]);
        for _ in 0..20 {
            let file = temp.create(true, 0).unwrap();
            file::pwrite_all(&file.fd, b"data", 0).unwrap();
            let stat = file::stat(&file.path).unwrap();
            assert_eq!((stat.size, stat.mode), (4, 0o600));
            assert_eq!(file.path.iter().filter(|&&byte| byte == b'/').count(), temp_depth(&temp) + 3);
        }
    }

    fn temp_depth(temp: &TempDir) -> usize {
        temp.path.iter().filter(|&&byte| byte == b'/').count()
    }

    #[test]
    fn a_passing_file_has_no_name() {
        let dir = Scratch::new();
        let temp = temp_dir(&dir, [0; 3]);
        let file = temp.create(false, 0).unwrap();
        file::pwrite_all(&file.fd, b"data", 0).unwrap();
        assert!(file::stat(&file.path).is_err());
        assert_eq!(file::fstat(&file.fd).unwrap().size, 4);
    }

    #[test]
    fn a_taken_number_is_passed_over() {
        let dir = Scratch::new();
        let name = dir.join("target");
        let first = create_beside(&name, 0o644).unwrap();
        let number: u32 = String::from_utf8(first.path[name.len() + 1..].to_vec()).unwrap().parse().unwrap();
        for ahead in 1..50 {
            let taken = format!("target.{:010}", number.wrapping_add(ahead));
            fs::write(dir.path(&taken), "").unwrap();
        }
        let second = create_beside(&name, 0o644).unwrap();
        assert_ne!(first.path, second.path);
        assert_eq!(file::fstat(&second.fd).unwrap().mode, 0o644);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = Scratch::new();
        for levels in [[0; 3], [1, 2, 0]] {
            let temp = TempDir { path: dir.join("none"), levels };
            let (path, error) = temp.create(true, 0).unwrap_err();
            assert!(path.starts_with(&temp.path));
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
