//! `ngx.req.socket`: the client's connection as a socket; with `true` past HTTP, otherwise for the request body alone.
//! <https://github.com/openresty/lua-nginx-module#ngxreqsocket>

use super::{
    RAW_REQ, REQ,
    connection::Timers,
    fail,
    options::Settings,
    stream::{self, Side, Stream},
};
use crate::{host::Host, sending};
use moonrest_http::{RequestRef, body::BodyState};
use moonrest_luajit::{Call, LuaError, LuaResult, Return};
use moonrest_proto::http1::Body;
use std::{cell::RefCell, rc::Rc};

/// `ngx.req.socket(raw?) -> socket`.
pub(crate) fn req_socket(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given > 1 {
        return Err(format!("expecting 0 or 1 argument, but got {given}").into());
    }
    crate::api::only_in(call, crate::host::LuaPhase::has_request)?;
    let raw: Option<bool> = call.arg(1)?;
    let raw = raw == Some(true);
    let r = call.host(|host: &Host| host.request.clone()).flatten();
    let r = r.ok_or_else(|| LuaError::new("no request found"))?;
    // What the client sends belongs to the phases that make its response.
    crate::api::only_in(call, crate::host::LuaPhase::makes_response)?;
    if r.is_subrequest() {
        return Err("attempt to read the request body in a subrequest".into());
    }
    let refused = if raw { take_over(&r) } else { take_body(&r)? };
    if let Some(message) = refused {
        return fail(call, message);
    }
    let weak = Rc::downgrade(&r);
    let side = if raw { Side::Raw(weak, Timers::default()) } else { Side::Body(weak, Timers::default()) };
    let stream = Stream { side: RefCell::new(side), ..Stream::default() };
    stream.settings.set(Settings::here(call));
    let metatable = call.registry()?.raw_get(call, if raw { RAW_REQ } else { REQ })?.as_table();
    let object = stream::make_object(call, metatable, Rc::new(stream))?;
    object.copy_index(call, super::CELL, super::CONTEXT)?;
    if let moonrest_luajit::Value::Userdata(userdata) = object.raw_index(call, super::CELL)?
        && let Some(handle) = userdata.get::<stream::Handle>(call)
    {
        handle.0.adopt(call, super::owner(call)?)?;
    }
    call.ret(object)
}

/// Says that the request body is read through a socket; or why it cannot be.
fn take_body(r: &RequestRef) -> LuaResult<Option<&'static str>> {
    let framing = r.framing.get();
    if framing.body == Body::Chunked {
        return Ok(Some("chunked request bodies not supported yet"));
    }
    match r.body.borrow().state {
        BodyState::Unread => {}
        BodyState::Discarded => return Ok(Some("request body discarded")),
        BodyState::Reading | BodyState::Complete | BodyState::Streamed => {
            return Ok(Some("request body already exists"));
        }
    }
    if matches!(framing.body, Body::None | Body::Length(0)) {
        return Ok(Some("no body"));
    }
    if r.exchange.expect_continue(r).is_err() {
        return Ok(Some("test expect failed"));
    }
    r.exchange.flush(r);
    r.body.borrow_mut().state = BodyState::Streamed;
    Ok(None)
}

/// Takes the connection away from HTTP; or says why that cannot be.
fn take_over(r: &RequestRef) -> Option<&'static str> {
    if r.body.borrow().state == BodyState::Reading {
        return Some("pending request body reading in some other thread");
    }
    if sending::keeps_back(r) {
        return Some("http 1.0 buffering");
    }
    let Some(raw) = r.exchange.raw() else { return Some("the protocol has no raw connection") };
    if is_raw(r) {
        return Some("duplicate call");
    }
    if !raw.take_over(r) {
        return Some("pending data to write");
    }
    r.lasting_ctx::<TakenOver>();
    r.header_sent.set(true);
    r.keepalive.set(false);
    None
}

/// Whether the request's connection was taken away from HTTP.
pub(crate) fn is_raw(r: &RequestRef) -> bool {
    r.header_sent.get() && r.find_ctx::<TakenOver>().is_some()
}

/// The request's connection is a raw socket now.
#[derive(Default)]
struct TakenOver;
