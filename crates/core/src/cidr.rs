//! Networks and addresses as nginx's access rules, `geo` and `realip` read and compare them.

use moonrest_net::addr::Addr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A network, or all unix sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cidr {
    V4 { addr: u32, mask: u32 },
    V6 { addr: u128, mask: u128 },
    Unix,
}

/// A network as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParsedCidr {
    pub cidr: Cidr,
    /// Bits outside the mask were set; nginx warns that they are meaningless.
    pub low_bits: bool,
}

impl Cidr {
    /// Reads `address` or `address/bits`.
    pub fn parse(text: &[u8]) -> Option<ParsedCidr> {
        let slash = memchr::memchr(b'/', text);
        let addr = parse_ip(text.get(..slash.unwrap_or(text.len()))?)?;
        let bits = match slash {
            Some(at) => Some(parse_bits(text.get(at + 1..)?)?),
            None => None,
        };
        match addr {
            IpAddr::V4(ip) => {
                let bits = bits.unwrap_or(32);
                let mask = if bits == 0 { 0 } else { u32::MAX << 32_u32.checked_sub(bits)? };
                let ip = ip.to_bits();
                Some(ParsedCidr { cidr: Self::V4 { addr: ip & mask, mask }, low_bits: ip & !mask != 0 })
            }
            IpAddr::V6(ip) => {
                let bits = bits.unwrap_or(128);
                let mask = if bits == 0 { 0 } else { u128::MAX << 128_u32.checked_sub(bits)? };
                let ip = ip.to_bits();
                Some(ParsedCidr { cidr: Self::V6 { addr: ip & mask, mask }, low_bits: ip & !mask != 0 })
            }
        }
    }

    /// The network of one address. An IPv4-mapped IPv6 address stays what it is.
    pub fn host(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4 { addr: ip.to_bits(), mask: u32::MAX },
            IpAddr::V6(ip) => Self::V6 { addr: ip.to_bits(), mask: u128::MAX },
        }
    }

    /// Whether the address lies inside. IPv4-mapped IPv6 addresses are compared as IPv4 only.
    pub fn contains(self, addr: &Addr) -> bool {
        self.contains_ip(addr.canonical_ip())
    }

    /// The same, IPv4-mapped IPv6 addresses being compared as IPv6.
    pub fn contains_unmapped(self, addr: &Addr) -> bool {
        self.contains_ip(addr.ip())
    }

    /// `None` stands for a unix socket.
    fn contains_ip(self, ip: Option<IpAddr>) -> bool {
        match (self, ip) {
            (Self::V4 { addr, mask }, Some(IpAddr::V4(ip))) => ip.to_bits() & mask == addr,
            (Self::V6 { addr, mask }, Some(IpAddr::V6(ip))) => ip.to_bits() & mask == addr,
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

/// Whether any of the networks contains the address.
pub fn any_contains(networks: &[Cidr], addr: &Addr) -> bool {
    networks.iter().any(|network| network.contains(addr))
}

/// An address in nginx's form; IPv6 without brackets.
pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    if let Some(ip) = parse_ipv4(text) {
        return Some(IpAddr::V4(ip));
    }
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Four decimal octets.
pub fn parse_ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut addr, mut octet, mut dots) = (0_u32, 0_u32, 0);
    for byte in text {
        match byte {
            // nginx: leading zeros do not make a number octal, and an octet without digits is 0.
            b'0'..=b'9' => {
                octet = octet * 10 + u32::from(byte - b'0');
                if octet > 255 {
                    return None;
                }
            }
            b'.' if dots < 3 => {
                addr = addr << 8 | octet;
                octet = 0;
                dots += 1;
            }
            _ => return None,
        }
    }
    let addr = Ipv4Addr::from_bits(addr << 8 | octet);
    // nginx: its error value is the broadcast address, which is therefore never read.
    (dots == 3 && addr != Ipv4Addr::BROADCAST).then_some(addr)
}

/// An address with or without a port: `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`.
pub fn parse_ip_port(text: &[u8]) -> Option<SocketAddr> {
    if let Some(ip) = parse_ip(text) {
        return Some(SocketAddr::new(ip, 0));
    }
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let end = memchr::memchr(b']', rest)?;
            let host = rest.get(..end)?;
            match rest.get(end + 1..)? {
                [] => return parse_ip(host).map(|ip| SocketAddr::new(ip, 0)),
                [b':', port @ ..] => (host, port),
                _ => return None,
            }
        }
        _ => {
            let colon = memchr::memchr(b':', text)?;
            (text.get(..colon)?, text.get(colon + 1..)?)
        }
    };
    let port = moonrest_conf::value::parse_uint(port).and_then(|port| u16::try_from(port).ok())?;
    if port == 0 {
        return None;
    }
    parse_ip(host).map(|ip| SocketAddr::new(ip, port))
}

/// The address a chain of trusted proxies forwards for, `fields` being the values of `X-Forwarded-For` in the order
/// they were sent. Read from behind: as long as the present address is trusted, the entry before it counts. `None` when
/// the peer is not trusted or named nobody.
pub fn forwarded(peer: &Addr, fields: &[&[u8]], trusted: &[Cidr], recursive: bool) -> Option<Addr> {
    let mut found: Option<Addr> = None;
    for field in fields.iter().rev() {
        let mut rest = *field;
        loop {
            if !any_contains(trusted, found.as_ref().unwrap_or(peer)) {
                return found;
            }
            let entry = last_entry(&mut rest);
            match parse_ip_port(entry) {
                Some(addr) => found = Some(Addr::Inet(addr)),
                None => return found,
            }
            if !recursive {
                return found;
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    found
}

/// Takes the last entry off a list separated by commas and spaces.
fn last_entry<'a>(list: &mut &'a [u8]) -> &'a [u8] {
    let separates = |byte: &u8| matches!(byte, b' ' | b',');
    let end = list.iter().rposition(|byte| !separates(byte)).map_or(0, |at| at + 1);
    let kept = list.get(..end).unwrap_or_default();
    let start = kept.iter().rposition(separates).map_or(0, |at| at + 1);
    *list = kept.get(..start.saturating_sub(1)).unwrap_or_default();
    kept.get(start..).unwrap_or_default()
}

fn parse_bits(text: &[u8]) -> Option<u32> {
    moonrest_conf::value::parse_uint(text).and_then(|bits| u32::try_from(bits).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        Addr::Inet(parse_ip_port(text.as_bytes()).unwrap())
    }

    fn contains(network: &str, ip: &str) -> bool {
        Cidr::parse(network.as_bytes()).unwrap().cidr.contains(&addr(ip))
    }

    #[test]
    fn networks_contain_addresses_of_their_family() {
        assert!(contains("10.0.0.0/8", "10.255.1.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(contains("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!contains("::/0", "::ffff:127.0.0.1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(Cidr::Unix.contains(&Addr::Unix(Box::default())));
        assert!(!Cidr::Unix.contains(&addr("1.2.3.4")));
    }

    #[test]
    fn malformed_networks_are_refused_and_low_bits_noticed() {
        for bad in
            ["", "1.2.3", "1.2.3.256", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x", "::1/129", "a", "1.2.3.4.5"]
        {
            assert_eq!(Cidr::parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(Cidr::parse(b"10.0.0.1/8").unwrap().low_bits);
        assert!(!Cidr::parse(b"10.0.0.0/8").unwrap().low_bits);
        assert!(Cidr::parse(b"2001:db8::1/32").unwrap().low_bits);
        assert_eq!(Cidr::parse(b"010.0.0.0/8"), Cidr::parse(b"10.0.0.0/8"));
    }

    #[test]
    fn ports_and_brackets() {
        assert_eq!(parse_ip_port(b"[::1]:80"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(parse_ip_port(b"[::1]"), Some("[::1]:0".parse().unwrap()));
        assert_eq!(parse_ip_port(b"1.2.3.4:80"), Some("1.2.3.4:80".parse().unwrap()));
        for bad in ["1.2.3.4:0", "1.2.3.4:65536", "[::1", "[::1]x", "[]", ":80", "x:80", ""] {
            assert_eq!(parse_ip_port(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn forwarded_addresses_are_followed_through_trusted_proxies() {
        let check = |fields: &[&str], recursive: bool, expect: Option<&str>| {
            let trusted = [Cidr::parse(b"127.0.0.1").unwrap().cidr, Cidr::parse(b"10.0.0.0/8").unwrap().cidr];
            let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
            let got = forwarded(&addr("127.0.0.1"), &fields, &trusted, recursive);
            assert_eq!(got, expect.map(addr), "{fields:?}");
        };
        check(&["192.0.2.1"], false, Some("192.0.2.1"));
        check(&["192.0.2.1, 10.0.0.1"], false, Some("10.0.0.1"));
        check(&["192.0.2.1, 10.0.0.1"], true, Some("192.0.2.1"));
        check(&["192.0.2.1,10.0.0.1 , "], true, Some("192.0.2.1"));
        check(&["192.0.2.9", "192.0.2.1, 10.0.0.1"], true, Some("192.0.2.1"));
        check(&["192.0.2.9, 10.0.0.2", "10.0.0.1"], true, Some("192.0.2.9"));
        check(&["10.0.0.2", "10.0.0.1"], true, Some("10.0.0.2"));
        check(&["junk, 10.0.0.1"], true, Some("10.0.0.1"));
        check(&["junk"], true, None);
        check(&[""], true, None);
        check(&["192.0.2.1:123"], true, Some("192.0.2.1:123"));
        check(&[], true, None);
        assert_eq!(
            forwarded(&addr("192.0.2.7"), &[b"1.1.1.1"], &[Cidr::host("10.0.0.1".parse().unwrap())], true),
            None
        );
    }
}
