//! `brotli_static`: a compressed file beside the one asked for.
//! <https://github.com/google/ngx_brotli>

use crate::compression::precompressed::{Precompressed, WORDS};
use moonrest_http::prelude::*;

/// Serves `NAME.br` in place of `NAME`.
pub struct BrotliStatic;

impl HttpModule for BrotliStatic {
    const NAME: &'static str = "ngx_http_brotli_static_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive::new(
        "brotli_static",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(WORDS, |loc: &mut Loc| &mut loc.enable),
    )];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(handler) = Precompressed::new(loc.enable, b"br", b".br") {
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
