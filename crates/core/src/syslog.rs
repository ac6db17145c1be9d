//! `syslog:` targets of `error_log` and `access_log`.
//! <https://nginx.org/en/docs/syslog.html>

use crate::{ConfResult, Fault, env::os_error};
use moonrest_sys::{listen::ListenAddr, log_write::Syslog as Socket, time};
use parking_lot::Mutex;
use std::net::{SocketAddr, ToSocketAddrs};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

/// A syslog server and how to write to it.
pub struct Syslog {
    server: ListenAddr,
    server_name: Box<str>,
    facility: usize,
    /// The severity of access log lines; error log lines have their own.
    severity: u8,
    tag: Box<str>,
    /// `None` with `nohostname`.
    hostname: Option<Box<str>>,
    /// Connected on first use, and anew after an error.
    socket: Mutex<Option<Socket>>,
}

impl Syslog {
    /// Sends one message; what cannot be sent is lost, the server does not wait.
    ///
    /// # Errors
    /// When a new socket did not help either.
    pub fn send(&self, severity: u8, text: &[u8]) -> Result<(), SendFailure> {
        let now = time::wall().secs;
        let stamp = moonrest_proto::date::syslog(now, time::local_offset(now));
        let mut line = Vec::with_capacity(text.len() + 64);
        line.extend_from_slice(format!("<{}>", self.facility * 8 + usize::from(severity)).as_bytes());
        line.extend_from_slice(&stamp);
        line.push(b' ');
        if let Some(name) = &self.hostname {
            line.extend_from_slice(name.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(self.tag.as_bytes());
        line.extend_from_slice(b": ");
        line.extend_from_slice(text);
        let mut socket = self.socket.lock();
        let mut last = Ok(());
        for _ in 0..2 {
            if socket.is_none() {
                let connected = Socket::connect(&self.server);
                *socket = Some(connected.map_err(|error| self.failure("connect()", error))?);
            }
            let Some(open) = &*socket else { break };
            match open.send(&line) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                // The server was restarted: once more with a new socket.
                Err(error) => {
                    *socket = None;
                    last = Err(self.failure("send()", error));
                }
            }
        }
        last
    }

    fn failure(&self, call: &'static str, error: std::io::Error) -> SendFailure {
        SendFailure { call, error, server: self.server_name.clone() }
    }

    /// Sends an access log line with the configured severity.
    ///
    /// # Errors
    /// As [`Syslog::send`].
    pub fn send_access(&self, text: &[u8]) -> Result<(), SendFailure> {
        self.send(self.severity, text)
    }
}

/// A message that could not be sent. Displayed in nginx's words.
#[derive(Debug)]
pub struct SendFailure {
    call: &'static str,
    error: std::io::Error,
    server: Box<str>,
}

impl std::fmt::Display for SendFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call, error, server } = self;
        write!(f, "{call} failed ({}) while logging to syslog, server: {server}", os_error(error))
    }
}

/// Parses `syslog:server=…[,facility=…][,severity=…][,tag=…][,nohostname]`.
///
/// # Errors
/// nginx's texts for unknown or missing parameters.
pub fn parse(target: &[u8]) -> ConfResult<std::sync::Arc<Syslog>> {
    let text = std::str::from_utf8(target).map_err(|_| Fault::message("invalid syslog parameters"))?;
    let text = text.strip_prefix("syslog:").unwrap_or(text);
    let (mut server, mut facility, mut severity, mut tag) = (None, None, None, None);
    let mut nohostname = false;
    for part in text.split(',') {
        if let Some(value) = part.strip_prefix("server=") {
            if server.is_some() {
                return Err(Fault::message("duplicate syslog \"server\""));
            }
            server = Some(parse_server(value)?);
        } else if let Some(value) = part.strip_prefix("facility=") {
            if facility.is_some() {
                return Err(Fault::message("duplicate syslog \"facility\""));
            }
            let known = FACILITIES.iter().position(|name| *name == value);
            facility =
                Some(known.ok_or_else(|| Fault::message(format!("unknown syslog facility \"{value}\"")))?);
        } else if let Some(value) = part.strip_prefix("severity=") {
            if severity.is_some() {
                return Err(Fault::message("duplicate syslog \"severity\""));
            }
            let known = SEVERITIES.iter().position(|name| *name == value);
            severity =
                Some(known.ok_or_else(|| Fault::message(format!("unknown syslog severity \"{value}\"")))?);
        } else if let Some(value) = part.strip_prefix("tag=") {
            if tag.is_some() {
                return Err(Fault::message("duplicate syslog \"tag\""));
            }
            tag = Some(check_tag(value)?);
        } else if part == "nohostname" {
            nohostname = true;
        } else {
            return Err(Fault::message(format!("unknown syslog parameter \"{part}\"")));
        }
    }
    let (server, server_name) = server.ok_or_else(|| Fault::message("no syslog server specified"))?;
    Ok(std::sync::Arc::new(Syslog {
        server,
        server_name,
        facility: facility.unwrap_or(23),
        severity: severity.and_then(|n| u8::try_from(n).ok()).unwrap_or(6),
        tag: tag.unwrap_or("nginx").into(),
        hostname: (!nohostname).then(|| moonrest_sys::host::name().into()),
        socket: Mutex::new(None),
    }))
}

fn check_tag(value: &str) -> ConfResult<&str> {
    if value.len() > 32 {
        return Err(Fault::message("syslog tag length exceeds 32"));
    }
    match value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => Ok(value),
        false => Err(Fault::message("syslog \"tag\" only allows alphanumeric characters and underscore")),
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or `unix:PATH`; the port is 514 unless given. With its name for messages.
fn parse_server(value: &str) -> ConfResult<(ListenAddr, Box<str>)> {
    let invalid = |what: &str| Fault::message(format!("{what} in syslog server \"{value}\""));
    if value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:")) {
        let path = value.get(5..).unwrap_or_default();
        return match path.len() {
            0 => Err(invalid("no path in the unix domain socket")),
            1..=107 => Ok((ListenAddr::Unix(path.as_bytes().to_vec()), value.into())),
            _ => Err(invalid("too long path in the unix domain socket")),
        };
    }
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| invalid("invalid host"))?;
            match after.strip_prefix(':') {
                None if !after.is_empty() => return Err(invalid("invalid host")),
                port => (host, port),
            }
        }
        None => match value.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (value, None),
        },
    };
    let port = match port.map(str::parse::<u16>) {
        None => 514,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(invalid("invalid port")),
    };
    if host.is_empty() {
        return Err(invalid("no host"));
    }
    if host.contains('/') || value.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err(invalid("invalid host"));
    }
    let addr = (host, port).to_socket_addrs().ok().and_then(|mut addrs| addrs.next());
    let addr: SocketAddr = addr.ok_or_else(|| invalid("host not found"))?;
    Ok((ListenAddr::Inet(addr), addr.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expect: &str) {
        let shown = match parse_server(value) {
            Ok((_, name)) => name.into_string(),
            Err(Fault::Message(message)) => message,
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(shown, expect);
    }

    #[test]
    fn servers_are_addresses_with_ports_or_sockets() {
        check("127.0.0.1", "127.0.0.1:514");
        check("127.0.0.1:1514", "127.0.0.1:1514");
        check("[::1]", "[::1]:514");
        check("[::1]:99", "[::1]:99");
        check("unix:/dev/log", "unix:/dev/log");
    }

    #[test]
    fn broken_servers_are_refused_in_nginx_s_words() {
        check("", "no host in syslog server \"\"");
        check(":514", "no host in syslog server \":514\"");
        check("127.0.0.1:0", "invalid port in syslog server \"127.0.0.1:0\"");
        check("127.0.0.1:x", "invalid port in syslog server \"127.0.0.1:x\"");
        check("127.0.0.1/x", "invalid host in syslog server \"127.0.0.1/x\"");
        check("[::1", "invalid host in syslog server \"[::1\"");
        check("unix:", "no path in the unix domain socket in syslog server \"unix:\"");
    }
}
