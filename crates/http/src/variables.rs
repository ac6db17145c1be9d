//! The variables of the core module.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#variables>

use crate::request::Request;
use moonrest_core::var::VarDef;
use std::io::Write;

type D = VarDef<Request>;

pub(crate) const TABLE: &[D] = &[
    D::get("uri", |r, out| bytes(out, &r.uri())),
    D::get("document_uri", |r, out| bytes(out, &r.uri())),
    D::get("args", |r, out| bytes(out, &r.args.borrow())),
    D::get("query_string", |r, out| bytes(out, &r.args.borrow())),
    D::get("host", host),
    D::get("remote_addr", |r, out| {
        r.with_client(|addr| addr.append_text(out));
        true
    }),
    D::get("request_method", |r, out| {
        let main = r.main();
        bytes(out, main.head.borrow().method_name.of(&main.block.borrow()))
    }),
    D::get("status", |r, out| write!(out, "{:03}", r.main().out.borrow().status).is_ok()),
    D::prefix("http_", |r, name, out| {
        let wanted = dashed(name);
        r.with_header(&wanted, |value| value.is_some_and(|value| bytes(out, value)))
    }),
];

fn bytes(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    true
}

fn dashed(name: &[u8]) -> Vec<u8> {
    name.iter().map(|b| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect()
}

fn host(r: &Request, out: &mut Vec<u8>) -> bool {
    let main = r.main();
    let host = main.host.borrow();
    bytes(out, if host.is_empty() { &r.srv().name } else { &host })
}
