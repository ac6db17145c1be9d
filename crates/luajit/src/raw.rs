//! For exported C symbols only: what an FFI entry needs, and the raw state for those that take one.
//!
//! An FFI entry is an `extern "C"` function that Lua code calls through `ffi.C`, mostly from compiled code. It gets
//! no `lua_State`, must not use the VM (all handles refuse), must not raise and must not yield: it returns a code.
//! `ffi_entry!` writes one: what panics in it becomes the code given.
//!
//! ```
//! moonrest_luajit::ffi_entry! {
//!     /// The answer, for tests.
//!     fn moonrest_doc_answer(question: i32) -> i32, on_panic = -1 {
//!         question + 41
//!     }
//! }
//! assert_eq!(moonrest_doc_answer(1), 42);
//! ```
//!
//! A program that lets Lua find these symbols is linked with `-rdynamic`; see the crate's documentation.
use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use crate::ffi::lua_State;
use crate::host;

/// Defines exported C functions that return `on_panic` instead of unwinding.
#[macro_export]
macro_rules! ffi_entry {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty,
        on_panic = $code:literal $body:block)*) => {$(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $kind),*) -> $answer {
            $crate::raw::guard($code, move || $body)
        }
    )*};
}

/// Runs `work`, or answers `code` if it panics.
#[inline]
pub fn guard<R>(code: R, work: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer,
        Err(panic) => {
            dispose(panic);
            code
        }
    }
}

/// Drops what a panic carried, which may panic again.
#[cold]
#[inline(never)]
fn dispose(panic: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
}

/// Reads what the host lent for the run under way on this thread, if `request` is the token it was lent with and it is
/// a `T`. The first argument of upstream's entries is that token: `resty.core` takes it from `thread.exdata()`.
#[inline]
pub fn host<T: 'static, R>(request: *const c_void, read: impl FnOnce(&T) -> R) -> Option<R> {
    if request.addr() != host::token() || request.is_null() {
        return None;
    }
    host::borrowed(read)
}

/// As `host`, for entries without a request argument.
#[inline]
pub fn any_host<T: 'static, R>(read: impl FnOnce(&T) -> R) -> Option<R> {
    host::borrowed(read)
}

/// The `T` in the userdata that Lua passed as a pointer, if it is one of this program's userdata of that type.
///
/// # Safety
/// `userdata` is null or what the FFI makes of a full userdata of 16 bytes or more, which stays alive while the answer is
/// used.
#[inline]
pub unsafe fn userdata<'a, T: 'static>(userdata: *const c_void) -> Option<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { crate::userdata::in_block(userdata.cast()) }
}

/// The bytes that Lua passed as pointer and length.
///
/// # Safety
/// `data` is null or readable for `size` bytes, for as long as the answer is used: Lua keeps a string or buffer for the
/// length of the call it is passed to.
#[inline]
pub unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 || size > isize::MAX as usize {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// Writes `value` where Lua wants it; nothing for a null pointer.
///
/// # Safety
/// `place` is null or may be written.
#[inline]
pub unsafe fn store<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise; the FFI aligns what it allocates, but a cast may not.
        unsafe { place.write_unaligned(value) };
    }
}

/// Copies as much of `bytes` as fits into Lua's buffer, and says how much that was.
///
/// # Safety
/// `buffer` is null or may be written for `size` bytes.
#[inline]
pub unsafe fn fill(buffer: *mut u8, size: usize, bytes: &[u8]) -> usize {
    let count = bytes.len().min(size);
    if buffer.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise; Rust's bytes do not overlap a buffer of the FFI.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, count) };
    count
}
