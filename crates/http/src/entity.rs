//! What a response says of the file it is made from: type, validator, and where a directory is.

use crate::request::Request;
use bytes::Bytes;
use moonrest_proto::{escape, uri};
use smallvec::SmallVec;

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
    let mut text = SmallVec::<[u8; 36]>::new();
    text.push(b'"');
    append_hex(&mut text, time as u64);
    text.push(b'-');
    append_hex(&mut text, length);
    text.push(b'"');
    Bytes::copy_from_slice(&text)
}

fn append_hex(out: &mut SmallVec<[u8; 36]>, number: u64) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let value = (rest & 15) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' - 10 + value };
        at -= 1;
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_hexadecimal() {
        assert_eq!(&*etag(0x5f00_00ab, 0), b"\"5f0000ab-0\"");
        assert_eq!(&*etag(1, 4096), b"\"1-1000\"");
        assert_eq!(&*etag(-1, u64::MAX), b"\"ffffffffffffffff-ffffffffffffffff\"");
    }
}
