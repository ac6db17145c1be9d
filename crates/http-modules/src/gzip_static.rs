//! `gzip_static`: a compressed file beside the one asked for.
//! <https://nginx.org/en/docs/http/ngx_http_gzip_static_module.html>

use crate::compression::precompressed::{Beside, Coding};

/// Serves `NAME.gz` in place of `NAME`.
pub type GzipStatic = Beside<Gzip>;

/// The coding.
pub enum Gzip {}

impl Coding for Gzip {
    const MODULE: &'static str = "ngx_http_gzip_static_module";
    const DIRECTIVE: &'static str = "gzip_static";
    const NAME: &'static [u8] = b"gzip";
    const SUFFIX: &'static [u8] = b".gz";
}
