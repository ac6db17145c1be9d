//! `geo`: variables computed from the client's address. The tables are shared with the stream subsystem.
//! <https://nginx.org/en/docs/http/ngx_http_geo_module.html>

use moonrest_core::{cidr, geo::Source};
use moonrest_http::prelude::*;

/// The module.
pub struct Geo;

impl HttpModule for Geo {
    const NAME: &'static str = "ngx_http_geo_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::main("geo", Arity::Block { min: 1, max: 2 }, |(), args| {
            moonrest_core::geo::set(
                args,
                Source {
                    client: |r: &Request| r.with_client(Clone::clone),
                    forwarded: Some(|r, addr, proxies, recursive| {
                        r.with_headers(b"x-forwarded-for", |fields| {
                            cidr::forwarded(&addr, fields, proxies, recursive)
                        })
                        .unwrap_or(addr)
                    }),
                },
            )
        })];
    type Main = ();
    type Loc = ();
}
