//! The nginx HTTP modules, a file or folder each.
//!
//! [`MODULES`] is the registry: a line per module, in the order in which handlers of one phase run.

pub mod addition;
pub mod brotli;
pub mod charset;
mod compression;
pub mod gunzip;
pub mod gzip;
pub mod sub_filter;
pub mod zstd;

use moonrest_http::{compile::Registry, core::HttpCore, module::Module};

/// Every HTTP module. The core module is first; the rest stand in the order of their phases: post-read, rewrite,
/// preaccess, access, precontent, content; within a phase in order of execution. Filters order themselves.
pub static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    // post-read, rewrite: realip, rewrite
    // preaccess: limit_conn, limit_req
    // access: access, auth_basic, auth_request
    // precontent: try_files, mirror
    // content: dav, random_index, index, autoindex, gzip_static, static
    // variables only: map, geo, split_clients, browser, referer, secure_link
    // filters and log: headers, userid, gzip … , log
    &Module::<gunzip::Gunzip>::NEW,
    &Module::<addition::Addition>::NEW,
    &Module::<sub_filter::Sub>::NEW,
    &Module::<charset::Charset>::NEW,
    &Module::<zstd::Zstd>::NEW,
    &Module::<brotli::Brotli>::NEW,
    &Module::<gzip::Gzip>::NEW,
];
