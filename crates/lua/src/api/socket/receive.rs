//! `sock:receive`, `receiveany`, `receiveuntil`.
//! <https://github.com/openresty/lua-nginx-module#tcpsockreceive>

use super::{
    Journal, fail,
    inbox::{Reading, Taken, Wanted},
    pattern::{Matching, Pattern},
    stream::{self, Failure, Stream},
};
use crate::scheduler::{self, Operation, Values, Wait};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Ref, Return, Stack, Value};
use moonrest_net::timer::Timer;
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// `sock:receive(pattern_or_size?)`.
pub(super) fn receive(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 && given != 2 {
        let text = format!("expecting 1 or 2 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match ready_to_read(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let amount = if given == 2 { amount(call)? } else { Amount::Line };
    if let Amount::Bytes(0) = amount {
        return call.ret("");
    }
    if at_hand(call, stream, amount)? {
        return Ok(call.ret_from(call.len()));
    }
    let wanted = match amount {
        Amount::Line => Wanted::Line,
        Amount::All => Wanted::All,
        Amount::Bytes(count) => Wanted::Bytes(count),
    };
    read(call, stream, wanted)
}

/// Pushes what is wanted if it has come already, as it has for most calls.
#[inline]
fn at_hand(stack: &Stack<'_>, stream: &Stream, amount: Amount) -> LuaResult<bool> {
    let mut inbox = stream.inbox.borrow_mut();
    let unread = inbox.unread();
    let used = match amount {
        Amount::Line => match memchr::memchr(b'\n', unread) {
            Some(at) => {
                push_line(stack, unread.get(..at).unwrap_or_default())?;
                at + 1
            }
            None => return Ok(false),
        },
        Amount::Bytes(count) => match unread.get(..count) {
            Some(data) => {
                stack.push(data)?;
                count
            }
            None => return Ok(false),
        },
        Amount::All => return Ok(false),
    };
    inbox.take(used);
    Ok(true)
}

/// What `receive` is called with.
#[derive(Clone, Copy)]
enum Amount {
    Line,
    All,
    Bytes(usize),
}

#[inline]
fn amount(call: &Call<'_>) -> LuaResult<Amount> {
    match call.text(2) {
        Some(b"*l") => return Ok(Amount::Line),
        Some(b"*a") => return Ok(Amount::All),
        Some([b'*', _]) => return Err(LuaError::argument(2, "bad pattern argument")),
        // What begins so is not looked at as a number.
        Some([b'*', ..]) => {}
        _ => {
            if let Ok(number) = call.arg::<f64>(2) {
                return match number as i64 {
                    0.. => Ok(Amount::Bytes(number as usize)),
                    _ => Err(LuaError::argument(2, "bad number argument")),
                };
            }
        }
    }
    Err(bad_pattern(call))
}

#[cold]
fn bad_pattern(call: &Call<'_>) -> LuaError {
    let text = match call.text(2) {
        Some(other) => format!("bad pattern argument: {}", String::from_utf8_lossy(other)),
        None => "bad argument".to_owned(),
    };
    LuaError::argument(2, text)
}

/// `sock:receiveany(max)`.
pub(super) fn receive_any(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 {
        return Err(format!("expecting 2 arguments (including the object), but got {given}").into());
    }
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match ready_to_read(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    match call.arg::<f64>(2) {
        Ok(max) if max >= 1.0 => read(call, stream, Wanted::Any(max as usize)),
        _ => Err(LuaError::argument(2, "bad max argument")),
    }
}

/// `sock:receiveuntil(pattern, options?)`: an iterator.
pub(super) fn receive_until(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 && given != 3 {
        let text = format!("expecting 2 or 3 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    let mut inclusive = false;
    if given == 3 {
        let options: moonrest_luajit::Table<'_> = call.arg(3)?;
        inclusive = match options.get(call, "inclusive")? {
            Value::Nil => false,
            Value::Boolean(flag) => flag,
            other => {
                let got = other.type_name();
                return Err(format!("bad \"inclusive\" option value type: {got}").into());
            }
        };
    }
    super::owner(call)?;
    let socket: moonrest_luajit::Table<'_> = call.arg(1)?;
    let text: &[u8] = call.arg(2)?;
    if text.is_empty() {
        return fail(call, "pattern is empty");
    }
    let iterator = Iterator { socket: call.keep(socket)?, pattern: Rc::new(Pattern::new(text, inclusive)) };
    let next = call.function_with(iterator, |call, iterator| iterator.next(call))?;
    call.ret(next)
}

struct Iterator {
    socket: Ref,
    pattern: Rc<Pattern>,
}

impl Iterator {
    fn next(&self, call: &mut Call<'_>) -> LuaResult<Return> {
        let given = call.args_len();
        if given > 1 {
            return Err(format!("expecting 0 or 1 argument, but seen {given}").into());
        }
        let size = if given == 1 { call.arg::<f64>(1)?.max(0.0) as usize } else { 0 };
        let handle = match call.put(&self.socket)?.as_table() {
            Some(object) => match object.raw_index(call, super::CELL)? {
                Value::Userdata(userdata) => userdata.get::<stream::Handle>(call),
                _ => None,
            },
            None => None,
        };
        let Some(stream) = handle.as_ref().map(|handle| &handle.0) else { return fail(call, "closed") };
        if !stream.is_open() || stream.read_closed.get() {
            return fail(call, stream.busy(false, false).unwrap_or("closed"));
        }
        stream.check_owner(super::owner(call)?)?;
        if let Some(busy) = stream.busy(true, false) {
            return fail(call, busy);
        }
        if self.pattern.ended.replace(false) {
            return call.ret((Nil, Nil, Nil));
        }
        read(call, stream, Wanted::Until(self.pattern.clone(), Matching::new(size)))
    }
}

/// The stream, if it can be read now; otherwise what the call answers.
#[inline]
pub(super) fn ready_to_read<'a>(
    call: &Call<'_>,
    stream: Option<&'a Rc<Stream>>,
    owner: usize,
) -> LuaResult<Result<&'a Rc<Stream>, Return>> {
    match stream {
        Some(open) if open.may_read(owner) => Ok(Ok(open)),
        other => not_ready_to_read(call, other, owner),
    }
}

/// The same in more words.
#[cold]
fn not_ready_to_read<'a>(
    call: &Call<'_>,
    stream: Option<&'a Rc<Stream>>,
    owner: usize,
) -> LuaResult<Result<&'a Rc<Stream>, Return>> {
    let open = stream.filter(|stream| stream.is_open() && !stream.read_closed.get());
    let Some(open) = open else {
        if let Some(busy) = stream.and_then(|stream| stream.busy(false, false)) {
            return fail(call, busy).map(Err);
        }
        return stream::closed(call, stream.map(|stream| &**stream), "receive").map(Err);
    };
    open.check_owner(owner)?;
    match open.busy(true, false) {
        Some(busy) => fail(call, busy).map(Err),
        None => Ok(Ok(open)),
    }
}

/// Answers from what is at hand, or waits.
pub(super) fn read(call: &Call<'_>, stream: &Rc<Stream>, wanted: Wanted) -> LuaResult<Return> {
    let mut reading = Reading::new(wanted);
    match stream.read_now(&mut reading) {
        Some(Ok(taken)) => {
            let first = call.len() + 1;
            push(call, stream, &reading, taken)?;
            Ok(call.ret_from(first))
        }
        Some(Err(failure)) => {
            let first = call.len() + 1;
            push_failure(call, stream, &reading, &failure, &Journal::of(call)?)?;
            Ok(call.ret_from(first))
        }
        None => {
            let wait = wait(stream, Journal::of(call)?, reading);
            scheduler::suspend(call, Operation::Poll(wait))
        }
    }
}

/// The wait for what could not be answered at once.
pub(super) fn wait(stream: &Rc<Stream>, journal: Journal, reading: Reading) -> Box<Waiting> {
    stream.reading.set(true);
    let timer = stream.read_timer();
    timer.set(stream.read_timeout());
    let received = Some(stream.inbox.borrow().unread().len());
    Box::new(Waiting { stream: stream.clone(), timer, journal, reading, received, result: None, over: false })
}

/// Gives Lua what was received.
fn push(stack: &Stack<'_>, stream: &Stream, reading: &Reading, taken: Taken) -> LuaResult<()> {
    if let Some(scan) = reading.replies() {
        return super::redis::push(stack, stream, scan, taken);
    }
    let mut inbox = stream.inbox.borrow_mut();
    if let Some(frame) = reading.frame() {
        super::websocket::push(frame, stack, inbox.unread_mut().get_mut(..taken.len).unwrap_or_default())?;
        inbox.take(taken.used);
        return Ok(());
    }
    let data = inbox.unread().get(..taken.len).unwrap_or_default();
    if let Some(answer) = reading.answer() {
        if data.is_empty() {
            return stack.push(false);
        }
        answer.push(stack, data)?;
        if !answer.stays() {
            inbox.take(taken.used);
        }
        return Ok(());
    }
    if reading.is_line() {
        push_line(stack, data)?;
    } else {
        stack.push(data)?;
    }
    inbox.take(taken.used);
    Ok(())
}

/// Pushes a line without carriage returns.
#[inline]
fn push_line(stack: &Stack<'_>, line: &[u8]) -> LuaResult<()> {
    // They are left out wherever they stand, but there only ever is one, at the end.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if memchr::memchr(b'\r', line).is_none() {
        return stack.push(line);
    }
    let kept: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\r').collect();
    stack.push(kept)
}

/// `nil, why, partial`. Everything but a timeout closes the receiving direction.
fn push_failure(
    stack: &Stack<'_>,
    stream: &Stream,
    reading: &Reading,
    failure: &Failure,
    journal: &Journal,
) -> LuaResult<()> {
    stream.log_failure(journal, "recv()", failure);
    if matches!(failure, Failure::Timeout) && stream.settings.get().log_errors {
        journal.error(format_args!("lua tcp socket read timed out{}", stream.peer()));
    }
    stack.push(Nil)?;
    stack.push(failure.text())?;
    if let Some(scan) = reading.replies() {
        if !(scan.patient && matches!(failure, Failure::Timeout)) {
            stream.finalize();
        }
        return Ok(());
    }
    if let Some(answer) = reading.answer() {
        return stack.push(answer.is_within().then_some("within"));
    }
    let partial = stream.inbox.borrow().partial(reading);
    push(stack, stream, reading, partial)?;
    if !matches!(failure, Failure::Timeout) {
        stream.close_reading();
    }
    Ok(())
}

/// Waits until a call can be answered. Given up in the middle, it closes the stream. What was received stays there until
/// Lua goes on, and so long the stream is busy.
pub(super) struct Waiting {
    stream: Rc<Stream>,
    timer: Rc<Timer>,
    journal: Journal,
    reading: Reading,
    /// How much was at hand when the wait last began.
    received: Option<usize>,
    result: Option<Result<Taken, Failure>>,
    /// There was a result.
    over: bool,
}

impl Waiting {
    /// The same as a part of a longer wait.
    pub(super) async fn values(mut self: Box<Self>) -> Values {
        poll_fn(|cx| self.poll(cx)).await;
        Values::made(move |stack| self.push(stack))
    }
}

impl Wait for Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let result = match self.stream.poll_read(&mut self.reading, cx) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                let received = self.stream.inbox.borrow().unread().len();
                // It measures silence: whatever comes begins it anew.
                if self.received.replace(received) != Some(received) {
                    self.timer.set(self.stream.read_timeout());
                }
                ready!(self.timer.poll(cx));
                Err(Failure::Timeout)
            }
        };
        self.timer.clear();
        self.result = Some(result);
        self.over = true;
        Poll::Ready(())
    }

    fn push(mut self: Box<Self>, stack: &Stack<'_>) -> LuaResult<()> {
        match self.result.take() {
            Some(Ok(taken)) => push(stack, &self.stream, &self.reading, taken),
            Some(Err(failure)) => push_failure(stack, &self.stream, &self.reading, &failure, &self.journal),
            None => stack.push(Nil).and_then(|()| stack.push("closed")),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stream.reading.set(false);
        if !self.over {
            self.timer.clear();
            self.stream.finalize();
        }
    }
}
