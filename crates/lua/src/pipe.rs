//! Programs that Lua code starts and talks to: what `ngx.pipe` is made of.
//!
//! A program belongs to the request or timer that started it: it is killed when that ends, or when Lua forgets it.

use crate::scheduler::{Item, Values};
use bytes::BytesMut;
use moonrest_net::sleep::sleep;
use moonrest_rt::{Interest, Watched};
use moonrest_sys::child::{self, Child, Ended, Start};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};
use tokio::sync::Notify;

/// A program, running or ended.
pub(crate) struct Program {
    pid: i32,
    /// `None` when it could not be executed.
    child: Option<Rc<Child>>,
    pub stdin: Input,
    pub stdout: Output,
    /// `None` when it is merged into standard output.
    pub stderr: Option<Output>,
    ended: Cell<Option<Ended>>,
    waited_for: Cell<bool>,
    /// Its end was told, or it was forgotten: all is closed.
    closed: Cell<bool>,
}

/// Why nothing came of a call, as Lua is told.
pub(crate) type Refusal = String;

fn refusal(text: &str) -> Refusal {
    text.to_owned()
}

/// The exit status of a program that could not be executed.
const NOT_EXECUTED: i32 = 1;
const SIGKILL: i32 = 9;

impl Program {
    /// Starts a program.
    ///
    /// # Errors
    /// Why it could not be. One that cannot be executed counts as started, and ended.
    pub(crate) fn start(
        wanted: &Start<'_>,
        buffer: usize,
        not_executed: impl FnOnce(&io::Error),
    ) -> Result<Rc<Self>, Refusal> {
        let text = |error: &io::Error| moonrest_core::env::os_error(error);
        let (child, pipes) = match child::start(wanted) {
            Ok((child, pipes)) => (Some(Rc::new(child)), Some(pipes)),
            Err(error) if error.raw_os_error().is_some_and(is_about_the_file) => {
                not_executed(&error);
                (None, None)
            }
            Err(error) => return Err(format!("fork failed: {}", text(&error))),
        };
        let (mut stdin, mut stdout, mut stderr) = (None, None, None);
        if let Some(pipes) = pipes {
            let watch = |fd: OwnedFd, interest| {
                child::set_nonblocking(fd.as_fd())
                    .and_then(|()| Watched::new(fd, interest))
                    .map_err(|error| format!("pipe failed: {}", text(&error)))
            };
            stdin = Some(Rc::new(watch(pipes.stdin, Interest::WRITE)?));
            stdout = Some(Rc::new(watch(pipes.stdout, Interest::READ)?));
            stderr = pipes.stderr.map(|fd| watch(fd, Interest::READ)).transpose()?.map(Rc::new);
        }
        let pid = child.as_ref().map_or(0, |child| child.pid());
        let ended = if child.is_none() { Some(Ended::Exited(NOT_EXECUTED)) } else { None };
        Ok(Rc::new(Self {
            pid,
            child,
            stdin: Input {
                fd: RefCell::new(stdin),
                shut: Notify::new(),
                busy: Cell::new(false),
                result: RefCell::default(),
            },
            stdout: Output::new(stdout, buffer),
            stderr: if wanted.merge_stderr { None } else { Some(Output::new(stderr, buffer)) },
            ended: Cell::new(ended),
            waited_for: Cell::new(false),
            closed: Cell::new(false),
        }))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How it ended, if it has.
    fn ended(&self) -> Option<Ended> {
        if self.ended.get().is_none()
            && let Some(child) = &self.child
        {
            // What cannot be asked has ended for us.
            self.ended.set(child.reap().unwrap_or(Some(Ended::Exited(NOT_EXECUTED))));
        }
        self.ended.get()
    }

    /// Takes its end, and with it everything else.
    pub(crate) fn take_end(&self) -> Option<Ended> {
        let ended = self.ended()?;
        self.close();
        Some(ended)
    }

    fn close(&self) {
        self.closed.set(true);
        self.stdin.close();
        self.stdout.close();
        if let Some(stderr) = &self.stderr {
            stderr.close();
        }
    }

    /// Waits for its end: what `proc:wait()` returns.
    ///
    /// # Errors
    /// `pipe busy waiting`.
    pub(crate) fn wait(self: &Rc<Self>, ms: u64) -> Result<impl Future<Output = Values> + 'static, Refusal> {
        if self.waited_for.get() {
            return Err(refusal("pipe busy waiting"));
        }
        let program = self.clone();
        let busy = Busy::new(self.clone(), |program| &program.waited_for);
        let end = self.child.as_ref().map(|child| watch(child)).transpose();
        Ok(async move {
            let _busy = busy;
            let ended = async {
                loop {
                    if let Some(ended) = program.take_end() {
                        return Ok(ended);
                    }
                    match &end {
                        Ok(Some(fd)) => {
                            fd.readable().await?;
                            fd.clear_read();
                        }
                        _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
                    }
                }
            };
            match within(ms, ended).await {
                Some(Ok(ended)) => told(ended),
                Some(Err(error)) => Values::error(&moonrest_core::env::os_error(&error)),
                None => Values::error("timeout"),
            }
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// `exited`, `invalid signal`, or the system's.
    pub(crate) fn kill(&self, signal: i32) -> Result<(), Refusal> {
        let child = match &self.child {
            Some(child) if !self.closed.get() && self.ended().is_none() => child,
            _ => return Err(refusal("exited")),
        };
        child.kill(signal).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => refusal("invalid signal"),
            _ if error.raw_os_error() == Some(NO_SUCH_PROCESS) => refusal("exited"),
            _ => moonrest_core::env::os_error(&error),
        })
    }

    /// Nobody needs it any more: ends it and closes everything.
    pub(crate) fn forget(&self) {
        if self.ended().is_none()
            && let Some(child) = &self.child
        {
            // Who is gone already needs no signal.
            let _ = child.kill(SIGKILL);
            bury(child.clone());
            self.ended.set(Some(Ended::Signaled(SIGKILL)));
        }
        self.close();
    }
}

/// A descriptor that becomes readable when the program has ended.
fn watch(child: &Child) -> io::Result<Watched<OwnedFd>> {
    Watched::shared(child.end_fd()?, Interest::READ)
}

/// Sees to it that a program that was killed leaves no entry behind.
fn bury(child: Rc<Child>) {
    if !matches!(child.reap(), Ok(None)) {
        return;
    }
    let later = moonrest_rt::is_running().then(|| watch(&child).ok()).flatten();
    match later {
        Some(end) => {
            moonrest_rt::spawn(async move {
                let _ = end.readable().await;
                let _ = child.reap();
            });
        }
        // The worker is ending.
        None => drop(child.wait()),
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.forget();
    }
}

const NO_SUCH_PROCESS: i32 = 3;

/// Whether an error of starting is one of `execve`: no such file, not allowed, no program.
fn is_about_the_file(code: i32) -> bool {
    const ENOENT: i32 = 2;
    const ENOEXEC: i32 = 8;
    const EACCES: i32 = 13;
    const ENOTDIR: i32 = 20;
    const ETXTBSY: i32 = 26;
    const ENAMETOOLONG: i32 = 36;
    const ELOOP: i32 = 40;
    matches!(code, ENOENT | ENOEXEC | EACCES | ENOTDIR | ETXTBSY | ENAMETOOLONG | ELOOP)
}

fn told(ended: Ended) -> Values {
    let (reason, status) = reason(ended);
    Values(vec![
        Item::Bool(status == 0),
        Item::Text(reason.to_bytes().to_vec()),
        Item::Integer(i64::from(status)),
    ])
}

/// An end in upstream's words.
pub(crate) fn reason(ended: Ended) -> (&'static std::ffi::CStr, i32) {
    match ended {
        Ended::Exited(status) => (c"exit", status),
        Ended::Signaled(signal) => (c"signal", signal),
    }
}

/// Waits no longer than so many milliseconds; 0 is forever.
async fn within<T>(ms: u64, wait: impl Future<Output = T>) -> Option<T> {
    if ms == 0 {
        return Some(wait.await);
    }
    tokio::select! {
        biased;
        value = wait => Some(value),
        () = sleep(ms) => None,
    }
}

/// Ready when our end was closed, perhaps before this was asked first.
async fn shut(fd: &RefCell<Option<Fd>>, told: &Notify) {
    if fd.borrow().is_some() {
        told.notified().await;
    }
}

/// Says that something is under way, until it is dropped.
struct Busy {
    program: Rc<Program>,
    flag: fn(&Program) -> &Cell<bool>,
}

impl Busy {
    fn new(program: Rc<Program>, flag: fn(&Program) -> &Cell<bool>) -> Self {
        flag(&program).set(true);
        Self { program, flag }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        (self.flag)(&self.program).set(false);
    }
}

type Fd = Rc<Watched<OwnedFd>>;

/// Where a program reads.
pub(crate) struct Input {
    fd: RefCell<Option<Fd>>,
    shut: Notify,
    busy: Cell<bool>,
    result: RefCell<Option<Result<usize, Refusal>>>,
}

impl Input {
    pub(crate) fn close(&self) {
        self.fd.take();
        self.shut.notify_waiters();
    }

    /// What the last write that had to wait came to.
    pub(crate) fn result(&self) -> Result<usize, Refusal> {
        self.result.take().unwrap_or_else(|| Err(refusal("aborted")))
    }
}

/// A write: done, or to be waited for.
pub(crate) enum Step<T, F> {
    Now(T),
    Wait(F),
}

/// Writes all of it.
///
/// # Errors
/// `closed`, `pipe busy writing`.
pub(crate) fn write(
    program: &Rc<Program>,
    data: &[u8],
    ms: u64,
) -> Result<Step<usize, impl Future<Output = Values> + 'static>, Refusal> {
    let fd = program.stdin.fd.borrow().clone().ok_or_else(|| refusal("closed"))?;
    if program.stdin.busy.get() {
        return Err(refusal("pipe busy writing"));
    }
    let mut written = 0;
    while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
        match moonrest_sys::child::write(fd.get_ref().as_fd(), rest) {
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(write_error(&error)),
        }
    }
    if written == data.len() {
        return Ok(Step::Now(written));
    }
    let (len, rest) = (data.len(), data.get(written..).unwrap_or_default().to_vec());
    let busy = Busy::new(program.clone(), |program| &program.stdin.busy);
    let program = program.clone();
    Ok(Step::Wait(async move {
        let _busy = busy;
        let all = async {
            let mut at = 0;
            while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
                fd.writable().await?;
                match fd.try_write(|fd| moonrest_sys::child::write(fd.as_fd(), left)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    n => at += n?,
                }
            }
            Ok::<_, io::Error>(())
        };
        let result = tokio::select! {
            biased;
            () = shut(&program.stdin.fd, &program.stdin.shut) => Err(refusal("aborted")),
            written = within(ms, all) => match written {
                Some(Ok(())) => Ok(len),
                Some(Err(error)) => Err(write_error(&error)),
                None => Err(refusal("timeout")),
            }
        };
        *program.stdin.result.borrow_mut() = Some(result);
        Values::default()
    }))
}

fn write_error(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::BrokenPipe => refusal("closed"),
        _ => moonrest_core::env::os_error(error),
    }
}

/// Where a program writes.
pub(crate) struct Output {
    fd: RefCell<Option<Fd>>,
    shut: Notify,
    busy: Cell<bool>,
    eof: Cell<bool>,
    /// Bytes that were read and nobody has asked for.
    buffer: RefCell<BytesMut>,
    /// How many are read at once.
    step: usize,
    result: RefCell<Read>,
}

/// What a read came to: the bytes, and why there are no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub data: Vec<u8>,
    pub error: Option<Refusal>,
}

/// How much is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Amount {
    All,
    Exactly(usize),
    Line,
    Any(usize),
}

impl Amount {
    /// Takes what is wanted from the buffer to `data`; `true` when that is all. At the end of the stream `eof` is set.
    fn take(&mut self, buffer: &mut BytesMut, eof: bool, data: &mut Vec<u8>) -> Option<Result<(), Refusal>> {
        let ended = || Some(Err(refusal("closed")));
        if buffer.is_empty() {
            return match self {
                _ if !eof => None,
                Self::All => Some(Ok(())),
                _ => ended(),
            };
        }
        let done = match self {
            Self::All => {
                data.extend_from_slice(&buffer.split());
                eof
            }
            Self::Exactly(left) => {
                let part = buffer.split_to((*left).min(buffer.len()));
                *left -= part.len();
                data.extend_from_slice(&part);
                *left == 0
            }
            Self::Line => {
                let end = memchr::memchr(b'\n', buffer);
                let part = buffer.split_to(end.map_or(buffer.len(), |end| end + 1));
                data.extend(part.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')));
                end.is_some()
            }
            Self::Any(max) => {
                let part = buffer.split_to((*max).min(buffer.len()));
                data.extend_from_slice(&part);
                true
            }
        };
        match done {
            true => Some(Ok(())),
            false if eof && buffer.is_empty() => ended(),
            false => None,
        }
    }
}

impl Output {
    pub(crate) fn close(&self) {
        self.fd.take();
        self.shut.notify_waiters();
    }

    fn new(fd: Option<Fd>, step: usize) -> Self {
        Self {
            // What was never opened has ended.
            eof: Cell::new(fd.is_none()),
            fd: RefCell::new(fd),
            shut: Notify::new(),
            busy: Cell::new(false),
            buffer: RefCell::default(),
            step: step.clamp(1, 1 << 20),
            result: RefCell::default(),
        }
    }

    /// Keeps the result of a read that did not fit.
    pub(crate) fn keep(&self, read: Read) {
        *self.result.borrow_mut() = read;
    }

    /// The result of the last read that had to wait, or did not fit.
    pub(crate) fn result(&self) -> Read {
        self.result.take()
    }

    /// Reads once; `false` when it would have to wait.
    fn fill(&self, fd: &Watched<OwnedFd>) -> io::Result<bool> {
        let mut buffer = self.buffer.borrow_mut();
        let start = buffer.len();
        buffer.resize(start + self.step, 0);
        let result = match buffer.get_mut(start..) {
            Some(space) => moonrest_sys::child::read(fd.get_ref().as_fd(), space),
            None => Ok(0),
        };
        buffer.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => {
                self.eof.set(true);
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Reads as much as is wanted, of standard output or standard error.
///
/// # Errors
/// `closed`, `pipe busy reading`.
pub(crate) fn read(
    program: &Rc<Program>,
    of: fn(&Program) -> &Output,
    amount: Amount,
    ms: u64,
) -> Result<Step<Read, impl Future<Output = Values> + 'static>, Refusal> {
    let output = of(program);
    let fd = output.fd.borrow().clone();
    if fd.is_none() && program.child.is_some() {
        return Err(refusal("closed"));
    }
    if output.busy.get() {
        return Err(refusal("pipe busy reading"));
    }
    let (mut amount, mut data) = (amount, Vec::new());
    loop {
        let taken = amount.take(&mut output.buffer.borrow_mut(), output.eof.get(), &mut data);
        if let Some(result) = taken {
            return Ok(Step::Now(Read { data, error: result.err() }));
        }
        match fd.as_ref().map_or(Ok(false), |fd| output.fill(fd)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let error = Some(moonrest_core::env::os_error(&error));
                return Ok(Step::Now(Read { data, error }));
            }
        }
    }
    let Some(fd) = fd else { return Err(refusal("closed")) };
    let busy = if std::ptr::eq(output, &raw const program.stdout) {
        Busy::new(program.clone(), |program| &program.stdout.busy)
    } else {
        Busy::new(program.clone(), |program| {
            program.stderr.as_ref().map_or(&program.stdout.busy, |stderr| &stderr.busy)
        })
    };
    let program = program.clone();
    Ok(Step::Wait(async move {
        let _busy = busy;
        let output = of(&program);
        let all = async {
            loop {
                fd.readable().await?;
                if !output.fill(&fd)? {
                    fd.clear_read();
                    continue;
                }
                let taken = amount.take(&mut output.buffer.borrow_mut(), output.eof.get(), &mut data);
                if let Some(result) = taken {
                    return Ok::<_, io::Error>(result.err());
                }
            }
        };
        let error = tokio::select! {
            biased;
            () = shut(&output.fd, &output.shut) => Some(refusal("aborted")),
            read = within(ms, all) => match read {
                Some(Ok(error)) => error,
                Some(Err(error)) => Some(moonrest_core::env::os_error(&error)),
                None => Some(refusal("timeout")),
            }
        };
        output.keep(Read { data, error });
        Values::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(amount: Amount, text: &str, eof: bool, expect: Option<Result<&str, &str>>, rest: &str) {
        let (mut amount, mut data) = (amount, Vec::new());
        let mut buffer = BytesMut::from(text.as_bytes());
        let taken = amount.take(&mut buffer, eof, &mut data);
        let got = String::from_utf8(data).unwrap();
        match (taken, expect) {
            (None, None) => {}
            (Some(Ok(())), Some(Ok(expect))) => assert_eq!(got, expect),
            (Some(Err(error)), Some(Err(expect))) => assert_eq!(error, expect),
            (taken, expect) => panic!("{taken:?}, not {expect:?}"),
        }
        assert_eq!(&buffer[..], rest.as_bytes());
    }

    #[test]
    fn as_much_is_taken_as_is_wanted() {
        check(Amount::Line, "a\r\nb", false, Some(Ok("a")), "b");
        check(Amount::Line, "b", false, None, "");
        check(Amount::Line, "b", true, Some(Err("closed")), "");
        check(Amount::All, "ab", false, None, "");
        check(Amount::All, "ab", true, Some(Ok("ab")), "");
        check(Amount::All, "", true, Some(Ok("")), "");
        check(Amount::Exactly(2), "abc", false, Some(Ok("ab")), "c");
        check(Amount::Exactly(4), "abc", false, None, "");
        check(Amount::Any(10), "abc", false, Some(Ok("abc")), "");
        check(Amount::Any(2), "abc", false, Some(Ok("ab")), "c");
        check(Amount::Any(2), "", true, Some(Err("closed")), "");
    }
}
