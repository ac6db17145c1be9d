//! Starting the new program of a binary upgrade.
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::path;

/// Starts `program` with exactly these arguments (the first is its name) and environment (`NAME=value`); it keeps
/// `inherit` open under the same numbers and has no signal blocked. Gives its process id; the caller reaps it.
///
/// # Errors
/// Those of `fork` and `execve`; `InvalidInput` for a NUL or an environment entry without `=`.
pub fn spawn_binary(
    program: &[u8],
    args: &[Vec<u8>],
    env: &[Vec<u8>],
    inherit: &[BorrowedFd<'_>],
) -> io::Result<i32> {
    let mut command = Command::new(path::from_bytes(program)?);
    if let Some((name, rest)) = args.split_first() {
        command.arg0(OsStr::from_bytes(name));
        command.args(rest.iter().map(|arg| OsStr::from_bytes(arg)));
    }
    command.env_clear();
    for entry in env {
        let (name, value) = split(entry)?;
        command.env(name, value);
    }
    let inherit: Vec<RawFd> = inherit.iter().map(|fd| fd.as_raw_fd()).collect();
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls; the descriptors are
    // borrowed until `spawn` returns, which is after the exec.
    unsafe {
        command.pre_exec(move || {
            for &fd in &inherit {
                crate::errno::check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
            crate::signals::unblock_all()
        });
    }
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

fn split(entry: &[u8]) -> io::Result<(OsString, OsString)> {
    let at = entry.iter().position(|&byte| byte == b'=').filter(|&at| at > 0);
    let at = at.ok_or(io::ErrorKind::InvalidInput)?;
    Ok((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_entry_needs_a_name() {
        assert_eq!(split(b"A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!(split(b"A=").unwrap(), ("A".into(), "".into()));
        for bad in [b"".as_slice(), b"A", b"=b"] {
            assert_eq!(split(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(spawn_binary(b"/bin/true\0", &[], &[], &[]).is_err());
        assert!(spawn_binary(b"/bin/true", &[], &[b"novalue".to_vec()], &[]).is_err());
    }
}
