//! The PROXY protocol, versions 1 and 2: who the client of the proxy in front of us is.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>,
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#var_proxy_protocol_addr>

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, line break included.
pub const MAX_V1: usize = 107;
/// The longest header that is accepted at all, as in nginx.
pub const MAX: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How far the parser came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// The header is `len` bytes long; the connection's own bytes follow.
    Complete {
        /// Bytes of the header.
        len: usize,
        /// What it says; `None` if it names no addresses: `UNKNOWN`, a health check of the proxy itself, another
        /// family or transport. Then the addresses of the connection hold.
        header: Option<Header<'a>>,
    },
    /// More bytes are needed.
    Partial,
}

/// The two ends of the connection that the proxy accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The client.
    pub source: Address<'a>,
    /// Where it connected to.
    pub destination: Address<'a>,
    /// Further information, of version 2 only.
    pub tlvs: &'a [u8],
}

/// An address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    text: Option<&'a [u8]>,
}

impl fmt::Display for Address<'_> {
    /// The address without its port, as `$proxy_protocol_addr` shows it: version 1's as sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.and_then(|text| std::str::from_utf8(text).ok()) {
            Some(text) => f.write_str(text),
            None => self.ip.fmt(f),
        }
    }
}

/// Why a header is refused; the connection is closed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a header. nginx: `broken header: "…"` with [`first_line`].
    Broken,
    /// nginx: `unknown PROXY protocol version: N`.
    UnknownVersion(u8),
    /// nginx: `header is too large`.
    TooLarge,
    /// The addresses are cut off. nginx closes without a message.
    Truncated,
}

impl Error {
    /// nginx's message for the error log, level error.
    #[must_use]
    pub fn log_message(self, buf: &[u8]) -> String {
        match self {
            Self::Broken => format!("broken header: \"{}\"", String::from_utf8_lossy(first_line(buf))),
            Self::UnknownVersion(version) => format!("unknown PROXY protocol version: {version}"),
            Self::TooLarge => "header is too large".to_owned(),
            Self::Truncated => "broken PROXY protocol header: addresses are cut off".to_owned(),
        }
    }
}

/// What stands before the first CR or LF.
#[must_use]
pub fn first_line(buf: &[u8]) -> &[u8] {
    buf.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default()
}

/// Parses the header at the start of `buf`.
pub fn parse(buf: &[u8]) -> Result<Parse<'_>, Error> {
    match buf.split_first_chunk() {
        Some((start, rest)) if start == SIGNATURE => parse_v2(buf, rest),
        None if SIGNATURE.starts_with(buf) => Ok(Parse::Partial),
        _ => parse_v1(buf),
    }
}

fn parse_v1(buf: &[u8]) -> Result<Parse<'_>, Error> {
    let Some(text) = buf.strip_prefix(b"PROXY ") else {
        return if b"PROXY ".starts_with(buf) { Ok(Parse::Partial) } else { Err(Error::Broken) };
    };
    let window = buf.get(..MAX_V1).unwrap_or(buf);
    let line_end = first_line(window).len();
    match window.get(line_end..).unwrap_or_default() {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] if buf.len() < MAX_V1 => return Ok(Parse::Partial),
        _ => return Err(Error::Broken),
    }
    let len = line_end + 2;
    let line = text.get(..line_end - 6).ok_or(Error::Broken)?;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Parse::Complete { len, header: None });
    }
    let mut words = line.split(|byte| *byte == b' ');
    let mut word = || words.next().ok_or(Error::Broken);
    let is_v6 = match word()? {
        b"TCP4" => false,
        b"TCP6" => true,
        _ => return Err(Error::Broken),
    };
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(Error::Broken);
    }
    let address = |text, port| {
        let ip = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
        let ip = ip.filter(|ip| ip.is_ipv6() == is_v6).ok_or(Error::Broken)?;
        Ok(Address { ip, port: parse_port(port).ok_or(Error::Broken)?, text: Some(text) })
    };
    let header = Header {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
        tlvs: &[],
    };
    Ok(Parse::Complete { len, header: Some(header) })
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u16, |port, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

/// `rest` is what follows the signature: version and command, family and transport, length.
fn parse_v2<'a>(buf: &'a [u8], rest: &'a [u8]) -> Result<Parse<'a>, Error> {
    let Some((&[version_command, family_transport, high, low], rest)) = rest.split_first_chunk() else {
        return match rest.first() {
            Some(byte) if byte >> 4 != 2 => Err(Error::UnknownVersion(byte >> 4)),
            _ => Ok(Parse::Partial),
        };
    };
    if version_command >> 4 != 2 {
        return Err(Error::UnknownVersion(version_command >> 4));
    }
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = buf.len() - rest.len() + body_len;
    if len > MAX {
        return Err(Error::TooLarge);
    }
    let Some(body) = rest.get(..body_len) else { return Ok(Parse::Partial) };
    let header = match (version_command & 15, family_transport) {
        (1, 0x11) => Some(addresses::<4>(body)?),
        (1, 0x21) => Some(addresses::<16>(body)?),
        _ => None,
    };
    Ok(Parse::Complete { len, header })
}

/// Addresses of `N` bytes, ports, and what follows.
fn addresses<const N: usize>(body: &[u8]) -> Result<Header<'_>, Error> {
    let (source, rest) = body.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    let (source_port, rest) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    let (destination_port, tlvs) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    let address = |ip: &[u8; N], port: &[u8; 2]| Address {
        ip: match (ip.first_chunk::<16>(), ip.first_chunk::<4>()) {
            (Some(ip), _) => IpAddr::V6(Ipv6Addr::from(*ip)),
            (None, Some(ip)) => IpAddr::V4(Ipv4Addr::from(*ip)),
            (None, None) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        },
        port: u16::from_be_bytes(*port),
        text: None,
    };
    Ok(Header {
        source: address(source, source_port),
        destination: address(destination, destination_port),
        tlvs,
    })
}

/// Why `$proxy_protocol_tlv_…` has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlvError {
    /// nginx: `broken PROXY protocol TLV`.
    Broken,
    /// nginx: `unknown PROXY protocol TLV "NAME"`.
    UnknownName,
    /// nginx: `invalid PROXY protocol TLV "NAME"`: a number after `0x` that is none.
    InvalidName,
}

const SSL: u8 = 0x20;

/// The value behind `$proxy_protocol_tlv_NAME`: `alpn`, `authority`, `unique_id`, `ssl`, `netns`, `0xNN`;
/// `ssl_version`, `ssl_cn`, `ssl_cipher`, `ssl_sig_alg`, `ssl_key_alg`, `ssl_verify`, `ssl_0xNN`.
pub fn tlv<'a>(tlvs: &'a [u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, TlvError> {
    let Some(name) = name.strip_prefix("ssl_") else {
        let Some(kind) = kind_of(name, &KINDS)? else { return Ok(None) };
        return Ok(find(tlvs, kind)?.map(Cow::Borrowed));
    };
    let Some(ssl) = find(tlvs, SSL)? else { return Ok(None) };
    let (start, subs) = ssl.split_first_chunk::<5>().ok_or(TlvError::Broken)?;
    if name == "verify" {
        let [_, a, b, c, d] = *start;
        return Ok(Some(Cow::Owned(u32::from_be_bytes([a, b, c, d]).to_string().into_bytes())));
    }
    let Some(kind) = kind_of(name, &SSL_KINDS)? else { return Ok(None) };
    Ok(find(subs, kind)?.map(Cow::Borrowed))
}

const KINDS: [(&str, u8); 5] =
    [("alpn", 0x01), ("authority", 0x02), ("unique_id", 0x05), ("ssl", SSL), ("netns", 0x30)];
const SSL_KINDS: [(&str, u8); 5] =
    [("version", 0x21), ("cn", 0x22), ("cipher", 0x23), ("sig_alg", 0x24), ("key_alg", 0x25)];

/// The type of this name; `None` for a number that no type has.
fn kind_of(name: &str, kinds: &[(&str, u8)]) -> Result<Option<u8>, TlvError> {
    if let Some(digits) = name.strip_prefix("0x") {
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(TlvError::InvalidName);
        }
        return Ok(u64::from_str_radix(digits, 16).ok().and_then(|kind| u8::try_from(kind).ok()));
    }
    kinds.iter().find(|(known, _)| *known == name).map(|(_, kind)| Some(*kind)).ok_or(TlvError::UnknownName)
}

/// The value of the first of this type.
fn find(mut tlvs: &[u8], kind: u8) -> Result<Option<&[u8]>, TlvError> {
    while !tlvs.is_empty() {
        let (&[found, high, low], rest) = tlvs.split_first_chunk().ok_or(TlvError::Broken)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(TlvError::Broken)?;
        if found == kind {
            return Ok(Some(value));
        }
        tlvs = rest;
    }
    Ok(None)
}

/// Appends a header of version 1; without two addresses of one family it says `UNKNOWN`.
pub fn write_v1(ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let line = match ends {
        Some((source, destination)) if source.is_ipv4() == destination.is_ipv4() => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
        _ => out.write_all(b"PROXY UNKNOWN\r\n"),
    };
    debug_assert!(line.is_ok(), "writing to memory");
}
