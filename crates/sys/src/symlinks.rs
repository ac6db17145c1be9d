//! `disable_symlinks`: names opened one component at a time, so that no link is followed that should not be.
//!
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#disable_symlinks>
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::errno::retry;
use crate::file::{self, FileStat, WriteMode};

/// Which links may be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// `off`
    #[default]
    Follow,
    /// `on`: none.
    Refuse,
    /// `if_not_owner`: those that belong to the owner of what they lead to.
    SameOwner,
}

/// A file that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// The call that failed, as nginx logs it: `open()`, `openat()`, `stat()` or `fstat()`.
    pub call: &'static str,
    pub error: io::Error,
}

/// Opens for reading. Of the first `from` bytes of the name (the position of a `/`, or 0) links are followed
/// anyway: the part that `from=` names.
///
/// # Errors
/// `FilesystemLoop` for a link at the end of the name, `NotADirectory` for one before it, those of `open` otherwise.
pub fn open_read(name: &[u8], symlinks: Symlinks, from: usize) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(name, symlinks, from, flags, Mode::empty())
}

/// Opens for writing, under the same rules: logs whose names hold variables.
///
/// # Errors
/// As [`open_read`].
pub fn open_write(
    name: &[u8],
    symlinks: Symlinks,
    from: usize,
    how: WriteMode,
    mode: u32,
) -> Result<OwnedFd, OpenError> {
    open(name, symlinks, from, file::write_flags(how), Mode::from_raw_mode(mode))
}

/// Describes what the name leads to, under the same rules.
///
/// # Errors
/// As [`open_read`], and those of `stat`.
pub fn stat(name: &[u8], symlinks: Symlinks, from: usize) -> Result<FileStat, OpenError> {
    if symlinks == Symlinks::Follow {
        return file::stat(name).map_err(|error| OpenError { call: "stat()", error });
    }
    let fd = open_read(name, symlinks, from)?;
    file::fstat(fd).map_err(|error| OpenError { call: "fstat()", error })
}

/// A directory on the way: searched, never read.
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open(
    name: &[u8],
    symlinks: Symlinks,
    from: usize,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, OpenError> {
    if symlinks == Symlinks::Follow {
        return retry(|| rustix::fs::open(name, flags, mode)).map_err(|error| failed("open()", error));
    }
    let (start, mut rest) = if from > 0 && name.get(from) == Some(&b'/') {
        let trusted = retry(|| rustix::fs::open(&name[..from], SEARCH, Mode::empty()))
            .map_err(|error| failed("open()", error))?;
        (Some(trusted), &name[from + 1..])
    } else if let Some(rest) = name.strip_prefix(b"/") {
        let root = retry(|| rustix::fs::open("/", SEARCH, Mode::empty()))
            .map_err(|error| failed("openat()", error))?;
        (Some(root), rest)
    } else {
        (None, name)
    };

    let mut dir = start;
    while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
        let component = &rest[..slash];
        rest = &rest[slash + 1..];
        if component.is_empty() {
            continue;
        }
        let at = dir.as_ref().map_or(CWD, |dir| dir.as_fd());
        let next = match symlinks {
            Symlinks::SameOwner => open_same_owner(at, component, SEARCH, Mode::empty()),
            _ => openat(at, component, SEARCH | OFlags::NOFOLLOW, Mode::empty()),
        };
        dir = Some(next.map_err(|error| failed("openat()", error))?);
    }

    let at = dir.as_ref().map_or(CWD, |dir| dir.as_fd());
    let creates = flags.intersects(OFlags::CREATE | OFlags::TRUNC);
    if rest.is_empty() && !name.is_empty() {
        // A final slash: what came before it is a directory, opened now as asked for.
        openat(at, b".", flags, mode)
    } else if symlinks == Symlinks::SameOwner && !creates {
        open_same_owner(at, rest, flags, mode)
    } else {
        openat(at, rest, flags | OFlags::NOFOLLOW, mode)
    }
    .map_err(|error| failed("openat()", error))
}

/// Opens first and compares owners after: whether it was a link at that moment is unknown, so the owner of the name
/// and of the opened file must agree also when the name is no link now.
fn open_same_owner(at: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let fd = openat(at, name, flags, mode)?;
    let link = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = rustix::fs::fstat(&fd)?;
    if link.st_uid == target.st_uid { Ok(fd) } else { Err(Errno::LOOP.into()) }
}

fn openat(at: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    retry(|| rustix::fs::openat(at, name, flags, mode))
}

fn failed(call: &'static str, error: io::Error) -> OpenError {
    OpenError { call, error }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;
    use crate::scratch::Scratch;

    /// `real/dir/file`, `linkdir -> real`, `real/dir/linkfile -> file`.
    fn tree() -> Scratch {
        let dir = Scratch::new();
        fs::create_dir_all(dir.path("real/dir")).unwrap();
        fs::write(dir.path("real/dir/file"), "content").unwrap();
        symlink("real", dir.path("linkdir")).unwrap();
        symlink("file", dir.path("real/dir/linkfile")).unwrap();
        dir
    }

    fn check(dir: &Scratch, name: &str, symlinks: Symlinks, from: &str, expect: Result<u64, i32>) {
        let from = if from.is_empty() { 0 } else { dir.join(from).len() };
        let name = dir.join(name);
        let opened = open_read(&name, symlinks, from);
        let got = opened
            .map(|fd| file::fstat(fd).unwrap().size)
            .map_err(|failure| failure.error.raw_os_error().unwrap());
        assert_eq!(got, expect, "{} {symlinks:?}", String::from_utf8_lossy(&name));
        assert_eq!(stat(&name, symlinks, from).is_ok(), expect.is_ok());
    }

    #[test]
    fn links_are_followed_only_as_allowed() {
        let dir = tree();
        for symlinks in [Symlinks::Follow, Symlinks::Refuse, Symlinks::SameOwner] {
            check(&dir, "real/dir/file", symlinks, "", Ok(7));
            check(&dir, "real//dir///file", symlinks, "", Ok(7));
            check(&dir, "real/dir/none", symlinks, "", Err(libc::ENOENT));
            check(&dir, "real/dir/file/", symlinks, "", Err(libc::ENOTDIR));
        }
        check(&dir, "linkdir/dir/file", Symlinks::Follow, "", Ok(7));
        check(&dir, "linkdir/dir/file", Symlinks::Refuse, "", Err(libc::ENOTDIR));
        check(&dir, "linkdir/dir/file", Symlinks::SameOwner, "", Ok(7));
        check(&dir, "real/dir/linkfile", Symlinks::Refuse, "", Err(libc::ELOOP));
        check(&dir, "real/dir/linkfile", Symlinks::SameOwner, "", Ok(7));
        check(&dir, "linkdir/dir/file", Symlinks::Refuse, "linkdir", Ok(7));
        check(&dir, "linkdir/dir/linkfile", Symlinks::Refuse, "linkdir", Err(libc::ELOOP));
    }

    #[test]
    fn a_directory_with_a_slash_is_opened() {
        let dir = tree();
        let name = [dir.join("real/dir"), b"/".to_vec()].concat();
        assert!(file::fstat(open_read(&name, Symlinks::Refuse, 0).unwrap()).unwrap().is_dir());
        assert!(file::fstat(open_read(b"/", Symlinks::SameOwner, 0).unwrap()).unwrap().is_dir());
    }

    #[test]
    fn a_link_of_another_owner_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // only root gives files away
        }
        let dir = tree();
        lchown(dir.path("linkdir"), Some(12345), None).unwrap();
        check(&dir, "linkdir/dir/file", Symlinks::SameOwner, "", Err(libc::ELOOP));
        check(&dir, "linkdir/dir/file", Symlinks::SameOwner, "linkdir", Ok(7));
        lchown(dir.path("real/dir/linkfile"), Some(12345), None).unwrap();
        check(&dir, "real/dir/linkfile", Symlinks::SameOwner, "", Err(libc::ELOOP));
    }

    #[test]
    fn a_created_file_is_never_a_link() {
        let dir = tree();
        let write = |name: &str, symlinks| {
            open_write(&dir.join(name), symlinks, 0, WriteMode::Append, 0o644)
                .map_err(|failure| failure.error.raw_os_error().unwrap())
        };
        assert!(write("real/dir/log", Symlinks::Refuse).is_ok());
        assert!(write("real/dir/log", Symlinks::SameOwner).is_ok());
        assert_eq!(write("real/dir/linkfile", Symlinks::SameOwner).unwrap_err(), libc::ELOOP);
        assert!(write("real/dir/linkfile", Symlinks::Follow).is_ok());
    }

    #[test]
    fn a_failure_names_the_call() {
        let call = |symlinks, from| open_read(b"/no-such-dir/x/y", symlinks, from).unwrap_err().call;
        assert_eq!(call(Symlinks::Follow, 0), "open()");
        assert_eq!(call(Symlinks::Refuse, 0), "openat()");
        assert_eq!(call(Symlinks::Refuse, 12), "open()");
        assert_eq!(stat(b"/no-such-dir", Symlinks::Follow, 0).unwrap_err().call, "stat()");
        assert!(open_read(b"", Symlinks::Refuse, 0).is_err());
    }
}
