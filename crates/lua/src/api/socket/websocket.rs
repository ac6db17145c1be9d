//! What `resty.websocket` reads and sends: a whole frame at once, instead of its head, its length and its payload one by
//! one.
//! <https://www.rfc-editor.org/rfc/rfc6455#section-5.2>

use super::{exchange::with_stream, inbox::Wanted, receive, send, stream};
use crate::ffi::websocket::append_frame;
use moonrest_luajit::{Call, LuaResult, Native, Return, Stack};
use moonrest_proto::websocket::Frame;
use std::cell::RefCell;

thread_local! {
    /// Where a frame is put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A larger place for frames goes back to the allocator.
const MAX_KEPT: usize = 64 * 1024;

/// Where `require` finds the functions.
const NAME: &str = "moonrest.websocket.native";

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    crate::api::module(
        stack,
        NAME,
        &[("receive", Native::new(receive_frame)), ("send", Native::new(send_frame))],
    )
}

/// `send(sock, first, payload, masked) -> bytes`: a frame whose first byte is `first`.
fn send_frame(call: &mut Call<'_>) -> LuaResult<Return> {
    let (first, payload, masked): (u32, &[u8], bool) = (call.arg(2)?, call.arg(3)?, call.arg(4)?);
    let mut data = SCRATCH.take();
    data.clear();
    append_frame(&mut data, first as u8, masked, payload);
    let sent = with_stream(call, |call, stream| send::send_bytes(call, stream, &data));
    if data.capacity() <= MAX_KEPT {
        SCRATCH.set(data);
    }
    sent
}

/// `receive(sock, max, reserved, masked) -> payload, first` of a frame, `first` its first byte. Of one that is refused only
/// the beginning, as it stands on the wire: its payload is longer than `max`, it has one of the `reserved` bits, or no mask
/// though it should.
fn receive_frame(call: &mut Call<'_>) -> LuaResult<Return> {
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match receive::ready_to_read(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let (max, reserved, masked): (f64, u32, bool) = (call.arg(2)?, call.arg(3)?, call.arg(4)?);
    let frame = Frame::new(max as u64, reserved as u8, masked);
    receive::read(call, stream, Wanted::Frame(frame))
}

/// Pushes what Lua is given for a frame, or for its beginning.
pub(super) fn push(frame: &Frame, stack: &Stack<'_>, bytes: &mut [u8]) -> LuaResult<()> {
    match frame.payload(bytes) {
        Some((first, payload)) => {
            stack.push(&*payload)?;
            stack.push(f64::from(first))
        }
        None => stack.push(&*bytes),
    }
}
