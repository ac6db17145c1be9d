//! What a `server` block settles before a location is known: how heads are read.

use super::settings::CoreLoc;
use crate::compile::{BlockId, Compiler};
use moonrest_core::Template;
use moonrest_proto::http1::HeadLimits;

/// Settings of one server.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// The first `server_name`.
    pub name: Box<[u8]>,
    /// Milliseconds.
    pub client_header_timeout: u64,
    pub head_limits: HeadLimits,
    pub max_headers: u64,
    pub ignore_invalid_headers: bool,
    pub underscores_in_headers: bool,
    pub merge_slashes: bool,
    /// Clients may ask for tunnels.
    pub allow_connect: bool,
    /// If one of these holds, the body is read before anything else is done.
    pub early_body: Box<[Template]>,
}

impl ServerSettings {
    /// Puts nginx's defaults in the place of what is not set anywhere.
    pub(crate) fn resolve(conf: &CoreLoc, server: BlockId, cx: &Compiler<'_>) -> Self {
        let (count, size) = conf.large_client_header_buffers.unwrap_or((4, 8192));
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            name: conf.server_names.0.first().cloned().unwrap_or_default(),
            client_header_timeout: conf.client_header_timeout.unwrap_or(60_000),
            head_limits: HeadLimits {
                first: small(conf.client_header_buffer_size.unwrap_or(1024)),
                large: small(size),
                large_count: small(count),
            },
            max_headers: conf.max_headers.unwrap_or(1000),
            ignore_invalid_headers: conf.ignore_invalid_headers.unwrap_or(true),
            underscores_in_headers: conf.underscores_in_headers.unwrap_or(false),
            merge_slashes: conf.merge_slashes.unwrap_or(true),
            allow_connect: cx.allows_connect(server),
            early_body: conf.client_body_early_read.clone().unwrap_or_default().into(),
        }
    }
}
