//! Paths as byte strings.
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The bytes as a path for `std`.
///
/// # Errors
/// `InvalidInput` when the bytes hold a NUL: the system would silently see a shorter name.
pub fn from_bytes(bytes: &[u8]) -> io::Result<&Path> {
    if bytes.contains(&0) {
        return Err(nul());
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// The bytes as a C string.
///
/// # Errors
/// `InvalidInput` when the bytes hold a NUL.
pub fn to_c(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| nul())
}

/// The bytes of a path.
pub fn to_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The directory part: `/a/b` gives `/a`, `/a` gives `/`, `a` gives `.`.
pub fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(0) => b"/",
        Some(at) => &path[..at],
    }
}

fn nul() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "path contains a NUL byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_refused() {
        assert_eq!(from_bytes(b"/etc/passwd\0.html").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(to_c(b"a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn any_other_bytes_survive() {
        let bytes = b"/tmp/\xff\xfe name";
        assert_eq!(to_bytes(from_bytes(bytes).unwrap()), bytes);
        assert_eq!(to_c(bytes).unwrap().as_bytes(), bytes);
    }

    #[test]
    fn parents() {
        assert_eq!(parent(b"/a/b"), b"/a");
        assert_eq!(parent(b"/a"), b"/");
        assert_eq!(parent(b"a"), b".");
    }
}
