//! The way of most requests to upstreams: a connection that is kept, an answer that is taken and buffered. All of it is
//! plain code that waits in two places; whatever else must be waited for is left to a future of its own.

use super::{
    cached::Caching,
    choose::Chosen,
    find::Unknown,
    head::Prepared,
    pipe::Pipe,
    protocol::Framing,
    run::{Destination, Failure, Job, Run, Timeouts},
    source::{self, Source},
    state::States,
    tls::Link,
    verdict::Verdict,
};
use crate::{
    filter::{FilterStep, Piece},
    phase::{Flow, LocalBoxFuture, RequestError},
    request::RequestRef,
};
use bytes::Bytes;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Bytes that most requests to upstreams do not exceed.
const REQUEST_SIZE: usize = 512;

/// A request that is passed on, and its answer.
pub(super) struct Hop {
    /// None when a future has it, or all is done.
    run: Option<Run>,
    doing: Doing,
}

enum Doing {
    /// About to choose a peer.
    Fresh,
    /// Nobody can be asked: this is answered.
    Nobody(u16),
    /// The request is being sent, the answer's head read.
    Talking,
    /// The answer is being passed on.
    Piping(Pipe),
    /// What few requests need.
    Rare(LocalBoxFuture<Result<Flow, RequestError>>),
}

/// Where [`Run::go_on`] goes on.
pub(super) enum From {
    /// A name must be looked up.
    Unknown(Unknown),
    /// A balancer is asked for a peer.
    Choice,
    /// The peer needs a new connection, or HTTP/2.
    Peer(Chosen),
    Failed(Failure),
    /// The answer may not be what the client gets.
    Judged(Verdict),
    /// What follows is another protocol.
    Tunnel,
    /// The head is on its way to the client; the body is buffered or not.
    Sending(LocalBoxFuture<Result<(), RequestError>>, bool),
    /// The body is passed on as it comes.
    Body,
    /// The body has ended, and how.
    Ended(Result<(), RequestError>),
    /// All is on its way to the client.
    Last(LocalBoxFuture<Result<(), RequestError>>),
}

/// A step of the common way.
enum Next {
    Talk,
    Pipe(Pipe),
    Done(Result<Flow, RequestError>),
    Rare(From),
}

impl Hop {
    /// Writes the request, which can then be sent.
    ///
    /// # Errors
    /// A request that cannot be made.
    pub(super) fn boxed(
        r: RequestRef,
        job: Job,
        source: Source,
        caching: Option<Box<Caching>>,
    ) -> Result<Pin<Box<Self>>, RequestError> {
        let Job { conf, destination, mut protocol, pass_body, stream_body: _, secure } = job;
        let states = r.lasting_ctx::<States>();
        if conf.cache.is_none() {
            states.forget_cache();
        }
        states.begin(protocol.scheme());
        let mut request = std::mem::take(&mut *states.request.borrow_mut());
        request.clear();
        // Most requests fit; growing by doubling costs more than all the rest of writing one.
        request.reserve(REQUEST_SIZE);
        let shown = protocol.request(&r, source::length(&r, &source, pass_body), &mut request)?;
        *states.request.borrow_mut() = request;
        *states.shown.borrow_mut() = shown;
        let local = r.worker.upstreams();
        let http2 = protocol.is_http2();
        let probes = r.probes.get();
        let recorder = if probes { None } else { super::recorder::for_request(&r, &conf) };
        let watch = recorder.is_none() && !states.is_cacheable() && !conf.ignore_client_abort;
        let (queue, input) = local.take_memory();
        let bind = conf.bind.as_ref().and_then(|bind| bind.address(&r));
        // Large, so it is made where it stays.
        let mut hop = Box::into_pin(Box::write(
            Box::new_uninit(),
            Self {
                doing: Doing::Fresh,
                run: Some(Run {
                    timeouts: Timeouts {
                        connect: conf.connect_timeout,
                        send: conf.send_timeout,
                        read: conf.read_timeout,
                    },
                    choosing: None,
                    target: None,
                    pass_body,
                    bind,
                    queue,
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
                    input,
                    given: false,
                    interim: 0,
                    hints: 0,
                    rest: Bytes::new(),
                    source,
                    recorder,
                    caching,
                    watch,
                    first_started: 0,
                    started: 0,
                    held: false,
                    sent: false,
                    sent_all: false,
                    write_error: None,
                    framing: Framing::default(),
                }),
            },
        ));
        if probes {
            hop.probe(destination, secure);
        } else {
            hop.find_peers(destination, secure);
        }
        Ok(hop)
    }

    fn find_peers(&mut self, destination: Destination, secure: bool) {
        let Some(run) = &mut self.run else { return };
        match run.find_peers(destination, secure) {
            Ok(None) => {}
            Ok(Some(unknown)) => self.leave(From::Unknown(unknown)),
            Err(status) => self.doing = Doing::Nobody(status),
        }
    }

    /// Asks one peer how it is.
    fn probe(&mut self, destination: Destination, secure: bool) {
        let Some(mut run) = self.run.take() else { return };
        self.doing = Doing::Rare(Box::pin(async move { run.probe(destination, secure).await }));
    }

    /// Leaves the common way.
    fn leave(&mut self, from: From) {
        let Some(mut run) = self.run.take() else { return };
        self.doing = Doing::Rare(Box::pin(async move {
            let result = run.go_on(from).await;
            run.end();
            result
        }));
    }
}

impl Future for Hop {
    type Output = Result<Flow, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let Some(run) = &mut this.run else {
                let Doing::Rare(rare) = &mut this.doing else { return Poll::Pending };
                return rare.as_mut().poll(cx);
            };
            let next = match &mut this.doing {
                Doing::Fresh => run.set_out(),
                Doing::Nobody(status) => Next::Done(Ok(run.fail(*status))),
                Doing::Talking => match ready!(run.poll_head(cx)) {
                    Ok(()) => run.take_answer(),
                    Err(failure) => Next::Rare(From::Failed(failure)),
                },
                Doing::Piping(pipe) => {
                    let piped = ready!(run.poll_pipe(pipe, cx));
                    run.take_end(piped)
                }
                Doing::Rare(_) => return Poll::Pending,
            };
            match next {
                Next::Talk => this.doing = Doing::Talking,
                Next::Pipe(pipe) => this.doing = Doing::Piping(pipe),
                Next::Rare(from) => this.leave(from),
                Next::Done(result) => {
                    run.end();
                    this.run = None;
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl Run {
    /// Chooses a peer, and sends the request if a connection to it is kept.
    fn set_out(&mut self) -> Next {
        self.begin_attempt();
        if self.choosing.is_some() {
            return Next::Rare(From::Choice);
        }
        let chosen = match self.choose_peer() {
            Ok(peer) => Chosen::Peer(peer),
            Err(failure) => return Next::Rare(From::Failed(failure)),
        };
        if self.link.http2 {
            return Next::Rare(From::Peer(chosen));
        }
        if let Some(chosen) = self.reuse(chosen) {
            return Next::Rare(From::Peer(chosen));
        }
        match self.begin_talk() {
            Ok(()) => Next::Talk,
            Err(failure) => Next::Rare(From::Failed(failure)),
        }
    }

    /// The head has come: passes it on, and the body if all of it is there.
    fn take_answer(&mut self) -> Next {
        self.note_head();
        if let Some(verdict) = self.judge() {
            return Next::Rare(From::Judged(verdict));
        }
        let buffering = match self.prepare_answer() {
            Ok(Prepared::Send { buffering }) => buffering,
            Ok(Prepared::Tunnel) => return Next::Rare(From::Tunnel),
            Ok(Prepared::Flow(flow)) => return Next::Done(Ok(flow)),
            Err(error) => return Next::Done(Err(error)),
        };
        let sent = match self.r.send_header() {
            Ok(FilterStep::Now(())) => Ok(()),
            Ok(FilterStep::Wait(wait)) => return Next::Rare(From::Sending(wait, buffering)),
            Err(error) => Err(error),
        };
        let deaf = match self.begin_body(sent, buffering) {
            Ok(Some(deaf)) => deaf,
            Ok(None) => return Next::Done(Ok(Flow::Responded)),
            Err(error) => return Next::Done(Err(error)),
        };
        if !buffering {
            return Next::Rare(From::Body);
        }
        match self.pipe_at_once(deaf) {
            Ok(None) => self.take_end(Ok(())),
            Ok(Some(pipe)) => Next::Pipe(pipe),
            Err(error) => self.take_end(Err(error)),
        }
    }

    /// The body has ended.
    fn take_end(&mut self, result: Result<(), RequestError>) -> Next {
        if result.is_err() {
            return Next::Rare(From::Ended(result));
        }
        self.end_body();
        match self.r.output(Piece::Last) {
            Ok(FilterStep::Now(())) => Next::Done(Ok(Flow::Responded)),
            Ok(FilterStep::Wait(wait)) => Next::Rare(From::Last(wait)),
            Err(error) => Next::Done(Err(error)),
        }
    }
}
