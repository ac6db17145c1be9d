//! Where the body of a request to an upstream comes from.

use super::RequestLength;
use crate::{
    body::{self, BodyFile, BodyState},
    exchange::BodyRead,
    phase::RequestError,
    request::Request,
};
use bytes::Bytes;
use moonrest_proto::http1::Body;
use std::{
    rc::Rc,
    task::{Context, Poll, Waker},
};

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

/// Takes what has come of a body that is to be passed on while it comes. If that is all of it, it is as if it had been
/// buffered.
pub(super) fn begin_stream(r: &Request) -> Result<Source, RequestError> {
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
