//! Character encodings, by the C library's `iconv`.

use std::{ffi::CString, io};

/// A conversion from one encoding to another, and its state.
#[derive(Debug)]
pub struct Converter(libc::iconv_t);

/// Why a conversion stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// All was converted.
    End,
    /// The rest is the beginning of a character.
    Incomplete,
    /// The next byte begins no character, or one that the other encoding lacks.
    Illegal,
}

impl Converter {
    /// Finds a conversion.
    ///
    /// # Errors
    /// When the C library knows none between these encodings.
    pub fn new(from: &[u8], to: &[u8]) -> io::Result<Self> {
        let from = CString::new(from).map_err(|_| io::ErrorKind::InvalidInput)?;
        let to = CString::new(to).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: both are texts with a zero at their end.
        let descriptor = unsafe { libc::iconv_open(to.as_ptr(), from.as_ptr()) };
        if descriptor as isize == -1 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// Converts as much as it can, appending to `out`; gives how many bytes were used, and why it stopped.
    pub fn convert(&mut self, text: &[u8], out: &mut Vec<u8>) -> (usize, Stop) {
        let mut used = 0;
        loop {
            let mut room = [0_u8; 1024];
            let rest = text.get(used..).unwrap_or_default();
            let (mut input, mut left) = (rest.as_ptr().cast_mut().cast(), rest.len());
            let (mut output, mut free) = (room.as_mut_ptr().cast(), room.len());
            // SAFETY: the descriptor is open; the pointers and lengths describe `rest`, which is only read, and `room`.
            let result =
                unsafe { libc::iconv(self.0, &raw mut input, &raw mut left, &raw mut output, &raw mut free) };
            let error = io::Error::last_os_error().raw_os_error();
            out.extend_from_slice(room.get(..room.len() - free).unwrap_or_default());
            used += rest.len() - left;
            if result != usize::MAX {
                return (used, Stop::End);
            }
            match error {
                Some(libc::E2BIG) => {}
                Some(libc::EINVAL) => return (used, Stop::Incomplete),
                _ => return (used, Stop::Illegal),
            }
        }
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open, and closed only here.
        unsafe { libc::iconv_close(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_converted_and_mistakes_found() {
        let mut latin = Converter::new(b"utf-8", b"latin1").unwrap();
        let mut out = Vec::new();
        assert_eq!(latin.convert("aé".as_bytes(), &mut out), (3, Stop::End));
        assert_eq!(out, b"a\xe9");
        assert_eq!(latin.convert(b"b\xc3", &mut out), (1, Stop::Incomplete));
        assert_eq!(latin.convert(b"c\xff", &mut out), (1, Stop::Illegal));
        assert_eq!(latin.convert("d\u{4e00}".as_bytes(), &mut out), (1, Stop::Illegal));
        assert_eq!(out, b"a\xe9bcd");
        let long = "é".repeat(5000);
        out.clear();
        assert_eq!(latin.convert(long.as_bytes(), &mut out), (10_000, Stop::End));
        assert_eq!(out, [0xe9].repeat(5000));
        assert!(Converter::new(b"utf-8", b"klingon").is_err());
    }
}
