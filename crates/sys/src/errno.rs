//! System errors in nginx's notation: `98: Address already in use`.
use std::fmt;
use std::io;

pub use libc::{
    EACCES, EEXIST, EISDIR, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EPERM, EXDEV,
};

/// An error number; `Display` is what nginx puts in brackets at the end of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The number inside an `io::Error`, when it came from the system.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.raw_os_error().map(Self)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        // std appends " (os error N)" to the system's text.
        let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
        write!(f, "{}: {text}", self.0)
    }
}

/// `N: text` of an error from the system, the error's own words otherwise.
pub fn describe(error: &io::Error) -> String {
    Errno::of(error).map_or_else(|| error.to_string(), |errno| errno.to_string())
}

/// Calls again while a signal interrupts the call.
pub(crate) fn retry<T>(f: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    Ok(rustix::io::retry_on_intr(f)?)
}

/// The result of a C call that returns −1 and sets `errno`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_in_an_nginx_log() {
        let error = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(describe(&error), "98: Address already in use");
        assert_eq!(Errno::of(&error), Some(Errno(98)));
    }

    #[test]
    fn other_errors_keep_their_words() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "bad frame");
        assert_eq!(describe(&error), "bad frame");
        assert_eq!(Errno::of(&error), None);
    }
}
