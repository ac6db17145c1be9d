//! What a response says of the file it is made from: type, validator, and where a directory is.

use crate::request::Request;
use bytes::Bytes;
use moonrest_proto::{escape, uri};

impl Request {
    /// Sets the media type by the path's extension, unless a type is set already (`types`, `default_type`).
    pub fn set_content_type(&self) {
        let mut out = self.out.borrow_mut();
        if !out.content_type.is_empty() {
            return;
        }
        let core = &self.loc().core;
        let uri = self.uri.borrow();
        let known = uri::extension(&uri).and_then(|extension| core.types.get(extension));
        let media = known.unwrap_or(&core.default_type).clone();
        // nginx: what the configuration writes is the media type as a whole, parameters included.
        out.content_type_len = media.len();
        out.content_type = media;
    }

    /// Sets the validator from time and length, as far as the location wants one (`etag`).
    pub fn set_etag(&self) {
        if !self.loc().core.etag {
            return;
        }
        let mut out = self.out.borrow_mut();
        let (Some(time), Some(length)) = (out.last_modified, out.content_length) else { return };
        out.etag = Some(etag(time, length));
    }

    /// Makes `Location` this request's path with a slash behind it.
    pub fn redirect_to_directory(&self) {
        let uri = self.uri.borrow();
        let args = self.args.borrow();
        let mut target = Vec::with_capacity(uri.len() + args.len() + 2);
        escape::escape(escape::Kind::Uri, &uri, &mut target);
        target.push(b'/');
        if !args.is_empty() {
            target.push(b'?');
            target.extend_from_slice(&args);
        }
        self.out.borrow_mut().location = Some(target.into());
    }
}

/// `"TIME-LENGTH"`, both hexadecimal.
pub fn etag(time: i64, length: u64) -> Bytes {
    let mut text = Text { bytes: [b'"'; 40], len: 1 };
    text.number(time as u64, b'-');
    text.number(length, b'"');
    Bytes::copy_from_slice(text.bytes.get(..text.len).unwrap_or_default())
}

struct Text {
    bytes: [u8; 40],
    len: usize,
}

impl Text {
    /// A number and what ends it.
    fn number(&mut self, number: u64, end: u8) {
        let (high, low) = ((number >> 32) as u32, number as u32);
        let mut skip = 7.min(low.leading_zeros() / 4);
        if high != 0 {
            self.digits(high, high.leading_zeros() / 4);
            skip = 0;
        }
        self.digits(low, skip);
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = end;
        }
        self.len += 1;
    }

    /// The digits of a number but for so many.
    fn digits(&mut self, number: u32, skip: u32) {
        // Those that count come first; what follows them is written over.
        let digits = (hex(number) << (8 * skip)).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut()) {
            *place = digits;
        }
        self.len += 8 - skip as usize;
    }
}

/// All digits of a number, the first one in the highest byte.
fn hex(number: u32) -> u64 {
    let number = u64::from(number);
    // A byte for each half byte, then a letter for what is above nine.
    let mut spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_hexadecimal() {
        assert_eq!(&*etag(0x5f00_00ab, 0), b"\"5f0000ab-0\"");
        assert_eq!(&*etag(1, 4096), b"\"1-1000\"");
        for shift in 0..64 {
            let number = 0x0123_4567_89ab_cdef_u64.rotate_left(shift);
            let (long, short) = (number, number >> shift);
            assert_eq!(&*etag(short as i64, long), format!("\"{short:x}-{long:x}\"").as_bytes());
        }
        assert_eq!(&*etag(-1, u64::MAX), b"\"ffffffffffffffff-ffffffffffffffff\"");
    }
}
