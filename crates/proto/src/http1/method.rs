//! Request methods and protocol versions.

/// A request method, as nginx tells them apart; `Other` is any further token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// A method without a name here.
    #[default]
    Other,
    Get,
    Head,
    Post,
    Put,
    Delete,
    Mkcol,
    Copy,
    Move,
    Options,
    Propfind,
    Proppatch,
    Lock,
    Unlock,
    Patch,
    Trace,
    Connect,
}

impl Method {
    /// Every method that has a name.
    pub const NAMED: [Self; 16] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Mkcol,
        Self::Copy,
        Self::Move,
        Self::Options,
        Self::Propfind,
        Self::Proppatch,
        Self::Lock,
        Self::Unlock,
        Self::Patch,
        Self::Trace,
        Self::Connect,
    ];

    /// The flag that stands for this method in sets such as those of `limit_except` and `dav_methods`;
    /// the same values as nginx's (`NGX_HTTP_GET` is 2), which Lua programs see.
    #[inline]
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The method of this name; names are case-sensitive (RFC 9110, 9.1).
    #[inline]
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"PUT" => Self::Put,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"COPY" => Self::Copy,
            b"MOVE" => Self::Move,
            b"LOCK" => Self::Lock,
            b"MKCOL" => Self::Mkcol,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"DELETE" => Self::Delete,
            b"UNLOCK" => Self::Unlock,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"PROPFIND" => Self::Propfind,
            b"PROPPATCH" => Self::Proppatch,
            _ => Self::Other,
        }
    }

    /// The name on the wire, empty for `Other`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Mkcol => "MKCOL",
            Self::Copy => "COPY",
            Self::Move => "MOVE",
            Self::Options => "OPTIONS",
            Self::Propfind => "PROPFIND",
            Self::Proppatch => "PROPPATCH",
            Self::Lock => "LOCK",
            Self::Unlock => "UNLOCK",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The protocol version of a message. A minor version above 1 counts as 1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    #[default]
    Http09,
    Http10,
    Http11,
    /// Made by other parsers than that of HTTP/1.
    Http2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree_with_nginx() {
        assert_eq!(Method::Other.bit(), 0x1);
        assert_eq!(Method::Get.bit(), 0x2);
        assert_eq!(Method::Connect.bit(), 0x1_0000);
        for (index, method) in Method::NAMED.into_iter().enumerate() {
            assert_eq!(Method::from_name(method.name().as_bytes()), method);
            assert_eq!(method.bit(), 2 << index);
        }
        assert_eq!(Method::from_name(b"get"), Method::Other);
    }
}
