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
    tls::{ServerTls, VerifyClient},
};
use moonrest_core::{Level, env::os_error};
use moonrest_net::tls::{
    self, Info, certificate,
    failure::{self, Blame},
    session::Session,
    stream::Broken,
    x509::Certificate,
};
use moonrest_proto::{
    http1::host,
    tls::{ClientHello, Parse, parse},
};
use std::{future::poll_fn, rc::Rc, sync::Arc};

/// What follows `while` in the log.
const HANDSHAKING: &str = "SSL handshaking";
/// `unrecognized_name`, fatal, in a record of its own.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
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
    let after = match agree(&h1, hello.as_deref()).await {
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
async fn agree(h1: &Rc<H1>, hello: Option<&ClientHello>) -> Result<(), Refused> {
    let info = Rc::new(hello.map(Info::new).unwrap_or_default());
    choose_server(h1, &info).map_err(|()| refuse(h1, INTERNAL_ERROR))?;
    // Known to variables from here on: certificates may depend on them.
    let _ = h1.conn.tls.set(info.clone());
    let named = h1.worker.http.location(h1.last_location()).tls.clone();
    if named.as_ref().is_some_and(|tls| tls.reject) {
        failed(h1, Level::Info, failure::REJECTED);
        return Err(refuse(h1, UNRECOGNIZED_NAME));
    }
    let default = || h1.worker.http.location(h1.worker.http.server(h1.addr_conf.default_server).location);
    // A server without certificates of its own has the default one's.
    let server = named.filter(|tls| tls.configs.is_some()).or_else(|| default().tls.clone());
    let Some(server) = server else { return Err(refuse(h1, INTERNAL_ERROR)) };
    let asks_status = hello.is_some_and(|hello| hello.extension(STATUS_REQUEST).is_some());
    let stapling = server.stapling.clone().filter(|_| asks_status);
    let needed = server.source.is_some() || server.revocation.is_some() || stapling.is_some();
    let r = needed.then(|| stand_in(h1));
    if let (Some(stapling), Some(r)) = (stapling, &r) {
        stapling.asked(r);
    }
    let certificates = match (&server.source, &r) {
        (Some(source), Some(r)) => match source.certificates(r).await {
            Ok(certificates) => Some(certificates),
            Err(error) => {
                crate::engine::report(r, &error);
                failed(h1, Level::Info, failure::NO_CERTIFICATE);
                return Err(refuse(h1, INTERNAL_ERROR));
            }
        },
        _ => None,
    };
    drive(h1, &server, &info, certificates).await?;
    let chain = check_client(&server, &info);
    if let (Some(check), Some(r), Some(chain)) = (&server.revocation, &r, chain)
        && let Err(reason) = check.clone().check(r, chain).await
    {
        let _ = info.revoked.set(reason);
    }
    Ok(())
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
    info: &Info,
    certificates: Option<Vec<Arc<certificate::CertifiedKey>>>,
) -> Result<(), Refused> {
    let Some(stream) = h1.io.tls() else { return Err(Refused) };
    let side = match server.begin(super::offers_http2(h1)) {
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
    let mut certificates = certificates;
    let result = poll_fn(|cx| {
        if h1.timeout.poll(cx).is_ready() {
            return std::task::Poll::Ready(None);
        }
        certificate::offer(certificates.take());
        let mut buffer = h1.buffer.borrow_mut();
        let handshake = stream.poll_handshake(&mut buffer, cx);
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
fn check_client(server: &ServerTls, info: &tls::Info) -> Option<Vec<Arc<Certificate>>> {
    if server.verify == VerifyClient::Off {
        return None;
    }
    let chain = info.certificates.get().filter(|chain| !chain.is_empty())?;
    let now = moonrest_sys::time::wall_coarse().secs;
    let verified = server.store.as_ref()?.verify(chain, tls::verify::Purpose::Client, now);
    verified.map_err(|failures| info.verified.set(failures.last.code())).ok()
}
