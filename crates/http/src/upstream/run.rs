//! The way of one request: its body, peer after peer, and the decision whether another one is asked.

use super::{
    Conf, GroupId, Local, Protocol, RequestLength,
    balancer::{Choosing, LastFailure},
    cached::{self, Caching, Found},
    choose::{Chosen, Own},
    conf::mask,
    connect::{self, Conn, Options},
    define::HashKey,
    http2::Exchange,
    pool::Lane,
    protocol::Framing,
    recorder::Recorder,
    state::{Attempt, CacheStatus, States},
    tls::{Link, Secure},
};
use crate::{
    body::{self, BodyFile, BodyState},
    exchange::BodyRead,
    phase::{Flow, RequestError},
    request::{Request, RequestRef},
    server::Queue,
};
use bytes::Bytes;
use moonrest_core::{
    Level,
    upstream::{Outcome, Peer, Peers, Selection, Server, Target},
};
use moonrest_net::addr::Addr;
use moonrest_proto::http1::{Body, Method};
use moonrest_sys::time::monotonic_coarse_ms;
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Bytes that most requests to upstreams do not exceed.
const REQUEST_SIZE: usize = 512;

/// What a module wants asked.
pub struct Job {
    pub conf: Arc<Conf>,
    pub destination: Destination,
    pub protocol: Box<dyn Protocol>,
    /// The client's body is passed on; otherwise the protocol has its own, or there is none.
    pub pass_body: bool,
    /// The client's body may be passed on while it comes.
    pub stream_body: bool,
    /// Connections are encrypted.
    pub secure: bool,
}

/// Where to ask.
#[derive(Clone, Debug)]
pub enum Destination {
    Group(GroupId),
    /// An address made of variables: the name of an upstream, an address, or a name to be looked up.
    Dynamic {
        host: Vec<u8>,
        port: u16,
        no_port: bool,
        addr: Option<Addr>,
    },
}

/// Why an attempt came to nothing.
pub(super) enum Failure {
    /// For this reason; perhaps another server is asked.
    Next(u32),
    /// No other server would do better.
    Fatal(RequestError),
    /// The balancer has this answer.
    Finish(u16),
}

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub connect: u64,
    pub send: u64,
    pub read: u64,
}

/// Where the request's body comes from.
pub(super) enum Source {
    None,
    Memory(Vec<Bytes>),
    File(Rc<BodyFile>),
    /// It is passed on while the client sends it; what was there at the beginning is passed on first.
    Stream {
        early: Vec<Bytes>,
        ended: bool,
    },
}

/// One request on its way.
pub(super) struct Run {
    pub r: RequestRef,
    pub conf: Arc<Conf>,
    pub protocol: Box<dyn Protocol>,
    pub states: Rc<States>,
    pub(super) local: Rc<Local>,
    pub(super) group: Option<GroupId>,
    pub(super) selection: Option<Selection>,
    /// What `sticky` goes by.
    pub(super) session: Option<Vec<u8>>,
    pub(super) bind: Option<SocketAddr>,
    pub(super) timeouts: Timeouts,
    /// A balancer of its own that the upstream has, and what it says.
    pub(super) choosing: Option<Rc<Choosing>>,
    /// The peer of the present attempt.
    pub(super) target: Option<Chosen>,
    /// The client's body belongs to the request.
    pub(super) pass_body: bool,
    /// In which way its connections are made.
    pub link: Link,
    /// The present request, if HTTP/2 is spoken. It goes before its connection.
    pub http2: Option<Box<Exchange>>,
    pub conn: Option<Box<Conn>>,
    pub queue: Queue,
    /// What has been read of a head.
    pub input: Vec<u8>,
    /// What has been read of a body and not used.
    pub rest: Bytes,
    pub source: Source,
    pub recorder: Option<Box<dyn Recorder>>,
    /// What a cache has to do with it.
    pub caching: Option<Box<Caching>>,
    /// The client's leaving ends the request.
    pub watch: bool,
    /// When the first and the present attempt began.
    first_started: u64,
    pub(super) started: u64,
    /// Something of the request was sent; all of it was.
    pub sent: bool,
    pub sent_all: bool,
    pub write_error: Option<io::Error>,
    pub framing: Framing,
}

/// Asks an upstream and passes its answer to the client.
///
/// # Errors
/// When the client left, or the answer broke off behind its head.
pub async fn run(r: RequestRef, job: Job) -> Result<Flow, RequestError> {
    run_with(r, job, None).await
}

/// The same for a request whose cache, if it has one, was asked already.
pub(super) async fn run_with(
    r: RequestRef,
    job: Job,
    asked: Option<Option<Box<Caching>>>,
) -> Result<Flow, RequestError> {
    let Job { conf, destination, mut protocol, pass_body, stream_body, secure } = job;
    let stream =
        stream_body && pass_body && !conf.request_buffering && r.has_unread_body() && !r.is_subrequest();
    let source = match stream {
        true => begin_stream(&r)?,
        false => {
            body::read(&r).await?;
            if pass_body { buffered(&r) } else { Source::None }
        }
    };
    let caching = match asked {
        Some(caching) => caching,
        None if conf.cache.is_none() || r.probes.get() => {
            cached::forget(&r);
            None
        }
        None => match Box::pin(cached::find(&r, &conf, &*protocol)).await? {
            Found::Answered(flow) => return Ok(flow),
            Found::Ask(caching) => caching,
        },
    };
    let states = r.lasting_ctx::<States>();
    states.begin(protocol.scheme());
    let mut request = std::mem::take(&mut *states.request.borrow_mut());
    request.clear();
    // Most requests fit; growing by doubling costs more than all the rest of writing one.
    request.reserve(REQUEST_SIZE);
    let shown = protocol.request(&r, length(&r, &source, pass_body), &mut request)?;
    *states.request.borrow_mut() = request;
    *states.shown.borrow_mut() = shown;
    let local = r.worker.upstreams();
    let http2 = protocol.is_http2();
    let recorder = if r.probes.get() { None } else { super::recorder::for_request(&r, &conf) };
    let watch = recorder.is_none() && !states.is_cacheable() && !conf.ignore_client_abort;
    let mut run = Run {
        timeouts: Timeouts {
            connect: conf.connect_timeout,
            send: conf.send_timeout,
            read: conf.read_timeout,
        },
        choosing: None,
        target: None,
        pass_body,
        bind: conf.bind.as_ref().and_then(|bind| bind.address(&r)),
        queue: local.take_queue(),
        r,
        conf,
        protocol,
        states,
        local,
        group: None,
        selection: None,
        session: None,
        link: Link { http2, secure: None },
        http2: None,
        conn: None,
        input: Vec::new(),
        rest: Bytes::new(),
        source,
        recorder,
        caching,
        watch,
        first_started: 0,
        started: 0,
        sent: false,
        sent_all: false,
        write_error: None,
        framing: Framing::default(),
    };
    if run.r.probes.get() {
        return Box::pin(run.probe(destination, secure)).await;
    }
    let result = match run.find_peers(destination, secure).await {
        Ok(()) => run.attempts().await,
        Err(status) => Ok(run.fail(status)),
    };
    run.end();
    result
}

/// Takes what has come of a body that is to be passed on while it comes. If that is all of it, it is as if it had been
/// buffered.
fn begin_stream(r: &Request) -> Result<Source, RequestError> {
    r.exchange.expect_continue(r)?;
    r.body.borrow_mut().state = BodyState::Streamed;
    let room = r.loc().core.client_body_buffer_size;
    let mut cx = Context::from_waker(Waker::noop());
    let (mut early, mut len) = (Vec::new(), 0);
    while len < room {
        match r.exchange.poll_body(r, &mut cx) {
            Poll::Pending => break,
            Poll::Ready(read) => match read? {
                BodyRead::Data(data) => {
                    len += data.len() as u64;
                    r.body.borrow_mut().received = len;
                    body::check_size(r, len)?;
                    early.push(data);
                }
                BodyRead::End => {
                    let mut body = r.body.borrow_mut();
                    body.state = BodyState::Complete;
                    body.memory_len = len;
                    body.memory.clone_from(&early);
                    return Ok(if early.is_empty() { Source::None } else { Source::Memory(early) });
                }
            },
        }
    }
    Ok(Source::Stream { early, ended: false })
}

/// The body as it was read.
pub(super) fn buffered(r: &Request) -> Source {
    let body = r.body.borrow();
    match &body.file {
        Some(file) => Source::File(file.clone()),
        None if body.memory.is_empty() => Source::None,
        None => Source::Memory(body.memory.clone()),
    }
}

pub(super) fn length(r: &Request, source: &Source, pass_body: bool) -> RequestLength {
    let framing = r.framing.get().body;
    match source {
        Source::Stream { .. } => match framing {
            Body::Length(length) => RequestLength::Known(length),
            _ => RequestLength::Unknown,
        },
        Source::Memory(pieces) => RequestLength::Known(pieces.iter().map(|piece| piece.len() as u64).sum()),
        Source::File(file) => RequestLength::Known(file.len.get()),
        Source::None if !pass_body => match framing {
            // nginx: announced even when it is not passed on, unless the configuration says otherwise.
            Body::Length(length) => RequestLength::Known(length),
            Body::Chunked => RequestLength::Known(r.body.borrow().received),
            Body::None => RequestLength::None,
        },
        // A subrequest has no body of its own; the client's may not have been read.
        Source::None if r.is_subrequest() || framing == Body::None => RequestLength::None,
        Source::None => RequestLength::Known(0),
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.local.give_queue(std::mem::take(&mut self.queue));
    }
}

impl Run {
    /// Sets what is being done, for log lines.
    pub(super) fn act(&self, action: &'static str) {
        self.r.main().action.set(action);
    }

    /// Writes to the error log.
    pub(super) fn log(&self, level: Level, message: std::fmt::Arguments<'_>) {
        if self.r.log().enabled(level) {
            self.r.log_at(level, message);
        }
    }

    /// Finds out who can be asked. A status when nobody can.
    async fn find_peers(&mut self, destination: Destination, secure: bool) -> Result<(), u16> {
        let id = match &destination {
            Destination::Group(id) => Some(*id),
            Destination::Dynamic { host, port, no_port, .. } => {
                self.local.main().and_then(|main| main.find(host, *port, *no_port))
            }
        };
        let known = id.and_then(|id| self.local.definition(id));
        *self.states.upstream.borrow_mut() = match (&destination, known) {
            (_, Some(definition)) => Some(definition.full_name()),
            (Destination::Dynamic { host, .. }, None) => Some(String::from_utf8_lossy(host).into_owned()),
            (Destination::Group(_), None) => None,
        };
        if secure {
            self.link.secure = Some(Rc::new(self.secure_link(id, &destination)?));
        }
        let selection = match (id, destination) {
            (Some(id), _) => self.select_in_group(id)?,
            (None, Destination::Dynamic { host, port, addr, .. }) => {
                let shown = String::from_utf8_lossy(&host).into_owned();
                if port == 0 && !matches!(addr, Some(Addr::Unix(_))) {
                    crate::error!(self.r, "no port in upstream \"{shown}\"");
                    return Err(500);
                }
                let addrs = match addr {
                    Some(addr) => vec![addr],
                    None => Box::pin(super::resolve::lookup(&self.r, &host, port)).await?,
                };
                let server = Arc::new(Server::implicit(&host, Target::Addrs(Vec::new()), None));
                let peers = addrs.into_iter().map(|addr| Arc::new(Peer::new(addr, server.clone()))).collect();
                let peers = Peers::new(host.into(), moonrest_core::upstream::Method::RoundRobin, peers);
                Selection::new(Arc::new(peers), b"")
            }
            (None, Destination::Group(_)) => {
                crate::alert!(self.r, "no upstream configuration");
                return Err(500);
            }
        };
        let mut selection = selection;
        let limit = self.conf.next_upstream_tries;
        if limit != 0 {
            selection.tries = selection.tries.min(limit);
        }
        self.selection = Some(selection);
        Ok(())
    }

    /// The way of encrypted connections.
    pub(super) fn secure_link(&self, id: Option<GroupId>, destination: &Destination) -> Result<Secure, u16> {
        let Some(tls) = &self.conf.tls else {
            crate::alert!(self.r, "no TLS configuration");
            return Err(500);
        };
        let host = match (destination, id.and_then(|id| self.local.definition(id))) {
            (_, Some(definition)) => &definition.name,
            (Destination::Dynamic { host, .. }, None) => &host[..],
            (Destination::Group(_), None) => &[],
        };
        Ok(Secure::new(&self.r, tls, host))
    }

    fn select_in_group(&mut self, id: GroupId) -> Result<Selection, u16> {
        let local = self.local.clone();
        let (Some(group), Some(definition)) = (local.group(id), local.definition(id)) else {
            crate::alert!(self.r, "no upstream configuration");
            return Err(500);
        };
        self.group = Some(id);
        if definition.balancer.is_some() {
            self.choosing = Some(Rc::new(Choosing::new(self.conf.next_upstream_tries)));
        }
        if let Some(sticky) = &definition.sticky {
            self.session = sticky.session(&self.r);
        }
        Ok(match &definition.key {
            None => Selection::new(group.peers.clone(), b""),
            Some(HashKey::Template(template)) => {
                Selection::new(group.peers.clone(), &template.eval(&*self.r))
            }
            Some(HashKey::Client) => {
                let mut key = Vec::with_capacity(16);
                self.r.with_client(|addr| match addr {
                    Addr::Inet(_) => addr.append_binary(&mut key),
                    Addr::Unix(_) => key.extend_from_slice(&[0; 3]),
                });
                // nginx: clients of one small network go together.
                if key.len() == 4 {
                    key.truncate(3);
                }
                Selection::new(group.peers.clone(), &key)
            }
        })
    }

    async fn attempts(&mut self) -> Result<Flow, RequestError> {
        loop {
            let failure = match self.attempt().await {
                Ok(framing) => match self.judge() {
                    None => return self.answer(framing).await,
                    Some(Verdict::Finish(status)) => {
                        self.keep_status(status);
                        return Ok(Flow::Finish(status));
                    }
                    Some(Verdict::Next(reason)) => Failure::Next(reason),
                    Some(Verdict::Stale(status)) => {
                        let exact = framing.empty && self.rest.is_empty();
                        self.release(exact);
                        return Box::pin(self.answer_stale(status)).await;
                    }
                },
                Err(failure) => failure,
            };
            match failure {
                Failure::Fatal(error) => return Err(error),
                Failure::Finish(status) => return Ok(Flow::Finish(status)),
                Failure::Next(reason) => {
                    if let Some(status) = self.next(reason) {
                        if self.may_be_stale(reason) {
                            return Box::pin(self.answer_stale(CacheStatus::Stale)).await;
                        }
                        return Ok(self.fail(status));
                    }
                }
            }
        }
    }

    /// Chooses a peer, connects, sends the request and reads the answer's head.
    async fn attempt(&mut self) -> Result<Framing, Failure> {
        self.act("connecting to upstream");
        self.sent = false;
        self.note_response_time();
        self.started = monotonic_coarse_ms();
        if self.first_started == 0 {
            self.first_started = self.started;
        }
        self.states.attempts.borrow_mut().push(Attempt::default());
        self.states.talking.set(true);
        self.target = None;
        let chosen = self.choose().await?;
        self.conn = self.pooled(&chosen);
        self.target = Some(chosen);
        if self.conn.is_none()
            && let Some(target) = &self.target
        {
            // What few requests do is kept out of the future that all of them are.
            self.conn = Some(Box::pin(self.connect(target.addr())).await?);
        }
        if let Some(conn) = &mut self.conn {
            conn.requests += 1;
        }
        let reused = self.conn.as_ref().is_some_and(|conn| conn.reused);
        let took = if reused { 0 } else { self.elapsed() };
        self.states.with(|attempt| attempt.connect_time = Some(took));
        let framing = self.talk().await?;
        let took = self.elapsed();
        let status = self.states.answer.borrow().head.status;
        self.states.with(|attempt| {
            attempt.header_time = Some(took);
            attempt.status = status;
        });
        self.framing = framing.clone();
        Ok(framing)
    }

    /// A connection to that peer that is kept from an earlier request.
    fn pooled(&self, chosen: &Chosen) -> Option<Box<Conn>> {
        let id = self.group?;
        let lane = match chosen {
            Chosen::Own(Own { addr, keepalive: Some(_), lane }) => {
                return self.local.group(id)?.kept.take(addr, &self.link, None, lane);
            }
            Chosen::Own(own) => &own.lane,
            Chosen::Peer(_) => &Lane::default(),
        };
        let keepalive = &self.local.definition(id)?.keepalive;
        keepalive.connections.filter(|max| *max > 0)?;
        let tag = keepalive.local.then(|| self.tag());
        self.local.group(id)?.pool.take(chosen.addr(), &self.link, tag, lane)
    }

    fn tag(&self) -> usize {
        Arc::as_ptr(&self.conf) as usize
    }

    pub(super) async fn connect(&self, addr: &Addr) -> Result<Box<Conn>, Failure> {
        let options = Options::new(&self.conf);
        let timeout = moonrest_net::timer::Timeout::new();
        timeout.set(self.timeouts.connect);
        let mut connecting = std::pin::pin!(connect::connect(&options, addr, self.bind));
        let connected = poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Ok(connected));
            }
            if timeout.poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::Next(mask::TIMEOUT)));
            }
            self.poll_gone(cx).map(|error| Err(Failure::Fatal(error)))
        })
        .await?;
        let io = connected.map_err(|error| {
            self.log(error.level, format_args!("{}", error.message));
            if error.ours { Failure::Fatal(RequestError::internal("")) } else { Failure::Next(mask::ERROR) }
        })?;
        let io = match &self.link.secure {
            None => io,
            Some(secure) => self.secure(io, secure, addr).await?,
        };
        Ok(Conn::new(io, self.link.clone()))
    }

    /// Milliseconds since the present attempt began.
    pub(super) fn elapsed(&self) -> u64 {
        monotonic_coarse_ms().saturating_sub(self.started)
    }

    fn note_response_time(&self) {
        self.states.with(|attempt| {
            if attempt.name.is_some() && attempt.response_time.is_none() {
                attempt.response_time = Some(self.elapsed());
            }
        });
    }

    /// Whether the method must not be repeated without permission, and part of the request was sent.
    pub(super) fn is_unsafe(&self) -> bool {
        self.sent && matches!(self.r.method.get(), Method::Post | Method::Lock | Method::Patch)
    }

    fn may_go_on(&self, reason: u32) -> bool {
        let wanted = if self.is_unsafe() { reason | mask::NON_IDEMPOTENT } else { reason };
        let timeout = self.conf.next_upstream_timeout;
        self.conf.next_upstream & wanted == wanted
            && !(self.sent && matches!(self.source, Source::Stream { .. }))
            && !(timeout != 0 && monotonic_coarse_ms().saturating_sub(self.first_started) >= timeout)
    }

    /// An attempt has failed. `None` asks the next server; otherwise the status to answer.
    fn next(&mut self, reason: u32) -> Option<u16> {
        let reused = self.conn.as_ref().is_some_and(|conn| conn.reused);
        self.http2 = None;
        self.conn = None;
        let outcome =
            if reason & (mask::HTTP_403 | mask::HTTP_404) != 0 { Outcome::Next } else { Outcome::Failed };
        let own = self.release_own(match outcome {
            Outcome::Next => LastFailure::Next,
            _ => LastFailure::Failed,
        });
        self.tally(None);
        let disabled = !own && self.selection.as_mut().is_some_and(|selection| selection.release(outcome));
        if disabled {
            self.log(Level::Warn, format_args!("upstream server temporarily disabled"));
        }
        if reason == mask::TIMEOUT {
            self.log(Level::Error, format_args!("upstream timed out (110: Connection timed out)"));
        }
        if reused
            && reason == mask::ERROR
            // What a balancer keeps alive itself is its own affair.
            && self.choosing.is_none()
            && let Some(selection) = &mut self.selection
        {
            // The server may just have closed it: that is no attempt.
            selection.tries += 1;
        }
        let status = match reason {
            mask::TIMEOUT | mask::HTTP_504 => 504,
            mask::HTTP_500 => 500,
            mask::HTTP_503 => 503,
            mask::HTTP_403 => 403,
            mask::HTTP_404 => 404,
            mask::HTTP_429 => 429,
            _ => 502,
        };
        self.states.with(|attempt| attempt.status = status);
        let tries = self.selection.as_ref().map_or(0, |selection| selection.tries);
        if tries == 0 || !self.may_go_on(reason) { Some(status) } else { None }
    }

    /// Whether an answer's status asks for another server, or for a page of our own.
    fn judge(&mut self) -> Option<Verdict> {
        let status = self.states.answer.borrow().head.status;
        if status < 300 {
            return None;
        }
        let tries = self.selection.as_ref().map_or(0, |selection| selection.tries);
        if let Some(reason) = mask::of_status(status)
            && tries > 1
            && self.may_go_on(reason)
        {
            return Some(Verdict::Next(reason));
        }
        if let Some(status) = self.stale_instead(status) {
            return Some(Verdict::Stale(status));
        }
        if status == 404 && self.conf.intercept_404 {
            return Some(Verdict::Finish(404));
        }
        if !self.conf.intercept_errors {
            return None;
        }
        if !self.r.loc().core.error_pages.iter().any(|page| page.status == status) {
            return None;
        }
        if status == 401 {
            self.copy_challenges();
        }
        Some(Verdict::Finish(status))
    }

    /// The head has been accepted.
    pub(super) fn accepted(&mut self) {
        let took = self.states.with(|attempt| attempt.header_time).flatten().unwrap_or(0);
        if let Some(selection) = &mut self.selection {
            selection.note_header(took);
        }
        self.with_sticky(|sticky, r, session, sid| sticky.answered(r, session, sid));
    }

    fn with_sticky(&self, f: impl FnOnce(&super::Sticky, &Request, Option<&[u8]>, &[u8])) {
        let definition = self.group.and_then(|id| self.local.definition(id));
        let sticky = definition.and_then(|definition| definition.sticky.as_ref());
        let peer = self.selection.as_ref().and_then(|selection| selection.current());
        if let (Some(sticky), Some(peer)) = (sticky, peer) {
            f(sticky, &self.r, self.session.as_deref(), &peer.sid);
        }
    }

    /// The upstream has nothing more to say. `exact` tells that its last message ended where it should, with nothing
    /// behind it: only then may the connection serve another request.
    pub(super) fn release(&mut self, exact: bool) {
        self.note_response_time();
        if self.selection.as_ref().is_some_and(|selection| selection.current().is_some()) {
            self.with_sticky(|sticky, r, session, sid| sticky.finished(r, session, sid));
        }
        let (header, response) = self
            .states
            .with(|attempt| (attempt.header_time, attempt.response_time.unwrap_or(0)))
            .unwrap_or_default();
        self.http2 = None;
        if let Some(conn) = self.conn.take()
            && exact
            && self.framing.keep_alive
            && self.sent_all
            && conn.http2.as_ref().is_none_or(|session| session.is_open())
        {
            match self.r.probes.get() {
                false => self.keep(conn, self.started.saturating_add(response)),
                true => self.keep_probed(conn),
            }
        }
        self.tally(Some(response));
        if !self.release_own(LastFailure::None)
            && let Some(selection) = &mut self.selection
        {
            selection.release(Outcome::Done { header, response });
        }
    }

    fn keep(&self, conn: Box<Conn>, now: u64) {
        let (Some(id), Some(target)) = (self.group, &self.target) else { return };
        let (Some(group), Some(definition)) = (self.local.group(id), self.local.definition(id)) else {
            return;
        };
        let lane = match target {
            Chosen::Own(Own { addr, keepalive: Some((timeout, requests)), lane }) => {
                if self.local.is_quitting() || (*requests != 0 && conn.requests >= *requests) {
                    return;
                }
                // nginx: 0 closes it as soon as possible.
                conn.timeout.set((*timeout).max(1));
                let max = usize::try_from(definition.balancer_keepalive.unwrap_or(32)).unwrap_or(usize::MAX);
                group.kept.put(conn, addr.clone(), 0, lane.clone(), max);
                return self.local.keeper.watch(&self.local, &group.kept);
            }
            Chosen::Own(own) => own.lane.clone(),
            Chosen::Peer(_) => Lane::default(),
        };
        let keepalive = &definition.keepalive;
        let max = keepalive.connections.unwrap_or(0);
        let age = now.saturating_sub(conn.started);
        if max == 0
            || conn.requests >= keepalive.requests.unwrap_or(1000)
            || age > keepalive.time.unwrap_or(3_600_000)
            || self.local.is_quitting()
        {
            return;
        }
        conn.timeout.set(keepalive.timeout.unwrap_or(60_000));
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        group.pool.put(conn, target.addr().clone(), self.tag(), lane, max);
        self.local.keeper.watch(&self.local, &group.pool);
    }

    fn end(&mut self) {
        self.release(false);
        self.states.talking.set(false);
        self.act("sending to client");
    }
}

/// What a status leads to.
enum Verdict {
    Next(u32),
    /// What is in the cache is answered, under this name.
    Stale(CacheStatus),
    Finish(u16),
}
