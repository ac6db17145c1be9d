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
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::process::{self, ExitStatus};
    use crate::scratch::Scratch;

    fn words(list: &[&str]) -> Vec<Vec<u8>> {
        list.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_new_program_gets_arguments_environment_and_sockets() {
        let dir = Scratch::new();
        let out = dir.path("out");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, closed) = (socket.as_raw_fd(), other.as_raw_fd());
        let script = format!(
            "{{ echo \"$0 $1 $NGINX ${{HOME-none}}\"; ls -l /proc/self/fd/{fd} | grep -c socket; \
             ls /proc/self/fd/{closed} 2>&1 | grep -c 'No such'; \
             grep SigBlk /proc/self/status; }} > {}",
            out.display()
        );
        let args = words(&["old name", "-c", &script, "zero", "one"]);
        let variable = crate::inherit::variable([socket.as_fd()]);
        let env = words(&[&variable, "PATH=/usr/bin:/bin"]);
        let pid = spawn_binary(b"/bin/sh", &args, &env, &[socket.as_fd()]).unwrap();
        assert_eq!(process::wait(pid).unwrap(), ExitStatus::Code(0));
        let text = std::fs::read_to_string(out).unwrap();
        assert_eq!(text, format!("zero one {fd}; none\n1\n1\nSigBlk:\t0000000000000000\n"));
    }

    #[test]
    fn a_missing_program_is_an_error_of_the_caller() {
        let error = spawn_binary(b"/no/such/program", &words(&["x"]), &[], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(spawn_binary(b"/bin/sh\0", &[], &[], &[]).is_err());
        assert!(spawn_binary(b"/bin/sh", &[], &words(&["novalue"]), &[]).is_err());
    }
}
