//! What `resty.websocket` reads: a whole frame at once, instead of its head, its length and its payload one by one.
//! <https://www.rfc-editor.org/rfc/rfc6455#section-5.2>

use super::{inbox::Wanted, receive, stream};
use moonrest_luajit::{Call, LuaResult, Native, Return, Stack};
use moonrest_proto::websocket::Frame;

/// Where `require` finds the function.
const NAME: &str = "moonrest.websocket.native";

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let module = stack.table(0, 1)?;
    crate::api::define_native(stack, module, &[("receive", Native::new(receive_frame))])?;
    if let Some(package) = stack.globals()?.get(stack, "package")?.as_table()
        && let Some(loaded) = package.get(stack, "loaded")?.as_table()
    {
        loaded.set(stack, NAME, module)?;
    }
    Ok(())
}

/// `receive(sock, max, reserved, masked) -> frame`, as it stands on the wire; only the beginning of one that is refused:
/// its payload is longer than `max`, it has one of the `reserved` bits, or no mask though it should.
fn receive_frame(call: &mut Call<'_>) -> LuaResult<Return> {
    super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match receive::ready_to_read(call, handle.as_deref().map(|handle| &handle.0))? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let (max, reserved, masked): (f64, u32, bool) = (call.arg(2)?, call.arg(3)?, call.arg(4)?);
    let frame = Frame::new(max as u64, reserved as u8, masked);
    receive::read(call, stream, Wanted::Frame(frame))
}
