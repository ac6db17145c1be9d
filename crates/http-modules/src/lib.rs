//! The nginx HTTP modules, a file or folder each.
//!
//! [`MODULES`] is the registry: a line per module, in the order in which handlers of one phase run.

pub mod access;
pub mod addition;
pub mod api;
pub mod array_var;
pub mod auth_basic;
pub mod auth_request;
pub mod autoindex;
pub mod brotli;
pub mod brotli_static;
pub mod browser;
mod cgi;
pub mod charset;
mod compression;
pub mod coolkit;
mod database;
pub mod dav;
pub mod degradation;
pub mod drizzle;
pub mod echo;
pub mod empty_gif;
pub mod encrypted_session;
pub mod fastcgi;
pub mod form_input;
pub mod geo;
pub mod grpc;
pub mod gunzip;
pub mod gzip;
pub mod gzip_static;
pub mod headers;
pub mod headers_more;
pub mod health_check;
pub mod iconv;
pub mod index;
mod lenient_base64;
mod limit;
pub mod limit_conn;
pub mod limit_req;
pub mod log;
pub mod map;
pub mod memc;
pub mod memcached;
pub mod mirror;
pub mod ndk;
pub mod not_modified;
pub mod postgres;
pub mod proxy;
pub mod random_index;
pub mod range;
pub mod rds_csv;
pub mod rds_json;
mod rds_text;
pub mod realip;
pub mod redis;
pub mod redis2;
pub mod referer;
pub mod rewrite;
pub mod scgi;
pub mod secure_link;
pub mod set_misc;
pub mod slice;
pub mod split_clients;
pub mod srcache;
pub mod ssi;
pub mod ssl;
pub mod static_files;
pub mod stub_status;
pub mod sub_filter;
pub mod try_files;
pub mod tunnel;
pub mod upstream;
pub mod userid;
pub mod uwsgi;
pub mod xss;
pub mod zstd;
pub mod zstd_static;

use moonrest_http::{compile::Registry, core::HttpCore, module::Module};

/// Every HTTP module. The core module is first; the rest stand in the order of their phases: post-read, rewrite,
/// preaccess, access, precontent, content; within a phase in order of execution. Filters order themselves.
pub static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    &Module::<moonrest_http::http2::Http2>::NEW,
    // connections, before there is a request
    &Module::<ssl::Ssl>::NEW,
    // post-read: realip
    &Module::<realip::RealIp>::NEW,
    &Module::<rewrite::Rewrite>::NEW,
    &Module::<headers_more::HeadersMore>::NEW,
    // preaccess
    &Module::<degradation::Degradation>::NEW,
    &Module::<limit_req::LimitReq>::NEW,
    &Module::<limit_conn::LimitConn>::NEW,
    // access
    &Module::<access::Access>::NEW,
    &Module::<auth_basic::AuthBasic>::NEW,
    &Module::<auth_request::AuthRequest>::NEW,
    // precontent: try_files, mirror; before them what is cached
    &Module::<try_files::TryFiles>::NEW,
    &Module::<mirror::Mirror>::NEW,
    &Module::<srcache::SrCache>::NEW,
    // content
    &Module::<random_index::RandomIndex>::NEW,
    &Module::<index::Index>::NEW,
    &Module::<autoindex::Autoindex>::NEW,
    &Module::<dav::Dav>::NEW,
    &Module::<zstd_static::ZstdStatic>::NEW,
    &Module::<brotli_static::BrotliStatic>::NEW,
    &Module::<gzip_static::GzipStatic>::NEW,
    &Module::<static_files::StaticFiles>::NEW,
    &Module::<empty_gif::EmptyGif>::NEW,
    &Module::<echo::Echo>::NEW,
    &Module::<stub_status::StubStatus>::NEW,
    &Module::<api::Api>::NEW,
    &Module::<upstream::Upstream>::NEW,
    &Module::<proxy::Proxy>::NEW,
    &Module::<tunnel::Tunnel>::NEW,
    &Module::<fastcgi::FastCgi>::NEW,
    &Module::<uwsgi::Uwsgi>::NEW,
    &Module::<scgi::Scgi>::NEW,
    &Module::<grpc::Grpc>::NEW,
    &Module::<memcached::Memcached>::NEW,
    // behind those that ask upstreams
    &Module::<health_check::HealthCheck>::NEW,
    &Module::<memc::Memc>::NEW,
    &Module::<redis::Redis>::NEW,
    &Module::<redis2::Redis2>::NEW,
    &Module::<drizzle::Drizzle>::NEW,
    &Module::<postgres::Postgres>::NEW,
    // variables only
    &Module::<map::Map>::NEW,
    &Module::<geo::Geo>::NEW,
    &Module::<split_clients::SplitClients>::NEW,
    &Module::<ndk::Ndk>::NEW,
    &Module::<set_misc::SetMisc>::NEW,
    &Module::<array_var::ArrayVar>::NEW,
    &Module::<form_input::FormInput>::NEW,
    &Module::<encrypted_session::EncryptedSession>::NEW,
    &Module::<coolkit::Coolkit>::NEW,
    &Module::<browser::Browser>::NEW,
    &Module::<referer::Referer>::NEW,
    &Module::<secure_link::SecureLink>::NEW,
    // filters
    &Module::<slice::Slice>::NEW,
    &Module::<not_modified::NotModified>::NEW,
    &Module::<rds_csv::RdsCsv>::NEW,
    &Module::<rds_json::RdsJson>::NEW,
    &Module::<headers::Headers>::NEW,
    &Module::<xss::Xss>::NEW,
    &Module::<iconv::Iconv>::NEW,
    &Module::<userid::UserId>::NEW,
    &Module::<gunzip::Gunzip>::NEW,
    &Module::<sub_filter::Sub>::NEW,
    &Module::<addition::Addition>::NEW,
    &Module::<charset::Charset>::NEW,
    &Module::<ssi::Ssi>::NEW,
    &Module::<zstd::Zstd>::NEW,
    &Module::<brotli::Brotli>::NEW,
    &Module::<gzip::Gzip>::NEW,
    &Module::<range::Ranges>::NEW,
    // log
    &Module::<log::AccessLog>::NEW,
];
