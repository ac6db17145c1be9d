//! `ngx.md5`, `ngx.md5_bin`, `ngx.sha1_bin`, `ngx.crc32_short`, `ngx.crc32_long`, and nginx's `ngx_hex_dump` and `ngx_atoi`.
//! <https://github.com/openresty/lua-nginx-module#ngxmd5>

use md5::Md5;
use moonrest_luajit::{ffi_entry, raw};
use sha1::{Digest, Sha1};
use std::ffi::{c_int, c_uint};

ffi_entry! {
    /// 16 bytes.
    fn ngx_http_lua_ffi_md5_bin(src: *const u8, size: usize, dst: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: Lua passes a string, and a buffer for the digest.
        unsafe { raw::fill(dst, 16, &Md5::digest(raw::bytes(src, size))) };
        1
    }

    /// 32 hexadecimal digits.
    fn ngx_http_lua_ffi_md5(src: *const u8, size: usize, dst: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: as above.
        unsafe {
            let digest = Md5::digest(raw::bytes(src, size));
            dump(&digest, dst);
        }
        1
    }

    /// 20 bytes.
    fn ngx_http_lua_ffi_sha1_bin(src: *const u8, size: usize, dst: *mut u8) -> c_int, on_panic = 0 {
        // SAFETY: as above.
        unsafe { raw::fill(dst, 20, &Sha1::digest(raw::bytes(src, size))) };
        1
    }

    /// CRC-32 as zip has it.
    fn ngx_http_lua_ffi_crc32_short(src: *const u8, size: usize) -> c_uint, on_panic = 0 {
        // SAFETY: Lua passes a string.
        crc32(unsafe { raw::bytes(src, size) })
    }

    /// The same: nginx's two only differ in speed.
    fn ngx_http_lua_ffi_crc32_long(src: *const u8, size: usize) -> c_uint, on_panic = 0 {
        // SAFETY: Lua passes a string.
        crc32(unsafe { raw::bytes(src, size) })
    }

    /// nginx's own, which libraries call: two digits for each byte, and the address behind them.
    fn ngx_hex_dump(dst: *mut u8, src: *const u8, size: usize) -> usize, on_panic = 0 {
        // SAFETY: callers pass a string, and a buffer of twice its length.
        unsafe { dump(raw::bytes(src, size), dst) }
    }

    /// nginx's own: the number that decimal digits are, or -1.
    fn ngx_atoi(line: *const u8, size: usize) -> isize, on_panic = -1 {
        // SAFETY: callers pass a string.
        atoi(unsafe { raw::bytes(line, size) }).unwrap_or(-1)
    }
}

fn atoi(digits: &[u8]) -> Option<isize> {
    let mut value: isize = 0;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(value)
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// # Safety
/// `dst` is null or has room for two digits for each byte.
unsafe fn dump(bytes: &[u8], dst: *mut u8) -> usize {
    // SAFETY: the caller's promise.
    let room = unsafe { super::buffer(dst, bytes.len() * 2) };
    for (pair, byte) in room.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    dst.addr() + bytes.len() * 2
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' - 10 + value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_known_ones() {
        let mut digits = [0; 32];
        ngx_http_lua_ffi_md5(b"hello".as_ptr(), 5, digits.as_mut_ptr());
        assert_eq!(&digits, b"5d41402abc4b2a76b9719d911017c592");
        assert_eq!(ngx_http_lua_ffi_crc32_long(b"hello, world".as_ptr(), 12), 4_289_425_978);
    }

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(atoi(b"123"), Some(123));
        for wrong in [&b""[..], b"-1", b"1x", b"99999999999999999999"] {
            assert_eq!(atoi(wrong), None);
        }
    }
}
