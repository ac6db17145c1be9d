//! `gzip_static`: a compressed file beside the one asked for.
//! <https://nginx.org/en/docs/http/ngx_http_gzip_static_module.html>

use moonrest_http::{core::map_path, gzip, open_file, prelude::*};
use moonrest_proto::http1::Method;

/// Serves `NAME.gz` in place of `NAME`.
pub struct GzipStatic;

const OFF: usize = 0;
const ON: usize = 1;

impl HttpModule for GzipStatic {
    const NAME: &'static str = "ngx_http_gzip_static_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive::new(
        "gzip_static",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["off", "on", "always"], |loc: &mut Loc| &mut loc.enable),
    )];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let enable = loc.enable.unwrap_or(OFF);
        if enable != OFF {
            to.on(Phase::Content, Handler { asks: enable == ON });
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

struct Handler {
    /// Whether the client must accept it; `always` does not ask.
    asks: bool,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) || r.uri().ends_with(b"/") {
            return Step::next();
        }
        let wanted = !self.asks || gzip::accepts(r);
        // The file counts also for clients that do not accept it: their answer varies.
        if !wanted && !r.loc().core.gzip.vary {
            return Step::next();
        }
        let Some(mut path) = map_path(r) else { return Step::finish(500) };
        path.extend_from_slice(b".gz");
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
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.content_length = Some(found.stat.size);
            out.last_modified = Some(found.stat.mtime);
            out.content_encoding = Some(Bytes::from_static(b"gzip"));
            out.allow_ranges = true;
        }
        r.set_etag();
        r.set_content_type();
        found.respond(r, path)
    }
}
