//! Files that lie compressed beside those asked for: `gzip_static`, `brotli_static`, `zstd_static`.

use super::accepted;
use moonrest_http::{core::map_path, gzip, open_file, prelude::*};
use moonrest_proto::http1::Method;

/// The words of the directives.
pub(crate) const WORDS: &[&str] = &["off", "on", "always"];
const ON: usize = 1;
const ALWAYS: usize = 2;

/// Serves the compressed file in place of the one asked for.
pub(crate) struct Precompressed {
    /// The value of `Content-Encoding`.
    coding: &'static [u8],
    /// What the name of the compressed file ends with.
    suffix: &'static [u8],
    /// Whether the client must accept it; `always` does not ask.
    asks: bool,
}

impl Precompressed {
    /// The handler for a directive's value, a position in [`WORDS`].
    pub(crate) fn new(value: Option<usize>, coding: &'static [u8], suffix: &'static [u8]) -> Option<Self> {
        matches!(value, Some(ON | ALWAYS)).then_some(Self { coding, suffix, asks: value == Some(ON) })
    }
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
