//! `ngx.get_phase`.
//! <https://github.com/openresty/lua-nginx-module#ngxget_phase>

use super::{Token, fail};
use crate::host::{Host, LuaPhase};
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_char, c_int};

/// The bit by which upstream knows a phase.
const fn bit(phase: LuaPhase) -> c_int {
    match phase {
        LuaPhase::Init => 0,
        LuaPhase::Set => 0x1,
        LuaPhase::Rewrite => 0x2,
        LuaPhase::Access => 0x4,
        LuaPhase::Content => 0x8,
        LuaPhase::Log => 0x10,
        LuaPhase::HeaderFilter => 0x20,
        LuaPhase::Timer => 0x80,
        LuaPhase::BodyFilter => 0x40,
        LuaPhase::InitWorker => 0x100,
        LuaPhase::Balancer => 0x200,
        LuaPhase::SslCertificate => 0x400,
        LuaPhase::SslSessionStore => 0x800,
        LuaPhase::SslSessionFetch => 0x1000,
        LuaPhase::ExitWorker => 0x2000,
        LuaPhase::SslClientHello => 0x4000,
        LuaPhase::ServerRewrite => 0x8000,
        LuaPhase::ProxySslVerify => 0x10000,
        LuaPhase::Precontent => 0x20000,
        LuaPhase::ProxySslCertificate => 0x40000,
    }
}

ffi_entry! {
    /// The phase as a bit of upstream's.
    fn ngx_http_lua_ffi_get_phase(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        raw::host(r, |host: &Host| bit(host.phase)).unwrap_or_else(|| fail(err, c"no request context"))
    }
}
