//! Sends what Lua makes of a response: piece by piece, or gathered and with its length for a client of HTTP/1.0.
//! <https://github.com/openresty/lua-nginx-module#lua_http10_buffering>

use crate::{host::State, settings::Loc};
use bytes::Bytes;
use moonrest_http::{
    RequestError, RequestRef,
    filter::{FilterStep, Piece},
    phase::LocalBoxFuture,
};
use moonrest_proto::http1::Version;
use std::{cell::RefCell, rc::Rc};

type Wait = LocalBoxFuture<Result<(), RequestError>>;

/// What a response has come to. Kept in the request's context.
#[derive(Default)]
struct Sending {
    /// Gathered until the end of the response.
    gathered: RefCell<Option<Vec<Bytes>>>,
}

/// Why nothing more can be sent, as Lua is told.
pub(crate) fn refused(r: &RequestRef) -> Option<&'static str> {
    if crate::api::socket::is_raw(r) {
        return Some("raw request socket acquired");
    }
    if r.header_only.get() {
        return Some("header only");
    }
    r.done.get().then_some("seen eof")
}

/// Gives the head what it lacks before it is sent.
fn prepare(r: &RequestRef) {
    if !r.header_sent.get() {
        if r.out().status == 0 {
            r.out_mut().status = 200;
        }
        let type_set = r.find_ctx::<State>().is_some_and(|state| state.type_set.get());
        let has_type = r.out().status != 304;
        if has_type && !type_set && Loc::of(r).is_none_or(Loc::use_default_type) {
            r.set_content_type();
        }
    }
}

/// Sends the head.
pub(crate) fn head(r: &RequestRef) -> Result<FilterStep<()>, RequestError> {
    prepare(r);
    r.send_header()
}

/// Sends a part of the body, and the head before it.
pub(crate) fn data(r: &RequestRef, data: Bytes) -> Result<FilterStep<()>, RequestError> {
    if let Some(sending) = gathers(r) {
        prepare(r);
        if let Some(gathered) = sending.gathered.borrow_mut().as_mut() {
            gathered.push(data);
        }
        return Ok(FilterStep::Now(()));
    }
    if r.header_sent.get() {
        return r.output(Piece::Data(data));
    }
    match head(r)? {
        FilterStep::Now(()) => r.output(Piece::Data(data)),
        FilterStep::Wait(wait) => Ok(later(r, wait, vec![Piece::Data(data)])),
    }
}

/// Whether a part of the body was made and is kept back.
pub(crate) fn keeps_back(r: &RequestRef) -> bool {
    r.find_ctx::<Sending>().is_some_and(|sending| sending.gathered.borrow().is_some())
}

/// What is gathered of this response, if it is: decided when its first piece comes.
fn gathers(r: &RequestRef) -> Option<Rc<Sending>> {
    if r.version.get() >= Version::Http11 {
        return None;
    }
    let sending = r.ctx::<Sending>();
    if sending.gathered.borrow().is_some() {
        return Some(sending);
    }
    let wanted = !r.header_sent.get()
        && r.out().content_length.is_none()
        && r.method.get() != moonrest_proto::http1::Method::Head
        && Loc::of(r).is_none_or(Loc::http10_buffering);
    if !wanted {
        return None;
    }
    *sending.gathered.borrow_mut() = Some(Vec::new());
    Some(sending)
}

/// Asks for what was made so far to be sent; the reason if that makes no sense.
pub(crate) fn flush(
    r: &RequestRef,
    has_data: bool,
    wait: bool,
) -> Result<Result<FilterStep<()>, RequestError>, &'static str> {
    if let Some(reason) = refused(r) {
        return Err(reason);
    }
    if keeps_back(r) {
        return Err("buffering");
    }
    if !r.header_sent.get() || (!has_data && !wait) {
        return Err("nothing to flush");
    }
    Ok(r.output(Piece::Flush))
}

/// Ends the response.
pub(crate) fn end(r: &RequestRef) -> Result<FilterStep<()>, RequestError> {
    let gathered = gathers(r).and_then(|sending| sending.gathered.take());
    let mut pieces: Vec<Piece> = Vec::new();
    if let Some(gathered) = gathered {
        if !r.header_sent.get() && r.out().content_length.is_none() {
            let length = gathered.iter().map(|data| data.len() as u64).sum();
            r.out_mut().content_length = Some(length);
        }
        pieces.extend(gathered.into_iter().map(Piece::Data));
    }
    pieces.push(Piece::Last);
    // Nobody reads the body any more.
    r.ignore_body()?;
    all(r, pieces)
}

/// Sends the head, then the pieces.
fn all(r: &RequestRef, pieces: Vec<Piece>) -> Result<FilterStep<()>, RequestError> {
    let mut wait = match head(r)? {
        FilterStep::Now(()) => None,
        FilterStep::Wait(wait) => Some(wait),
    };
    let mut pieces = pieces.into_iter();
    while wait.is_none()
        && let Some(piece) = pieces.next()
    {
        if let FilterStep::Wait(step) = r.output(piece)? {
            wait = Some(step);
        }
    }
    let Some(wait) = wait else { return Ok(FilterStep::Now(())) };
    Ok(later(r, wait, pieces.collect()))
}

/// Sends the rest when what comes before has gone.
fn later(r: &RequestRef, wait: Wait, rest: Vec<Piece>) -> FilterStep<()> {
    let r = r.clone();
    FilterStep::Wait(Box::pin(async move {
        wait.await?;
        for piece in rest {
            if let FilterStep::Wait(wait) = r.output(piece)? {
                wait.await?;
            }
        }
        Ok(())
    }))
}
