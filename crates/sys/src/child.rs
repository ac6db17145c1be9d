//! Programs that are started, talked to through pipes, and waited for by descriptor.
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// What to start.
pub struct Start<'a> {
    /// Looked for in `PATH` unless it has a slash.
    pub file: &'a [u8],
    /// The words of its command line, its name first.
    pub argv: &'a [Vec<u8>],
    /// `name=value`; the caller's own environment if there is none.
    pub environment: Option<&'a [Vec<u8>]>,
    /// Standard error goes where standard output goes.
    pub merge_stderr: bool,
}

/// A program that was started. It is not ended when this is dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Our ends of its pipes. They block until they are told not to.
#[derive(Debug)]
pub struct Pipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    /// `None` when it is merged into standard output.
    pub stderr: Option<OwnedFd>,
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

/// Starts a program. Its signals are as those of a program that a shell starts.
///
/// # Errors
/// Those of `pipe`, `fork` and `execve`.
pub fn start(start: &Start<'_>) -> io::Result<(Child, Pipes)> {
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let mut command = Command::new(OsStr::from_bytes(start.file));
    let mut words = start.argv.iter().map(|word| OsStr::from_bytes(word));
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command.args(words).stdin(Stdio::from(OwnedFd::from(stdin)));
    let our_stderr = if start.merge_stderr {
        command.stderr(Stdio::from(OwnedFd::from(stdout.try_clone()?)));
        None
    } else {
        let (ours, stderr) = io::pipe()?;
        command.stderr(Stdio::from(OwnedFd::from(stderr)));
        Some(OwnedFd::from(ours))
    };
    command.stdout(Stdio::from(OwnedFd::from(stdout)));
    if let Some(environment) = start.environment {
        command.env_clear();
        for line in environment {
            // The first byte belongs to the name even if it is an equals sign.
            let at = line.iter().skip(1).position(|byte| *byte == b'=').map_or(line.len(), |at| at + 1);
            let (name, value) = line.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            command.env(OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        }
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    // It cannot be reaped by anybody else, so the number still means it.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let pipes = Pipes { stdin: our_stdin.into(), stdout: our_stdout.into(), stderr: our_stderr };
    Ok((Child { pid, pidfd }, pipes))
}

impl Child {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A descriptor of its own that becomes readable when the program has ended.
    ///
    /// # Errors
    /// Those of `dup`.
    pub fn end_fd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// How it ended, if it has: asked once, because that frees its number.
    ///
    /// # Errors
    /// Those of `waitid`.
    pub fn reap(&self) -> io::Result<Option<Ended>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        let Some(status) = status else { return Ok(None) };
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Exited(code)),
            (None, Some(signal)) => Some(Ended::Signaled(signal)),
            (None, None) => None,
        })
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of `waitid`.
    pub fn wait(&self) -> io::Result<()> {
        crate::errno::retry(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).map(drop)
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Those of `kill`.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        crate::process::kill(self.pid(), signal)
    }
}

/// Makes reads and writes answer at once.
///
/// # Errors
/// Those of `ioctl`.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Reads from a pipe; 0 at its end.
///
/// # Errors
/// Those of `read`; `WouldBlock` when nothing is there yet.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    crate::errno::retry(|| rustix::io::read(fd, &mut *buffer))
}

/// Writes to a pipe.
///
/// # Errors
/// Those of `write`; `WouldBlock` when it is full, `BrokenPipe` when nobody reads.
pub fn write(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    crate::errno::retry(|| rustix::io::write(fd, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_program_reads_writes_and_ends() {
        let argv = words(&["sh", "-c", "read a; echo \"$a $B\"; echo err >&2; exit 3"]);
        let environment = words(&["B=1=2", "PATH=/usr/bin:/bin"]);
        let wanted =
            Start { file: b"/bin/sh", argv: &argv, environment: Some(&environment), merge_stderr: true };
        let (child, pipes) = start(&wanted).unwrap();
        assert!(pipes.stderr.is_none());
        File::from(pipes.stdin).write_all(b"hello\n").unwrap();
        let mut text = String::new();
        File::from(pipes.stdout).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello 1=2\nerr\n");
        child.wait().unwrap();
    }

    #[test]
    fn it_is_told_how_a_program_ended() {
        let argv = words(&["sleep", "100"]);
        let wanted = Start { file: b"sleep", argv: &argv, environment: None, merge_stderr: false };
        let (child, _pipes) = start(&wanted).unwrap();
        assert_eq!(child.reap().unwrap(), None);
        child.kill(9).unwrap();
        loop {
            if let Some(ended) = child.reap().unwrap() {
                assert_eq!(ended, Ended::Signaled(9));
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let argv = words(&["x"]);
        let wanted = Start { file: b"/no/such/program", argv: &argv, environment: None, merge_stderr: false };
        assert_eq!(start(&wanted).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
