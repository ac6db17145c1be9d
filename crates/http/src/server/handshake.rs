//! The beginning of a connection on a socket for TLS: what the client asks for decides the server, the server the
//! certificates; then both agree on keys.
//!
//! ```text
//! first byte ─┬→ plain HTTP (answered with 497)
//!             └→ client hello → server → certificates → handshake ─┬→ idle
//!                                                                  └→ client's certificate checked → idle
//! ```

use super::h1::{After, Fill, H1};
use crate::{
    location::ServerId,
    request::{NewRequest, Request, RequestRef},
    tls::{
        ServerTls, VerifyClient,
        hook::{self, Enabled, Handshake, Hook, Moment},
    },
};
use moonrest_core::{Level, env::os_error};
use moonrest_net::tls::{
    self, Info,
    certificate::{self, Offered},
    failure::{self, Blame},
    names, secrets,
    session::Session,
    stream::Broken,
    x509::Certificate,
};
use moonrest_proto::{
    http1::host,
    tls::{ClientHello, Parse, parse},
};
use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll};

/// What follows `while` in the log.
const HANDSHAKING: &str = "SSL handshaking";
/// `unrecognized_name`, fatal, in a record of its own.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
/// `handshake_failure`, fatal.
const HANDSHAKE_FAILURE: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
/// `protocol_version`, fatal.
const PROTOCOL_VERSION: &[u8] = &[21, 3, 3, 0, 2, 2, 70];
/// The extension by which a client asks for its certificate's status.
const STATUS_REQUEST: u16 = 5;
/// `internal_error`, fatal.
const INTERNAL_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// Begins TLS on a connection that was just accepted, unless its client speaks plainly.
pub(super) async fn handshake(h1: Rc<H1>) -> After {
    let timeout = h1.default_settings().client_header_timeout;
    h1.timeout.set(timeout);
    let Ok(hello) = read_hello(&h1).await else { return After::Close };
    let Some(hello) = hello else { return After::Idle(timeout) };
    let after = match agree(&h1, hello.map(Rc::from)).await {
        Ok(()) if speaks_http2(&h1) => return super::h2::serve(h1).await,
        Ok(()) => After::Idle(h1.default_settings().client_header_timeout),
        Err(Refused) => After::Close,
    };
    h1.timeout.clear();
    after
}

/// Whether both sides have agreed on HTTP/2.
fn speaks_http2(h1: &H1) -> bool {
    let info = h1.conn.tls.get();
    info.is_some_and(|info| info.alpn.get().is_some_and(|protocol| **protocol == *b"h2"))
}

/// The connection is to be closed; the log has the reason.
struct Refused;

/// Reads until it is clear what the client wants: `None` for plain HTTP, `Some(None)` for a first message that makes no
/// sense.
async fn read_hello(h1: &H1) -> Result<Option<Option<Box<ClientHello>>>, Refused> {
    loop {
        if h1.unread() > 0 {
            let buffer = h1.buffer.borrow();
            let unread = buffer.get(h1.at.get()..).unwrap_or_default();
            // 22: a handshake; the high bit: the oldest protocol of all.
            if unread.first().is_some_and(|first| *first != 22 && first & 0x80 == 0) {
                return Ok(None);
            }
            match parse(unread) {
                Parse::Complete(hello) => return Ok(Some(Some(hello))),
                Parse::Invalid => return Ok(Some(None)),
                Parse::Partial => {}
            }
        }
        match poll_fn(|cx| h1.poll_fill(cx)).await {
            Ok(n) if n > 0 => {}
            Ok(_) if h1.unread() == 0 => {
                h1.note(format_args!("client closed connection while {HANDSHAKING}"));
                return Err(Refused);
            }
            Ok(_) => {
                h1.note(format_args!("peer closed connection in SSL handshake while {HANDSHAKING}"));
                return Err(Refused);
            }
            Err(Fill::TimedOut) => return Err(timed_out(h1)),
            Err(Fill::Io(error)) => {
                let error = os_error(&error);
                h1.note(format_args!("recv() failed ({error}) while {HANDSHAKING}"));
                return Err(Refused);
            }
        }
    }
}

fn timed_out(h1: &H1) -> Refused {
    h1.note(format_args!("{} while {HANDSHAKING}", super::TIMED_OUT));
    Refused
}

/// Finds the server and goes through the handshake.
async fn agree(h1: &Rc<H1>, hello: Option<Rc<ClientHello>>) -> Result<(), Refused> {
    let info = Rc::new(hello.as_deref().map(Info::new).unwrap_or_default());
    choose_server(h1, &info).map_err(|()| refuse(h1, INTERNAL_ERROR))?;
    // Known to variables from here on: certificates may depend on them.
    let _ = h1.conn.tls.set(info.clone());
    let http = &h1.worker.http;
    let named = http.location(h1.last_location());
    if named.tls.as_ref().is_some_and(|tls| tls.reject) {
        failed(h1, Level::Info, failure::REJECTED);
        return Err(refuse(h1, UNRECOGNIZED_NAME));
    }
    let default = http.location(http.server(h1.addr_conf.default_server).location);
    // A server without certificates of its own has the default one's.
    let of =
        [named, default].into_iter().find(|loc| loc.tls.as_ref().is_some_and(|tls| tls.configs.is_some()));
    let server = of.or(Some(default)).and_then(|loc| loc.tls.clone());
    let Some(server) = server else { return Err(refuse(h1, INTERNAL_ERROR)) };
    let asks_status = hello.as_ref().is_some_and(|hello| hello.extension(STATUS_REQUEST).is_some());
    let stapling = server.stapling.clone().filter(|_| asks_status);
    let hooks = Hooks {
        first: default.handshake.clone(),
        later: of.and_then(|loc| loc.handshake.clone()),
        own: named.handshake.clone(),
    };
    let needed = hooks.any() || server.source.is_some() || server.revocation.is_some() || stapling.is_some();
    let r = needed.then(|| stand_in(h1));
    if let (Some(stapling), Some(r)) = (stapling, &r) {
        stapling.asked(r);
    }
    let enabled = if hooks.any() { server.enabled() } else { Enabled::default() };
    let handshake = Handshake::new(hello, info.clone(), enabled);
    if hooks.any() {
        let _ = h1.conn.handshake.set(handshake.clone());
    }
    let hooked = match &r {
        Some(r) => hooks.before(h1, r, &handshake).await?,
        None => (false, false),
    };
    if let (Some(source), Some(r)) = (&server.source, &r) {
        match source.certificates(r).await {
            Ok(certificates) => {
                let offered = Offered { certificates, alone: true, response: None };
                *handshake.offered.borrow_mut() = Some(offered);
            }
            Err(error) => {
                crate::engine::report(r, &error);
                failed(h1, Level::Info, failure::NO_CERTIFICATE);
                return Err(refuse(h1, INTERNAL_ERROR));
            }
        }
    }
    if let Some(r) = &r {
        hooks.certificate(h1, r, &handshake).await?;
    }
    drive(h1, &server, &handshake, hooked).await?;
    if let Some(r) = &r {
        hooks.after(h1, r, &handshake).await;
    }
    handshake.hello.take();
    let chain = check_client(&server, &handshake);
    if let (Some(check), Some(r), Some(chain)) = (&server.revocation, &r, chain)
        && let Err(reason) = check.clone().check(r, chain).await
    {
        let _ = info.revoked.set(reason);
    }
    Ok(())
}

/// The code that takes part in this handshake.
struct Hooks {
    /// The default server's: whether the client's first message is looked at.
    first: Option<Arc<dyn Hook>>,
    /// That of the server with the certificates: whether it is asked for others.
    later: Option<Arc<dyn Hook>>,
    /// That of the server that the client named.
    own: Option<Arc<dyn Hook>>,
}

impl Hooks {
    fn any(&self) -> bool {
        self.first.is_some() || self.later.is_some() || self.own.is_some()
    }

    /// Runs what comes before certificates. Whether code looks for sessions, and whether it keeps them.
    async fn before(
        &self,
        h1: &Rc<H1>,
        r: &RequestRef,
        handshake: &Rc<Handshake>,
    ) -> Result<(bool, bool), Refused> {
        if runs_at(&self.first, Moment::ClientHello) {
            self.run(Moment::ClientHello, h1, r, handshake).await.map_err(|Refused| {
                failed(h1, Level::Info, failure::REJECTED);
                refuse(h1, INTERNAL_ERROR)
            })?;
        }
        if handshake.versions.get().is_some_and(|(tls12, tls13)| !tls12 && !tls13) {
            failed(h1, Level::Info, failure::UNSUPPORTED_PROTOCOL);
            return Err(refuse(h1, PROTOCOL_VERSION));
        }
        let finds = runs_at(&self.own, Moment::FetchSession);
        let wanted = if finds { handshake.wanted_session() } else { None };
        if let Some(id) = wanted {
            *handshake.sessions.found.lock() = Some((id, Vec::new()));
            // Without a session the handshake is a whole one, whatever became of the code.
            let _ = self.run(Moment::FetchSession, h1, r, handshake).await;
            let mut found = handshake.sessions.found.lock();
            *found = found.take().filter(|(_, session)| !session.is_empty());
        }
        Ok((finds, runs_at(&self.own, Moment::StoreSession)))
    }

    async fn certificate(
        &self,
        h1: &Rc<H1>,
        r: &RequestRef,
        handshake: &Rc<Handshake>,
    ) -> Result<(), Refused> {
        if !runs_at(&self.later, Moment::Certificate) {
            return Ok(());
        }
        self.run(Moment::Certificate, h1, r, handshake).await.map_err(|Refused| {
            failed(h1, Level::Info, failure::NO_CERTIFICATE);
            refuse(h1, INTERNAL_ERROR)
        })?;
        let offered = handshake.offered.borrow();
        if offered.as_ref().is_some_and(|offered| offered.alone && offered.certificates.is_empty()) {
            let newest = handshake.version() == hook::TLS13;
            failed(h1, Level::Info, if newest { failure::NO_SIGNATURE } else { failure::NO_CIPHER });
            return Err(refuse(h1, HANDSHAKE_FAILURE));
        }
        Ok(())
    }

    /// Runs what comes when everything is agreed on.
    async fn after(&self, h1: &Rc<H1>, r: &RequestRef, handshake: &Rc<Handshake>) {
        let made = handshake.sessions.made.lock().is_some();
        if made {
            let _ = self.run(Moment::StoreSession, h1, r, handshake).await;
            handshake.sessions.made.lock().take();
        }
    }

    /// Runs the code of the named server, as long as a handshake may take.
    async fn run(
        &self,
        moment: Moment,
        h1: &Rc<H1>,
        r: &RequestRef,
        handshake: &Rc<Handshake>,
    ) -> Result<(), Refused> {
        let Some(hook) = self.own.as_ref().filter(|hook| hook.runs_at(moment)) else {
            let name = String::from_utf8_lossy(&r.srv().name).into_owned();
            let directive = match moment {
                Moment::ClientHello => "ssl_client_hello_by_lua*",
                Moment::Certificate => "ssl_certificate_by_lua*",
                Moment::FetchSession => "ssl_session_fetch_by_lua*",
                Moment::StoreSession => "ssl_session_store_by_lua*",
            };
            h1.say(Level::Alert, format_args!("no {directive} defined in server {name} while {HANDSHAKING}"));
            return Err(Refused);
        };
        let mut running = hook.run(moment, r, handshake);
        let done = poll_fn(|cx| match running.as_mut().poll(cx) {
            Poll::Pending => h1.timeout.poll(cx).map(|()| None),
            Poll::Ready(good) => Poll::Ready(Some(good)),
        });
        match done.await {
            Some(true) => Ok(()),
            Some(false) => Err(Refused),
            None => Err(timed_out(h1)),
        }
    }
}

fn runs_at(hook: &Option<Arc<dyn Hook>>, moment: Moment) -> bool {
    hook.as_ref().is_some_and(|hook| hook.runs_at(moment))
}

/// The server that the client named; `Err` when that cannot be found out.
fn choose_server(h1: &H1, info: &Info) -> Result<(), ()> {
    let Some(name) = info.server_name.as_deref().filter(|name| !name.is_empty()) else { return Ok(()) };
    let mut lower = Vec::new();
    if host::validate(name, &mut lower).is_err() || !h1.addr_conf.has_names() {
        return Ok(());
    }
    if let Some(server) = h1.addr_conf.find_named(&lower).map_err(drop)? {
        h1.conn.server.set(server);
        info.chosen_by_name.set(true);
    }
    Ok(())
}

/// A request that stands for the connection while there is none.
fn stand_in(h1: &Rc<H1>) -> RequestRef {
    let server: ServerId = h1.conn.server.get();
    let r = Request::start(NewRequest {
        worker: h1.worker.clone(),
        conn: h1.conn.clone(),
        exchange: h1.clone(),
        server,
        location: h1.worker.http.server(server).location,
        parent: None,
    });
    r.action.set(HANDSHAKING);
    r
}

async fn drive(
    h1: &Rc<H1>,
    server: &ServerTls,
    handshake: &Handshake,
    hooked: (bool, bool),
) -> Result<(), Refused> {
    let info = &*handshake.info;
    let Some(stream) = h1.io.tls() else { return Err(Refused) };
    let http2 = super::offers_http2(h1);
    let hooks = h1.conn.handshake.get().is_some();
    let begun = if hooks { server.begin_with(http2, handshake, hooked) } else { server.begin(http2) };
    let side = match begun {
        Some(Ok(side)) => side,
        None => {
            failed(h1, Level::Info, failure::NO_CERTIFICATE);
            return Err(refuse(h1, INTERNAL_ERROR));
        }
        Some(Err(error)) => {
            h1.say(Level::Alert, format_args!("SSL_new() failed ({error}) while {HANDSHAKING}"));
            return Err(Refused);
        }
    };
    let received = {
        let mut buffer = h1.buffer.borrow_mut();
        let received = buffer.get(h1.at.get()..).unwrap_or_default().to_vec();
        buffer.clear();
        h1.at.set(0);
        received
    };
    stream.begin(Session::new(side, received));
    let offered = handshake.offered.take();
    let result = poll_fn(|cx| {
        if h1.timeout.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // It may be asked for twice.
        certificate::offer(offered.clone());
        let mut buffer = h1.buffer.borrow_mut();
        let handshake = stream.poll_handshake(&mut buffer, cx);
        certificate::offer(None);
        if let Some(scheme) = certificate::taken_scheme() {
            info.scheme.set(scheme);
        }
        if let Some(scheme) = certificate::taken_client_scheme() {
            info.client_scheme.set(scheme);
        }
        handshake.map(Some)
    })
    .await;
    match result {
        Some(Ok(())) => {
            stream.with_side(|side| info.update(side));
            describe(h1, info);
            if let Some(secrets) = secrets::taken(stream.server_random()) {
                let _ = info.secrets.set(secrets);
            }
            if let Some(id) = stream.session_id() {
                let _ = info.session_id.set(id);
            }
            Ok(())
        }
        None => Err(timed_out(h1)),
        Some(Err(Broken::Closed)) => {
            h1.note(format_args!("peer closed connection in SSL handshake while {HANDSHAKING}"));
            Err(Refused)
        }
        Some(Err(Broken::Io(error))) => {
            let error = os_error(&error);
            h1.note(format_args!("peer closed connection in SSL handshake ({error}) while {HANDSHAKING}"));
            Err(Refused)
        }
        Some(Err(Broken::Tls(error))) => {
            let described = failure::describe(&error);
            let level = match described.blame {
                Blame::Peer => Level::Info,
                Blame::Us => Level::Crit,
            };
            failed(h1, level, &described.text);
            // What is still unread would turn the close into a reset, and the alert be lost with it.
            let _ = h1.io.shutdown_write();
            Err(Refused)
        }
    }
}

/// What was agreed on, for those who look closely.
fn describe(h1: &H1, info: &Info) {
    if h1.is_heard(Level::Debug) {
        let version = names::version(info.version.get()).unwrap_or("unknown");
        let cipher = names::cipher(info.cipher.get()).unwrap_or("unknown");
        h1.say(Level::Debug, format_args!("SSL: {version}, cipher: \"{cipher}\""));
    }
}

fn failed(h1: &H1, level: Level, reason: &str) {
    h1.say(level, format_args!("SSL_do_handshake() failed (SSL: {reason}) while {HANDSHAKING}"));
}

/// Sends an alert before there is a session.
fn refuse(h1: &H1, alert: &[u8]) -> Refused {
    // The connection is closed whether or not it arrives.
    let _ = h1.io.try_write(&[std::io::IoSlice::new(alert)], false);
    let _ = h1.io.shutdown_write();
    Refused
}

/// Checks the certificate that the client showed; what comes of it is decided with each request. Returns a good one's
/// chain.
fn check_client(server: &ServerTls, handshake: &Handshake) -> Option<Vec<Arc<Certificate>>> {
    let info = &handshake.info;
    let own = handshake.client.borrow();
    if server.verify == VerifyClient::Off && own.is_none() {
        return None;
    }
    let chain = info.certificates.get().filter(|chain| !chain.is_empty())?;
    let now = moonrest_sys::time::wall_coarse().secs;
    let store = own.as_ref().map(|own| &own.store).or(server.store.as_ref())?;
    let verified = store.verify(chain, tls::verify::Purpose::Client, now);
    verified.map_err(|failures| info.verified.set(failures.last.code())).ok()
}
