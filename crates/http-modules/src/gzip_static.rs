//! `gzip_static`: a compressed file beside the one asked for.
//! <https://nginx.org/en/docs/http/ngx_http_gzip_static_module.html>

use crate::compression::precompressed::{Precompressed, WORDS};
use moonrest_http::prelude::*;

/// Serves `NAME.gz` in place of `NAME`.
pub struct GzipStatic;

impl HttpModule for GzipStatic {
    const NAME: &'static str = "ngx_http_gzip_static_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive::new(
        "gzip_static",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(WORDS, |loc: &mut Loc| &mut loc.enable),
    )];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(handler) = Precompressed::new(loc.enable, b"gzip", b".gz") {
            to.on(Phase::Content, handler);
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<usize>,
}

inherit!(Loc { enable });
