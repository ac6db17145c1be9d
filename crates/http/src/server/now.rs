//! The way of most requests: head complete in the buffer, answered by handlers that do not wait, written in one call.
//! All of it is plain code; the first thing that must wait hands the rest to a future.

use super::{
    h1::{After, BATCH, BodyReader, H1, Handling, Rest, Work, begin},
    intake::take_head,
};
use crate::{
    engine::{self, Later, Wait},
    phase::{Flow, LocalBoxFuture, RequestError},
    request::RequestRef,
    walk::Walk,
};
use moonrest_proto::http1::Parse;
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Reads what has come and handles the requests in it. What has to wait is returned as the error.
pub(super) fn batch(h1: &Rc<H1>) -> Result<After, Rest> {
    if h1.unread() == 0 {
        return Err(Rest::Head(None));
    }
    h1.pipelined.set(false);
    next(h1)
}

/// A request that waits for nothing but the answer of a handler.
pub(super) struct Waiting {
    handler: LocalBoxFuture<Result<Flow, RequestError>>,
    /// Taken when the answer is there.
    request: Option<(Rc<H1>, RequestRef, Walk)>,
}

impl Rest {
    /// What waits for a handler alone, which needs no larger future.
    pub(super) fn waiting(self, h1: &Rc<H1>) -> Result<Waiting, Self> {
        match self {
            Self::Request(r, Handling::Later(Later::Walk(walk, Wait::Handler(handler)))) => {
                Ok(Waiting { handler, request: Some((h1.clone(), r, walk)) })
            }
            rest => Err(rest),
        }
    }
}

impl Future for Waiting {
    type Output = Result<After, Rest>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handled = ready!(self.handler.as_mut().poll(cx));
        let Some((h1, r, walk)) = self.request.take() else { return Poll::Pending };
        Poll::Ready(match engine::go_on(&r, walk, handled) {
            Some(later) => Err(Rest::Request(r, Handling::Later(later))),
            None => follow(&h1, r).unwrap_or_else(|| next(&h1)),
        })
    }
}

/// Handles the requests whose heads are in the buffer.
#[inline(always)]
fn next(h1: &Rc<H1>) -> Result<After, Rest> {
    loop {
        h1.begin();
        let memory = h1.worker.take_memory();
        let limits = h1.default_settings().head_limits;
        let work: &Work = h1;
        let parsed = {
            let buffer = work.buffer.borrow();
            memory.head.borrow_mut().parse(buffer.get(work.at.get()..).unwrap_or_default(), &limits)
        };
        let Ok(Parse::Complete { len }) = parsed else {
            // Parsed again from its beginning, where waiting and errors are dealt with.
            memory.head.borrow_mut().reset();
            return Err(Rest::Head(Some(memory)));
        };
        let (r, status) = take_head(h1, memory, len);
        begin(h1);
        if let Some(status) = status {
            return Err(Rest::Request(r, Handling::BadHead(status)));
        }
        if let Some(later) = engine::handle_now(&r) {
            return Err(Rest::Request(r, Handling::Later(later)));
        }
        if let Some(after) = follow(h1, r) {
            return after;
        }
    }
}

/// What follows a request that was answered; none when that is the next request.
#[inline(always)]
fn follow(h1: &Rc<H1>, r: RequestRef) -> Option<Result<After, Rest>> {
    let work: &Work = h1;
    let body_read = matches!(*work.body.borrow(), BodyReader::Done);
    let paced = work.pace.borrow().is_some();
    if !r.keepalive.get() || !body_read || h1.worker.is_quitting() || h1.broken.get() || paced {
        return Some(Err(Rest::Request(r, Handling::Finished)));
    }
    let keepalive = r.loc().core.keepalive_timeout;
    drop(r);
    let more = work.unread() > 0;
    work.pipelined.set(more);
    if more && work.queue.borrow().len() <= BATCH {
        return None;
    }
    if !h1.flush_now() {
        return Some(Err(if more { Rest::Head(None) } else { Rest::Flush(keepalive) }));
    }
    (!more).then_some(Ok(After::Idle(keepalive)))
}
