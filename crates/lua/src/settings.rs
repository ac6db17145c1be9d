//! What the directives set: for the whole `http` block, and for one block of it.
//! <https://github.com/openresty/lua-nginx-module#directives>

use crate::code::Code;
use moonrest_core::zone::dict::Dict;
use moonrest_http::prelude::*;
use moonrest_net::tls::secrets::SecretsFile;
use std::{path::PathBuf, sync::atomic::AtomicUsize};

/// What belongs to the whole `http` block.
#[derive(Default)]
pub struct Main {
    pub(crate) package_path: Option<Box<[u8]>>,
    pub(crate) package_cpath: Option<Box<[u8]>>,
    /// `lua_shared_dict`
    pub(crate) dicts: Vec<Arc<Dict>>,
    pub(crate) init: Option<Arc<Code>>,
    pub(crate) init_worker: Option<Arc<Code>>,
    pub(crate) exit_worker: Option<Arc<Code>>,
    /// Something in the configuration needs a VM.
    pub(crate) used: bool,
    pub(crate) rewrite_no_postpone: Option<bool>,
    pub(crate) access_no_postpone: Option<bool>,
    pub(crate) precontent_no_postpone: Option<bool>,
    pub(crate) max_pending_timers: Option<u64>,
    pub(crate) max_running_timers: Option<u64>,
    pub(crate) regex_cache_max_entries: Option<u64>,
    pub(crate) regex_match_limit: Option<u64>,
    /// Bytes of the error log kept for `ngx.errlog`.
    pub(crate) capture_error_log: Option<u64>,
    pub(crate) thread_cache_max_entries: Option<u64>,
    pub(crate) worker_thread_vm_pool_size: Option<u64>,
    /// The names of `thread_pool`, known when everything is read.
    pub(crate) thread_pools: Option<Arc<moonrest_core::thread_pool::DeclaredPools>>,
    pub(crate) malloc_trim: Option<u64>,
    pub(crate) sa_restart: Option<bool>,
}

impl Main {
    pub(crate) fn max_pending_timers(&self) -> u64 {
        self.max_pending_timers.unwrap_or(1024)
    }

    pub(crate) fn regex_cache_max_entries(&self) -> u32 {
        self.regex_cache_max_entries.unwrap_or(1024).try_into().unwrap_or(u32::MAX)
    }

    /// 0 for what PCRE2 has by itself.
    pub(crate) fn regex_match_limit(&self) -> u32 {
        self.regex_match_limit.unwrap_or(0).try_into().unwrap_or(u32::MAX)
    }

    pub(crate) fn worker_thread_vm_pool_size(&self) -> u64 {
        self.worker_thread_vm_pool_size.unwrap_or(10)
    }

    pub(crate) fn max_running_timers(&self) -> u64 {
        self.max_running_timers.unwrap_or(256)
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    pub(crate) server_rewrite: Option<Arc<Code>>,
    pub(crate) rewrite: Option<Arc<Code>>,
    pub(crate) access: Option<Arc<Code>>,
    pub(crate) precontent: Option<Arc<Code>>,
    pub(crate) header_filter: Option<Arc<Code>>,
    pub(crate) body_filter: Option<Arc<Code>>,
    pub(crate) log: Option<Arc<Code>>,
    pub(crate) ssl_client_hello: Option<Arc<Code>>,
    pub(crate) ssl_certificate: Option<Arc<Code>>,
    pub(crate) ssl_session_fetch: Option<Arc<Code>>,
    pub(crate) ssl_session_store: Option<Arc<Code>>,
    pub(crate) proxy_ssl_certificate: Option<Arc<Code>>,
    pub(crate) proxy_ssl_verify: Option<Arc<Code>>,
    /// With the block it stands in: it answers there, and in an `if` inside.
    pub(crate) content: OwnContent,
    code_cache: Option<bool>,
    need_request_body: Option<bool>,
    transform_underscores: Option<bool>,
    http10_buffering: Option<bool>,
    check_client_abort: Option<bool>,
    use_default_type: Option<bool>,
    socket: Socket,
    ssl: Ssl,
}

/// `content_by_lua*` is not inherited by nested locations.
#[derive(Clone, Default)]
pub(crate) struct OwnContent(pub Option<(moonrest_http::compile::BlockId, Arc<Code>)>);

/// `lua_socket_*`. Times in milliseconds.
#[derive(Clone, Default)]
struct Socket {
    connect_timeout: Option<u64>,
    send_timeout: Option<u64>,
    read_timeout: Option<u64>,
    send_lowat: Option<u64>,
    buffer_size: Option<u64>,
    pool_size: Option<u64>,
    keepalive_timeout: Option<u64>,
    log_errors: Option<bool>,
}
inherit!(Socket {
    connect_timeout,
    send_timeout,
    read_timeout,
    send_lowat,
    buffer_size,
    pool_size,
    keepalive_timeout,
    log_errors,
});

/// `lua_ssl_*`: what cosockets do in their handshakes.
#[derive(Clone, Default)]
pub(crate) struct Ssl {
    /// Positions in [`SSL_PROTOCOLS`].
    pub protocols: Option<Vec<usize>>,
    pub ciphers: Option<Box<[u8]>>,
    pub verify_depth: Option<u64>,
    pub trusted_certificate: Option<Arc<Pem>>,
    pub crl: Option<Arc<Pem>>,
    pub certificates: Option<Vec<Arc<Pem>>>,
    pub certificate_keys: Option<Vec<Arc<Pem>>>,
    pub key_log: Option<Arc<SecretsFile>>,
    pub conf_commands: Option<Vec<ConfCommand>>,
    pub upstream_skip_default_verify: Option<bool>,
}

/// A file of certificates or keys, read with the configuration.
pub(crate) struct Pem {
    pub path: PathBuf,
    pub text: Vec<u8>,
}

inherit!(Ssl {
    protocols,
    ciphers,
    verify_depth,
    trusted_certificate,
    crl,
    certificates,
    certificate_keys,
    key_log,
    conf_commands,
    upstream_skip_default_verify,
});

/// Name and value of a `lua_ssl_conf_command`.
pub(crate) type ConfCommand = (Box<[u8]>, Box<[u8]>);

/// The words of `lua_ssl_protocols`.
pub(crate) const SSL_PROTOCOLS: &[&str] = &["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(server_rewrite rewrite access precontent header_filter body_filter log);
        pass_down!(proxy_ssl_certificate proxy_ssl_verify);
        pass_down!(ssl_client_hello ssl_certificate ssl_session_fetch ssl_session_store);
        pass_down!(code_cache need_request_body transform_underscores http10_buffering);
        pass_down!(check_client_abort use_default_type);
        if self.content.0.is_none() {
            self.content = outer.content.clone();
        }
        self.socket.inherit(&outer.socket);
        self.ssl.inherit(&outer.ssl);
    }
}

/// Settings with upstream's defaults.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $($part:ident).+ : $type:ty, $default:expr;)*) => {
        impl Loc {
            $(
                $(#[$doc])*
                pub(crate) fn $name(&self) -> $type {
                    self.$($part).+.unwrap_or($default)
                }
            )*
        }
    };
}

settings! {
    code_cache = code_cache: bool, true;
    need_request_body = need_request_body: bool, false;
    transform_underscores = transform_underscores: bool, true;
    http10_buffering = http10_buffering: bool, true;
    check_client_abort = check_client_abort: bool, false;
    use_default_type = use_default_type: bool, true;
    socket_connect_timeout = socket.connect_timeout: u64, 60_000;
    socket_send_timeout = socket.send_timeout: u64, 60_000;
    socket_read_timeout = socket.read_timeout: u64, 60_000;
    /// A memory page.
    socket_buffer_size = socket.buffer_size: u64, 4096;
    socket_pool_size = socket.pool_size: u64, 30;
    socket_keepalive_timeout = socket.keepalive_timeout: u64, 60_000;
    socket_log_errors = socket.log_errors: bool, true;
    ssl_verify_depth = ssl.verify_depth: u64, 1;
}

impl Loc {
    /// `lua_ssl_*` as far as they were set.
    pub(crate) fn ssl(&self) -> &Ssl {
        &self.ssl
    }

    /// The settings in force where the request is.
    pub(crate) fn of(r: &Request) -> Option<&Self> {
        static PLACE: AtomicUsize = AtomicUsize::new(0);
        r.loc().conf_at(&PLACE)
    }
}

/// Places of settings, for the table of directives.
macro_rules! places {
    ($($name:ident = $($part:ident).+ : $type:ty;)*) => {
        $(
            pub(crate) fn $name(loc: &mut Loc) -> &mut Option<$type> {
                &mut loc.$($part).+
            }
        )*
    };
}

/// Where each directive's value is stored.
pub(crate) mod place {
    use super::{Arc, Loc, Pem};

    places! {
        code_cache = code_cache: bool;
        need_request_body = need_request_body: bool;
        transform_underscores = transform_underscores: bool;
        http10_buffering = http10_buffering: bool;
        check_client_abort = check_client_abort: bool;
        use_default_type = use_default_type: bool;
        connect_timeout = socket.connect_timeout: u64;
        send_timeout = socket.send_timeout: u64;
        read_timeout = socket.read_timeout: u64;
        send_lowat = socket.send_lowat: u64;
        buffer_size = socket.buffer_size: u64;
        pool_size = socket.pool_size: u64;
        keepalive_timeout = socket.keepalive_timeout: u64;
        log_errors = socket.log_errors: bool;
        protocols = ssl.protocols: Vec<usize>;
        ciphers = ssl.ciphers: Box<[u8]>;
        verify_depth = ssl.verify_depth: u64;
        trusted_certificate = ssl.trusted_certificate: Arc<Pem>;
        crl = ssl.crl: Arc<Pem>;
        certificates = ssl.certificates: Vec<Arc<Pem>>;
        certificate_keys = ssl.certificate_keys: Vec<Arc<Pem>>;
        key_log = ssl.key_log: Arc<super::SecretsFile>;
        conf_commands = ssl.conf_commands: Vec<super::ConfCommand>;
        upstream_skip_default_verify = ssl.upstream_skip_default_verify: bool;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_setting_is_the_enclosing_blocks_or_upstreams_default() {
        let outer = Loc { code_cache: Some(false), ..Loc::default() };
        let mut inner = Loc::default();
        *place::pool_size(&mut inner) = Some(7);
        inner.inherit(&outer);
        assert!(!inner.code_cache());
        assert_eq!((inner.socket_pool_size(), inner.socket_read_timeout()), (7, 60_000));
    }
}
