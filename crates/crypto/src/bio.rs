//! Memory that the library's readers and writers work on, and what it allocates for its answers.
use std::ffi::c_int;

use aws_lc_sys as sys;

use crate::error::{Error, Outcome};

/// Calls a reader with a BIO that holds `text`.
pub(crate) fn read<R>(text: &[u8], read: impl FnOnce(*mut sys::BIO) -> R) -> Outcome<R> {
    // SAFETY: the bytes outlive the BIO, which only reads them.
    unsafe {
        let size = isize::try_from(text.len()).map_err(|_| Error::new("input is too long"))?;
        let bio = sys::BIO_new_mem_buf(text.as_ptr().cast(), size);
        if bio.is_null() {
            return Err(Error::take());
        }
        let answer = read(bio);
        sys::BIO_free(bio);
        Ok(answer)
    }
}

/// The bytes that a writer wrote.
pub(crate) fn write(write: impl FnOnce(*mut sys::BIO) -> c_int) -> Outcome<Vec<u8>> {
    // SAFETY: a memory BIO made and freed here; its contents are copied before.
    unsafe {
        let bio = sys::BIO_new(sys::BIO_s_mem());
        if bio.is_null() {
            return Err(Error::take());
        }
        let done = write(bio);
        let (mut data, mut size) = (std::ptr::null(), 0);
        let bytes = if done > 0 && sys::BIO_mem_contents(bio, &raw mut data, &raw mut size) == 1 {
            Ok(slice(data, size).to_vec())
        } else {
            Err(Error::take())
        };
        sys::BIO_free(bio);
        bytes
    }
}

/// What an `i2d_*` function encodes.
pub(crate) fn der(encode: impl Fn(*mut *mut u8) -> c_int) -> Outcome<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let size = encode(&raw mut data);
    let Ok(size) = usize::try_from(size) else { return Err(Error::take()) };
    // SAFETY: asked with a null pointer the library allocates that many bytes, which are copied and freed.
    unsafe {
        let bytes = slice(data, size).to_vec();
        sys::OPENSSL_free(data.cast());
        Ok(bytes)
    }
}

/// # Safety
/// `data` is null or readable for `size` bytes while the answer is used.
pub(crate) unsafe fn slice<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, size) }
}
