//! Static files, served where nothing else answers.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#root>

use moonrest_http::{core::map_path, open_file, prelude::*};
use moonrest_proto::http1::Method;

/// Serves files and redirects to directories.
pub struct StaticFiles;

impl HttpModule for StaticFiles {
    const NAME: &'static str = "ngx_http_static_module";
    type Main = ();
    type Loc = ();

    fn attach(_main: &(), _loc: &Arc<()>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.on(Phase::Content, Handler);
        Ok(())
    }
}

struct Handler;

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let method = r.method.get();
        if !matches!(method, Method::Get | Method::Head | Method::Post) {
            return Step::finish(405);
        }
        if r.uri().ends_with(b"/") {
            return Step::next();
        }
        let Some(path) = map_path(r) else { return Step::finish(500) };
        let found = match open_file::open(r, &path) {
            Ok(found) => found,
            Err(failure) => return Step::finish(failure.answer(r, &path)),
        };
        if found.stat.is_dir() {
            r.redirect_to_directory();
            return Step::finish(301);
        }
        if !found.stat.is_file() {
            moonrest_http::crit!(r, "\"{}\" is not a regular file", String::from_utf8_lossy(&path));
            return Step::finish(404);
        }
        if method == Method::Post {
            return Step::finish(405);
        }
        r.ignore_body()?;
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.content_length = Some(found.stat.size);
            out.last_modified = Some(found.stat.mtime);
            out.allow_ranges = true;
        }
        r.set_etag();
        r.set_content_type();
        found.respond(r, path)
    }
}
