//! The name and password that a client sends with `Authorization: Basic`. RFC 7617.

use crate::request::Request;
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use moonrest_proto::http1::{Known, Method};

/// As lenient as nginx: padding may be missing, the bits behind the last byte may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A decoded `name:password`. The name is not empty.
#[derive(Debug)]
pub struct Credentials {
    text: Vec<u8>,
    colon: usize,
}

impl Credentials {
    /// What stands before the first colon.
    pub fn user(&self) -> &[u8] {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// What stands behind it.
    pub fn password(&self) -> &[u8] {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }
}

/// What the request's `Authorization` says, or `Proxy-Authorization` where a tunnel is asked for; `None` when it is missing, of another scheme or malformed.
pub fn credentials(r: &Request) -> Option<Credentials> {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    let field = match r.method.get() {
        Method::Connect => Known::ProxyAuthorization,
        _ => Known::Authorization,
    };
    parse(head.fields.value(field, &block)?)
}

fn parse(field: &[u8]) -> Option<Credentials> {
    let (scheme, rest) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let encoded = rest.trim_ascii_start().split(|byte| *byte == b'=').next()?;
    let text = BASE64.decode(encoded).ok()?;
    let colon = memchr::memchr(b':', &text).filter(|at| *at > 0)?;
    Some(Credentials { text, colon })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords() {
        let shown = |field: &str| {
            parse(field.as_bytes()).map(|found| {
                [found.user(), found.password()].map(|text| String::from_utf8_lossy(text).into_owned())
            })
        };
        let found = |user: &str, password: &str| Some([user.to_owned(), password.to_owned()]);
        assert_eq!(shown("Basic dXNlcjpwYXNz"), found("user", "pass"));
        assert_eq!(shown("bAsIc   dXNlcjpwYTpz"), found("user", "pa:s"));
        assert_eq!(shown("Basic dXNlcjo="), found("user", ""));
        assert_eq!(shown("Basic dXNlcjo"), found("user", ""));
        assert_eq!(shown("Basic OnBhc3M="), None);
        assert_eq!(shown("Basic dXNlcg=="), None);
        assert_eq!(shown("Basic !"), None);
        assert_eq!(shown("Basic "), None);
        assert_eq!(shown("Bearer dXNlcjpwYXNz"), None);
        assert_eq!(shown(""), None);
    }
}
