//! Requests that no client has sent: they ask one peer of an upstream how it is, with all that a location says about
//! asking there. Whoever sends them judges the answer.
//!
//! ```text
//! Question ─► a request in its location ─► the location's own handler ─► run() ─► head and body, kept for the asker
//! ```

use super::{
    Destination, GroupId,
    body::{Broken, Decoded},
    conf::mask,
    connect::Conn,
    pool,
    run::{Failure, Run},
    state::{Attempt, Called, Name},
    tls::Link,
};
use crate::{
    exchange::{BodyRead, Connection, Exchange, Output},
    location::{LocId, ServerId},
    phase::{Flow, RequestError, Step},
    request::{NewRequest, Request, RequestRef},
    worker::Worker,
};
use bytes::Bytes;
use moonrest_core::{Level, upstream::Peer};
use moonrest_net::addr::Addr;
use moonrest_proto::{
    http1::{HeadLimits, Parse},
    uri,
};
use moonrest_rt::clock::monotonic_ms;
use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    fmt::Write,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

/// Bytes of an answer's body that are looked at.
const MOST_BODY: usize = 256 * 1024;
/// Bytes that an upstream is read by.
const STEP: usize = 16 * 1024;

/// One peer that is asked from time to time.
pub struct Probe {
    pub peer: Arc<Peer>,
    /// The peer's, perhaps with another port.
    addr: Addr,
    /// What log lines say.
    label: String,
    /// Connections are kept so long, in milliseconds.
    keepalive: Option<u64>,
    /// The answer's body is of interest.
    pub wants_body: bool,
    kept: RefCell<Option<Box<Conn>>>,
    /// What has come of the body.
    pub body: RefCell<Vec<u8>>,
    answered: Cell<bool>,
}

/// What is asked, and where.
pub struct Question<'a> {
    pub location: LocId,
    pub server: ServerId,
    pub method: &'a str,
    /// Path and arguments, as sent.
    pub target: &'a [u8],
    pub fields: &'a [(&'a [u8], &'a [u8])],
    pub body: Option<Bytes>,
}

impl Probe {
    /// A peer to be asked, at another port perhaps. `label` is what log lines call that.
    pub fn new(peer: Arc<Peer>, port: Option<u16>, keepalive: Option<u64>, label: String) -> Rc<Self> {
        let addr = match (&peer.addr, port) {
            (Addr::Inet(addr), Some(port)) => Addr::Inet(std::net::SocketAddr::new(addr.ip(), port)),
            (addr, _) => addr.clone(),
        };
        Rc::new(Self {
            peer,
            addr,
            label,
            keepalive,
            wants_body: true,
            kept: RefCell::default(),
            body: RefCell::default(),
            answered: Cell::new(false),
        })
    }

    /// Asks. The request carries the answer: its head as every request to an upstream ([`super::States`]), its body here.
    /// `false` when there is none; the log says why, and the request's action what was being done.
    pub async fn ask(self: &Rc<Self>, worker: &Rc<Worker>, question: &Question<'_>) -> (RequestRef, bool) {
        let r = self.request(worker, question);
        self.body.borrow_mut().clear();
        self.answered.set(false);
        let handler = r.loc().content.clone();
        let flow = match handler.map(|handler| handler.handle(&r)) {
            Some(Ok(Step::Wait(waits))) => waits.await,
            Some(Ok(Step::Now(flow))) => Ok(flow),
            Some(Err(error)) => Err(error),
            None => Ok(Flow::Next),
        };
        if let Err(error) = flow {
            crate::engine::report(&r, &error);
        }
        (r, self.answered.get())
    }

    fn request(self: &Rc<Self>, worker: &Rc<Worker>, question: &Question<'_>) -> RequestRef {
        let unknown = || Addr::Unix(Box::default());
        let conn = Connection {
            number: 0,
            remote: unknown(),
            local: OnceCell::from(Box::new(unknown())),
            listener: 0,
            started: monotonic_ms(),
            requests: Cell::new(1),
            proxy_protocol: OnceCell::new(),
            server: Cell::new(question.server),
            tls: OnceCell::new(),
            handshake: OnceCell::new(),
            socket: Cell::new(None),
        };
        let r = Request::start(NewRequest {
            worker: worker.clone(),
            conn: Rc::new(conn),
            exchange: Rc::new(Nobody),
            server: question.server,
            location: question.location,
            parent: None,
        });
        r.probes.set(true);
        r.keep_ctx(self.clone(), true);
        r.started_ms.set(monotonic_ms());
        let mut text = format!("{} ", question.method).into_bytes();
        text.extend_from_slice(question.target);
        text.extend_from_slice(b" HTTP/1.0\r\n");
        for (name, value) in question.fields {
            text.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
        }
        text.extend_from_slice(b"\r\n");
        {
            let mut head = r.head.borrow_mut();
            if let Ok(Parse::Complete { .. }) = head.parse(&text, &HeadLimits::default()) {
                r.method.set(head.method);
                r.version.set(head.version);
                r.args.borrow_mut().extend_from_slice(head.args.of(&text));
                let mut path = r.uri.borrow_mut();
                if uri::normalize(head.path.of(&text), false, &mut path).is_err() {
                    path.clear();
                    path.extend_from_slice(head.path.of(&text));
                }
                r.complex_uri.set(head.complex);
            }
        }
        *r.block.borrow_mut() = text;
        // The path is meant as it stands: nothing of it is replaced by what a `proxy_pass` has.
        r.valid_location.set(false);
        if let Some(body) = &question.body {
            r.set_body(body.clone());
        }
        r
    }

    /// A connection that was kept, if it is still good.
    fn take_kept(&self, link: &Link) -> Option<Box<Conn>> {
        let mut conn = self.kept.borrow_mut().take()?;
        let young = monotonic_ms().saturating_sub(conn.started) < self.keepalive?;
        (young && conn.link == *link && pool::is_silent(&conn)).then(|| {
            conn.timeout.clear();
            conn.reused = true;
            conn
        })
    }
}

impl Run {
    /// Asks the one peer that the request is about.
    pub(super) async fn probe(
        &mut self,
        destination: Destination,
        secure: bool,
    ) -> Result<Flow, RequestError> {
        let Some(probe) = self.r.find_ctx::<Probe>() else { return Ok(Flow::Finish(500)) };
        let id: Option<GroupId> = match &destination {
            Destination::Group(id) => Some(*id),
            Destination::Dynamic { .. } => None,
        };
        *self.states.upstream.borrow_mut() = id.map(Called::Group);
        if secure {
            match self.secure_link(id, &destination) {
                Ok(link) => self.link.secure = Some(Rc::new(link)),
                Err(status) => return Ok(Flow::Finish(status)),
            }
        }
        self.act("connecting to upstream");
        let asked = match self.ask_probed(&probe, true).await {
            // It may have been closed when the request was on its way.
            Err(Failure::Next(mask::ERROR)) if self.conn.as_ref().is_some_and(|conn| conn.reused) => {
                self.ask_probed(&probe, false).await
            }
            asked => asked,
        };
        match asked {
            Ok(()) => {
                probe.answered.set(true);
                Ok(Flow::Responded)
            }
            Err(Failure::Next(reason)) => {
                if reason == mask::TIMEOUT {
                    self.log(Level::Error, format_args!("upstream timed out (110: Connection timed out)"));
                }
                Ok(Flow::Finish(502))
            }
            Err(Failure::Finish(status)) => Ok(Flow::Finish(status)),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    async fn ask_probed(&mut self, probe: &Probe, kept: bool) -> Result<(), Failure> {
        self.http2 = None;
        self.conn = None;
        self.sent = false;
        self.held = true;
        self.started = monotonic_ms();
        let name = Some(Name::Peer(probe.peer.clone()));
        self.states.attempts.borrow_mut().push(Attempt { name, ..Attempt::default() });
        self.conn = if kept { probe.take_kept(&self.link) } else { None };
        if self.conn.is_none() {
            self.conn = Some(self.connect(&probe.addr).await?);
        }
        if let Some(conn) = &mut self.conn {
            conn.requests += 1;
        }
        let took = self.elapsed();
        self.states.with(|attempt| attempt.connect_time = Some(took));
        self.talk().await?;
        let bodiless = self.framing.empty || self.framing.tunnel;
        if bodiless || !(probe.wants_body || probe.keepalive.is_some()) {
            self.release(self.is_exact());
            return Ok(());
        }
        self.act("reading upstream");
        let limit =
            self.timeouts.connect.saturating_add(self.timeouts.send).saturating_add(self.timeouts.read);
        loop {
            if self.elapsed() > limit {
                // Single bytes do not keep it waiting.
                return Err(Failure::Next(mask::TIMEOUT));
            }
            match self.decode() {
                Ok(Decoded::Data(data)) => {
                    let mut body = probe.body.borrow_mut();
                    let room = MOST_BODY.saturating_sub(body.len()).min(data.len());
                    body.extend_from_slice(data.get(..room).unwrap_or_default());
                    if body.len() >= MOST_BODY {
                        self.release(false);
                        return Ok(());
                    }
                }
                Ok(Decoded::End) => return Ok(()),
                Ok(Decoded::Need) => match poll_fn(|cx| self.poll_more(STEP, cx)).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(broken) => return Err(self.not_answered(broken)),
                },
                Err(broken) => return Err(self.not_answered(broken)),
            }
        }
    }

    fn not_answered(&mut self, broken: Broken) -> Failure {
        self.give_up(broken);
        Failure::Next(mask::INVALID_HEADER)
    }

    /// Keeps the connection for the next question to the same peer.
    pub(super) fn keep_probed(&self, conn: Box<Conn>) {
        if let Some(probe) = self.r.find_ctx::<Probe>()
            && probe.keepalive.is_some()
            && !self.local.is_quitting()
        {
            *probe.kept.borrow_mut() = Some(conn);
        }
    }
}

/// Appends `, health check "x" of peer 127.0.0.1:8080 in upstream "u"`.
pub(crate) fn append_context(r: &Request, line: &mut String) {
    if let Some(probe) = r.find_ctx::<Probe>() {
        let _ = write!(line, ", {}", probe.label);
    }
}

/// There is no client.
struct Nobody;

impl Exchange for Nobody {
    fn send_head(&self, _: &Request, _: bool) -> Result<(), RequestError> {
        Ok(())
    }

    fn send_interim(&self, _: &Request, _: u16, _: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
        Ok(())
    }

    fn push(&self, _: &Request, _: Output) -> Result<(), RequestError> {
        Ok(())
    }

    fn finish(&self, _: &Request) -> Result<(), RequestError> {
        Ok(())
    }

    fn flush(&self, _: &Request) {}

    fn poll_drained(&self, _: &Request, _: usize, _: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_body(&self, _: &Request, _: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        Poll::Ready(Ok(BodyRead::End))
    }

    fn poll_closed(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn abort(&self, _: &Request) {}

    fn expect_continue(&self, _: &Request) -> Result<(), RequestError> {
        Ok(())
    }

    fn local_addr(&self) -> Addr {
        Addr::Unix(Box::default())
    }

    fn bytes_sent(&self) -> u64 {
        0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
