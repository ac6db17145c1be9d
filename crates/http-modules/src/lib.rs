//! The nginx HTTP modules, a file or folder each.
//!
//! [`MODULES`] is the registry: a line per module, in the order in which handlers of one phase run.

mod compression;
pub mod geo;
pub mod gzip;
pub mod headers;
pub mod index;
pub mod log;
pub mod map;
pub mod not_modified;
pub mod range;
pub mod rewrite;
pub mod split_clients;
pub mod static_files;
pub mod try_files;

use moonrest_http::{compile::Registry, core::HttpCore, module::Module};

/// Every HTTP module. The core module is first; the rest stand in the order of their phases: post-read, rewrite,
/// preaccess, access, precontent, content; within a phase in order of execution. Filters order themselves.
pub static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    // post-read: realip
    &Module::<rewrite::Rewrite>::NEW,
    // preaccess: limit_conn, limit_req
    // access: access, auth_basic, auth_request
    // precontent: try_files, mirror
    &Module::<try_files::TryFiles>::NEW,
    // content: random_index, index, autoindex, dav, gzip_static, static
    &Module::<index::Index>::NEW,
    &Module::<static_files::StaticFiles>::NEW,
    // variables only
    &Module::<map::Map>::NEW,
    &Module::<geo::Geo>::NEW,
    &Module::<split_clients::SplitClients>::NEW,
    // filters
    &Module::<not_modified::NotModified>::NEW,
    &Module::<headers::Headers>::NEW,
    &Module::<gzip::Gzip>::NEW,
    &Module::<range::Ranges>::NEW,
    // log
    &Module::<log::AccessLog>::NEW,
];
