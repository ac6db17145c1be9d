//! `zstd_static`: a compressed file beside the one asked for.
//! <https://github.com/tokers/zstd-nginx-module>

use crate::compression::precompressed::{Beside, Coding};

/// Serves `NAME.zst` in place of `NAME`.
pub type ZstdStatic = Beside<Zstd>;

/// The coding.
pub enum Zstd {}

impl Coding for Zstd {
    const MODULE: &'static str = "ngx_http_zstd_static_module";
    const DIRECTIVE: &'static str = "zstd_static";
    const NAME: &'static [u8] = b"zstd";
    const SUFFIX: &'static [u8] = b".zst";
}
