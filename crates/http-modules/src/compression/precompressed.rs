//! Files that lie compressed beside those asked for: `gzip_static`, `brotli_static`, `zstd_static`.

use super::accepted;
use moonrest_http::{core::map_path, gzip, open_file, prelude::*};
use moonrest_proto::http1::Method;
use std::marker::PhantomData;

/// A coding in which files may lie beside those asked for.
pub trait Coding: 'static {
    /// The module's name in nginx.
    const MODULE: &'static str;
    const DIRECTIVE: &'static str;
    /// The value of `Content-Encoding`.
    const NAME: &'static [u8];
    /// What the name of the compressed file ends with.
    const SUFFIX: &'static [u8];
}

/// The module for one coding: a directive `off | on | always`.
pub struct Beside<C>(PhantomData<fn() -> C>);

const WORDS: &[&str] = &["off", "on", "always"];
const ON: usize = 1;
const ALWAYS: usize = 2;

impl<C: Coding> HttpModule for Beside<C> {
    const NAME: &'static str = C::MODULE;
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive::new(
        C::DIRECTIVE,
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(WORDS, |loc: &mut Loc| &mut loc.enable),
    )];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(value @ (ON | ALWAYS)) = loc.enable {
            to.on(Phase::Content, Precompressed { coding: C::NAME, suffix: C::SUFFIX, asks: value == ON });
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

/// Serves the compressed file in place of the one asked for.
struct Precompressed {
    coding: &'static [u8],
    suffix: &'static [u8],
    /// Whether the client must accept it; `always` does not ask.
    asks: bool,
}

impl PhaseHandler for Precompressed {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) || r.uri().ends_with(b"/") {
            return Step::next();
        }
        let wanted = !self.asks || accepted(r, self.coding);
        // The file counts also for clients that do not accept it: their answer varies.
        if !wanted && !r.loc().core.gzip.vary {
            return Step::next();
        }
        let Some(mut path) = map_path(r) else { return Step::finish(500) };
        path.extend_from_slice(self.suffix);
        let found = match open_file::open(r, &path) {
            Ok(found) => found,
            Err(failure) if failure.is_not_found() => return Step::next(),
            Err(failure) => {
                failure.answer(r, &path);
                return Step::next();
            }
        };
        if self.asks {
            gzip::vary(r);
            if !wanted {
                return Step::next();
            }
        }
        if found.stat.is_dir() {
            return Step::next();
        }
        if !found.stat.is_file() {
            moonrest_http::crit!(r, "\"{}\" is not a regular file", String::from_utf8_lossy(&path));
            return Step::finish(404);
        }
        r.ignore_body()?;
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.content_length = Some(found.stat.size);
            out.last_modified = Some(found.stat.mtime);
            out.content_encoding = Some(Bytes::from_static(self.coding));
            out.allow_ranges = true;
        }
        r.set_etag();
        r.set_content_type();
        found.respond(r, path)
    }
}
