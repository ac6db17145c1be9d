//! The module's variables.

use super::run::State;
use moonrest_http::{decimal, prelude::*};
use moonrest_sys::time;

pub(super) const VARIABLES: &[VarDef<Request>] = &[
    VarDef::get("echo_timer_elapsed", |r, out| {
        let begun = r.find_ctx::<State>().and_then(|state| state.timer.get());
        let elapsed = time::monotonic_ms().saturating_sub(begun.unwrap_or_else(|| r.started_ms.get()));
        decimal::append_millis(out, elapsed);
        true
    }),
    VarDef::get("echo_it", |r, out| {
        let Some(state) = r.find_ctx::<State>() else { return false };
        let item = state.item.borrow();
        let Some(item) = &*item else { return false };
        out.extend_from_slice(item);
        true
    }),
    VarDef::get("echo_request_method", |r, out| {
        out.extend_from_slice(&method(r));
        true
    }),
    VarDef::get("echo_client_request_method", |r, out| {
        out.extend_from_slice(&method(r.main()));
        true
    }),
    VarDef::get("echo_request_uri", request_uri),
    VarDef::kept("echo_cacheable_request_uri", request_uri),
    VarDef::get("echo_client_request_headers", |r, out| {
        out.extend_from_slice(&r.raw_head(true));
        true
    }),
    VarDef::get("echo_request_body", |r, out| {
        let body = r.body.borrow();
        let Some(bytes) = body.bytes().filter(|_| body.state == moonrest_http::body::BodyState::Complete)
        else {
            return false;
        };
        out.extend_from_slice(&bytes);
        true
    }),
    VarDef::get("echo_response_status", |r, out| {
        let status = r.out().status;
        if status == 0 {
            return false;
        }
        decimal::append(out, u64::from(status));
        true
    }),
    VarDef::get("echo_incr", |r, out| {
        let state = r.main().ctx::<State>();
        state.count.set(state.count.get() + 1);
        decimal::append(out, state.count.get());
        true
    }),
];

fn method(r: &Request) -> Vec<u8> {
    match r.method.get() {
        moonrest_proto::http1::Method::Other => r.head.borrow().method_name.of(&r.block.borrow()).to_vec(),
        named => named.name().as_bytes().to_vec(),
    }
}

/// The request's own path, escaped, with its arguments; that of a subrequest where it is one.
fn request_uri(r: &Request, out: &mut Vec<u8>) -> bool {
    moonrest_proto::escape::escape(moonrest_proto::escape::Kind::Uri, &r.uri(), out);
    let args = r.args.borrow();
    if !args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&args);
    }
    true
}
