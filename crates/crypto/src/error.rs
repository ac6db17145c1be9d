//! The library's error queue as a value.
use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use aws_lc_sys as sys;

pub type Outcome<T> = Result<T, Error>;

/// What went wrong: the lines of the error queue, oldest first, in OpenSSL's form `error:CODE:library:function:reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error {
    code: u32,
    lines: Vec<String>,
    reasons: Vec<String>,
}

impl Error {
    /// An error of our own.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code: 0, lines: vec![reason.clone()], reasons: vec![reason] }
    }

    /// What the queue holds; it is empty afterwards.
    pub(crate) fn take() -> Self {
        let mut error = Self::default();
        loop {
            // SAFETY: no arguments; strings of the library are static.
            unsafe {
                let code = sys::ERR_get_error();
                if code == 0 {
                    return error;
                }
                let library = text(sys::ERR_lib_error_string(code)).unwrap_or_default();
                // The library shouts: `BAD_SIGNATURE`. OpenSSL says `bad signature`.
                let reason = text(sys::ERR_reason_error_string(code)).unwrap_or_default();
                let mut reason = reason.to_ascii_lowercase().replace('_', " ");
                if reason == "mismatched signature" {
                    "bad signature".clone_into(&mut reason);
                }
                error.lines.push(format!("error:{code:08X}:{library}::{reason}:"));
                error.reasons.push(reason);
                error.code = code;
            }
        }
    }

    /// Whether the text has nothing of the kind that was looked for.
    pub(crate) fn is_absence(&self) -> bool {
        self.reasons.iter().any(|reason| reason == "no start line")
    }

    /// The library's number of the last error, 0 for one of ours.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// What was wrong, in OpenSSL's words, oldest first.
    pub fn reason(&self) -> String {
        self.reasons.join(": ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join(" "))
    }
}

impl std::error::Error for Error {}

/// What C functions answer with 1.
pub(crate) fn check(answer: c_int) -> Outcome<()> {
    if answer == 1 { Ok(()) } else { Err(Error::take()) }
}

/// What a check of a signature answers: whether it is right.
pub(crate) fn signature_checked(answer: c_int) -> Outcome<bool> {
    match answer {
        0 | 1 => {
            clear();
            Ok(answer == 1)
        }
        _ => Err(Error::take()),
    }
}

/// Forgets errors of attempts that need not succeed.
pub(crate) fn clear() {
    // SAFETY: no arguments.
    unsafe { sys::ERR_clear_error() }
}

/// # Safety
/// Null, or a string that ends with NUL.
pub(crate) unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// A length as C wants it.
pub(crate) fn int(len: usize) -> Outcome<c_int> {
    c_int::try_from(len).map_err(|_| Error::new("input is too long"))
}
