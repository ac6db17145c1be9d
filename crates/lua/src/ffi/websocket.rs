//! What `resty.websocket` leaves to native code: frames, masks, UTF-8 and compression.

use super::{ERROR, OK, buffer, random};
use crate::websocket::{Deflater, Inflater, Unreadable, Utf8, mask};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_int, c_uint, c_void};

/// A message is longer than it may be.
const TOO_LONG: c_int = -3;
/// The longest head of a frame, mask included.
const MAX_HEAD: usize = 14;

ffi_entry! {
    /// Writes a frame to `dst`, which has room for its 14 bytes of head as well, and answers its length. `first` is its
    /// first byte. Frames of clients are masked with a key of random bytes (RFC 6455, 5.3).
    fn moonrest_ffi_websocket_frame(
        dst: *mut u8, first: c_uint, masked: c_int, payload: *const u8, size: usize
    ) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a string, and a buffer for it and the head.
        let (dst, payload) = unsafe { (buffer(dst, size.saturating_add(MAX_HEAD)), raw::bytes(payload, size)) };
        frame(dst, u8::try_from(first).unwrap_or(0), masked != 0, payload).unwrap_or(0)
    }

    /// Takes the mask, whose four bytes come first in `src`, off the `size` bytes behind it.
    fn moonrest_ffi_websocket_unmask(dst: *mut u8, src: *const u8, size: usize) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string of four bytes more than the buffer has.
        let (dst, src) = unsafe { (buffer(dst, size), raw::bytes(src, size.saturating_add(4))) };
        match src.split_first_chunk::<4>() {
            Some((key, text)) => {
                mask(dst, text, *key);
                OK
            }
            None => ERROR,
        }
    }

    /// Whether a text goes on well. `state` is 0 where it begins, and at its end if no character is cut off.
    fn moonrest_ffi_utf8_check(src: *const u8, size: usize, state: *mut c_uint) -> c_int, on_panic = -1 {
        if state.is_null() {
            return ERROR;
        }
        // SAFETY: Lua passes a string, and a place for the state.
        let (bytes, bits) = unsafe { (raw::bytes(src, size), state.read_unaligned()) };
        match Utf8::from_bits(bits).take(bytes) {
            Some(after) => {
                // SAFETY: as above.
                unsafe { raw::store(state, after.bits()) };
                OK
            }
            None => ERROR,
        }
    }

    /// A compressor, as a pointer; the caller frees it.
    fn moonrest_ffi_deflate_new(level: c_int, bits: c_int) -> usize, on_panic = 0 {
        let (level, bits) = (u32::try_from(level).unwrap_or(6), u8::try_from(bits).unwrap_or(15));
        Box::into_raw(Box::new(Deflater::new(level, bits))).expose_provenance()
    }

    fn moonrest_ffi_deflate_free(handle: *mut c_void) -> c_int, on_panic = 0 {
        if !handle.is_null() {
            // SAFETY: Lua frees what `new` made, once.
            drop(unsafe { Box::from_raw(handle.cast::<Deflater>()) });
        }
        OK
    }

    /// Compresses a part of a message. What `out` points at is good until the next call with this handle.
    fn moonrest_ffi_deflate_part(
        handle: *mut c_void, src: *const u8, size: usize, last: c_int, forget: c_int,
        out: *mut *const u8, out_size: *mut usize
    ) -> c_int, on_panic = -1 {
        // SAFETY: the handle is one that `new` made and that has not been freed; nobody else uses it meanwhile.
        let Some(deflater) = (unsafe { handle.cast::<Deflater>().as_mut() }) else { return ERROR };
        // SAFETY: Lua passes a string, and places for the answer.
        unsafe { answer(deflater.part(raw::bytes(src, size), last != 0, forget != 0), out, out_size) }
    }

    /// A decompressor, as a pointer; the caller frees it.
    fn moonrest_ffi_inflate_new() -> usize, on_panic = 0 {
        Box::into_raw(Box::new(Inflater::new())).expose_provenance()
    }

    fn moonrest_ffi_inflate_free(handle: *mut c_void) -> c_int, on_panic = 0 {
        if !handle.is_null() {
            // SAFETY: Lua frees what `new` made, once.
            drop(unsafe { Box::from_raw(handle.cast::<Inflater>()) });
        }
        OK
    }

    /// Decompresses a part of a message into `max` bytes at most; -3 where it has more.
    fn moonrest_ffi_inflate_part(
        handle: *mut c_void, src: *const u8, size: usize, last: c_int, forget: c_int, max: usize,
        out: *mut *const u8, out_size: *mut usize
    ) -> c_int, on_panic = -1 {
        // SAFETY: the handle is one that `new` made and that has not been freed; nobody else uses it meanwhile.
        let Some(inflater) = (unsafe { handle.cast::<Inflater>().as_mut() }) else { return ERROR };
        // SAFETY: Lua passes a string, and places for the answer.
        unsafe {
            match inflater.part(raw::bytes(src, size), last != 0, forget != 0, max) {
                Ok(bytes) => answer(Some(bytes), out, out_size),
                Err(Unreadable::TooLong) => TOO_LONG,
                Err(Unreadable::Broken) => ERROR,
            }
        }
    }
}

/// # Safety
/// Both places are null or may be written.
unsafe fn answer(bytes: Option<&[u8]>, out: *mut *const u8, out_size: *mut usize) -> c_int {
    let Some(bytes) = bytes else { return ERROR };
    // SAFETY: the caller's promise.
    unsafe {
        raw::store(out, bytes.as_ptr());
        raw::store(out_size, bytes.len());
    }
    OK
}

/// Appends a frame.
pub(crate) fn append_frame(out: &mut Vec<u8>, first: u8, masked: bool, payload: &[u8]) {
    let before = out.len();
    out.resize(before + MAX_HEAD + payload.len(), 0);
    let len = frame(out.get_mut(before..).unwrap_or_default(), first, masked, payload);
    out.truncate(before + len.unwrap_or(0));
}

fn frame(dst: &mut [u8], first: u8, masked: bool, payload: &[u8]) -> Option<usize> {
    let mut head = [0_u8; MAX_HEAD];
    let bit = if masked { 0x80 } else { 0 };
    let size = u64::try_from(payload.len()).ok()?;
    *head.first_mut()? = first;
    let mut len = match size {
        0..=125 => {
            *head.get_mut(1)? = bit | u8::try_from(size).ok()?;
            2
        }
        126..=0xffff => {
            *head.get_mut(1)? = bit | 126;
            head.get_mut(2..4)?.copy_from_slice(&u16::try_from(size).ok()?.to_be_bytes());
            4
        }
        _ => {
            *head.get_mut(1)? = bit | 127;
            head.get_mut(2..10)?.copy_from_slice(&size.to_be_bytes());
            10
        }
    };
    let key = if masked { Some(random::key()) } else { None };
    if let Some(key) = key {
        head.get_mut(len..len + 4)?.copy_from_slice(&key);
        len += 4;
    }
    dst.get_mut(..len)?.copy_from_slice(head.get(..len)?);
    let text = dst.get_mut(len..len + payload.len())?;
    match key {
        Some(key) => mask(text, payload, key),
        None => text.copy_from_slice(payload),
    }
    Some(len + payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_lengths_of_the_rfc() {
        for (size, masked, head) in [
            (0, false, &[0x81, 0][..]),
            (125, true, &[0x81, 0x80 | 125]),
            (126, false, &[0x81, 126, 0, 126]),
            (65_535, true, &[0x81, 0x80 | 126, 255, 255]),
            (65_536, false, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![b'a'; size];
            let mut dst = vec![0; size + MAX_HEAD];
            let len = frame(&mut dst, 0x81, masked, &payload).unwrap();
            assert_eq!(len, head.len() + size + if masked { 4 } else { 0 });
            assert_eq!(&dst[..head.len()], head);
            if masked {
                let mut text = vec![0; size];
                let key = *dst[head.len()..].first_chunk().unwrap();
                mask(&mut text, &dst[head.len() + 4..len], key);
                assert_eq!(text, payload);
            }
        }
        assert_eq!(frame(&mut [0; 3], 0x81, false, b"ab"), None);
    }
}
