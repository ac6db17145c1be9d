//! What `echo` shows of requests.

use super::run::State;
use moonrest_http::prelude::*;
use moonrest_proto::escape::{Kind, escape};
use moonrest_sys::time::monotonic_ms;

type D = VarDef<Request>;

pub(super) const TABLE: &[D] = &[
    D::get("echo_it", |r, out| {
        let Some(state) = r.find_ctx::<State>() else { return false };
        let item = state.item.borrow();
        item.as_deref().is_some_and(|item| bytes(out, item))
    }),
    D::get("echo_timer_elapsed", |r, out| {
        let since = r.find_ctx::<State>().and_then(|state| state.timer.get());
        let ms = monotonic_ms().saturating_sub(since.unwrap_or(r.main().started_ms.get()));
        bytes(out, format!("{}.{:03}", ms / 1000, ms % 1000).as_bytes())
    }),
    D::get("echo_request_method", |r, out| bytes(out, &method(r))),
    D::get("echo_client_request_method", |r, out| bytes(out, &method(r.main()))),
    D::get("echo_request_uri", uri),
    D::kept("echo_cacheable_request_uri", uri),
    D::get("echo_request_body", |r, out| {
        let body = r.body.borrow().bytes();
        body.is_some_and(|body| !body.is_empty() && bytes(out, &body))
    }),
    D::get("echo_client_request_headers", |r, out| {
        let head = r.raw_head(true);
        bytes(out, head.strip_suffix(b"\r\n").unwrap_or(&head))
    }),
    D::get("echo_response_status", |r, out| {
        let status = r.out().status;
        status != 0 && bytes(out, status.to_string().as_bytes())
    }),
    D::get("echo_incr", |r, out| {
        let state = r.main().ctx::<State>();
        state.count.set(state.count.get() + 1);
        bytes(out, state.count.get().to_string().as_bytes())
    }),
];

fn bytes(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    true
}

fn method(r: &Request) -> Vec<u8> {
    r.head.borrow().method_name.of(&r.block.borrow()).to_vec()
}

/// The path, escaped again, and the arguments.
fn uri(r: &Request, out: &mut Vec<u8>) -> bool {
    escape(Kind::Uri, &r.uri(), out);
    let args = r.args.borrow();
    if !args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&args);
    }
    true
}
