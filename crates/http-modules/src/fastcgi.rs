//! `fastcgi`: requests answered by FastCGI servers.
//! <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>

use moonrest_http::prelude::*;
use moonrest_sys::temp::TempDir;

/// The module.
pub struct FastCgi;
type D = Directive<FastCgi>;

/// Settings of one block.
#[derive(Clone, Default)]
pub struct FastCgiLoc {
    temp_path: Option<TempDir>,
}
inherit!(FastCgiLoc { temp_path });

impl HttpModule for FastCgi {
    const NAME: &'static str = "ngx_http_fastcgi_module";
    const DIRECTIVES: &'static [D] = &[D::loc("fastcgi_temp_path", Arity::between(1, 4), |c, args| {
        set_once(&mut c.temp_path, args.temp_dir()?)
    })];
    type Main = ();
    type Loc = FastCgiLoc;

    fn attach((): &(), loc: &Arc<FastCgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.temp_dir(loc.temp_path.as_ref(), "fastcgi_temp");
        Ok(())
    }
}
