//! Settings of the core module: as written ([`CoreLoc`]) and as used ([`Core`]).

use super::error_page::ErrorPage;
use crate::{compile::Compiler, gzip, types::TypesConf};
use moonrest_core::{Log, Template, inherit, log::Target};
use moonrest_sys::temp::TempDir;
use std::sync::Arc;

/// What one block says; an unset field takes the enclosing block's value.
#[derive(Clone, Default)]
pub struct CoreLoc {
    pub root: Option<Root>,
    pub types: Option<Arc<TypesConf>>,
    pub default_type: Option<Box<[u8]>>,
    pub error_pages: Option<Vec<ErrorPage>>,
    pub error_log: Option<Vec<Target>>,
    pub keepalive_timeout: Option<u64>,
    pub keepalive_header: Option<u64>,
    pub keepalive_min_timeout: Option<u64>,
    pub keepalive_requests: Option<u64>,
    pub keepalive_time: Option<u64>,
    pub keepalive_disable: Option<u8>,
    pub client_max_body_size: Option<u64>,
    pub client_body_buffer_size: Option<u64>,
    pub client_body_timeout: Option<u64>,
    pub client_body_min_rate: Option<u64>,
    pub client_body_in_file_only: Option<usize>,
    pub client_body_in_single_buffer: Option<bool>,
    pub client_body_temp_path: Option<TempDir>,
    pub send_timeout: Option<u64>,
    pub send_lowat: Option<u64>,
    pub postpone_output: Option<u64>,
    pub limit_rate: Option<Template>,
    pub limit_rate_after: Option<Template>,
    pub lingering_close: Option<usize>,
    pub lingering_time: Option<u64>,
    pub lingering_timeout: Option<u64>,
    pub reset_timedout_connection: Option<bool>,
    pub absolute_redirect: Option<bool>,
    pub server_name_in_redirect: Option<bool>,
    pub port_in_redirect: Option<bool>,
    pub server_tokens: Option<ServerTokens>,
    pub chunked_transfer_encoding: Option<bool>,
    pub etag: Option<bool>,
    pub if_modified_since: Option<usize>,
    pub max_ranges: Option<u64>,
    pub internal: Option<bool>,
    pub satisfy: Option<usize>,
    pub auth_delay: Option<u64>,
    pub log_not_found: Option<bool>,
    pub log_subrequest: Option<bool>,
    pub recursive_error_pages: Option<bool>,
    pub msie_padding: Option<bool>,
    pub msie_refresh: Option<bool>,
    pub sendfile: Option<bool>,
    pub sendfile_max_chunk: Option<u64>,
    pub subrequest_output_buffer_size: Option<u64>,
    pub aio: Option<Aio>,
    pub aio_write: Option<bool>,
    pub directio: Option<u64>,
    pub directio_alignment: Option<u64>,
    pub read_ahead: Option<u64>,
    pub tcp_nopush: Option<bool>,
    pub tcp_nodelay: Option<bool>,
    pub output_buffers: Option<(u64, u64)>,
    pub open_file_cache: Option<OpenFileCache>,
    pub open_file_cache_valid: Option<u64>,
    pub open_file_cache_min_uses: Option<u64>,
    pub open_file_cache_errors: Option<bool>,
    pub open_file_cache_events: Option<bool>,
    pub disable_symlinks: Option<DisableSymlinks>,
    pub post_action: Option<Template>,
    pub early_hints: Option<Vec<Template>>,
    pub resolver: Option<Arc<moonrest_net::resolver::Settings>>,
    pub resolver_timeout: Option<u64>,
    pub gzip_vary: Option<bool>,
    pub gzip_http_version: Option<usize>,
    pub gzip_proxied: Option<u16>,
    pub gzip_disable: Option<gzip::Disabled>,

    // Only of `http` and `server`.
    pub client_header_timeout: Option<u64>,
    pub client_body_early_read: Option<Vec<Template>>,
    pub client_header_buffer_size: Option<u64>,
    pub large_client_header_buffers: Option<(u64, u64)>,
    pub max_headers: Option<u64>,
    pub ignore_invalid_headers: Option<bool>,
    pub underscores_in_headers: Option<bool>,
    pub merge_slashes: Option<bool>,
    /// Names of this server; not inherited.
    pub server_names: ServerNames,
}

/// The first name of a server, for redirects; not inherited.
#[derive(Clone, Default)]
pub struct ServerNames(pub Vec<Box<[u8]>>);

/// `root` or `alias`.
#[derive(Clone, Debug)]
pub struct Root {
    /// With the prefix in front, unless it begins with a variable.
    pub path: Template,
    pub alias: bool,
    /// How much of the request's path an alias replaces: the location's name; `None` is all of it (the location is a
    /// regular expression).
    pub replaces: Option<usize>,
    /// The value as written begins with a variable: the prefix is put before the result.
    pub relative: bool,
}

/// `aio`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Aio {
    #[default]
    Off,
    On,
    /// On the named thread pool.
    Threads(Box<str>),
}

/// `open_file_cache max=N [inactive=time]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFileCache {
    Off,
    On {
        /// Tells the caches of several lines apart.
        id: u64,
        max: u64,
        /// Seconds.
        inactive: u64,
    },
}

/// `client_body_in_file_only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum InFileOnly {
    #[default]
    Off,
    On,
    Clean,
}

/// `satisfy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Satisfy {
    #[default]
    All,
    Any,
}

/// `lingering_close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Lingering {
    Off,
    #[default]
    On,
    Always,
}

/// `if_modified_since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IfModifiedSince {
    Off,
    #[default]
    Exact,
    Before,
}

/// `server_tokens`.
#[derive(Clone, Debug, Default)]
pub enum ServerTokens {
    Off,
    #[default]
    On,
    Build,
    /// A text of the configuration's own; empty means no `Server` field.
    Text(Template),
}

/// `disable_symlinks`.
#[derive(Clone, Debug, Default)]
pub enum DisableSymlinks {
    #[default]
    Off,
    On {
        from: Option<Template>,
    },
    IfNotOwner {
        from: Option<Template>,
    },
}

inherit!(CoreLoc {
    root,
    types,
    default_type,
    error_pages,
    error_log,
    keepalive_timeout,
    keepalive_header,
    keepalive_min_timeout,
    keepalive_requests,
    keepalive_time,
    keepalive_disable,
    client_max_body_size,
    client_body_buffer_size,
    client_body_timeout,
    client_body_min_rate,
    client_body_in_file_only,
    client_body_in_single_buffer,
    client_body_temp_path,
    send_timeout,
    send_lowat,
    postpone_output,
    limit_rate,
    limit_rate_after,
    lingering_close,
    lingering_time,
    lingering_timeout,
    reset_timedout_connection,
    absolute_redirect,
    server_name_in_redirect,
    port_in_redirect,
    server_tokens,
    chunked_transfer_encoding,
    etag,
    if_modified_since,
    max_ranges,
    satisfy,
    auth_delay,
    log_not_found,
    log_subrequest,
    recursive_error_pages,
    msie_padding,
    msie_refresh,
    sendfile,
    sendfile_max_chunk,
    subrequest_output_buffer_size,
    aio,
    aio_write,
    directio,
    directio_alignment,
    read_ahead,
    tcp_nopush,
    tcp_nodelay,
    output_buffers,
    open_file_cache,
    open_file_cache_valid,
    open_file_cache_min_uses,
    open_file_cache_errors,
    open_file_cache_events,
    disable_symlinks,
    post_action,
    early_hints,
    resolver,
    resolver_timeout,
    gzip_vary,
    gzip_http_version,
    gzip_proxied,
    gzip_disable,
    client_header_timeout,
    client_body_early_read,
    client_header_buffer_size,
    large_client_header_buffers,
    max_headers,
    ignore_invalid_headers,
    underscores_in_headers,
    merge_slashes,
});

/// The settings in force in one location.
pub struct Core {
    pub root: Root,
    pub types: Arc<TypesConf>,
    pub default_type: bytes::Bytes,
    pub error_pages: Vec<ErrorPage>,
    pub error_log: Arc<Log>,
    /// Milliseconds; 0 closes after each response.
    pub keepalive_timeout: u64,
    /// Seconds for the `Keep-Alive` field; 0 leaves it out.
    pub keepalive_header: u64,
    pub keepalive_min_timeout: u64,
    pub keepalive_requests: u64,
    /// Milliseconds.
    pub keepalive_time: u64,
    /// Bits: 1 msie6, 2 safari.
    pub keepalive_disable: u8,
    /// Bytes; 0 is unlimited.
    pub client_max_body_size: u64,
    pub client_body_buffer_size: u64,
    pub client_body_timeout: u64,
    /// Bytes per second that a body must come with on average, behind its first `client_body_timeout`; 0 for any.
    pub client_body_min_rate: u64,
    pub client_body_in_file_only: InFileOnly,
    pub client_body_in_single_buffer: bool,
    pub client_body_temp_path: TempDir,
    pub send_timeout: u64,
    pub postpone_output: u64,
    pub limit_rate: Option<Template>,
    pub limit_rate_after: Option<Template>,
    pub lingering_close: Lingering,
    pub lingering_time: u64,
    pub lingering_timeout: u64,
    pub reset_timedout_connection: bool,
    pub absolute_redirect: bool,
    pub server_name_in_redirect: bool,
    pub port_in_redirect: bool,
    pub server_tokens: ServerTokens,
    pub chunked_transfer_encoding: bool,
    pub etag: bool,
    pub if_modified_since: IfModifiedSince,
    /// `None` is unlimited; 0 turns ranges off.
    pub max_ranges: Option<u64>,
    pub internal: bool,
    pub satisfy: Satisfy,
    pub auth_delay: u64,
    pub log_not_found: bool,
    pub log_subrequest: bool,
    pub recursive_error_pages: bool,
    pub msie_padding: bool,
    pub msie_refresh: bool,
    pub sendfile: bool,
    /// Bytes; 0 is unlimited.
    pub sendfile_max_chunk: u64,
    pub subrequest_output_buffer_size: u64,
    pub aio: Aio,
    pub aio_write: bool,
    /// Files of this size and more are read past the page cache; `u64::MAX` turns it off.
    pub directio: u64,
    pub directio_alignment: u64,
    pub read_ahead: u64,
    pub tcp_nopush: bool,
    pub tcp_nodelay: bool,
    pub output_buffers: (u64, u64),
    pub open_file_cache: OpenFileCache,
    /// Seconds.
    pub open_file_cache_valid: u64,
    pub open_file_cache_min_uses: u64,
    pub open_file_cache_errors: bool,
    pub disable_symlinks: DisableSymlinks,
    pub post_action: Option<Template>,
    pub early_hints: Vec<Template>,
    /// Who resolves names at run time.
    pub resolver: Option<Arc<moonrest_net::resolver::Settings>>,
    /// Milliseconds.
    pub resolver_timeout: u64,
    /// Who gets compressed answers.
    pub gzip: gzip::Rules,
}

impl Core {
    /// Puts nginx's defaults in the place of what is not set anywhere.
    pub(crate) fn resolve(conf: &CoreLoc, cx: &Compiler<'_>) -> Self {
        let flag = |value: Option<bool>, default: bool| value.unwrap_or(default);
        let keepalive_timeout = conf.keepalive_timeout.unwrap_or(75_000);
        Self {
            root: conf.root.clone().unwrap_or_else(|| Root {
                path: Template::literal(cx.env.prefix.join("html").as_os_str().as_encoded_bytes()),
                alias: false,
                replaces: Some(0),
                relative: false,
            }),
            types: conf.types.clone().unwrap_or_default(),
            default_type: crate::types::shared(conf.default_type.as_deref().unwrap_or(b"text/plain")),
            error_pages: conf.error_pages.clone().unwrap_or_default(),
            error_log: conf
                .error_log
                .as_ref()
                .map_or_else(|| cx.main_log.clone(), |targets| Arc::new(Log::new(targets.clone()))),
            keepalive_timeout,
            keepalive_header: conf.keepalive_header.unwrap_or(0),
            keepalive_min_timeout: conf.keepalive_min_timeout.unwrap_or(0),
            keepalive_requests: conf.keepalive_requests.unwrap_or(1000),
            keepalive_time: conf.keepalive_time.unwrap_or(3_600_000),
            keepalive_disable: conf.keepalive_disable.unwrap_or(1),
            client_max_body_size: conf.client_max_body_size.unwrap_or(1 << 20),
            client_body_buffer_size: conf.client_body_buffer_size.unwrap_or(16 * 1024),
            client_body_timeout: conf.client_body_timeout.unwrap_or(60_000),
            client_body_min_rate: conf.client_body_min_rate.unwrap_or(0),
            client_body_in_file_only: match conf.client_body_in_file_only {
                Some(1) => InFileOnly::On,
                Some(2) => InFileOnly::Clean,
                _ => InFileOnly::Off,
            },
            client_body_in_single_buffer: flag(conf.client_body_in_single_buffer, false),
            client_body_temp_path: conf.client_body_temp_path.clone().unwrap_or_else(|| TempDir {
                path: cx.env.prefix.join("client_body_temp").as_os_str().as_encoded_bytes().to_vec(),
                levels: [0; 3],
            }),
            send_timeout: conf.send_timeout.unwrap_or(60_000),
            postpone_output: conf.postpone_output.unwrap_or(1460),
            limit_rate: conf.limit_rate.clone(),
            limit_rate_after: conf.limit_rate_after.clone(),
            lingering_close: match conf.lingering_close {
                Some(0) => Lingering::Off,
                Some(2) => Lingering::Always,
                _ => Lingering::On,
            },
            lingering_time: conf.lingering_time.unwrap_or(30_000),
            lingering_timeout: conf.lingering_timeout.unwrap_or(5_000),
            reset_timedout_connection: flag(conf.reset_timedout_connection, false),
            absolute_redirect: flag(conf.absolute_redirect, true),
            server_name_in_redirect: flag(conf.server_name_in_redirect, false),
            port_in_redirect: flag(conf.port_in_redirect, true),
            server_tokens: conf.server_tokens.clone().unwrap_or_default(),
            chunked_transfer_encoding: flag(conf.chunked_transfer_encoding, true),
            etag: flag(conf.etag, true),
            if_modified_since: match conf.if_modified_since {
                Some(0) => IfModifiedSince::Off,
                Some(2) => IfModifiedSince::Before,
                _ => IfModifiedSince::Exact,
            },
            max_ranges: conf.max_ranges,
            internal: flag(conf.internal, false),
            satisfy: if conf.satisfy == Some(1) { Satisfy::Any } else { Satisfy::All },
            auth_delay: conf.auth_delay.unwrap_or(0),
            log_not_found: flag(conf.log_not_found, true),
            log_subrequest: flag(conf.log_subrequest, false),
            recursive_error_pages: flag(conf.recursive_error_pages, false),
            msie_padding: flag(conf.msie_padding, true),
            msie_refresh: flag(conf.msie_refresh, false),
            sendfile: flag(conf.sendfile, false),
            sendfile_max_chunk: conf.sendfile_max_chunk.unwrap_or(2 << 20),
            subrequest_output_buffer_size: conf.subrequest_output_buffer_size.unwrap_or(4096),
            aio: conf.aio.clone().unwrap_or_default(),
            aio_write: flag(conf.aio_write, false),
            directio: conf.directio.unwrap_or(u64::MAX),
            directio_alignment: conf.directio_alignment.unwrap_or(512),
            read_ahead: conf.read_ahead.unwrap_or(0),
            tcp_nopush: flag(conf.tcp_nopush, false),
            tcp_nodelay: flag(conf.tcp_nodelay, true),
            output_buffers: conf.output_buffers.unwrap_or((2, 32 * 1024)),
            open_file_cache: conf.open_file_cache.unwrap_or(OpenFileCache::Off),
            open_file_cache_valid: conf.open_file_cache_valid.unwrap_or(60),
            open_file_cache_min_uses: conf.open_file_cache_min_uses.unwrap_or(1),
            open_file_cache_errors: flag(conf.open_file_cache_errors, false),
            disable_symlinks: conf.disable_symlinks.clone().unwrap_or_default(),
            post_action: conf.post_action.clone(),
            early_hints: conf.early_hints.clone().unwrap_or_default(),
            resolver: conf.resolver.clone(),
            resolver_timeout: conf.resolver_timeout.unwrap_or(30_000),
            gzip: gzip::Rules::new(
                conf.gzip_vary,
                conf.gzip_http_version,
                conf.gzip_proxied,
                conf.gzip_disable.clone(),
            ),
        }
    }
}
