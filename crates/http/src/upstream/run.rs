//! One request on its way to upstreams: what it consists of, and how it begins.

use super::{
    Conf, GroupId, Local, Protocol,
    balancer::Choosing,
    cached::{self, Caching, Found},
    choose::Chosen,
    connect::Conn,
    hop::Hop,
    http2::Exchange,
    protocol::Framing,
    recorder::Recorder,
    source::{self, Source},
    state::States,
    tls::Link,
};
use crate::{
    body,
    phase::{Flow, RequestError},
    request::RequestRef,
    server::Queue,
};
use bytes::Bytes;
use moonrest_core::{Level, upstream::Selection};
use moonrest_net::addr::Addr;
use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

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
    /// The head is the protocol's own: nothing need be read for it.
    pub given: bool,
    /// Interim answers that came, and the bytes of them.
    pub interim: u32,
    pub hints: usize,
    /// What has been read of a body and not used.
    pub rest: Bytes,
    pub source: Source,
    pub recorder: Option<Box<dyn Recorder>>,
    /// What a cache has to do with it.
    pub caching: Option<Box<Caching>>,
    /// The client's leaving ends the request.
    pub watch: bool,
    /// When the first and the present attempt began.
    pub(super) first_started: u64,
    pub(super) started: u64,
    /// The present attempt has not been released.
    pub(super) held: bool,
    /// Something of the request was sent; all of it was.
    pub sent: bool,
    pub sent_all: bool,
    pub write_error: Option<io::Error>,
    /// What the answer's head says about what follows.
    pub framing: Framing,
}

/// Asks an upstream and passes its answer to the client, once the client's body is there. `asked` is what a cache has to
/// do with it, if that is known.
///
/// # Errors
/// When the client left, or the answer broke off behind its head.
pub(super) async fn run_with(
    r: RequestRef,
    job: Job,
    asked: Option<Option<Box<Caching>>>,
) -> Result<Flow, RequestError> {
    let pass_body = job.pass_body;
    let stream = job.stream_body
        && pass_body
        && !job.conf.request_buffering
        && r.has_unread_body()
        && !r.is_subrequest();
    let source = match stream {
        true => source::begin_stream(&r)?,
        false => {
            body::read(&r).await?;
            if pass_body { source::buffered(&r) } else { Source::None }
        }
    };
    let caching = match asked {
        Some(caching) => caching,
        None if job.conf.cache.is_none() => None,
        None if r.probes.get() => {
            cached::forget(&r);
            None
        }
        None => match Box::pin(cached::find(&r, &job.conf, &*job.protocol)).await? {
            Found::Answered(flow) => return Ok(flow),
            Found::Ask(caching) => caching,
        },
    };
    Hop::boxed(r, job, source, caching)?.await
}

impl Drop for Run {
    fn drop(&mut self) {
        self.local.give_memory(std::mem::take(&mut self.queue), std::mem::take(&mut self.input));
    }
}

impl Run {
    /// All is done, one way or another.
    pub(super) fn end(&mut self) {
        self.release(false);
        self.states.talking.set(false);
        self.act("sending to client");
    }

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
}
