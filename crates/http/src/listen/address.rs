//! The address of a `listen`: `*:80`, `80`, `8000-8010`, `1.2.3.4`, `[::1]:8080`, `localhost:80`, `unix:/path`.

use moonrest_core::conf::value;
use moonrest_sys::listen::ListenAddr;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::RangeInclusive,
};

/// Where a `listen` without a port listens.
const DEFAULT_PORT: u16 = 80;
/// The longest path that a socket's address holds.
const MAX_PATH: usize = 107;

/// The addresses that a text stands for: several for a range of ports, or for a host with several addresses.
///
/// # Errors
/// What is wrong, in nginx's words, to be followed by `in "TEXT" of the "listen" directive`.
pub(super) fn parse(text: &[u8]) -> Result<Vec<ListenAddr>, &'static str> {
    if let Some((scheme, path)) = text.split_at_checked(5)
        && scheme.eq_ignore_ascii_case(b"unix:")
    {
        return unix(path);
    }
    let text = std::str::from_utf8(text).map_err(|_| "invalid host")?;
    match text.strip_prefix('[') {
        Some(rest) => v6(rest),
        None => inet(text),
    }
}

fn unix(path: &[u8]) -> Result<Vec<ListenAddr>, &'static str> {
    match path.len() {
        0 => Err("no path in the unix domain socket"),
        1..=MAX_PATH => Ok(vec![ListenAddr::Unix(path.to_vec())]),
        _ => Err("too long path in the unix domain socket"),
    }
}

fn v6(text: &str) -> Result<Vec<ListenAddr>, &'static str> {
    let (ip, rest) = text.split_once(']').ok_or("invalid host")?;
    if rest.contains('/') {
        return Err("invalid host");
    }
    let ports = match rest.strip_prefix(':') {
        Some(ports) => parse_ports(ports)?,
        None if rest.is_empty() => DEFAULT_PORT..=DEFAULT_PORT,
        None => return Err("invalid host"),
    };
    if ip.is_empty() {
        return Err("no host");
    }
    let ip: Ipv6Addr = ip.parse().map_err(|_| "invalid IPv6 address")?;
    Ok(on_ports(IpAddr::V6(ip), &ports))
}

fn inet(text: &str) -> Result<Vec<ListenAddr>, &'static str> {
    if text.contains(['/', '?']) {
        return Err("invalid host");
    }
    let (host, ports) = match text.split_once(':') {
        Some((host, ports)) => (host, parse_ports(ports)?),
        None if is_port(text) => ("*", parse_ports(text)?),
        None => (text, DEFAULT_PORT..=DEFAULT_PORT),
    };
    match host {
        "" => Err("no host"),
        "*" => Ok(on_ports(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &ports)),
        host => match host.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(on_ports(IpAddr::V4(ip), &ports)),
            Err(_) => resolve(host, &ports),
        },
    }
}

/// Whether a text without a colon is a port or a range of them rather than a host.
fn is_port(text: &str) -> bool {
    let number = |text: &str| value::parse_uint(text.as_bytes()).is_some();
    text.split_once('-').map_or_else(|| number(text), |(first, last)| number(first) && number(last))
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let port = |text: &str| {
        let number = value::parse_uint(text.as_bytes()).and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number > 0).ok_or("invalid port")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (last, first) = (port(last)?, port(first)?);
    if first > last { Err("invalid port range") } else { Ok(first..=last) }
}

fn on_ports(ip: IpAddr, ports: &RangeInclusive<u16>) -> Vec<ListenAddr> {
    ports.clone().map(|port| ListenAddr::Inet(SocketAddr::new(ip, port))).collect()
}

fn resolve(host: &str, ports: &RangeInclusive<u16>) -> Result<Vec<ListenAddr>, &'static str> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for addr in (host, *ports.start()).to_socket_addrs().map_err(|_| "host not found")? {
        if !ips.contains(&addr.ip()) {
            ips.push(addr.ip());
        }
    }
    if ips.is_empty() {
        Err("host not found")
    } else {
        Ok(ips.iter().flat_map(|ip| on_ports(*ip, ports)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let shown = match parse(text.as_bytes()) {
            Ok(addrs) => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_owned(),
        };
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn addresses() {
        check("80", "0.0.0.0:80");
        check("*:8080", "0.0.0.0:8080");
        check("*", "0.0.0.0:80");
        check("127.0.0.1", "127.0.0.1:80");
        check("127.0.0.1:81", "127.0.0.1:81");
        check("[::1]", "[::1]:80");
        check("[::]:81", "[::]:81");
        check("unix:/a", "unix:/a");
        check("UNIX:/a", "unix:/a");
    }

    #[test]
    fn ranges_of_ports() {
        check("8000-8002", "0.0.0.0:8000 0.0.0.0:8001 0.0.0.0:8002");
        check("127.0.0.1:8000-8001", "127.0.0.1:8000 127.0.0.1:8001");
        check("[::1]:8000-8000", "[::1]:8000");
        check("8001-8000", "invalid port range");
        check("127.0.0.1:8000-", "invalid port");
        check("0-80", "invalid port");
        check("1-65536", "invalid port");
    }

    #[test]
    fn what_is_no_address() {
        check("", "no host");
        check(":80", "no host");
        check("127.0.0.1:0", "invalid port");
        check("127.0.0.1:+80", "invalid port");
        check("127.0.0.1:65536", "invalid port");
        check("127.0.0.1/80", "invalid host");
        check("[::1", "invalid host");
        check("[]:80", "no host");
        check("[::x]:80", "invalid IPv6 address");
        check("[::1]80", "invalid host");
        check("unix:", "no path in the unix domain socket");
        check(&format!("unix:/{}", "a".repeat(107)), "too long path in the unix domain socket");
    }
}
