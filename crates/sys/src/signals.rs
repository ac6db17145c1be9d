//! Signals as a stream of values.
//!
//! Handlers write to a pipe, rather than signals being blocked for a `signalfd`: a blocked signal stays blocked in
//! programs that Lua code starts (`os.execute`, `io.popen`), a handler does not outlive `exec`.
//!
//! <https://nginx.org/en/docs/control.html>
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use libc::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGQUIT, SIGSYS, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::errno::{check, retry};

/// A signal the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub number: i32,
    /// `SIGHUP`
    pub name: &'static str,
    /// What `-s` calls it; empty when it has no such name.
    pub command: &'static str,
}

/// The signals that are received.
pub const HANDLED: [Known; 10] = [
    Known { number: SIGHUP, name: "SIGHUP", command: "reload" },
    Known { number: SIGUSR1, name: "SIGUSR1", command: "reopen" },
    Known { number: SIGWINCH, name: "SIGWINCH", command: "" },
    Known { number: SIGTERM, name: "SIGTERM", command: "stop" },
    Known { number: SIGQUIT, name: "SIGQUIT", command: "quit" },
    Known { number: SIGUSR2, name: "SIGUSR2", command: "" },
    Known { number: SIGALRM, name: "SIGALRM", command: "" },
    Known { number: SIGINT, name: "SIGINT", command: "" },
    Known { number: SIGIO, name: "SIGIO", command: "" },
    Known { number: SIGCHLD, name: "SIGCHLD", command: "" },
];

/// The signals that are ignored.
const IGNORED: [i32; 2] = [SIGSYS, SIGPIPE];

/// The signal that `-s command` sends.
pub fn by_command(command: &str) -> Option<i32> {
    HANDLED.iter().find(|known| known.command == command && !command.is_empty()).map(|known| known.number)
}

/// `SIGHUP` for 1; `SIG` and the number for a signal the server has no business with.
pub fn name(number: i32) -> String {
    HANDLED
        .iter()
        .find(|known| known.number == number)
        .map_or_else(|| format!("SIG{number}"), |known| known.name.to_owned())
}

/// A signal that has arrived. `Display` is the beginning of nginx's line: `signal 1 (SIGHUP) received from 1234`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub number: i32,
    /// Who sent it: for SIGCHLD the child; `None` when the kernel did, or it is not known any more.
    pub from: Option<i32>,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {} ({}) received", self.number, name(self.number))?;
        match self.from {
            Some(pid) => write!(f, " from {pid}"),
            None => Ok(()),
        }
    }
}

/// The write end of the pipe; −1 while there is none. Never closed once handlers may use it.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// A bit for each signal that did not go through the pipe: there was none, or it was full.
static PENDING: AtomicU64 = AtomicU64::new(0);

/// The receiving end of this process' signals. Readable when one has arrived.
#[derive(Debug)]
pub struct Signals {
    reader: OwnedFd,
}

impl Signals {
    /// Begins to receive [`HANDLED`] and to ignore SIGPIPE and SIGSYS. A forked child makes its own.
    ///
    /// # Errors
    /// `AlreadyExists` when this process has one; those of `pipe` and `sigaction`.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let number = writer.into_raw_fd();
        if PIPE.compare_exchange(-1, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            close(number);
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let signals = Self { reader };
        for known in HANDLED {
            install(known.number, on_signal as *const () as libc::sighandler_t)?;
        }
        for number in IGNORED {
            install(number, libc::SIG_IGN)?;
        }
        // What came since a fork must make the new pipe readable.
        while let Some(number) = take_pending() {
            write_record(number, 0);
        }
        Ok(signals)
    }

    /// The next signal; `None` when there is none now.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut record = [0; RECORD];
        match retry(|| rustix::io::read(&self.reader, &mut record)) {
            Ok(RECORD) => {
                let (number, from) = decode(record);
                Ok(Some(Received { number, from: (from > 0).then_some(from) }))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(take_pending().map(|number| Received { number, from: None }))
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The write end stays open: a handler in another thread may be about to write to it.
        PIPE.store(-1, Ordering::SeqCst);
    }
}

/// A record is written and read whole: it is far below `PIPE_BUF`.
const RECORD: usize = 8;

fn decode(record: [u8; RECORD]) -> (i32, i32) {
    let value = u64::from_ne_bytes(record);
    ((value >> 32) as i32, value as u32 as i32)
}

/// Async-signal-safe.
fn write_record(number: i32, from: i32) {
    let record = ((number as u64) << 32 | u64::from(from as u32)).to_ne_bytes();
    let fd = PIPE.load(Ordering::SeqCst);
    // SAFETY: the kernel reads `RECORD` bytes of `record`; the descriptor is our own, or −1 and refused.
    let written = unsafe { libc::write(fd, record.as_ptr().cast(), RECORD) };
    if written != RECORD as isize {
        PENDING.fetch_or(1 << number, Ordering::SeqCst);
    }
}

fn take_pending() -> Option<i32> {
    let bits = PENDING.load(Ordering::SeqCst);
    let number = bits.trailing_zeros();
    if number >= u64::BITS {
        return None;
    }
    PENDING.fetch_and(!(1 << number), Ordering::SeqCst);
    i32::try_from(number).ok()
}

/// Async-signal-safe: loads, one `write`, and `errno` as it was.
extern "C" fn on_signal(number: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: `errno` is a thread-local integer.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes a filled structure; the sender's fields are read only for the codes
    // that have them.
    let from = unsafe {
        match info.as_ref() {
            Some(info) if info.si_code <= 0 || number == SIGCHLD => info.si_pid(),
            _ => 0,
        }
    };
    write_record(number, from);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn install(number: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: a zeroed `sigaction` is valid: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // One handler at a time, so that records keep the order of the signals.
    // SAFETY: the mask is valid and exclusively borrowed.
    unsafe { libc::sigfillset(&mut action.sa_mask) };
    action.sa_sigaction = handler;
    if handler != libc::SIG_IGN {
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NOCLDSTOP;
    }
    // SAFETY: `action` is valid for the call; `on_signal` has the signature SA_SIGINFO asks for.
    check(unsafe { libc::sigaction(number, &action, ptr::null_mut()) }).map(drop)
}

/// In a child, right after the fork: stops writing to the parent's pipe.
pub(crate) fn forget_pipe() {
    let fd = PIPE.swap(-1, Ordering::SeqCst);
    PENDING.store(0, Ordering::SeqCst);
    if fd >= 0 {
        close(fd);
    }
}

fn close(fd: i32) {
    // SAFETY: the number came from `into_raw_fd`, and nothing else uses it.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
}

/// Blocks all signals of the calling thread until dropped.
pub(crate) struct BlockAll {
    before: libc::sigset_t,
}

impl BlockAll {
    pub(crate) fn new() -> io::Result<Self> {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both sets are written by the calls before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            set_mask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())?;
            Ok(Self { before: before.assume_init() })
        }
    }
}

impl Drop for BlockAll {
    fn drop(&mut self) {
        // SAFETY: `before` is a valid set. The call cannot fail with these arguments.
        let _ = unsafe { set_mask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Blocks no signal of the calling thread. Async-signal-safe.
///
/// # Errors
/// Those of `pthread_sigmask`.
pub fn unblock_all() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is written before it is read.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        set_mask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut())
    }
}

/// # Safety
/// `set` is valid; `before` is valid or null.
unsafe fn set_mask(how: i32, set: *const libc::sigset_t, before: *mut libc::sigset_t) -> io::Result<()> {
    // SAFETY: by contract.
    match unsafe { libc::pthread_sigmask(how, set, before) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_names() {
        assert_eq!(by_command("reload"), Some(1));
        assert_eq!(by_command("stop"), Some(15));
        assert_eq!(by_command("quit"), Some(3));
        assert_eq!(by_command("reopen"), Some(10));
        assert_eq!(by_command(""), None);
        assert_eq!(by_command("start"), None);
        assert_eq!(name(12), "SIGUSR2");
        assert_eq!(name(11), "SIG11");
    }

    #[test]
    fn arrivals_read_as_in_an_nginx_log() {
        let received = Received { number: 1, from: Some(1234) };
        assert_eq!(received.to_string(), "signal 1 (SIGHUP) received from 1234");
        assert_eq!(Received { number: 17, from: None }.to_string(), "signal 17 (SIGCHLD) received");
    }

    #[test]
    fn records_survive_the_pipe() {
        for (number, from) in [(1, 1234), (64, i32::MAX), (17, 0)] {
            let record = ((number as u64) << 32 | u64::from(from as u32)).to_ne_bytes();
            assert_eq!(decode(record), (number, from));
        }
    }
}
