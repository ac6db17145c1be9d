//! `sock:send`. <https://github.com/openresty/lua-nginx-module#tcpsocksend>

use super::{
    Journal,
    stream::{self, Failure, Side, Stream},
};
use crate::{
    api::output::append_number,
    scheduler::{Item, Operation, Values},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Table, Value};
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
};

/// Nesting of tables.
const MAX_DEPTH: usize = 32;

thread_local! {
    /// Where the pieces of a table are put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `sock:send(data) -> bytes`.
pub(super) fn send(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 {
        let text = format!("expecting 2 arguments (including the object), but got {given}");
        return Err(text.into());
    }
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match ready_to_write(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    if let Some(data) = call.text(2) {
        return send_bytes(call, stream, data);
    }
    let value = call.value(2);
    let mut data = SCRATCH.take();
    data.clear();
    let sent = gather(call, value, &mut data).and_then(|()| send_bytes(call, stream, &data));
    SCRATCH.set(data);
    sent
}

/// The stream, if it can be written now; otherwise what the call answers.
pub(super) fn ready_to_write<'a>(
    call: &Call<'_>,
    stream: Option<&'a Rc<Stream>>,
    owner: usize,
) -> LuaResult<Result<&'a Rc<Stream>, Return>> {
    let Some(open) = stream.filter(|stream| stream.is_open() && !stream.write_closed.get()) else {
        if let Some(busy) = stream.and_then(|stream| stream.busy(false, false)) {
            return super::fail(call, busy).map(Err);
        }
        return stream::closed(call, stream.map(|stream| &**stream), "send").map(Err);
    };
    open.check_owner(owner)?;
    if let Some(busy) = open.busy(false, true) {
        return super::fail(call, busy).map(Err);
    }
    if matches!(*open.side.borrow(), Side::Body(..)) {
        return Err("attempt to write to request sockets".into());
    }
    Ok(Ok(open))
}

/// The bytes of any value that can be sent.
pub(super) fn gather(call: &mut Call<'_>, value: Value<'_>, out: &mut Vec<u8>) -> LuaResult<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => append_number(out, number),
        Value::String(text) => out.extend_from_slice(text),
        Value::Table(table) => append_table(call, table, 0, out)?,
        other => {
            return Err(LuaError::argument(
                2,
                format!("string, number, boolean, nil, or array table expected, got {}", other.type_name()),
            ));
        }
    }
    Ok(())
}

fn append_table(stack: &mut Stack<'_>, table: Table<'_>, depth: usize, out: &mut Vec<u8>) -> LuaResult<()> {
    if table.append_texts(stack, MAX_DEPTH - depth, out)? {
        return Ok(());
    }
    let Some(length) = table.array_len(stack)? else {
        return Err(LuaError::argument(2, "non-array table found"));
    };
    for index in 1..=length {
        stack.scope(|stack| {
            match table.raw_index(stack, index)? {
                Value::Number(number) => append_number(out, number),
                Value::String(text) => out.extend_from_slice(text),
                Value::Table(inner) if depth < MAX_DEPTH => append_table(stack, inner, depth + 1, out)?,
                other => {
                    return Err(LuaError::argument(2, format!("bad data type {} found", other.type_name())));
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn send_bytes(call: &Call<'_>, stream: &Rc<Stream>, data: &[u8]) -> LuaResult<Return> {
    match send_now(call, stream, data)? {
        Sent::All => call.ret(data.len()),
        Sent::Failed(answer) => Ok(answer),
        Sent::Some(sent) => {
            let rest = data.get(sent..).unwrap_or_default().to_vec();
            let write = write_rest(stream.clone(), Journal::of(call)?, rest);
            let total = data.len() as f64;
            let wait = async move {
                match write.await {
                    Ok(()) => Values::one(Item::Number(total)),
                    Err(failed) => failed,
                }
            };
            call.suspend(Operation::Wait(Box::pin(wait)), ())
        }
    }
}

/// How far one gets without waiting.
pub(super) enum Sent {
    All,
    /// So many bytes are taken; these and the others have to leave.
    Some(usize),
    Failed(Return),
}

/// Sends what can be sent at once.
pub(super) fn send_now(call: &Call<'_>, stream: &Rc<Stream>, data: &[u8]) -> LuaResult<Sent> {
    if data.is_empty() {
        return Ok(Sent::All);
    }
    if stream.settings.get().nodelay
        && let Side::Peer(connection) = &mut *stream.side.borrow_mut()
        && connection.set_nodelay().is_err()
    {
        return call.ret((Nil, "setsocketopt tcp_nodelay failed")).map(Sent::Failed);
    }
    let mut sent = 0;
    loop {
        match stream.try_write(data.get(sent..).unwrap_or_default()) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                let text = failed(stream, &Journal::of(call)?, &Failure::System(error));
                return call.ret((Nil, text)).map(Sent::Failed);
            }
        }
        if sent == data.len() {
            if stream.has_pending() {
                break;
            }
            return Ok(Sent::All);
        }
    }
    Ok(Sent::Some(sent))
}

/// Closes the sending direction, as upstream does after every failure, and says why.
fn failed(stream: &Stream, journal: &Journal, failure: &Failure) -> String {
    stream.log_failure(journal, "send()", failure);
    if matches!(failure, Failure::Timeout) && stream.settings.get().log_errors {
        journal.error(format_args!("lua tcp socket write timed out{}", stream.peer()));
    }
    stream.write_closed.set(true);
    failure.text()
}

/// Sends the rest; the error is what Lua is told.
pub(super) fn write_rest(
    stream: Rc<Stream>,
    journal: Journal,
    data: Vec<u8>,
) -> impl Future<Output = Result<(), Values>> + 'static {
    stream.writing.set(true);
    let guard = Busy(stream);
    async move {
        let stream = &guard.0;
        let timer = stream.write_timer();
        let mut at = 0;
        let sent = poll_fn(|cx| stream.poll_send(&data, &mut at, &timer, cx)).await;
        timer.clear();
        let sent = sent.map_err(|failure| Values::error(&failed(stream, &journal, &failure)));
        guard.done();
        sent
    }
}

impl Stream {
    fn poll_send(
        &self,
        data: &[u8],
        at: &mut usize,
        timer: &moonrest_net::timer::Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        while let Some(rest) = data.get(*at..).filter(|rest| !rest.is_empty()) {
            match self.poll_write(rest, cx) {
                Poll::Ready(Ok(n)) => {
                    *at += n;
                    timer.clear();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::System(error))),
                Poll::Pending => {
                    if !timer.is_armed() {
                        timer.set(self.send_timeout());
                    }
                    return timer.poll(cx).map(|()| Err(Failure::Timeout));
                }
            }
        }
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(Failure::System)),
            Poll::Pending => {
                if !timer.is_armed() {
                    timer.set(self.send_timeout());
                }
                timer.poll(cx).map(|()| Err(Failure::Timeout))
            }
        }
    }
}

/// A stream that writes. Given up in the middle, it is closed: nobody knows how much the peer has.
struct Busy(Rc<Stream>);

impl Busy {
    fn done(self) {
        self.0.writing.set(false);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.writing.replace(false) {
            self.0.finalize();
        }
    }
}
