//! `ngx.encode_base64`, `ngx.decode_base64`, `ngx.decode_base64mime`, and the URL-safe pair of `ngx.base64`.
//! <https://github.com/openresty/lua-nginx-module#ngxencode_base64>

use super::{ERROR, OK, WideStr, buffer};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::c_int;

/// What stands before the first `=` is decoded, whatever bits are left over.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(true);
const PADDED: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT.with_encode_padding(true));
const BARE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT.with_encode_padding(false));
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT.with_encode_padding(false));

ffi_entry! {
    /// Encodes into a buffer that is large enough, and answers the length.
    fn ngx_http_lua_ffi_encode_base64(src: *const u8, size: usize, dst: *mut u8, no_padding: c_int) -> usize,
        on_panic = 0
    {
        let (engine, padded) = if no_padding == 0 { (&PADDED, true) } else { (&BARE, false) };
        // SAFETY: Lua passes a string, and a buffer for what becomes of it.
        unsafe { encode(engine, padded, raw::bytes(src, size), dst) }
    }

    /// Decodes into a buffer that is large enough; 0 when the text is none.
    fn ngx_http_lua_ffi_decode_base64(src: *const u8, size: usize, dst: *mut u8, len: *mut usize) -> c_int,
        on_panic = 0
    {
        // SAFETY: Lua passes a string, a buffer for what becomes of it, and a place for the length.
        unsafe { answer(decode(&BARE, raw::bytes(src, size), dst), len) }
    }

    /// The same, passing over bytes that are not of the alphabet.
    fn ngx_http_lua_ffi_decode_base64mime(src: *const u8, size: usize, dst: *mut u8, len: *mut usize) -> c_int,
        on_panic = 0
    {
        // SAFETY: as above.
        unsafe {
            let clean = alphabet_only(raw::bytes(src, size));
            answer(decode(&BARE, &clean, dst), len)
        }
    }

    /// nginx's own: encodes `src` into `dst`, whose length it sets.
    fn ngx_encode_base64url(dst: *mut WideStr, src: *const WideStr) -> c_int, on_panic = -1 {
        if dst.is_null() || src.is_null() {
            return ERROR;
        }
        // SAFETY: callers pass two strings, `dst` with a buffer for what becomes of `src`.
        unsafe { (*dst).len = encode(&URL_SAFE, false, raw::bytes((*src).data, (*src).len), (*dst).data) };
        OK
    }

    /// nginx's own: decodes `src` into `dst`, whose length it sets.
    fn ngx_decode_base64url(dst: *mut WideStr, src: *const WideStr) -> isize, on_panic = -1 {
        if dst.is_null() || src.is_null() {
            return -1;
        }
        // SAFETY: as above.
        match unsafe { decode(&URL_SAFE, raw::bytes((*src).data, (*src).len), (*dst).data) } {
            Some(len) => {
                // SAFETY: as above.
                unsafe { (*dst).len = len };
                0
            }
            None => -1,
        }
    }
}

/// # Safety
/// `dst` has room for the text encoded.
unsafe fn encode(engine: &GeneralPurpose, padded: bool, text: &[u8], dst: *mut u8) -> usize {
    let room = base64::encoded_len(text.len(), padded).unwrap_or(0);
    // SAFETY: the caller's promise.
    let dst = unsafe { buffer(dst, room) };
    engine.encode_slice(text, dst).unwrap_or(0)
}

/// # Safety
/// `dst` has room for the text decoded.
unsafe fn decode(engine: &GeneralPurpose, text: &[u8], dst: *mut u8) -> Option<usize> {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    let text = text.get(..end)?;
    // SAFETY: three bytes come of four, of what is left one fewer than that has.
    let dst = unsafe { buffer(dst, text.len() / 4 * 3 + (text.len() % 4).saturating_sub(1)) };
    engine.decode_slice(text, dst).ok()
}

/// # Safety
/// `place` is null or may be written.
unsafe fn answer(decoded: Option<usize>, place: *mut usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { raw::store(place, decoded.unwrap_or(0)) };
    c_int::from(decoded.is_some())
}

fn alphabet_only(text: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.iter().take(end).copied().filter(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let (mut room, mut len) = (vec![0; text.len()], 0);
        let done = ngx_http_lua_ffi_decode_base64(text.as_ptr(), text.len(), room.as_mut_ptr(), &raw mut len);
        (done == 1).then(|| room[..len].to_vec())
    }

    #[test]
    fn padding_and_left_over_bits_do_not_matter() {
        for (text, expect) in [
            ("aGVsbG8=", Some("hello")),
            ("aGVsbG8", Some("hello")),
            ("aGVsbG9", Some("hello")),
            ("aGVsbG8=junk", Some("hello")),
            ("", Some("")),
            ("aGVsb", None),
            ("aGVs!G8=", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expect.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn padding_is_made_when_asked_for() {
        let mut room = [0; 8];
        let encode = |room: &mut [u8; 8], bare| {
            ngx_http_lua_ffi_encode_base64(b"hello".as_ptr(), 5, room.as_mut_ptr(), bare)
        };
        assert_eq!((encode(&mut room, 0), &room), (8, b"aGVsbG8="));
        assert_eq!(encode(&mut room, 1), 7);
    }
}
