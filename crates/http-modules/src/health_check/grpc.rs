//! The health service of gRPC: one call, whose answer is a message of one number.
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use moonrest_conf::value;
use moonrest_http::{prelude::*, upstream::Answer};

/// What stands in the request line.
pub(super) const TARGET: &[u8] = b"/grpc.health.v1.Health/Check";
pub(super) const FIELDS: &[(&[u8], &[u8])] = &[(b"Content-Type", b"application/grpc"), (b"TE", b"trailers")];

/// The parameters behind `type=grpc`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    service: Box<[u8]>,
    /// A status that is as good as an answer (`UNIMPLEMENTED`).
    status: Option<u32>,
}

/// The number that says that a service is well.
const SERVING: u64 = 1;
/// The longest name of a service.
const MOST_NAME: usize = 1024;

impl Settings {
    /// Sets `grpc_status`, or else `grpc_service`.
    pub(super) fn set(&mut self, is_status: bool, text: &[u8]) -> Option<()> {
        if is_status {
            self.status = Some(u32::try_from(value::parse_uint(text)?).ok()?);
        } else {
            self.service = Some(text).filter(|name| !name.is_empty() && name.len() <= MOST_NAME)?.into();
        }
        Some(())
    }

    /// The call's message, framed.
    pub(super) fn message(&self) -> Bytes {
        let mut message = Vec::with_capacity(self.service.len() + 8);
        if !self.service.is_empty() {
            // Field 1, a string.
            message.push(0x0a);
            let mut len = self.service.len();
            while len > 0x7f {
                message.push(len as u8 | 0x80);
                len >>= 7;
            }
            message.push(len as u8);
            message.extend_from_slice(&self.service);
        }
        let len = u32::try_from(message.len()).unwrap_or(0);
        [&[0][..], &len.to_be_bytes(), &message].concat().into()
    }

    /// Whether an answer passes.
    pub(super) fn passes(&self, r: &Request, answer: &Answer, body: &[u8]) -> bool {
        r.action.set(super::matching::CHECKING_STATUS);
        if answer.head.status != 200 {
            return false;
        }
        r.action.set("checking gRPC status");
        let Some(status) = status(answer) else { return false };
        match self.status {
            Some(expected) if status == expected => status != 0 || serves(body),
            _ => status == 0 && serves(body),
        }
    }
}

/// The call's status: behind the body, or in the head when there is none.
fn status(answer: &Answer) -> Option<u32> {
    const NAME: &[u8] = b"grpc-status";
    let number = |text: &[u8]| value::parse_uint(text).and_then(|status| u32::try_from(status).ok());
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(NAME);
    if let Some((_, value)) = answer.trailers.iter().find(|(name, _)| is_it(name)) {
        return number(value);
    }
    let field = answer.head.fields.iter().find(|field| is_it(field.name.of(&answer.block)))?;
    number(field.value.of(&answer.block))
}

/// Whether the message in a body says that the service is well.
fn serves(body: &[u8]) -> bool {
    let Some((&[compressed, a, b, c, d], rest)) = body.split_first_chunk() else { return false };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    compressed == 0 && rest.get(..len).and_then(first_number) == Some(SERVING)
}

/// The value of field 1; fields that are not known are passed over.
fn first_number(mut message: &[u8]) -> Option<u64> {
    let mut found = 0;
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        message = match key & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                if key >> 3 == 1 {
                    found = value;
                }
                rest
            }
            1 => rest.get(8..)?,
            2 => {
                let (len, rest) = varint(rest)?;
                rest.get(usize::try_from(len).ok()?..)?
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(found)
}

fn varint(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (n, byte) in text.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(n).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, text.get(n + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_service() {
        let message = |name: &str| {
            let mut settings = Settings::default();
            if !name.is_empty() {
                settings.set(false, name.as_bytes()).unwrap();
            }
            settings.message()
        };
        assert_eq!(message(""), &b"\0\0\0\0\0"[..]);
        assert_eq!(message("abc"), &b"\0\0\0\0\x05\x0a\x03abc"[..]);
        let long = message(&"x".repeat(200));
        assert_eq!(long.get(..8), Some(&b"\0\0\0\0\xcb\x0a\xc8\x01"[..]));
        assert!(Settings::default().set(false, b"").is_none());
        assert!(Settings::default().set(true, b"x").is_none());
    }

    #[test]
    fn only_serving_is_well() {
        let check = |body: &[u8], expect: bool| assert_eq!(serves(body), expect, "{body:?}");
        check(b"\0\0\0\0\x02\x08\x01", true);
        check(b"\0\0\0\0\x02\x08\x02", false);
        check(b"\0\0\0\0\0", false);
        check(b"\0\0\0\0\x05\x12\x01x\x08\x01", true);
        check(b"\x01\0\0\0\x02\x08\x01", false);
        check(b"\0\0\0\0\x03\x08\x01", false);
        check(b"\0\0\0\0\x02\x08\x81", false);
        check(b"\0\0\0", false);
        check(b"\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false);
    }
}
