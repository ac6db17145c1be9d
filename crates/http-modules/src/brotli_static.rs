//! `brotli_static`: a compressed file beside the one asked for.
//! <https://github.com/google/ngx_brotli>

use crate::compression::precompressed::{Beside, Coding};

/// Serves `NAME.br` in place of `NAME`.
pub type BrotliStatic = Beside<Brotli>;

/// The coding.
pub enum Brotli {}

impl Coding for Brotli {
    const MODULE: &'static str = "ngx_http_brotli_static_module";
    const DIRECTIVE: &'static str = "brotli_static";
    const NAME: &'static [u8] = b"br";
    const SUFFIX: &'static [u8] = b".br";
}
