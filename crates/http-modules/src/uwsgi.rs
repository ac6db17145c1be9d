//! `uwsgi`: requests answered by uwsgi servers.
//! <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html>

use moonrest_http::prelude::*;
use moonrest_sys::temp::TempDir;

/// The module.
pub struct Uwsgi;
type D = Directive<Uwsgi>;

/// Settings of one block.
#[derive(Clone, Default)]
pub struct UwsgiLoc {
    temp_path: Option<TempDir>,
}
inherit!(UwsgiLoc { temp_path });

impl HttpModule for Uwsgi {
    const NAME: &'static str = "ngx_http_uwsgi_module";
    const DIRECTIVES: &'static [D] = &[D::loc("uwsgi_temp_path", Arity::between(1, 4), |c, args| {
        set_once(&mut c.temp_path, args.temp_dir()?)
    })];
    type Main = ();
    type Loc = UwsgiLoc;

    fn attach((): &(), loc: &Arc<UwsgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.temp_dir(loc.temp_path.as_ref(), "uwsgi_temp");
        Ok(())
    }
}
