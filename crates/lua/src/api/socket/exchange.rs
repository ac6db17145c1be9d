//! A request goes out and the whole answer comes back as one operation: what the database clients of the library are made
//! of. An answer that is not all there, or is not of the plain kind that is understood here, stays with the stream, and
//! the client reads it in Lua.

use super::{
    Journal,
    inbox::{Reading, Wanted},
    receive,
    send::{self, Sent},
    stream::{self, Stream},
};
use crate::scheduler::{self, Item, Operation, Values};
use moonrest_luajit::{Call, LuaResult, Return, Stack};
use std::rc::Rc;

/// Answers of more bytes than this are read by the client, piece by piece.
pub(super) const LIMIT: usize = 256 * 1024;

/// An answer in the making.
pub(super) trait Answer {
    /// Where it ends at the earliest, in bytes from its beginning.
    fn end(&self) -> usize;
    /// Whether the head of a message has come, and its body is not complete.
    fn is_within(&self) -> bool {
        false
    }
    /// The length of the answer once it is there; 0 leaves it to the client.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize>;
    /// Pushes what Lua is given for the answer that these bytes are, and nothing else.
    fn push(&self, stack: &Stack<'_>, bytes: &[u8]) -> LuaResult<()>;
    /// Whether the bytes stay, because Lua is only told that they are there.
    fn stays(&self) -> bool {
        false
    }
}

/// Calls `then` with the stream of the socket that is the first argument.
pub(super) fn with_stream(
    call: &Call<'_>,
    then: impl FnOnce(&Call<'_>, &Rc<Stream>) -> LuaResult<Return>,
) -> LuaResult<Return> {
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    match send::ready_to_write(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => then(call, stream),
        Err(answer) => Ok(answer),
    }
}

/// The third value where the request could not be sent.
const UNSENT: &str = "unsent";

/// As `with_stream` and `exchange`. What fails has a third value: "unsent", "within" a message, or none.
pub(super) fn ask(call: &Call<'_>, data: &[u8], answer: impl Answer + 'static) -> LuaResult<Return> {
    let mut asked = false;
    let done = with_stream(call, |call, stream| {
        asked = true;
        exchange(call, stream, data, Wanted::Answer(Box::new(answer)))
    })?;
    if asked {
        return Ok(done);
    }
    // Behind `nil` and the reason.
    call.push(UNSENT)?;
    Ok(call.ret_from(call.len().saturating_sub(2)))
}

/// Sends, and waits for what is wanted. A request that cannot be sent closes the stream.
pub(super) fn exchange(
    call: &Call<'_>,
    stream: &Rc<Stream>,
    data: &[u8],
    wanted: Wanted,
) -> LuaResult<Return> {
    if let Some(busy) = stream.busy(true, false) {
        return super::fail(call, busy);
    }
    let is_answer = matches!(wanted, Wanted::Answer(_));
    let reading = Reading::new(wanted);
    match send::send_now(call, stream, data)? {
        Sent::Failed(answer) => {
            stream.finalize();
            if !is_answer {
                return Ok(answer);
            }
            call.push(UNSENT)?;
            Ok(call.ret_from(call.len().saturating_sub(2)))
        }
        // The answer cannot be there yet.
        Sent::All => {
            let wait = receive::wait(stream, Journal::of(call)?, reading);
            scheduler::suspend(call, Operation::Poll(wait))
        }
        Sent::Some(sent) => {
            let rest = data.get(sent..).unwrap_or_default().to_vec();
            let (stream, journal) = (stream.clone(), Journal::of(call)?);
            let write = send::write_rest(stream.clone(), journal.clone(), rest);
            let wait = async move {
                match write.await {
                    Ok(()) if stream.is_open() => receive::wait(&stream, journal, reading).values().await,
                    Ok(()) => Values(vec![Item::Nil, Item::Text(b"closed".to_vec())]),
                    Err(mut failed) => {
                        stream.finalize();
                        if is_answer {
                            failed.0.push(Item::Text(UNSENT.into()));
                        }
                        failed
                    }
                }
            };
            call.suspend(Operation::Wait(Box::pin(wait)), ())
        }
    }
}
