//! Directories: made, listed, removed.
use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::Mode;

use crate::file::{self, FileKind};
use crate::path;

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    /// `None` where the file system does not say: ask `lstat`.
    pub kind: Option<FileKind>,
}

/// Makes one directory.
///
/// # Errors
/// `AlreadyExists`, and those of `mkdir`.
pub fn make(name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(name, Mode::from_raw_mode(mode))?)
}

/// Makes the directories that a file name needs; the last component is the file's and is not made.
///
/// # Errors
/// Those of `mkdir`. As in nginx, one that may not be made is passed over: what follows may exist.
pub fn make_parents(name: &[u8], mode: u32) -> io::Result<()> {
    for (at, _) in name.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/') {
        match make(&name[..at], mode) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EACCES)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Prepares a directory the server writes to: made if missing, given to `uid`, and usable by its owner.
///
/// # Errors
/// The name of the failed call, as nginx logs it, and the error.
pub fn prepare(name: &[u8], uid: Option<u32>) -> Result<(), (&'static str, io::Error)> {
    match make(name, 0o700) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(("mkdir()", error)),
        _ => {}
    }
    let Some(uid) = uid else { return Ok(()) };
    let stat = file::stat(name).map_err(|error| ("stat()", error))?;
    if stat.uid != uid {
        file::chown(name, uid, None).map_err(|error| ("chown()", error))?;
    }
    if stat.mode & 0o700 != 0o700 {
        file::chmod(name, stat.mode | 0o700).map_err(|error| ("chmod()", error))?;
    }
    Ok(())
}

/// Lists a directory, without `.` and `..`, in no order.
///
/// # Errors
/// Those of `open` and `getdents`.
pub fn list(name: &[u8]) -> io::Result<Vec<Entry>> {
    list_open(file::open_read(name)?)
}

/// Lists an open directory.
///
/// # Errors
/// Those of `getdents`.
pub fn list_open(fd: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            rustix::fs::FileType::Unknown => None,
            kind => Some(file::kind(kind)),
        };
        entries.push(Entry { name: name.to_vec(), kind });
    }
    Ok(entries)
}

/// Removes an empty directory.
///
/// # Errors
/// Those of `rmdir`.
pub fn remove(name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::rmdir(name)?)
}

/// The name without links, `.` and `..`.
///
/// # Errors
/// Those of `realpath`: every component must exist.
pub fn real_path(name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(path::to_bytes(&fs::canonicalize(path::from_bytes(name)?)?).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn parents_are_made_and_the_file_is_not() {
        let dir = Scratch::new();
        make_parents(&dir.join("a/b/c"), 0o755).unwrap();
        assert!(dir.path("a/b").is_dir() && !dir.path("a/b/c").exists());
        make_parents(&dir.join("a/b/d"), 0o755).unwrap();
        fs::write(dir.path("a/file"), "").unwrap();
        assert!(make_parents(&dir.join("a/file/x/y"), 0o755).is_err());
    }

    #[test]
    fn a_listing_has_names_and_kinds() {
        let dir = Scratch::new();
        fs::write(dir.path("f"), "").unwrap();
        fs::create_dir(dir.path("d")).unwrap();
        std::os::unix::fs::symlink("f", dir.path("l")).unwrap();
        let mut entries = list(&dir.join("")).unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_slice()).collect();
        assert_eq!(names, [b"d", b"f", b"l"]);
        if entries.iter().all(|entry| entry.kind.is_some()) {
            let kinds: Vec<_> = entries.iter().filter_map(|entry| entry.kind).collect();
            assert_eq!(kinds, [FileKind::Directory, FileKind::File, FileKind::Link]);
        }
        assert_eq!(real_path(&dir.join("d/../l")).unwrap(), real_path(&dir.join("f")).unwrap());
        remove(&dir.join("d")).unwrap();
        assert_eq!(list(&dir.join("")).unwrap().len(), 2);
        assert!(list(&dir.join("none")).is_err());
    }

    #[test]
    fn a_prepared_directory_is_its_owners() {
        let dir = Scratch::new();
        let name = dir.join("temp");
        let me = rustix::process::geteuid();
        prepare(&name, Some(me.as_raw())).unwrap();
        file::chmod(&name, 0o040).unwrap();
        prepare(&name, Some(me.as_raw())).unwrap();
        assert_eq!(file::stat(&name).unwrap().mode, 0o740);
        prepare(&name, None).unwrap();
        if me.is_root() {
            prepare(&name, Some(12345)).unwrap();
            assert_eq!(file::stat(&name).unwrap().uid, 12345);
        }
        assert_eq!(prepare(&dir.join("no/such"), None).unwrap_err().0, "mkdir()");
    }
}
