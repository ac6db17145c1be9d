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
    let mut text = [0; 35];
    let mut at = text.len();
    let mut put = |byte| {
        at -= 1;
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
    };
    put(b'"');
    hex_backwards(length, &mut put);
    put(b'-');
    hex_backwards(time as u64, &mut put);
    put(b'"');
    Bytes::copy_from_slice(text.get(at..).unwrap_or_default())
}

/// The digits of a number, the last one first.
fn hex_backwards(number: u64, put: &mut impl FnMut(u8)) {
    let mut rest = number;
    loop {
        put(b"0123456789abcdef".get((rest & 15) as usize).copied().unwrap_or(b'0'));
        rest >>= 4;
        if rest == 0 {
            return;
        }
    }
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
