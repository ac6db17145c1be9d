//! TLS towards upstreams (`proxy_ssl_*`, `uwsgi_ssl_*`, `grpc_ssl_*`): what a location wants, and the handshake.
//!
//! A connection is used again only by requests that would have made it alike: [`Link`] says in which way.

use super::{
    conf::mask,
    run::{Failure, Run},
};
use crate::{
    phase::{LocalBoxFuture, RequestError},
    request::{Request, RequestRef},
};
use moonrest_core::{Level, Template};
use moonrest_net::{
    addr::Addr,
    io::Io,
    timer::Timeout,
    tls::{
        certificate::CertifiedKey,
        client::{Client, Connector},
        failure, rustls,
        stream::Broken,
        verify::Store,
    },
};
use std::{future::poll_fn, net::Ipv4Addr, rc::Rc, sync::Arc, task::Poll};

/// How a location speaks TLS to its upstreams.
pub struct Tls {
    /// Without a protocol to be agreed on, and with `h2`.
    pub connectors: [Connector; 2],
    /// `ssl_name`; the upstream's own name otherwise.
    pub name: Option<Template>,
    /// `ssl_server_name`: the name is said in the handshake.
    pub server_name: bool,
    /// `ssl_verify`: whom servers' certificates are checked against.
    pub trusted: Option<Store>,
    /// The certificate to show, where its name has variables.
    pub certificate: Option<Box<dyn CertificateFiles>>,
}

/// Names of a certificate and of its key.
pub type FileNames = (Vec<u8>, Vec<u8>);

/// A certificate to show to servers, whose name depends on the request.
pub trait CertificateFiles: Send + Sync {
    /// The names for this request; none for no certificate.
    fn names(&self, r: &Request) -> Option<FileNames>;

    /// What stands there.
    ///
    /// # Errors
    /// nginx's words for what is wrong with it.
    fn load(&self, names: &FileNames) -> Result<Arc<CertifiedKey>, String>;
}

/// What a check of a server's certificate came to: nothing, or the text that the log gets.
pub type HandshakeVerdict = Result<(), Box<str>>;

/// A program's say in handshakes with upstreams (`proxy_ssl_certificate_by_lua`, `proxy_ssl_verify_by_lua`).
pub trait HandshakeHook: Send + Sync {
    /// The certificate to show, in place of the configured one that is given. `None` leaves it at that.
    fn certificate(
        &self,
        _r: &RequestRef,
    ) -> Option<LocalBoxFuture<Result<Option<Arc<CertifiedKey>>, RequestError>>> {
        None
    }

    /// What a server has shown, and what was found about it. `None` leaves it at that; an error of the result ends the
    /// handshake, and perhaps another server is asked.
    fn verify(
        &self,
        _r: &RequestRef,
        _client: &Rc<Client>,
        _found: &HandshakeVerdict,
    ) -> Option<LocalBoxFuture<Result<HandshakeVerdict, RequestError>>> {
        None
    }
}

/// In which way connections are made.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub http2: bool,
    pub secure: Option<Rc<Secure>>,
}

/// The way of those that are encrypted.
pub(super) struct Secure {
    tls: Arc<Tls>,
    /// What the certificate must be for, and what the server is asked for.
    name: Box<str>,
    files: Option<FileNames>,
    /// The upstream's name.
    host: Box<[u8]>,
    hook: Option<Arc<dyn HandshakeHook>>,
}

impl PartialEq for Secure {
    fn eq(&self, other: &Self) -> bool {
        let hooks = match (&self.hook, &other.hook) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        hooks && Arc::ptr_eq(&self.tls, &other.tls) && self.name == other.name && self.files == other.files
    }
}

impl Eq for Secure {}

impl Secure {
    /// The way for this request; `host` is the upstream's name.
    pub(super) fn new(r: &Request, tls: &Arc<Tls>, host: &[u8]) -> Self {
        let name = if tls.server_name || tls.trusted.is_some() {
            let name = match &tls.name {
                Some(name) => name.eval(r),
                None => host.into(),
            };
            String::from_utf8_lossy(without_port(&name)).into()
        } else {
            Box::default()
        };
        let files = tls.certificate.as_ref().and_then(|files| files.names(r));
        let hook = r.loc().handshake_hook.clone();
        Self { tls: tls.clone(), name, files, host: host.into(), hook }
    }

    /// The same with the name that a balancer gives, unless the configuration has one.
    pub(super) fn ask_for(mut self, host: &[u8]) -> Self {
        if self.tls.name.is_none() && (self.tls.server_name || self.tls.trusted.is_some()) {
            self.name = String::from_utf8_lossy(without_port(host)).into();
        }
        self
    }

    /// What the server is asked for: addresses are not said.
    fn server_name(&self) -> Option<&str> {
        let said = self.tls.server_name
            && !self.name.is_empty()
            && !self.name.starts_with('[')
            && self.name.parse::<Ipv4Addr>().is_err();
        said.then_some(&*self.name)
    }

    /// Whom sessions are kept for.
    fn session(&self, addr: &Addr) -> String {
        let mut key = Vec::new();
        addr.append_with_port(&mut key);
        let parts = [&*self.host, self.name.as_bytes()];
        for part in parts.into_iter().chain(self.files.iter().flat_map(|(a, b)| [&**a, &**b])) {
            key.push(0);
            key.extend_from_slice(part);
        }
        String::from_utf8_lossy(&key).into_owned()
    }
}

/// The host of `host:port`, `[v6]:port`.
fn without_port(name: &[u8]) -> &[u8] {
    let from = match name.first() {
        Some(b'[') => memchr::memchr(b']', name).unwrap_or(0),
        _ => 0,
    };
    let rest = name.get(from..).unwrap_or_default();
    memchr::memchr(b':', rest).and_then(|at| name.get(..from + at)).unwrap_or(name)
}

impl Run {
    /// Begins a session on a new connection to `addr`.
    pub(super) async fn secure(&self, io: Io, secure: &Secure, addr: &Addr) -> Result<Io, Failure> {
        self.act("SSL handshaking to upstream");
        let connector = self.connector(secure).await?;
        let started = connector.start(io, secure.server_name(), &secure.session(addr));
        let client = started.map_err(|error| {
            Failure::Fatal(RequestError::internal(format!("SSL_new() failed (SSL: {error})")))
        })?;
        let timeout = Timeout::new();
        timeout.set(self.timeouts.connect);
        let shaken = poll_fn(|cx| {
            if let Poll::Ready(shaken) = client.poll_handshake(cx) {
                return Poll::Ready(Ok(shaken));
            }
            if timeout.poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::Next(mask::TIMEOUT)));
            }
            self.poll_gone(cx).map(|error| Err(Failure::Fatal(error)))
        })
        .await?;
        if let Err(broken) = shaken {
            self.log_broken(&broken);
            return Err(Failure::Next(mask::ERROR));
        }
        let client = self.verify(secure, client).await?;
        Ok(Io::from(client))
    }

    /// The connector with the certificate that this request wants shown.
    async fn connector(&self, secure: &Secure) -> Result<Connector, Failure> {
        let [http1, http2] = &secure.tls.connectors;
        let mut connector = if self.link.http2 { http2 } else { http1 }.clone();
        let hooked = secure.hook.as_ref().and_then(|hook| hook.certificate(&self.r));
        let by_hook = match hooked {
            Some(wait) => wait.await.map_err(Failure::Fatal)?,
            None => None,
        };
        let shown = match (by_hook, &secure.tls.certificate, &secure.files) {
            (Some(key), ..) => Some(key),
            (None, Some(source), Some(names)) => {
                let loaded = source.load(names);
                Some(loaded.map_err(|message| Failure::Fatal(RequestError::internal(message)))?)
            }
            _ => None,
        };
        if shown.is_some() {
            connector = connector.with_certificate(shown).map_err(|error| {
                Failure::Fatal(RequestError::internal(format!("SSL_use_certificate() failed (SSL: {error})")))
            })?;
        }
        Ok(connector)
    }

    /// Checks whom the connection leads to: nothing is sent before.
    async fn verify(&self, secure: &Secure, client: Client) -> Result<Client, Failure> {
        let found = self.found(secure, &client);
        let Some(hook) = &secure.hook else { return self.judge_found(found).map(|()| client) };
        let client = Rc::new(client);
        let verdict = match hook.verify(&self.r, &client, &found) {
            Some(wait) => wait.await.map_err(Failure::Fatal)?,
            None => found,
        };
        self.judge_found(verdict)?;
        Rc::try_unwrap(client)
            .map_err(|_| Failure::Fatal(RequestError::internal("the program keeps the upstream's session")))
    }

    fn found(&self, secure: &Secure, client: &Client) -> HandshakeVerdict {
        let Some(trusted) = &secure.tls.trusted else { return Ok(()) };
        if let Err(failures) = client.verify(trusted, moonrest_sys::time::wall().secs) {
            let failure = failures.last;
            let (code, text) = (failure.code(), failure.text());
            return Err(format!("upstream SSL certificate verify error: ({code}:{text})").into());
        }
        if !client.is_for(&secure.name) {
            return Err(format!("upstream SSL certificate does not match \"{}\"", secure.name).into());
        }
        Ok(())
    }

    fn judge_found(&self, verdict: HandshakeVerdict) -> Result<(), Failure> {
        verdict.map_err(|message| {
            self.log(Level::Error, format_args!("{message}"));
            Failure::Next(mask::ERROR)
        })
    }

    fn log_broken(&self, broken: &Broken) {
        match broken {
            Broken::Closed => {
                self.log(Level::Error, format_args!("peer closed connection in SSL handshake"));
            }
            Broken::Io(error) => {
                let reason = moonrest_core::env::os_error(error);
                self.log(Level::Error, format_args!("peer closed connection in SSL handshake ({reason})"));
            }
            Broken::Tls(error) => {
                let text = failure::describe(error).text;
                self.log(Level::Error, format_args!("SSL_do_handshake() failed (SSL: {text})"));
            }
        }
    }
}

/// What a failed read or write is called in the log, and why it failed.
pub(super) fn describe_io(io: &Io, call: &'static str, error: &std::io::Error) -> String {
    let encrypted = io.client().is_some();
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let call = if call == "recv()" { "SSL_read()" } else { "SSL_write()" };
        return format!("{call} failed (SSL: {})", failure::describe(error).text);
    }
    let reason = moonrest_core::env::os_error(error);
    match (encrypted, call) {
        (true, "recv()") => format!("SSL_read() failed ({reason})"),
        (true, _) => format!("SSL_write() failed ({reason})"),
        (false, call) => format!("{call} failed ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_port() {
        let check = |name: &str, expect: &str| {
            assert_eq!(String::from_utf8_lossy(without_port(name.as_bytes())), expect);
        };
        check("a.example", "a.example");
        check("a.example:443", "a.example");
        check("[::1]:443", "[::1]");
        check("[::1]", "[::1]");
        check("[::1", "[");
        check("", "");
    }
}
