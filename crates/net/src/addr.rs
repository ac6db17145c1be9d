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
    for (n, octet) in ip.octets().into_iter().enumerate() {
        if n > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

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
    }
}
