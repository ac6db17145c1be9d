//! The settings a socket works with: `lua_socket_*` of the location, and what the program sets over them.
//! <https://github.com/openresty/lua-nginx-module#lua_socket_connect_timeout>

use crate::{host::Host, settings::Loc};
use moonrest_http::location::Location;
use moonrest_luajit::Call;
use moonrest_net::resolver::Resolver;
use std::{cell::Cell, rc::Rc};

/// `lua_socket_*` in force where the socket is used. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub connect_timeout: u64,
    pub send_timeout: u64,
    pub read_timeout: u64,
    pub keepalive_timeout: u64,
    pub buffer_size: usize,
    pub pool_size: i64,
    pub log_errors: bool,
    pub nodelay: bool,
    /// A client that leaves is noticed.
    pub check_abort: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: 60_000,
            send_timeout: 60_000,
            read_timeout: 60_000,
            keepalive_timeout: 60_000,
            buffer_size: 4096,
            pool_size: 30,
            log_errors: true,
            nodelay: true,
            check_abort: false,
        }
    }
}

thread_local! {
    /// The last ones looked up, with the location's settings they came from.
    static LAST: Cell<(usize, Settings)> = Cell::new((0, Settings::default()));
}

impl Settings {
    /// Those of the place where Lua runs now.
    pub(super) fn here(call: &Call<'_>) -> Self {
        call.host(Self::of).unwrap_or_default()
    }

    pub(super) fn of(host: &Host) -> Self {
        let Some(location) = location(host) else { return Self::default() };
        let key = std::ptr::from_ref(location).addr();
        let (known, settings) = LAST.get();
        if known == key {
            return settings;
        }
        let settings = match location.conf::<Loc>() {
            Some(loc) => Self {
                connect_timeout: loc.socket_connect_timeout(),
                send_timeout: loc.socket_send_timeout(),
                read_timeout: loc.socket_read_timeout(),
                keepalive_timeout: loc.socket_keepalive_timeout(),
                buffer_size: usize::try_from(loc.socket_buffer_size()).unwrap_or(4096).clamp(1, 1 << 30),
                pool_size: i64::try_from(loc.socket_pool_size()).unwrap_or(i64::MAX),
                log_errors: loc.socket_log_errors(),
                nodelay: location.core.tcp_nodelay,
                check_abort: loc.check_client_abort(),
            },
            None => Self::default(),
        };
        LAST.set((key, settings));
        settings
    }
}

/// Where the settings are. Code that belongs to no location takes those of the first server.
pub(super) fn location(host: &Host) -> Option<&Location> {
    host.location().or_else(|| {
        let http = &host.worker()?.http;
        http.servers.first().map(|server| http.location(server.location))
    })
}

/// Who resolves names here, and how long that may take in milliseconds.
pub(super) fn resolver(call: &Call<'_>) -> Option<(Rc<Resolver>, u64)> {
    let found = call.host(|host: &Host| {
        let core = &location(host)?.core;
        Some((core.resolver.as_ref()?.here(), core.resolver_timeout))
    });
    found.flatten()
}

/// Timeouts that the program sets; 0 stands for the location's. Milliseconds.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    pub connect: Cell<u64>,
    pub send: Cell<u64>,
    pub read: Cell<u64>,
}

impl Timeouts {
    pub(super) fn set(&self, connect: u64, send: u64, read: u64) {
        self.connect.set(connect);
        self.send.set(send);
        self.read.set(read);
    }
}
