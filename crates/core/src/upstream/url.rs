//! Addresses of servers as the configuration and variables have them: `host`, `host:port`, `[::1]:80/uri`, `unix:/path:uri`.

use moonrest_net::addr::Addr;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The parts of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// The name as written; brackets included. The path of a unix socket.
    pub host: &'a [u8],
    /// The port as written.
    pub port_text: &'a [u8],
    /// The port, or the default one.
    pub port: u16,
    /// None was written.
    pub no_port: bool,
    /// What follows the address.
    pub uri: &'a [u8],
    /// The address itself, when the host is no name.
    pub addr: Option<Addr>,
}

/// The longest path that a socket's address holds.
const MAX_PATH: usize = 107;

impl<'a> Url<'a> {
    /// Takes an address apart. `uri` says that a path may follow it.
    ///
    /// # Errors
    /// What is wrong, in nginx's words.
    pub fn parse(text: &'a [u8], default_port: u16, uri: bool) -> Result<Self, &'static str> {
        if let Some((scheme, path)) = text.split_at_checked(5)
            && scheme.eq_ignore_ascii_case(b"unix:")
        {
            return Self::unix(path, uri);
        }
        let host_end = match text.first() {
            Some(b'[') => memchr::memchr(b']', text).map(|at| at + 1).ok_or("invalid host")?,
            _ => 0,
        };
        let rest = text.get(host_end..).unwrap_or_default();
        let uri_at = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (rest, path) = rest.split_at(uri_at);
        if !path.is_empty() && !uri {
            return Err("invalid host");
        }
        let authority = text.get(..host_end + rest.len()).unwrap_or_default();
        let colon = memchr::memrchr(b':', rest);
        if host_end > 0 && !rest.is_empty() && colon != Some(0) {
            return Err("invalid host");
        }
        let (host, port_text) = match colon {
            Some(at) => {
                (authority.get(..host_end + at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default())
            }
            None => (authority, &[][..]),
        };
        let port = match colon {
            Some(_) => parse_port(port_text).ok_or("invalid port")?,
            None => default_port,
        };
        if host.is_empty() || host == b"[]" {
            return Err("no host");
        }
        let addr = match literal(host) {
            Literal::Ip(ip) => Some(Addr::Inet(SocketAddr::new(ip, port))),
            Literal::Bad => return Err("invalid IPv6 address"),
            Literal::Name => None,
        };
        Ok(Self { host, port_text, port, no_port: colon.is_none(), uri: path, addr })
    }

    fn unix(path: &'a [u8], uri: bool) -> Result<Self, &'static str> {
        let (path, rest) = match memchr::memchr(b':', path) {
            Some(at) if uri => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            _ => (path, &[][..]),
        };
        match path.len() {
            0 => return Err("no path in the unix domain socket"),
            1..=MAX_PATH => {}
            _ => return Err("too long path in the unix domain socket"),
        }
        let addr = Some(Addr::Unix(path.into()));
        Ok(Self { host: path, port_text: b"", port: 0, no_port: true, uri: rest, addr })
    }

    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.addr, Some(Addr::Unix(_)))
    }

    /// The host and, if one was written, the port.
    pub fn authority(&self) -> Vec<u8> {
        let mut text = self.host.to_vec();
        if !self.port_text.is_empty() {
            text.push(b':');
            text.extend_from_slice(self.port_text);
        }
        text
    }
}

enum Literal {
    Ip(IpAddr),
    Name,
    /// Brackets with no address inside.
    Bad,
}

fn literal(host: &[u8]) -> Literal {
    let text = std::str::from_utf8(host).unwrap_or_default();
    if let Some(inner) = text.strip_prefix('[') {
        let ip = inner.strip_suffix(']').unwrap_or_default().parse().map(IpAddr::V6);
        return ip.map_or(Literal::Bad, Literal::Ip);
    }
    text.parse().map_or(Literal::Name, |ip| Literal::Ip(IpAddr::V4(ip)))
}

fn parse_port(text: &[u8]) -> Option<u16> {
    let port = moonrest_conf::value::parse_uint(text)?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// Asks the system for the addresses of a name, IPv4 first. Waits for the answer: for starting only.
pub fn resolve_host(host: &[u8], port: u16) -> Vec<Addr> {
    let Ok(host) = std::str::from_utf8(host) else { return Vec::new() };
    let Ok(found) = (host, port).to_socket_addrs() else { return Vec::new() };
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.into_iter().map(Addr::Inet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(&str, u16, bool, &str, bool), &str>) {
        let got = Url::parse(text.as_bytes(), 80, true);
        let shown = got.map(|url| {
            let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
            (text(url.host), url.port, url.no_port, text(url.uri), url.addr.is_some())
        });
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn hosts_ports_and_paths_are_told_apart() {
        check("a.example", Ok(("a.example", 80, true, "", false)));
        check("a:8080/x?y", Ok(("a", 8080, false, "/x?y", false)));
        check("a?y:1", Ok(("a", 80, true, "?y:1", false)));
        check("127.0.0.1:81", Ok(("127.0.0.1", 81, false, "", true)));
        check("[::1]:82/", Ok(("[::1]", 82, false, "/", true)));
        check("[::1]", Ok(("[::1]", 80, true, "", true)));
        check("unix:/tmp/s:/x", Ok(("/tmp/s", 0, true, "/x", true)));
        check("UNIX:/tmp/s", Ok(("/tmp/s", 0, true, "", true)));
    }

    #[test]
    fn broken_addresses_are_named_as_nginx_names_them() {
        check("", Err("no host"));
        check(":80", Err("no host"));
        check("a:", Err("invalid port"));
        check("a:0", Err("invalid port"));
        check("a:65536", Err("invalid port"));
        check("a:+1", Err("invalid port"));
        check("[::1", Err("invalid host"));
        check("[::1]x", Err("invalid host"));
        check("[1.2.3.4]:80", Err("invalid IPv6 address"));
        check("unix:", Err("no path in the unix domain socket"));
        assert_eq!(Url::parse(b"a/b", 80, false), Err("invalid host"));
    }
}
