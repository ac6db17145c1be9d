//! The nginx HTTP modules, a file or folder each.
//!
//! [`MODULES`] is the registry: a line per module, in the order in which handlers of one phase run.

pub mod access;
pub mod auth_basic;
pub mod geo;
pub mod map;
pub mod realip;
pub mod split_clients;

use moonrest_http::{compile::Registry, core::HttpCore, module::Module};

/// Every HTTP module. The core module is first; the rest stand in the order of their phases: post-read, rewrite,
/// preaccess, access, precontent, content; within a phase in order of execution. Filters order themselves.
pub static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    // post-read, rewrite: rewrite
    &Module::<realip::RealIp>::NEW,
    // preaccess: limit_conn, limit_req
    // access: auth_request
    &Module::<access::Access>::NEW,
    &Module::<auth_basic::AuthBasic>::NEW,
    // precontent: try_files, mirror
    // content: dav, random_index, index, autoindex, gzip_static, static
    // variables only
    &Module::<map::Map>::NEW,
    &Module::<geo::Geo>::NEW,
    &Module::<split_clients::SplitClients>::NEW,
    // filters and log: headers, userid, gzip … , log
];
