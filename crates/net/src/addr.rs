//! Addresses of peers: IPv4, IPv6 and unix sockets.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addr {
    Inet(SocketAddr),
    /// A unix socket; clients seldom have a path.
    Unix(Box<[u8]>),
}

impl Addr {
    /// The IP address; IPv4 mapped into IPv6 stays IPv6, as the kernel gave it.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(addr) => Some(addr.ip()),
            Self::Unix(_) => None,
        }
    }

    /// The IP address with IPv4-mapped IPv6 addresses taken as IPv4, for access rules.
    pub fn canonical_ip(&self) -> Option<IpAddr> {
        self.ip().map(|ip| ip.to_canonical())
    }

    /// The port; 0 for unix sockets.
    pub fn port(&self) -> u16 {
        match self {
            Self::Inet(addr) => addr.port(),
            Self::Unix(_) => 0,
        }
    }

    /// Appends the address without port as `$remote_addr` shows it: `unix:` for unix sockets.
    pub fn append_text(&self, out: &mut Vec<u8>) {
        match self.ip() {
            Some(IpAddr::V4(ip)) => append_v4(ip, out),
            // nginx: mapped addresses are written ::ffff:1.2.3.4, as std does.
            Some(IpAddr::V6(ip)) => append_v6(ip, out),
            None => out.extend_from_slice(b"unix:"),
        }
    }

    /// Appends address and port: `1.2.3.4:80`, `[::1]:80`, `unix:/path`.
    pub fn append_with_port(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inet(addr) => {
                let _ = write!(out, "{addr}");
            }
            Self::Unix(path) => {
                out.extend_from_slice(b"unix:");
                out.extend_from_slice(path);
            }
        }
    }

    /// The bytes of `$binary_remote_addr`: 4 or 16; `unix:` for unix sockets.
    pub fn append_binary(&self, out: &mut Vec<u8>) {
        match self.ip() {
            Some(IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
            None => out.extend_from_slice(b"unix:"),
        }
    }
}

fn append_v4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let (mut text, mut len) = ([0; 16], 0);
    for octet in ip.octets() {
        let (digits, more) = OCTETS.get(usize::from(octet)).unwrap_or(&([b'0'; 4], 1));
        if let Some(place) = text.get_mut(len..len + 4) {
            place.copy_from_slice(digits);
        }
        len += more;
    }
    // No dot behind the last one.
    out.extend_from_slice(text.get(..len - 1).unwrap_or_default());
}

/// The text of each octet with a dot behind it, and how long both are.
static OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
    while octet < 256 {
        let n = octet as u8;
        octets[octet] = match n {
            100.. => ([b'0' + n / 100, b'0' + n / 10 % 10, b'0' + n % 10, b'.'], 4),
            10.. => ([b'0' + n / 10, b'0' + n % 10, b'.', b'.'], 3),
            _ => ([b'0' + n, b'.', b'.', b'.'], 2),
        };
        octet += 1;
    }
    octets
};

fn append_v6(ip: Ipv6Addr, out: &mut Vec<u8>) {
    let _ = write!(out, "{ip}");
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_forms() {
        let addr = Addr::from("10.0.200.1:80".parse::<SocketAddr>().unwrap());
        let mut out = Vec::new();
        addr.append_text(&mut out);
        assert_eq!(out, b"10.0.200.1");
        out.clear();
        addr.append_binary(&mut out);
        assert_eq!(out, [10, 0, 200, 1]);
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 255 - octet, octet, 1);
            out.clear();
            append_v4(ip, &mut out);
            assert_eq!(out, ip.to_string().as_bytes());
        }
    }
}
