//! `scgi`: requests answered by SCGI servers.
//! <https://nginx.org/en/docs/http/ngx_http_scgi_module.html>

use moonrest_http::prelude::*;
use moonrest_sys::temp::TempDir;

/// The module.
pub struct Scgi;
type D = Directive<Scgi>;

/// Settings of one block.
#[derive(Clone, Default)]
pub struct ScgiLoc {
    temp_path: Option<TempDir>,
}
inherit!(ScgiLoc { temp_path });

impl HttpModule for Scgi {
    const NAME: &'static str = "ngx_http_scgi_module";
    const DIRECTIVES: &'static [D] = &[D::loc("scgi_temp_path", Arity::between(1, 4), |c, args| {
        set_once(&mut c.temp_path, args.temp_dir()?)
    })];
    type Main = ();
    type Loc = ScgiLoc;

    fn attach((): &(), loc: &Arc<ScgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.temp_dir(loc.temp_path.as_ref(), "scgi_temp");
        Ok(())
    }
}
