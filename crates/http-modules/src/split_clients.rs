//! `split_clients`: variables that divide clients into groups. The drawing is shared with the stream subsystem.
//! <https://nginx.org/en/docs/http/ngx_http_split_clients_module.html>

use moonrest_http::prelude::*;

/// The module.
pub struct SplitClients;

impl HttpModule for SplitClients {
    const NAME: &'static str = "ngx_http_split_clients_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::main("split_clients", Arity::Block { min: 2, max: 2 }, |(), args| {
            moonrest_core::split_clients::set(args)
        })];
    type Main = ();
    type Loc = ();
}
