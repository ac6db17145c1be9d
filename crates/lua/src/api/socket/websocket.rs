//! What `resty.websocket` reads and sends: a whole frame at once, instead of its head, its length and its payload one by
//! one.
//! <https://www.rfc-editor.org/rfc/rfc6455#section-5.2>

use super::{exchange::with_stream, inbox::Wanted, receive, send, stream};
use crate::{ffi::websocket::append_frame, websocket::mask_in_place};
use moonrest_luajit::{Call, LuaResult, Native, Return, Stack};
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
    super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match receive::ready_to_read(call, handle.as_deref().map(|handle| &handle.0))? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let (max, reserved, masked): (f64, u32, bool) = (call.arg(2)?, call.arg(3)?, call.arg(4)?);
    let frame = Frame { max: max as u64, reserved: reserved as u8, masked, missing: 2 };
    receive::read(call, stream, Wanted::Frame(frame))
}

/// What a frame may be, and how much of it is known to be missing.
#[derive(Debug)]
pub(super) struct Frame {
    max: u64,
    reserved: u8,
    masked: bool,
    missing: usize,
}

impl Frame {
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// The length of the frame once it is there, or of the part that shows what is wrong with it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = self.end(bytes);
        self.missing = end.saturating_sub(bytes.len());
        (self.missing == 0).then_some(end)
    }

    /// Whether a frame that begins with these bytes may be.
    fn accepts(&self, first: u8, second: u8) -> bool {
        let opcode = first & 0x0f;
        first & self.reserved == 0 && !matches!(opcode, 3..=7 | 0xb..) && (!self.masked || second & 0x80 != 0)
    }

    /// Pushes what Lua is given for a frame, or for its beginning.
    pub(super) fn push(&self, stack: &Stack<'_>, bytes: &mut [u8]) -> LuaResult<()> {
        match self.payload(bytes) {
            Some((first, payload)) => {
                stack.push(&*payload)?;
                stack.push(f64::from(first))
            }
            None => stack.push(&*bytes),
        }
    }

    /// The first byte and the payload, without its mask; none if it is not a frame that may be.
    fn payload<'b>(&self, bytes: &'b mut [u8]) -> Option<(u8, &'b mut [u8])> {
        let (&mut [first, second], rest) = bytes.split_first_chunk_mut()?;
        // Control frames have no parts.
        if !self.accepts(first, second) || (first & 0x08 != 0 && first & 0x80 == 0) {
            return None;
        }
        let (long, size) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            size => (0, usize::from(size)),
        };
        let rest = rest.get_mut(long..)?;
        if second & 0x80 == 0 {
            return (rest.len() == size).then_some((first, rest));
        }
        let (&mut key, payload) = rest.split_first_chunk_mut::<4>()?;
        if payload.len() != size {
            return None;
        }
        mask_in_place(payload, key);
        Some((first, payload))
    }

    /// Where it ends, as far as that can be told.
    fn end(&self, bytes: &[u8]) -> usize {
        let &[first, second, ref rest @ ..] = bytes else { return 2 };
        let (opcode, has_mask) = (first & 0x0f, second & 0x80 != 0);
        if !self.accepts(first, second) {
            return 2;
        }
        let (head, size) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(size) => (4, u64::from(u16::from_be_bytes(*size))),
                None => return 4,
            },
            127 => match rest.first_chunk() {
                Some(size) => (10, u64::from_be_bytes(*size)),
                None => return 10,
            },
            size => (2, u64::from(size)),
        };
        let mask = if has_mask { 4 } else { 0 };
        match usize::try_from(size) {
            Ok(size) if size as u64 <= self.max && (opcode < 8 || size <= 125) => {
                (head + mask as usize).saturating_add(size)
            }
            _ => head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of these bytes, however they come.
    fn check(bytes: &[u8], expected: Option<usize>) {
        let new = || Frame { max: 200, reserved: 0x70, masked: false, missing: 2 };
        assert_eq!(new().advance(bytes), expected, "{bytes:?}");
        let mut frame = new();
        let end = (0..=bytes.len()).find_map(|len| frame.advance(&bytes[..len]));
        assert_eq!(end, expected, "{bytes:?} byte by byte");
    }

    #[test]
    fn payloads_come_without_their_mask() {
        let payload = |frame: &[u8]| {
            let limits = Frame { max: 200, reserved: 0x70, masked: false, missing: 2 };
            limits.payload(&mut frame.to_vec()).map(|(first, payload)| (first, payload.to_vec()))
        };
        assert_eq!(payload(b"\x81\x02ab"), Some((0x81, b"ab".to_vec())));
        assert_eq!(payload(b"\x81\x82\x01\x02\x03\x04``"), Some((0x81, b"ab".to_vec())));
        assert_eq!(payload(b"\x81\x80\x01\x02\x03\x04"), Some((0x81, Vec::new())));
        let long = [&b"\x82\x7e\0\xc8"[..], &[7; 200]].concat();
        assert_eq!(payload(&long), Some((0x82, vec![7; 200])));
        assert_eq!(payload(&long[..203]), None);
        assert_eq!(payload(b"\x09\x00"), None);
        assert_eq!(payload(b"\xc1\x00"), None);
        assert_eq!(payload(b"\x81"), None);
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_a_wrong_one_as_soon_as_it_shows() {
        check(&[0x81], None);
        check(&[0x81, 0], Some(2));
        check(&[0x81, 2, b'a'], None);
        check(&[0x81, 2, b'a', b'b', 0x81], Some(4));
        check(&[0x81, 0x81, 0, 0, 0, 0, b'a'], Some(7));
        check(&[0x82, 126, 0], None);
        check(&[0x82, 126, 0, 201], Some(4));
        check(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], Some(10));
        check(&[0xc1, 5], Some(2));
        check(&[0x83, 5], Some(2));
        check(&[0x89, 126, 0, 126], Some(4));
        let long = [&[0x82, 126, 0, 200][..], &[0; 200]].concat();
        check(&long, Some(204));
        check(&long[..203], None);
        let mut masked = Frame { max: 9, reserved: 0, masked: true, missing: 2 };
        assert_eq!(masked.advance(&[0x81, 1]), Some(2));
    }
}
