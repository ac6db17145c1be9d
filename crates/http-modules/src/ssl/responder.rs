//! Asking an OCSP responder over HTTP.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use moonrest_core::{Level, env::os_error};
use moonrest_http::core::Core;
use moonrest_net::{
    addr::Addr,
    connect::{ConnectError, connect},
    resolver::no_resolver,
    timer::within,
};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

/// nginx's, for each responder, in milliseconds.
const TIMEOUT: u64 = 60_000;
/// Answers are much shorter.
const MAX_ANSWER: usize = 256 * 1024;

/// `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Responder {
    pub(super) host: String,
    pub(super) port: u16,
    /// As in the URL; empty for none.
    path: String,
    /// Where the host was when the configuration was read.
    addrs: Vec<SocketAddr>,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadUrl {
    Prefix,
    NoHost,
    BadPort,
}

impl BadUrl {
    /// nginx's words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Prefix => "invalid URL prefix",
            Self::NoHost => "no host",
            Self::BadPort => "invalid port",
        }
    }
}

impl Responder {
    pub(super) fn parse(url: &str) -> Result<Self, BadUrl> {
        let prefix = url.get(..7).filter(|prefix| prefix.eq_ignore_ascii_case("http://"));
        let rest = prefix.and_then(|_| url.get(7..)).ok_or(BadUrl::Prefix)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let colon = authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|end| end < *colon));
        let (host, port) = match colon {
            Some(colon) => {
                let port = authority.get(colon + 1..).unwrap_or_default();
                let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
                let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                (authority.get(..colon).unwrap_or_default(), port.ok_or(BadUrl::BadPort)?)
            }
            None => (authority, 80),
        };
        if host.is_empty() || host.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(BadUrl::NoHost);
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned(), addrs: Vec::new() })
    }

    /// Looks the host up once for all: for where there is no `resolver`.
    pub(super) fn look_up(&mut self) -> bool {
        self.addrs = match self.literal() {
            Some(addr) => vec![addr],
            None => (&*self.host, self.port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
        };
        !self.addrs.is_empty()
    }

    fn literal(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }

    async fn addrs(&self, core: &Core, subject: &Subject<'_>) -> Option<Vec<SocketAddr>> {
        if let Some(addr) = self.literal() {
            return Some(vec![addr]);
        }
        let host = self.host.as_bytes();
        match &core.resolver {
            Some(settings) => match settings.here().resolve(host, self.port, core.resolver_timeout).await {
                Ok(addrs) => Some(addrs.to_vec()),
                Err(error) => {
                    subject.log(core, Level::Error, &error.line(host));
                    None
                }
            },
            None if self.addrs.is_empty() => {
                subject.log(core, Level::Error, &no_resolver(host));
                None
            }
            None => {
                subject.log(core, Level::Warn, &no_resolver(host));
                Some(self.addrs.clone())
            }
        }
    }

    /// Sends a request; returns the response, both encoded. What goes wrong is logged.
    pub(super) async fn ask(&self, core: &Core, request: &[u8], subject: &Subject<'_>) -> Option<Vec<u8>> {
        let head = self.head(request);
        for addr in self.addrs(core, subject).await? {
            let answered = within(TIMEOUT, exchange(addr, head.as_bytes())).await;
            let answer = answered.unwrap_or_else(|| Err(timed_out()));
            match answer.and_then(|answer| body(&answer)) {
                Ok(body) => return Some(body),
                Err(message) => subject.log(core, Level::Error, &message),
            }
        }
        None
    }

    fn head(&self, request: &[u8]) -> String {
        let mut escaped = String::new();
        for byte in STANDARD.encode(request).bytes() {
            match byte {
                b'+' => escaped.push_str("%2B"),
                b'/' => escaped.push_str("%2F"),
                b'=' => escaped.push_str("%3D"),
                _ => escaped.push(char::from(byte)),
            }
        }
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        format!("GET {}{slash}{escaped} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.host)
    }
}

fn timed_out() -> String {
    "OCSP responder timed out (110: Connection timed out)".into()
}

async fn exchange(addr: SocketAddr, request: &[u8]) -> Result<Vec<u8>, String> {
    let described = |call: &str, error: &io::Error| format!("{call} failed ({})", os_error(error));
    let io = match connect(&Addr::Inet(addr), None, TIMEOUT).await {
        Ok(io) => io,
        Err(ConnectError::TimedOut) => return Err(timed_out()),
        Err(ConnectError::Io(error)) => return Err(described("connect()", &error)),
    };
    io.write_all(request).await.map_err(|error| described("send()", &error))?;
    let mut answer = Vec::new();
    loop {
        answer.reserve(4096);
        match poll_fn(|cx| io.poll_read(&mut answer, cx)).await {
            Ok(0) => return Ok(answer),
            Ok(_) if answer.len() <= MAX_ANSWER => {}
            Ok(_) => return Err(invalid()),
            Err(error) => return Err(described("recv()", &error)),
        }
    }
}

fn invalid() -> String {
    "OCSP responder sent invalid response".into()
}

/// Takes the body out of a response of HTTP/1.0.
fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    if answer.is_empty() {
        return Err("OCSP responder prematurely closed connection".into());
    }
    let mut rest = answer;
    let mut line = || -> Option<&[u8]> {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, behind) = (rest.get(..end)?, rest.get(end + 1..)?);
        rest = behind;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let status = line().ok_or_else(invalid)?;
    let good = status.starts_with(b"HTTP/1.") && status.get(8..12) == Some(b" 200");
    if !good {
        return Err(invalid());
    }
    loop {
        let field = line().ok_or_else(invalid)?;
        if field.is_empty() {
            return Ok(rest.to_vec());
        }
        let text = String::from_utf8_lossy(field);
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-type")
            && !value.trim().eq_ignore_ascii_case("application/ocsp-response")
        {
            let value = value.trim();
            return Err(format!("OCSP responder sent invalid \"Content-Type\" header: \"{value}\""));
        }
    }
}

/// What a question is about, for the log.
pub(super) struct Subject<'a> {
    pub(super) responder: &'a str,
    pub(super) certificate: &'a str,
    pub(super) connection: Option<u64>,
}

impl Subject<'_> {
    pub(super) fn log(&self, core: &Core, level: Level, message: &str) {
        let Self { responder, certificate, connection } = self;
        let what = "while requesting certificate status";
        let about =
            if certificate.is_empty() { String::new() } else { format!(", certificate: \"{certificate}\"") };
        let text = format_args!("{message} {what}, responder: {responder}{about}");
        core.error_log.write(level, *connection, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_path() {
        let check = |url: &str, expect: Result<(&str, u16, &str), BadUrl>| {
            let found = Responder::parse(url);
            let found = found.as_ref().map(|r| (&*r.host, r.port, &*r.path)).map_err(|error| *error);
            assert_eq!(found, expect, "{url}");
        };
        check("http://ocsp.example", Ok(("ocsp.example", 80, "")));
        check("HTTP://[::1]:8080/a/", Ok(("[::1]", 8080, "/a/")));
        check("https://ocsp.example", Err(BadUrl::Prefix));
        check("http:///a", Err(BadUrl::NoHost));
        check("http://a:0/", Err(BadUrl::BadPort));
        check("http://a:+1/", Err(BadUrl::BadPort));
    }

    #[test]
    fn a_request_goes_into_the_path() {
        let head = |url: &str| Responder::parse(url).unwrap().head(&[0xfb, 0xff]);
        assert!(head("http://a").starts_with("GET /%2B%2F8%3D HTTP/1.0\r\nHost: a\r\n"));
        assert!(head("http://a/x").starts_with("GET /x/%2B"));
        assert!(head("http://a/x/").starts_with("GET /x/%2B"));
    }

    #[test]
    fn only_a_proper_answer_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\nA: b\n\nxy").as_deref(), Ok(&b"xy"[..]));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\n").as_deref(), Ok(&b""[..]));
        assert!(body(b"HTTP/1.1 404 Not Found\r\n\r\nx").is_err());
        assert!(body(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nx").is_err());
        assert!(body(b"HTTP/1.1 200 OK\r\nA: b").is_err());
        assert!(body(b"").is_err());
    }
}
