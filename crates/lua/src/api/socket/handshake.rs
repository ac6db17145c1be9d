//! `sock:sslhandshake`: TLS on a socket, by way of the FFI entries that resty.core calls.
//! <https://github.com/openresty/lua-nginx-module#tcpsocksslhandshake>

use super::{
    Journal,
    connection::Connection,
    options,
    stream::{Handle, Side, Stream},
};
use crate::{
    handshake::{Chain, Key},
    host::Host,
    scheduler::{Operation, Values},
    settings::{Loc, SSL_PROTOCOLS, Ssl},
};
use moonrest_core::{Level, env::os_error};
use moonrest_net::{
    io::Io,
    timer::Timer,
    tls::{
        self, certificate, ciphers,
        client::{Connector, Settings},
        failure,
        rustls::{KeyLog, ProtocolVersion, SupportedCipherSuite},
        stream::Broken,
        verify::Store,
        x509::Certificate,
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{CStr, CString},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

/// What the last handshake of a stream came to.
#[derive(Default)]
pub(crate) struct Handshake {
    /// Why it failed, and OpenSSL's number for what is wrong with the certificate, or 0.
    failed: Option<(CString, i32)>,
    /// Under which its session is kept.
    session: Option<Rc<str>>,
    /// Lua wants to have the session.
    reuse: bool,
    /// Whom servers' certificates are checked against, in place of what the location says.
    trusted: Option<Rc<Store>>,
}

/// A session as Lua holds it, behind a pointer.
pub(crate) struct Session(Rc<str>);

/// What is asked of a handshake.
pub(crate) struct Wish<'a> {
    pub session: Option<&'a Session>,
    /// The session is wanted afterwards.
    pub reuse: bool,
    /// The name that the server is asked for, and that its certificate must have.
    pub name: &'a [u8],
    pub verify: bool,
    /// What is shown to a server that asks for a certificate.
    pub certificate: Option<(&'a Chain, &'a Key)>,
}

/// How a handshake begins.
pub(crate) enum Begun {
    /// `coroutine._yield` waits for it.
    Waits,
    /// It was made before.
    Done,
    /// It was made before, and a session was given to go on with.
    Again,
    Refused(&'static CStr),
}

/// What sessions of one location are made of.
struct Kit {
    connector: Connector,
    store: Store,
}

thread_local! {
    /// By the address of the location's settings; `None` for settings that cannot be used.
    static KITS: RefCell<HashMap<usize, Option<Rc<Kit>>>> = RefCell::default();
    static SESSIONS: Cell<u64> = const { Cell::new(0) };
}

/// Sessions kept by a worker and location.
const MAX_SESSIONS: usize = 256;

impl Handle {
    /// Begins a handshake.
    pub(crate) fn begin_handshake(&self, host: &Host, wish: &Wish<'_>) -> Begun {
        let stream = &self.0;
        if !stream.is_open() || stream.read_closed.get() || stream.write_closed.get() {
            return match stream.busy(false, false) {
                Some(_) => Begun::Refused(c"socket busy connecting"),
                None => Begun::Refused(c"closed"),
            };
        }
        if stream.owner.borrow().id != super::owner_of(host) {
            return Begun::Refused(c"bad request");
        }
        if stream.reading.get() {
            return Begun::Refused(c"socket busy reading");
        }
        if stream.writing.get() {
            return Begun::Refused(c"socket busy writing");
        }
        if stream.is_client() {
            return Begun::Refused(c"not supported for downstream sockets");
        }
        if matches!(&*stream.side.borrow(), Side::Peer(connection) if connection.io.client().is_some()) {
            stream.handshake.borrow_mut().reuse = wish.reuse;
            return if wish.session.is_some() { Begun::Again } else { Begun::Done };
        }
        // What came before the handshake is nobody's word: it must not be read as if it had come after.
        if !stream.inbox.borrow().is_empty() {
            return Begun::Refused(c"unread data in buffer");
        }
        let Some(kit) = kit(host) else {
            let why = "error:0A0000BF:SSL routines::no protocols available";
            Journal::on(host).write(Level::Crit, format_args!("SSL_do_handshake() failed (SSL: {why})"));
            stream.finalize();
            return Begun::Refused(c"handshake failed");
        };
        let connector = match wish.certificate {
            None => kit.connector.clone(),
            Some((chain, key)) => match with_certificate(&kit.connector, chain, key) {
                Ok(connector) => connector,
                Err(problem) => return Begun::Refused(problem),
            },
        };
        let Ok(name) = std::str::from_utf8(wish.name).map(str::to_owned) else {
            return Begun::Refused(c"SSL_set_tlsext_host_name failed");
        };
        let Side::Peer(connection) = stream.side.take() else { return Begun::Refused(c"closed") };
        let session = wish.session.map_or_else(fresh_session, |session| session.0.clone());
        let trusted = stream.handshake.borrow_mut().trusted.take();
        *stream.handshake.borrow_mut() = Handshake {
            failed: None,
            session: Some(session.clone()),
            reuse: wish.reuse,
            trusted: trusted.clone(),
        };
        stream.connecting.set(true);
        stream.dialing.set(true);
        let attempt =
            Attempt { stream: stream.clone(), journal: Journal::on(host), kit, connector, trusted, name };
        let wait = attempt.run(connection, session, wish.verify);
        *host.pending.borrow_mut() = Some(Operation::Wait(Box::pin(wait)));
        Begun::Waits
    }

    /// Sets whom the server's certificate is checked against in the next handshake; `None` for what the location says.
    ///
    /// # Errors
    /// Upstream's words.
    pub(crate) fn set_trusted(&self, host: &Host, chain: Option<&Chain>) -> Result<(), &'static CStr> {
        let stream = &self.0;
        if !stream.is_open() || stream.read_closed.get() || stream.write_closed.get() {
            return Err(c"closed");
        }
        if stream.owner.borrow().id != super::owner_of(host) {
            return Err(c"bad request");
        }
        if matches!(&*stream.side.borrow(), Side::Peer(connection) if connection.io.client().is_some()) {
            return Err(
                c"ssl handshake already done; trusted store cannot be changed on an established TLS connection",
            );
        }
        let depth =
            options::location(host).and_then(|location| location.conf::<Loc>()).map(Loc::ssl_verify_depth);
        let depth = usize::try_from(depth.unwrap_or(1)).unwrap_or(1);
        let anchors = |chain: &Chain| {
            chain.0.iter().filter_map(|der| Certificate::from_der(der)).map(Arc::new).collect()
        };
        stream.handshake.borrow_mut().trusted =
            chain.map(|chain| Rc::new(Store { anchors: anchors(chain), depth, ..Store::default() }));
        Ok(())
    }

    /// Calls `f` with what the last handshake came to: the session if Lua wants it, or why it failed.
    pub(crate) fn handshake_result<R>(
        &self,
        f: impl FnOnce(Result<Option<Session>, &(CString, i32)>) -> R,
    ) -> R {
        let handshake = self.0.handshake.borrow();
        match &handshake.failed {
            Some(failed) => f(Err(failed)),
            None => f(Ok(handshake.session.clone().filter(|_| handshake.reuse).map(Session))),
        }
    }

    /// The session of an encrypted connection; `None` when it is closed, or not encrypted.
    pub(crate) fn session(&self) -> Option<Option<Session>> {
        match &*self.0.side.borrow() {
            Side::Peer(connection) if connection.io.client().is_some() => {
                Some(self.0.handshake.borrow().session.clone().map(Session))
            }
            Side::Peer(_) => Some(None),
            _ => None,
        }
    }
}

/// The same with a certificate to show.
fn with_certificate(connector: &Connector, chain: &Chain, key: &Key) -> Result<Connector, &'static CStr> {
    if chain.0.is_empty() {
        return Err(c"invalid client certificate chain");
    }
    let pair = certificate::join(chain.0.clone(), key.0.clone());
    let pair = pair.map_err(|_| c"ssl set client private key failed")?;
    connector.with_certificate(Some(Arc::new(pair))).map_err(|_| c"ssl set client certificate failed")
}

/// A name for a session that no other has.
fn fresh_session() -> Rc<str> {
    SESSIONS.with(|count| {
        count.set(count.get() + 1);
        Rc::from(count.get().to_string())
    })
}

struct Attempt {
    stream: Rc<Stream>,
    journal: Journal,
    kit: Rc<Kit>,
    connector: Connector,
    trusted: Option<Rc<Store>>,
    name: String,
}

impl Attempt {
    async fn run(self, connection: Box<Connection>, session: Rc<str>, verify: bool) -> Values {
        match self.shake(connection, &session, verify).await {
            Ok(connection) => *self.stream.side.borrow_mut() = Side::Peer(connection),
            Err((text, code)) => {
                let text = CString::new(text).unwrap_or_default();
                self.stream.handshake.borrow_mut().failed = Some((text, code));
                self.stream.dialing.set(false);
                self.stream.finalize();
            }
        }
        Values::default()
    }

    async fn shake(
        &self,
        connection: Box<Connection>,
        session: &str,
        verify: bool,
    ) -> Result<Box<Connection>, (String, i32)> {
        let Connection { io, peer, reused, seat, timers, nodelay, id } = *connection;
        let name = Some(self.name.as_str()).filter(|name| !name.is_empty());
        let upstream = peer.describe();
        if let Some(name) = name {
            self.journal.write(Level::Debug, format_args!("lua ssl server name: \"{name}\"{upstream}"));
        }
        let client = self
            .connector
            .start(io, name, session)
            .map_err(|_| ("failed to create ssl connection".to_owned(), 0))?;
        let timer = Timer::of(self.stream.connect_timeout());
        let shaken = poll_fn(|cx| match client.poll_handshake(cx) {
            Poll::Ready(shaken) => Poll::Ready(Some(shaken)),
            Poll::Pending => timer.poll(cx).map(|()| None),
        })
        .await;
        match shaken {
            None => return Err(("timeout".to_owned(), 0)),
            Some(Err(broken)) => {
                self.note(&broken, &upstream);
                return Err(("handshake failed".to_owned(), 0));
            }
            Some(Ok(())) => {}
        }
        if verify {
            self.check(&client, &upstream)?;
        }
        let io = Io::from(client);
        Ok(Box::new(Connection { io, peer, reused, seat, timers, nodelay, id }))
    }

    /// Checks whom the connection leads to.
    fn check(&self, client: &tls::client::Client, upstream: &str) -> Result<(), (String, i32)> {
        let log = self.stream.settings.get().log_errors;
        let store = self.trusted.as_deref().unwrap_or(&self.kit.store);
        if let Err(failures) = client.verify(store, moonrest_sys::time::wall().secs) {
            let (code, text) = (failures.first.code(), failures.first.text());
            if log {
                self.journal
                    .error(format_args!("lua ssl certificate verify error: ({code}: {text}){upstream}"));
            }
            return Err((text.to_owned(), i32::from(code)));
        }
        if !self.name.is_empty() && !client.is_for(&self.name) {
            if log {
                let name = &self.name;
                self.journal
                    .error(format_args!("lua ssl certificate does not match host \"{name}\"{upstream}"));
            }
            return Err(("certificate host mismatch".to_owned(), 0));
        }
        Ok(())
    }

    fn note(&self, broken: &Broken, upstream: &str) {
        if !self.stream.settings.get().log_errors {
            return;
        }
        match broken {
            Broken::Closed => {
                self.journal.error(format_args!("peer closed connection in SSL handshake{upstream}"));
            }
            Broken::Io(error) => {
                let error = os_error(error);
                self.journal.error(format_args!("SSL_do_handshake() failed ({error}){upstream}"));
            }
            Broken::Tls(error) => {
                let text = failure::describe(error).text;
                self.journal.error(format_args!("SSL_do_handshake() failed (SSL: {text}){upstream}"));
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.stream.connecting.set(false);
        self.stream.dialing.set(false);
    }
}

/// What sessions are made of where the code runs.
fn kit(host: &Host) -> Option<Rc<Kit>> {
    let location = options::location(host)?;
    let loc = location.conf::<Loc>()?;
    let key = std::ptr::from_ref(loc).addr();
    KITS.with_borrow_mut(|kits| kits.entry(key).or_insert_with(|| make_kit(loc, host)).clone())
}

fn make_kit(loc: &Loc, host: &Host) -> Option<Rc<Kit>> {
    let made = settings(loc.ssl()).and_then(|settings| {
        let connector = Connector::new(settings).map_err(|error| error.to_string())?;
        let mut store =
            Store { depth: usize::try_from(loc.ssl_verify_depth()).unwrap_or(1), ..Store::default() };
        if let Some(pem) = &loc.ssl().trusted_certificate {
            store.add_pem(&pem.text).map_err(|error| format!("\"{}\": {error}", pem.path.display()))?;
        }
        if let Some(pem) = &loc.ssl().crl {
            store.add_crls(&pem.text).map_err(|error| format!("\"{}\": {error}", pem.path.display()))?;
        }
        Ok(Kit { connector, store })
    });
    match made {
        Ok(kit) => Some(Rc::new(kit)),
        Err(error) => {
            Journal::on(host).error(format_args!("lua_ssl_* cannot be used: {error}"));
            None
        }
    }
}

/// `lua_ssl_*` as the library takes them.
fn settings(ssl: &Ssl) -> Result<Settings, String> {
    let mut settings =
        Settings { sessions: Some(tls::client::session_store(MAX_SESSIONS)), ..Settings::default() };
    if let Some(chosen) = &ssl.protocols {
        let has = |name| chosen.iter().any(|n| SSL_PROTOCOLS.get(*n) == Some(&name));
        (settings.tls12, settings.tls13) = (has("TLSv1.2"), has("TLSv1.3"));
    }
    if let Some(list) = &ssl.ciphers {
        let list = String::from_utf8_lossy(list);
        settings.ciphers = ciphers::tls13_default();
        settings.ciphers.extend(ciphers::tls12(&list).list);
    }
    settings.key_log = ssl.key_log.clone().map(|file| file as Arc<dyn KeyLog>);
    for (name, value) in ssl.conf_commands.iter().flatten() {
        command(&mut settings, &String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
    }
    let certificates = ssl.certificates.iter().flatten();
    if let Some((chain, key)) = certificates.zip(ssl.certificate_keys.iter().flatten()).next() {
        let of = |pem: &crate::settings::Pem, error: certificate::Unusable| {
            format!("\"{}\": {} (SSL: {})", pem.path.display(), error.call, error.reason)
        };
        let joined = certificate::chain(&chain.text).map_err(|error| of(chain, error)).and_then(|chain| {
            let signing = certificate::private_key(&key.text, &[]).map_err(|error| of(key, error))?;
            certificate::join(chain, signing).map_err(|error| of(key, error))
        })?;
        settings.certificate = Some(Arc::new(joined));
    }
    Ok(settings)
}

/// Does what a `lua_ssl_conf_command` says, as far as it means anything here.
fn command(settings: &mut Settings, name: &str, value: &str) {
    let is_newest = |suite: &SupportedCipherSuite| ciphers::is_of(suite, ProtocolVersion::TLSv1_3);
    match &*name.to_ascii_lowercase() {
        "ciphersuites" => {
            settings.ciphers.retain(|suite| !is_newest(suite));
            settings.ciphers.extend(ciphers::tls13(value).list);
        }
        "cipherstring" => {
            settings.ciphers.retain(is_newest);
            settings.ciphers.extend(ciphers::tls12(value).list);
        }
        "groups" | "curves" => {
            let chosen = ciphers::groups(value).list;
            if !chosen.is_empty() {
                settings.groups = chosen;
            }
        }
        "minprotocol" => settings.tls12 &= value != "TLSv1.3",
        "maxprotocol" => {
            settings.tls13 &= matches!(value, "None" | "TLSv1.3");
            settings.tls12 &= matches!(value, "None" | "TLSv1.3" | "TLSv1.2");
        }
        _ => {}
    }
}
