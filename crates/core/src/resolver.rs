//! The arguments of `resolver`, in `http`, `stream` and `upstream` alike.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver>

use crate::{Args, ConfResult, Fault, Subject, env::os_error};
use moonrest_conf::value;
use moonrest_net::resolver::{Settings, System, system_servers};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::Path,
};

const DEFAULT_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Reads `resolver ADDRESS … [valid=TIME] [ipv4=on|off] [ipv6=on|off] [status_zone=ZONE] [local=on|off|PATH]`;
/// `system` stands for what the machine uses: its name servers, search domains and `/etc/hosts`.
///
/// # Errors
/// nginx's: `invalid parameter: x`, `host not found in resolver "x"`, `no name servers defined`, …
pub fn parse<S: Subject>(args: &Args<'_, S>) -> ConfResult<Settings> {
    let mut settings = Settings::new(Vec::new());
    for n in 0..args.len() {
        let word = args.bytes(n)?;
        let invalid = || Fault::message(format!("invalid parameter: {}", args.lossy(n)));
        if let Some(valid) = word.strip_prefix(b"valid=") {
            settings.valid = Some(value::parse_sec(valid).ok_or_else(invalid)?);
        } else if let Some(switch) = word.strip_prefix(b"ipv4=") {
            settings.ipv4 = value::parse_flag(switch).ok_or_else(invalid)?;
        } else if let Some(switch) = word.strip_prefix(b"ipv6=") {
            settings.ipv6 = value::parse_flag(switch).ok_or_else(invalid)?;
        } else if let Some(local) = word.strip_prefix(b"local=") {
            match local {
                b"off" => {}
                b"on" => settings.servers.extend(system_servers(&read(args, RESOLV_CONF.as_ref())?)),
                _ => {
                    let path = args.env.conf_path(local)?;
                    settings.servers.extend(system_servers(&read(args, &path)?));
                }
            }
        } else if word == b"system" {
            let conf = read(args, RESOLV_CONF.as_ref())?;
            settings.servers.extend(system_servers(&conf));
            // A machine may have no such file.
            let hosts = read(args, HOSTS.as_ref()).unwrap_or_default();
            settings.system = Some(System::new(&conf, &hosts));
        } else if word.strip_prefix(b"status_zone=").is_none_or(<[u8]>::is_empty) {
            let addrs = servers(word)
                .map_err(|error| Fault::message(format!("{error} in resolver \"{}\"", args.lossy(n))))?;
            settings.servers.extend(addrs);
        }
    }
    if !settings.ipv4 && !settings.ipv6 {
        return Err(Fault::message("\"ipv4\" and \"ipv6\" cannot both be \"off\""));
    }
    if settings.servers.is_empty() {
        return Err(Fault::message("no name servers defined"));
    }
    Ok(settings)
}

fn read<S: Subject>(args: &Args<'_, S>, path: &Path) -> ConfResult<String> {
    let bytes = args.env.resources.read(path).map_err(|error| {
        Fault::message(format!("open() \"{}\" failed ({})", path.display(), os_error(&error)))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The addresses of a name server: `1.2.3.4`, `[::1]:53`, or a host that the system's own resolver knows.
fn servers(text: &[u8]) -> Result<Vec<SocketAddr>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "invalid host")?;
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or("invalid host")?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| "invalid IPv6 address")?;
        let port = match rest.strip_prefix(':') {
            Some(digits) => port(digits)?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return Err("invalid host"),
        };
        return Ok(vec![SocketAddr::new(IpAddr::V6(ip), port)]);
    }
    if text.contains(['/', '?']) {
        return Err("invalid host");
    }
    let (host, port) = match text.split_once(':') {
        Some((host, digits)) => (host, port(digits)?),
        None => (text, DEFAULT_PORT),
    };
    match host {
        "" => Err("no host"),
        host => match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => resolve(host, port),
        },
    }
}

fn port(digits: &str) -> Result<u16, &'static str> {
    let number = value::parse_uint(digits.as_bytes()).and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or("invalid port")
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, &'static str> {
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in (host, port).to_socket_addrs().map_err(|_| "host not found")? {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() { Err("host not found") } else { Ok(addrs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let expect = expect.map(|addr| vec![addr.parse().unwrap()]);
        assert_eq!(servers(text.as_bytes()), expect, "{text}");
    }

    #[test]
    fn addresses_of_name_servers() {
        check("127.0.0.1", Ok("127.0.0.1:53"));
        check("127.0.0.1:5353", Ok("127.0.0.1:5353"));
        check("[::1]", Ok("[::1]:53"));
        check("[::1]:5353", Ok("[::1]:5353"));
        check("[::1", Err("invalid host"));
        check("[::g]", Err("invalid IPv6 address"));
        check("127.0.0.1:0", Err("invalid port"));
        check("127.0.0.1/8", Err("invalid host"));
        check(":53", Err("no host"));
    }
}
