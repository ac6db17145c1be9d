//! Moving a finished file into place, across file systems if need be.
use std::io;

use crate::file::{self, WriteMode};
use crate::{temp, tree};

/// How [`into_place`] moves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Permissions of the result; `None` keeps those of the source.
    pub mode: Option<u32>,
    /// Modification time of the result; `None` keeps that of the source.
    pub mtime: Option<i64>,
    /// Make missing directories with these permissions.
    pub make_parents: Option<u32>,
    /// Remove the source when it cannot be moved.
    pub remove_on_error: bool,
}

/// A failed move: the call and the name it failed on, as nginx logs them.
#[derive(Debug)]
pub struct MoveError {
    pub call: &'static str,
    pub name: Vec<u8>,
    pub error: io::Error,
}

/// The plain system call: gives `from` the name `to`.
///
/// # Errors
/// Those of `rename`.
pub fn over(from: &[u8], to: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::rename(from, to)?)
}

/// Moves `from` over `to` so that `to` is at any moment the old file or the whole new one.
///
/// # Errors
/// See [`MoveError`].
pub fn into_place(from: &[u8], to: &[u8], options: &Options) -> Result<(), MoveError> {
    let moved = attempt(from, to, options);
    if moved.is_err() && options.remove_on_error {
        // The error to report is the first one.
        let _ = file::remove(from);
    }
    moved
}

fn attempt(from: &[u8], to: &[u8], options: &Options) -> Result<(), MoveError> {
    if let Some(mode) = options.mode {
        file::chmod(from, mode).map_err(failed("chmod()", from))?;
    }
    if let Some(mtime) = options.mtime {
        let fd = file::open_read(from).map_err(failed("open()", from))?;
        file::set_mtime(fd, mtime).map_err(failed("utimes()", from))?;
    }
    let mut renamed = rustix::fs::rename(from, to);
    if let (Err(rustix::io::Errno::NOENT), Some(mode)) = (&renamed, options.make_parents) {
        tree::make_parents(to, mode).map_err(failed("mkdir()", to))?;
        renamed = rustix::fs::rename(from, to);
    }
    match renamed {
        Err(rustix::io::Errno::XDEV) => copy_over(from, to, options),
        renamed => renamed.map_err(|error| failed("rename()", to)(error.into())),
    }
}

fn copy_over(from: &[u8], to: &[u8], options: &Options) -> Result<(), MoveError> {
    let stat = file::stat(from).map_err(failed("stat()", from))?;
    let mode = options.mode.unwrap_or(stat.mode);
    let new = temp::create_beside(to, mode).map_err(|(name, error)| failed("open()", &name)(error))?;
    let name = new.path.clone();
    copy_into(from, &new, options.mtime.unwrap_or(stat.mtime))
        .and_then(|()| rustix::fs::rename(&*name, to).map_err(|error| failed("rename()", to)(error.into())))
        .inspect_err(|_| drop(file::remove(&name)))?;
    file::remove(from).map_err(failed("unlink()", from))
}

/// Copies a file to a new one, of the given or the source's permissions less the umask, with the source's time:
/// WebDAV's COPY.
///
/// # Errors
/// See [`MoveError`].
pub fn copy(from: &[u8], to: &[u8], mode: Option<u32>) -> Result<(), MoveError> {
    let stat = file::stat(from).map_err(failed("stat()", from))?;
    let mode = mode.unwrap_or(stat.mode);
    let fd = file::open_write(to, WriteMode::Truncate, mode).map_err(failed("open()", to))?;
    copy_into(from, &temp::TempFile { fd, path: to.to_vec() }, stat.mtime)
}

fn copy_into(from: &[u8], new: &temp::TempFile, mtime: i64) -> Result<(), MoveError> {
    let source = file::open_read(from).map_err(failed("open()", from))?;
    let mut buf = vec![0; 64 * 1024];
    let mut offset = 0;
    loop {
        match file::pread(&source, &mut buf, offset).map_err(failed("read()", from))? {
            0 => break,
            n => {
                file::pwrite_all(&new.fd, &buf[..n], offset).map_err(failed("write()", &new.path))?;
                offset += n as u64;
            }
        }
    }
    file::set_mtime(&new.fd, mtime).map_err(failed("utimes()", &new.path))
}

fn failed(call: &'static str, name: &[u8]) -> impl FnOnce(io::Error) -> MoveError {
    let name = name.to_vec();
    move |error| MoveError { call, name, error }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::path;
    use crate::scratch::Scratch;

    #[test]
    fn a_file_is_moved_with_mode_and_time() {
        let dir = Scratch::new();
        fs::write(dir.path("new"), "new").unwrap();
        fs::write(dir.path("old"), "old").unwrap();
        let options = Options { mode: Some(0o640), mtime: Some(86_400), ..Options::default() };
        into_place(&dir.join("new"), &dir.join("old"), &options).unwrap();
        assert_eq!(fs::read(dir.path("old")).unwrap(), b"new");
        let stat = file::stat(&dir.join("old")).unwrap();
        assert_eq!((stat.mode, stat.mtime), (0o640, 86_400));
        assert!(!dir.path("new").exists());
    }

    #[test]
    fn missing_directories_are_made_only_when_asked() {
        let dir = Scratch::new();
        fs::write(dir.path("f"), "x").unwrap();
        let to = dir.join("a/b/f");
        let error = into_place(&dir.join("f"), &to, &Options::default()).unwrap_err();
        assert_eq!((error.call, error.error.kind()), ("rename()", io::ErrorKind::NotFound));
        let options = Options { make_parents: Some(0o700), ..Options::default() };
        into_place(&dir.join("f"), &to, &options).unwrap();
        assert!(dir.path("a/b/f").exists());
    }

    #[test]
    fn a_failed_move_can_clean_up() {
        let dir = Scratch::new();
        fs::write(dir.path("f"), "x").unwrap();
        let options = Options { remove_on_error: true, ..Options::default() };
        assert!(into_place(&dir.join("f"), &dir.join("no/f"), &options).is_err());
        assert!(!dir.path("f").exists());
    }

    #[test]
    fn another_file_system_gets_a_copy() {
        let dir = Scratch::new();
        let shm = Path::new("/dev/shm");
        let here = file::stat(&dir.join("")).unwrap().device;
        if file::stat(path::to_bytes(shm)).map_or(here, |stat| stat.device) == here {
            return copy_path_alone(&dir);
        }
        let target = shm.join(format!("moonrest-sys-move-{}", std::process::id()));
        let content = vec![9; 200_000];
        fs::write(dir.path("f"), &content).unwrap();
        let options = Options { mode: Some(0o604), mtime: Some(86_400), ..Options::default() };
        into_place(&dir.join("f"), path::to_bytes(&target), &options).unwrap();
        let stat = file::stat(path::to_bytes(&target)).unwrap();
        let copied = fs::read(&target).unwrap();
        fs::remove_file(&target).unwrap();
        assert!(copied == content && !dir.path("f").exists());
        assert_eq!((stat.mode, stat.mtime), (0o604, 86_400));
    }

    fn copy_path_alone(dir: &Scratch) {
        fs::write(dir.path("f"), "x").unwrap();
        copy_over(&dir.join("f"), &dir.join("g"), &Options::default()).unwrap();
        assert!(dir.path("g").exists() && !dir.path("f").exists());
    }

    #[test]
    fn a_copy_keeps_mode_and_time() {
        let dir = Scratch::new();
        fs::write(dir.path("f"), "content").unwrap();
        file::chmod(&dir.join("f"), 0o604).unwrap();
        copy(&dir.join("f"), &dir.join("g"), None).unwrap();
        let (f, g) = (file::stat(&dir.join("f")).unwrap(), file::stat(&dir.join("g")).unwrap());
        assert_eq!((f.mode, f.mtime, f.size), (g.mode, g.mtime, g.size));
        assert_eq!(copy(&dir.join("none"), &dir.join("h"), None).unwrap_err().call, "stat()");
    }
}
