//! `$proxy_host`, `$proxy_port`, `$proxy_add_x_forwarded_for`.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#variables>

use super::pass::Target;
use moonrest_http::prelude::*;
use moonrest_proto::http1::Known;
use std::cell::RefCell;

/// Where the request goes. Kept in its context.
#[derive(Default)]
pub(super) struct Context(RefCell<Option<Arc<Target>>>);

impl Context {
    pub(super) fn set(&self, target: Arc<Target>) {
        *self.0.borrow_mut() = Some(target);
    }
}

fn with_target(r: &Request, out: &mut Vec<u8>, part: impl FnOnce(&Target) -> &Bytes) -> bool {
    let Some(context) = r.find_ctx::<Context>() else { return false };
    let target = context.0.borrow();
    let Some(target) = &*target else { return false };
    out.extend_from_slice(part(target));
    true
}

pub(super) const TABLE: &[VarDef<Request>] = &[
    VarDef::get("proxy_host", |r, out| with_target(r, out, |target| &target.host)),
    VarDef::get("proxy_port", |r, out| with_target(r, out, |target| &target.port)),
    VarDef::get("proxy_add_x_forwarded_for", |r, out| {
        let head = r.head.borrow();
        let block = r.block.borrow();
        for field in head.fields.all(Known::XForwardedFor) {
            out.extend_from_slice(field.value.of(&block));
            out.extend_from_slice(b", ");
        }
        r.with_client(|addr| addr.append_text(out));
        true
    }),
];
