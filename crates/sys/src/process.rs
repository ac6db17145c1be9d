//! Processes: forked, detached from the terminal, ended, reaped.
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::errno::{check, retry};
use crate::signals;

/// The calling process.
pub fn pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Its parent; 0 when that lives in another namespace.
pub fn parent_pid() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// The calling thread, as nginx logs it after `#`.
pub fn tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Sends a signal to one process; signal 0 only asks whether it is there.
///
/// # Errors
/// Those of `kill`: no such process, not allowed. `InvalidInput` for a number that does not name one process.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// How many threads the process has; `None` without `/proc`.
pub fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Runs `child` in a new process and ends that process with the number `child` returns (2 after a panic).
/// Gives the new process' id to the caller. Signals that reach the child before it has its own
/// [`Signals`](signals::Signals) are kept for it.
///
/// # Errors
/// Those of `fork`; `Unsupported` in a process with several threads, where the child could do next to nothing safely.
pub fn fork_child(child: impl FnOnce() -> i32) -> io::Result<i32> {
    if thread_count().is_some_and(|threads| threads > 1) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "fork in a process with several threads"));
    }
    match fork()? {
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(2);
            std::process::exit(code)
        }
        pid => Ok(pid),
    }
}

/// Forks with all signals blocked, so that none meets a child that still holds its parent's signal pipe.
fn fork() -> io::Result<i32> {
    let blocked = signals::BlockAll::new()?;
    // SAFETY: the process has one thread (checked by the callers), so the child's copy of it is whole.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        signals::forget_pipe();
    }
    drop(blocked);
    Ok(pid)
}

/// The child's side of [`daemonize`]: the parent waits, so that the shell sees whether the server came up.
#[derive(Debug)]
#[must_use = "the parent waits until it is told how the start went"]
pub struct Daemon {
    parent: std::fs::File,
}

impl Daemon {
    /// Lets the parent exit with status 0.
    pub fn ready(self) {
        self.finish(0);
    }

    /// Lets the parent exit with this status.
    pub fn failed(self, status: u8) {
        self.finish(status);
    }

    fn finish(mut self, status: u8) {
        // A parent that was killed meanwhile is no reason to stop.
        let _ = self.parent.write_all(&[status]);
    }
}

/// Goes on in a child that has its own session, no terminal, umask 0, and `/dev/null` as standard input and output;
/// standard error stays until a log takes its place. The calling process exits when the child reports through
/// [`Daemon`], or with status 1 when the child drops it or dies without a word.
///
/// # Errors
/// Those of `pipe`, `fork`, `setsid`, `open` and `dup2`; `Unsupported` in a process with several threads.
pub fn daemonize() -> io::Result<Daemon> {
    if thread_count().is_some_and(|threads| threads > 1) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "fork in a process with several threads"));
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if fork()? != 0 {
        drop(writer);
        let mut status = [1];
        let _ = std::fs::File::from(reader).read_exact(&mut status);
        std::process::exit(i32::from(status[0]));
    }
    drop(reader);
    let daemon = Daemon { parent: writer.into() };
    rustix::process::setsid()?;
    rustix::process::umask(Mode::empty());
    let null = open_null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(daemon)
}

/// Makes sure that descriptors 0 to 2 are open, so that no log or socket gets one of their numbers.
///
/// # Errors
/// Those of `open`.
pub fn ensure_standard_fds() -> io::Result<()> {
    loop {
        let null = open_null()?;
        if std::os::fd::AsRawFd::as_raw_fd(&null) > libc::STDERR_FILENO {
            return Ok(());
        }
        // The number below 3 stays taken for good.
        std::mem::forget(null);
    }
}

/// Makes a file, usually the error log, the standard error.
///
/// # Errors
/// Those of `dup2`.
pub fn redirect_stderr(to: impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(to)?)
}

fn open_null() -> io::Result<OwnedFd> {
    retry(|| rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
}

/// How a process ended. `Display` is nginx's wording: `exited with code 0`, `exited on signal 11 (core dumped)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal { number: i32, core_dumped: bool },
}

impl ExitStatus {
    /// nginx: a worker that exits with 2 will not do better next time and is not started again.
    pub fn is_fatal(self) -> bool {
        self == Self::Code(2)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal { number, core_dumped } => {
                write!(f, "exited on signal {number}{}", if *core_dumped { " (core dumped)" } else { "" })
            }
        }
    }
}

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    pub pid: i32,
    pub status: ExitStatus,
}

/// Takes one ended child, whichever; `None` when none has ended, or there is none. Call it until `None`: several
/// ends make one SIGCHLD. For the master alone: it would take children from `io.popen` and the like as well.
///
/// # Errors
/// Those of `waitpid` other than "no children".
pub fn reap_any() -> io::Result<Option<Exited>> {
    match retry(|| rustix::process::wait(WaitOptions::NOHANG)) {
        Ok(ended) => Ok(ended.and_then(|(pid, status)| exited(pid, status))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes this child if it has ended; `None` while it lives.
///
/// # Errors
/// Those of `waitpid`: no such child.
pub fn reap(pid: i32) -> io::Result<Option<Exited>> {
    wait_for(pid, WaitOptions::NOHANG)
}

/// Waits until this child ends.
///
/// # Errors
/// Those of `waitpid`: no such child.
pub fn wait(pid: i32) -> io::Result<ExitStatus> {
    loop {
        if let Some(exited) = wait_for(pid, WaitOptions::empty())? {
            return Ok(exited.status);
        }
    }
}

fn wait_for(pid: i32, options: WaitOptions) -> io::Result<Option<Exited>> {
    let pid = Some(pid).filter(|&pid| pid > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let ended = retry(|| rustix::process::waitpid(Some(pid), options))?;
    Ok(ended.and_then(|(pid, status)| exited(pid, status)))
}

fn exited(pid: Pid, status: WaitStatus) -> Option<Exited> {
    let status = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(number)) => ExitStatus::Signal { number, core_dumped: libc::WCOREDUMP(status.as_raw()) },
        (None, None) => return None, // stopped or continued
    };
    Some(Exited { pid: pid.as_raw_nonzero().get(), status })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn spawn(script: &str) -> i32 {
        i32::try_from(Command::new("/bin/sh").args(["-c", script]).spawn().unwrap().id()).unwrap()
    }

    #[test]
    fn ids_are_the_systems() {
        assert_eq!(pid(), i32::try_from(std::process::id()).unwrap());
        assert_ne!(tid(), pid(), "tests run in threads of their own");
        assert!(parent_pid() > 0);
        assert!(thread_count().unwrap() >= 2);
    }

    #[test]
    fn ends_read_as_in_an_nginx_log() {
        let end = |script: &str| wait(spawn(script)).unwrap();
        assert_eq!(end("exit 7").to_string(), "exited with code 7");
        assert!(end("exit 2").is_fatal());
        assert_eq!(end("kill -9 $$").to_string(), "exited on signal 9");
        let dumped = ExitStatus::Signal { number: 11, core_dumped: true };
        assert_eq!(dumped.to_string(), "exited on signal 11 (core dumped)");
    }

    #[test]
    fn a_living_child_is_not_reaped() {
        let child = spawn("exec sleep 60");
        assert_eq!(reap(child).unwrap(), None);
        kill(child, 0).unwrap();
        kill(child, libc::SIGTERM).unwrap();
        assert_eq!(wait(child).unwrap(), ExitStatus::Signal { number: 15, core_dumped: false });
        assert_eq!(reap(child).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn signals_go_to_single_processes_only() {
        for pid in [0, -1, -5] {
            assert_eq!(kill(pid, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(wait(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        assert_eq!(fork_child(|| 0).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(daemonize().unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
