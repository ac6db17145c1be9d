//! The wire protocol of Redis for `resty.redis`: a command goes out and its reply comes back as one operation.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/> (RESP2)
//!
//! A reply is looked through until it is complete and then made into Lua values in one go. Whatever goes wrong in the
//! middle closes the stream: nobody could tell where the next reply begins.

use super::{
    exchange::{exchange, with_stream},
    inbox::{Taken, Wanted},
    receive, send,
    stream::{self, Stream},
};
use crate::api::output::append_number;
use moonrest_luajit::{Call, Light, LuaError, LuaResult, Native, Nil, Return, Stack, Table, Value};
use smallvec::{SmallVec, smallvec};
use std::{cell::RefCell, rc::Rc};

/// Arrays in arrays beyond this depth are refused.
const MAX_DEPTH: usize = 128;
/// The module's name, as `require` knows it.
const NAME: &str = "moonrest.redis.native";

thread_local! {
    /// Where a command is put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    crate::api::module(
        stack,
        NAME,
        &[
            ("call", Native::new(call_command)),
            ("send", Native::new(send_command)),
            ("read", Native::new(read_reply)),
            ("encode", Native::new(encode)),
            ("pipeline", Native::new(pipeline)),
        ],
    )
}

/// `call(sock, command, …) -> reply`.
fn call_command(call: &mut Call<'_>) -> LuaResult<Return> {
    with_command(call, 2, |call, stream, data| {
        exchange(call, stream, data, Wanted::Replies(Scan::one(false)))
    })
}

/// `send(sock, command, …) -> bytes`.
fn send_command(call: &mut Call<'_>) -> LuaResult<Return> {
    with_command(call, 2, send::send_bytes)
}

/// `read(sock, patient) -> reply`. A patient one leaves the stream open when the time is over.
fn read_reply(call: &mut Call<'_>) -> LuaResult<Return> {
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match receive::ready_to_read(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let patient = matches!(call.value(2), Value::Boolean(true));
    receive::read(call, stream, Wanted::Replies(Scan::one(patient)))
}

/// `encode(command, …)`: the request as a string.
fn encode(call: &mut Call<'_>) -> LuaResult<Return> {
    let mut data = SCRATCH.take();
    data.clear();
    let answer = append_command(call, 1, &mut data).and_then(|()| call.ret(&data[..]));
    SCRATCH.set(data);
    answer
}

/// `pipeline(sock, requests) -> replies`.
fn pipeline(call: &mut Call<'_>) -> LuaResult<Return> {
    let requests: Table<'_> = call.arg(2)?;
    let count = requests.raw_len(call);
    let mut data = SCRATCH.take();
    data.clear();
    let answer = send::gather(call, Value::Table(requests), &mut data).and_then(|()| {
        with_stream(call, |call, stream| match count {
            0 => call.table(0, 0).and_then(|empty| call.ret(empty)),
            _ => exchange(call, stream, &data, Wanted::Replies(Scan::many(count))),
        })
    });
    SCRATCH.set(data);
    answer
}

/// Calls `then` with the command in the arguments from `first` on.
fn with_command(
    call: &mut Call<'_>,
    first: u32,
    then: fn(&Call<'_>, &Rc<Stream>, &[u8]) -> LuaResult<Return>,
) -> LuaResult<Return> {
    let mut data = SCRATCH.take();
    data.clear();
    let answer = append_command(call, first, &mut data)
        .and_then(|()| with_stream(call, |call, stream| then(call, stream, &data)));
    SCRATCH.set(data);
    answer
}

/// Appends a command in the form of an array of bulk strings. `nil`s at the end are left out.
fn append_command(call: &mut Call<'_>, first: u32, out: &mut Vec<u8>) -> LuaResult<()> {
    let mut count = call.args_len();
    let first = first as usize;
    while count > first && matches!(call.value(count), Value::Nil) {
        count -= 1;
    }
    append_len(out, b'*', (count + 1).saturating_sub(first));
    let mut text = Vec::new();
    for n in first..=count {
        if let Some(arg) = call.text(n) {
            append_bulk(out, arg);
            continue;
        }
        match call.value(n) {
            Value::Number(number) => {
                text.clear();
                append_number(&mut text, number);
                append_bulk(out, &text);
            }
            Value::Nil => append_bulk(out, b"nil"),
            Value::Boolean(true) => append_bulk(out, b"true"),
            Value::Boolean(false) => append_bulk(out, b"false"),
            other => call.scope(|stack| {
                let Value::Function(tostring) = stack.globals()?.raw_get(stack, "tostring")? else {
                    return Err(LuaError::new("there is no tostring"));
                };
                let shown = stack.call(tostring, other)?;
                append_bulk(out, shown.value(stack, 0).as_bytes().unwrap_or_default());
                Ok(())
            })?,
        }
    }
    Ok(())
}

/// `*2` or `$5`, and the end of the line.
fn append_len(out: &mut Vec<u8>, kind: u8, len: usize) {
    if let Ok(digit @ 0..=9) = u8::try_from(len) {
        out.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']);
        return;
    }
    out.push(kind);
    moonrest_http::decimal::append(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

fn append_bulk(out: &mut Vec<u8>, arg: &[u8]) {
    out.reserve(arg.len() + 32);
    append_len(out, b'$', arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

/// How far the replies have been looked through.
#[derive(Debug)]
pub(super) struct Scan {
    /// Where the next one begins.
    at: usize,
    /// How many elements the arrays around it still have to come, the innermost last.
    open: SmallVec<[u64; 4]>,
    /// The answer is an array of them all.
    many: Option<usize>,
    garbage: Option<String>,
    /// Where what is being received ends at the earliest.
    end: usize,
    /// The end of the time leaves the stream open.
    pub(super) patient: bool,
}

/// What stands at some place.
enum Head<'a> {
    Status(&'a [u8]),
    Error(&'a [u8]),
    Integer(&'a [u8]),
    /// The bytes from here on.
    Bulk(usize),
    Array(usize),
    Null,
}

impl Scan {
    fn one(patient: bool) -> Self {
        Self { at: 0, open: SmallVec::new(), many: None, garbage: None, end: 0, patient }
    }

    fn many(count: usize) -> Self {
        let open = smallvec![count as u64];
        Self { at: 0, open, many: Some(count), garbage: None, end: 0, patient: false }
    }

    /// How many bytes are known to be missing.
    pub(super) fn missing(&self, unread: usize) -> usize {
        self.end.saturating_sub(unread)
    }

    /// The length of what was waited for, once it is there, or once it is clear that it will never make sense.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let (head, end) = match head(bytes, self.at) {
                Ok(Some(found)) => found,
                Ok(None) => return None,
                Err(garbage) => {
                    self.garbage = Some(garbage);
                    return Some(0);
                }
            };
            match head {
                Head::Bulk(size) => {
                    let end = end.saturating_add(size).saturating_add(2);
                    if end > bytes.len() {
                        self.end = end;
                        return None;
                    }
                    self.at = end;
                }
                Head::Array(count @ 1..) => {
                    if self.open.len() >= MAX_DEPTH {
                        self.garbage = Some("arrays nested too deeply".into());
                        return Some(0);
                    }
                    self.open.push(count as u64);
                    self.at = end;
                    continue;
                }
                _ => self.at = end,
            }
            // One more is complete, and with it perhaps the arrays around it.
            loop {
                let Some(left) = self.open.last_mut() else { return Some(self.at) };
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
            }
        }
    }
}

/// The line at `at`, and where what follows it begins; `None` if it is not complete.
fn head(bytes: &[u8], at: usize) -> Result<Option<(Head<'_>, usize)>, String> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(None) };
    let line = rest.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = at + end + 1;
    let Some((prefix, text)) = line.split_first() else { return Err("unknown prefix: \"nil\"".into()) };
    let head = match prefix {
        b'+' => Head::Status(text),
        b'-' => Head::Error(text),
        b':' => Head::Integer(text),
        b'$' => size(text)?.map_or(Head::Null, Head::Bulk),
        b'*' => size(text)?.map_or(Head::Null, Head::Array),
        other => return Err(format!("unknown prefix: \"{other}\"")),
    };
    Ok(Some((head, end)))
}

/// A length; negative ones stand for null.
fn size(text: &[u8]) -> Result<Option<usize>, String> {
    if (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        return Ok(Some(text.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))));
    }
    let bad = || format!("bad length: \"{}\"", String::from_utf8_lossy(text));
    let number: i64 = std::str::from_utf8(text).map_err(|_| bad())?.trim().parse().map_err(|_| bad())?;
    Ok(usize::try_from(number).ok())
}

/// Gives Lua the replies.
pub(super) fn push(stack: &Stack<'_>, stream: &Stream, scan: &Scan, taken: Taken) -> LuaResult<()> {
    if let Some(garbage) = &scan.garbage {
        stream.finalize();
        stack.push(Nil)?;
        return stack.push(garbage.as_str());
    }
    let mut inbox = stream.inbox.borrow_mut();
    let bytes = inbox.unread().get(..taken.len).unwrap_or_default();
    let mut reader = Reader { bytes, at: 0 };
    match scan.many {
        Some(count) => reader.array(stack, count)?,
        None => reader.reply(stack, false)?,
    }
    inbox.take(taken.used);
    Ok(())
}

/// Makes values of replies that are known to be complete.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    /// Pushes a reply: a value, or `false` and the text of an error; within an array both are in a table.
    fn reply(&mut self, stack: &Stack<'_>, within: bool) -> LuaResult<()> {
        let Ok(Some((head, end))) = head(self.bytes, self.at) else {
            return Err(LuaError::new("a reply has changed"));
        };
        self.at = end;
        match head {
            Head::Null => stack.push(Light(0)),
            Head::Integer(text) => push_integer(stack, text),
            Head::Status(text) => push_line(stack, text),
            Head::Error(text) if within => {
                let pair = stack.table(2, 0)?;
                pair.set_index(stack, 1, false)?;
                pair.set_index(stack, 2, text)
            }
            Head::Error(text) => {
                stack.push(false)?;
                push_line(stack, text)
            }
            Head::Bulk(size) => {
                let data = self.bytes.get(end..end.saturating_add(size)).unwrap_or_default();
                self.at = end.saturating_add(size).saturating_add(2);
                stack.push(data)
            }
            Head::Array(count) => self.array(stack, count),
        }
    }

    fn array(&mut self, stack: &Stack<'_>, count: usize) -> LuaResult<()> {
        let table = stack.table(count, 0)?;
        for n in 1..=count {
            // What most arrays hold needs no slots of its own.
            if let Ok(Some((Head::Bulk(size), end))) = head(self.bytes, self.at) {
                let data = self.bytes.get(end..end.saturating_add(size)).unwrap_or_default();
                self.at = end.saturating_add(size).saturating_add(2);
                table.set_index(stack, n, data)?;
            } else {
                table.set_made(stack, n, |stack| self.reply(stack, true))?;
            }
        }
        Ok(())
    }
}

fn push_integer(stack: &Stack<'_>, text: &[u8]) -> LuaResult<()> {
    match std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<f64>().ok()) {
        Some(number) => stack.push(number),
        None => stack.push(Nil),
    }
}

/// A carriage return is left out wherever it stands.
fn push_line(stack: &Stack<'_>, text: &[u8]) -> LuaResult<()> {
    if memchr::memchr(b'\r', text).is_none() {
        return stack.push(text);
    }
    let kept: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\r').collect();
    stack.push(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut scan: impl FnMut() -> Scan, input: &str, expect: Option<usize>) {
        assert_eq!(scan().advance(input.as_bytes()), expect, "{input:?}");
        let mut slowly = scan();
        let found = (0..=input.len()).find_map(|end| slowly.advance(&input.as_bytes()[..end]));
        assert_eq!(found, expect, "{input:?}, byte by byte");
    }

    #[test]
    fn replies_are_complete_when_their_last_byte_is_there() {
        let one = || Scan::one(false);
        check(one, "+OK\r\n", Some(5));
        check(one, "$5\r\nhello\r\n", Some(11));
        check(one, "$5\r\nhello\r", None);
        check(one, "$-1\r\n", Some(5));
        check(one, "*2\r\n*1\r\n:1\r\n$1\r\na\r\n", Some(19));
        check(one, "*0\r\n", Some(4));
        check(one, "*2\r\n:1\r\n", None);
        check(one, "$9223372036854775807\r\n", None);
        check(|| Scan::many(2), "+a\r\n-b\r\n", Some(8));
        check(|| Scan::many(2), "+a\r\n", None);
    }

    #[test]
    fn garbage_is_told_apart_from_what_is_missing() {
        let told = |input: &str| {
            let mut scan = Scan::one(false);
            assert_eq!(scan.advance(input.as_bytes()), Some(0));
            scan.garbage.unwrap()
        };
        assert_eq!(told("hello\r\n"), "unknown prefix: \"104\"");
        assert_eq!(told("\r\n"), "unknown prefix: \"nil\"");
        assert_eq!(told("$x\r\n"), "bad length: \"x\"");
        assert_eq!(told(&"*1\r\n".repeat(200)), "arrays nested too deeply");
    }
}
