//! `proxy`: requests passed to other HTTP servers.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>

use moonrest_http::prelude::*;
use moonrest_sys::temp::TempDir;

/// The module.
pub struct Proxy;
type D = Directive<Proxy>;

/// Settings of one block.
#[derive(Clone, Default)]
pub struct ProxyLoc {
    temp_path: Option<TempDir>,
}
inherit!(ProxyLoc { temp_path });

impl HttpModule for Proxy {
    const NAME: &'static str = "ngx_http_proxy_module";
    const DIRECTIVES: &'static [D] = &[D::loc("proxy_temp_path", Arity::between(1, 4), |c, args| {
        set_once(&mut c.temp_path, args.temp_dir()?)
    })];
    type Main = ();
    type Loc = ProxyLoc;

    fn attach((): &(), loc: &Arc<ProxyLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.temp_dir(loc.temp_path.as_ref(), "proxy_temp");
        Ok(())
    }
}
