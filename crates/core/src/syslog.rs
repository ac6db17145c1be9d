//! `syslog:` targets of `error_log` and `access_log`.
//! <https://nginx.org/en/docs/syslog.html>

use crate::{ConfResult, Env, Fault};
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
    pub fn send(&self, severity: u8, text: &[u8]) {
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
        for _ in 0..2 {
            if socket.is_none() {
                *socket = Socket::connect(&self.server).ok();
            }
            let Some(open) = &*socket else { return };
            match open.send(&line) {
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The server was restarted: once more with a new socket.
                Err(_) => *socket = None,
            }
        }
    }

    /// Sends an access log line with the configured severity.
    pub fn send_access(&self, text: &[u8]) {
        self.send(self.severity, text);
    }
}

/// Parses `syslog:server=…[,facility=…][,severity=…][,tag=…][,nohostname]`.
///
/// # Errors
/// nginx's texts for unknown or missing parameters.
pub fn parse(target: &[u8], _env: &Env<'_>) -> ConfResult<std::sync::Arc<Syslog>> {
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
    let server = server.ok_or_else(|| Fault::message("no syslog server specified"))?;
    Ok(std::sync::Arc::new(Syslog {
        server,
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

fn parse_server(value: &str) -> ConfResult<ListenAddr> {
    if let Some(path) = value.strip_prefix("unix:") {
        return Ok(ListenAddr::Unix(path.as_bytes().to_vec()));
    }
    let with_port = |port: &str| format!("{value}{port}").to_socket_addrs().ok()?.next();
    let addr: Option<SocketAddr> = with_port("").or_else(|| with_port(":514"));
    addr.map(ListenAddr::Inet)
        .ok_or_else(|| Fault::message(format!("host not found in syslog server \"{value}\"")))
}
