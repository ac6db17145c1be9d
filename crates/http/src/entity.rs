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
    let mut text = [b'"'; LONGEST];
    let dash = put_hex(&mut text, LONGEST - 1, length).saturating_sub(1);
    if let Some(place) = text.get_mut(dash) {
        *place = b'-';
    }
    let start = put_hex(&mut text, dash, time as u64).saturating_sub(1);
    Bytes::copy_from_slice(text.get(start..).unwrap_or_default())
}

/// Quotes, a dash, and twice sixteen digits.
const LONGEST: usize = 35;

/// Writes a number so that it ends before `end`; gives where it begins.
#[inline]
fn put_hex(text: &mut [u8; LONGEST], end: usize, number: u64) -> usize {
    let (mut at, mut rest) = (end, number);
    for place in text.get_mut(..end).unwrap_or_default().iter_mut().rev() {
        let value = (rest & 15) as u8;
        *place = if value < 10 { b'0' + value } else { b'a' - 10 + value };
        at -= 1;
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    at
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
