//! Sends what Lua makes of a response: piece by piece, or gathered and with its length for a client of HTTP/1.0.
//! <https://github.com/openresty/lua-nginx-module#lua_http10_buffering>

use crate::{host::State, settings::Loc};
use moonrest_http::{
    RequestError, RequestRef,
    filter::{FilterStep, Piece},
    phase::LocalBoxFuture,
};
use moonrest_proto::http1::Version;

type Wait = LocalBoxFuture<Result<(), RequestError>>;

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
fn prepare(r: &RequestRef, state: &State) {
    if r.header_sent.get() || state.prepared.replace(true) {
        return;
    }
    let status = {
        let mut out = r.out_mut();
        if out.status == 0 {
            out.status = 200;
        }
        out.status
    };
    if status != 304 && !state.type_set.get() && Loc::of(r).is_none_or(Loc::use_default_type) {
        r.set_content_type();
    }
}

/// Sends the head.
pub(crate) fn head(r: &RequestRef, state: &State) -> Result<FilterStep<()>, RequestError> {
    prepare(r, state);
    r.send_header()
}

/// Where the next part of the body is to be written: behind what is gathered, or into an empty buffer.
pub(crate) fn buffer(r: &RequestRef, state: &State) -> Vec<u8> {
    if gathers(r, state)
        && let Some(gathered) = state.gathered.borrow_mut().as_mut()
    {
        return std::mem::take(gathered);
    }
    Vec::new()
}

/// Takes back what [`buffer`] gave, with a part of the body written to it, and sends it if it is not gathered.
pub(crate) fn data(r: &RequestRef, state: &State, data: Vec<u8>) -> Result<FilterStep<()>, RequestError> {
    if let Some(gathered) = state.gathered.borrow_mut().as_mut() {
        prepare(r, state);
        *gathered = data;
        return Ok(FilterStep::Now(()));
    }
    let data = Piece::Data(data.into());
    if r.header_sent.get() {
        return r.output(data);
    }
    match head(r, state)? {
        FilterStep::Now(()) => r.output(data),
        FilterStep::Wait(wait) => Ok(later(r, wait, vec![data])),
    }
}

/// Takes back what [`buffer`] gave when nothing is to be added to it.
pub(crate) fn give_back(state: &State, data: Vec<u8>) {
    if let Some(gathered) = state.gathered.borrow_mut().as_mut() {
        *gathered = data;
    }
}

/// Whether a part of the body was made and is kept back.
pub(crate) fn keeps_back(r: &RequestRef) -> bool {
    r.find_ctx::<State>().is_some_and(|state| state.gathered.borrow().is_some())
}

/// Whether this response is gathered: decided when its first piece comes.
fn gathers(r: &RequestRef, state: &State) -> bool {
    if r.version.get() >= Version::Http11 {
        return false;
    }
    if state.gathered.borrow().is_some() {
        return true;
    }
    let wanted = !r.header_sent.get()
        && r.out().content_length.is_none()
        && r.method.get() != moonrest_proto::http1::Method::Head
        && Loc::of(r).is_none_or(Loc::http10_buffering);
    if wanted {
        *state.gathered.borrow_mut() = Some(Vec::new());
    }
    wanted
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
pub(crate) fn end(r: &RequestRef, state: &State) -> Result<FilterStep<()>, RequestError> {
    // What ends without a body has a length all the same.
    let gathered = if gathers(r, state) { state.gathered.take() } else { None };
    if let Some(data) = &gathered
        && !r.header_sent.get()
    {
        r.out_mut().content_length.get_or_insert(data.len() as u64);
    }
    // Nobody reads the body any more.
    r.ignore_body()?;
    let data = gathered.filter(|data| !data.is_empty()).map(|data| Piece::Data(data.into()));
    match head(r, state)? {
        FilterStep::Now(()) => {}
        FilterStep::Wait(wait) => {
            return Ok(later(r, wait, data.into_iter().chain([Piece::Last]).collect()));
        }
    }
    if let Some(data) = data
        && let FilterStep::Wait(wait) = r.output(data)?
    {
        return Ok(later(r, wait, vec![Piece::Last]));
    }
    r.output(Piece::Last)
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
