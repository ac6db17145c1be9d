//! `ngx.proxyssl`, `ngx.ssl.proxysslcert`, `ngx.ssl.proxysslverify`: the TLS session with an upstream.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/proxyssl.md>

use super::{OK, Token, fail};
use crate::{
    handshake::{Chain, Key},
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
    proxy_ssl::ProxyTls,
};
use moonrest_http::upstream::States;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_net::tls::certificate;
use std::ffi::{CStr, c_char, c_int};

/// Calls `f` with the handshake, in one of its phases or in either.
fn with(
    r: Token,
    err: *mut *const c_char,
    only: Option<LuaPhase>,
    f: impl FnOnce(&mut ProxyTls) -> Result<c_int, &'static CStr>,
) -> c_int {
    let answer = raw::host(r, |host: &Host| match &mut *host.io.borrow_mut() {
        PhaseIo::ProxyTls(io) if only.is_none_or(|only| only == host.phase) => {
            f(io).unwrap_or_else(|problem| fail(err, problem))
        }
        PhaseIo::ProxyTls(_) => fail(err, c"API disabled in the current context"),
        _ => match &host.request {
            Some(r) if r.find_ctx::<States>().is_some() => fail(err, c"API disabled in the current context"),
            _ => fail(err, c"bad request"),
        },
    });
    answer.unwrap_or_else(|| fail(err, c"no request found"))
}

const CERTIFICATE: Option<LuaPhase> = Some(LuaPhase::ProxySslCertificate);
const VERIFY: Option<LuaPhase> = Some(LuaPhase::ProxySslVerify);

ffi_entry! {
    /// The version spoken, or the newest that may be, as its number in the protocol.
    fn ngx_http_lua_ffi_proxy_ssl_get_tls1_version(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with(r, err, None, |io| Ok(io.version.into()))
    }

    /// Nothing of what is configured is shown.
    fn ngx_http_lua_ffi_proxy_ssl_clear_certs(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with(r, err, CERTIFICATE, |io| {
            io.choice.clear();
            Ok(OK)
        })
    }

    /// Chooses a certificate with those above it, encoded one behind the other.
    fn ngx_http_lua_ffi_proxy_ssl_set_der_certificate(
        r: Token, data: *const u8, len: usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let chain = certificate::chain_from_der(unsafe { raw::bytes(data, len) });
        with(r, err, CERTIFICATE, |io| {
            io.choice.set_chain(chain.ok_or(c"d2i_X509_bio() failed")?);
            Ok(OK)
        })
    }

    /// Chooses the key for it.
    fn ngx_http_lua_ffi_proxy_ssl_set_der_private_key(
        r: Token, data: *const u8, len: usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let key = certificate::private_key_from_der(unsafe { raw::bytes(data, len) });
        with(r, err, CERTIFICATE, |io| {
            io.choice.set_key(key.ok_or(c"d2i_PrivateKey_bio() failed")?).map(|()| OK)
        })
    }

    /// Chooses a certificate that was parsed before.
    fn ngx_http_lua_ffi_proxy_ssl_set_cert(r: Token, chain: *const Chain, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        // SAFETY: Lua passes null or a chain that an entry gave it.
        let chain = unsafe { chain.as_ref() };
        with(r, err, CERTIFICATE, |io| {
            io.choice.set_chain(chain.ok_or(c"invalid certificate chain")?.0.clone());
            Ok(OK)
        })
    }

    /// Chooses a key that was parsed before.
    fn ngx_http_lua_ffi_proxy_ssl_set_priv_key(r: Token, key: *const Key, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        // SAFETY: Lua passes null or a key that an entry gave it.
        let key = unsafe { key.as_ref() };
        with(r, err, CERTIFICATE, |io| {
            io.choice.set_key(key.ok_or(c"invalid private key")?.0.clone()).map(|()| OK)
        })
    }

    /// Says what the server's certificate is worth: the number of an error of OpenSSL's, or 0.
    fn ngx_http_lua_ffi_proxy_ssl_set_verify_result(r: Token, code: c_int, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        with(r, err, VERIFY, |io| {
            // Whatever is no such number is no good either.
            io.code = u16::try_from(code).unwrap_or(1);
            Ok(OK)
        })
    }

    /// What was said last.
    fn ngx_http_lua_ffi_proxy_ssl_get_verify_result(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with(r, err, VERIFY, |io| Ok(io.code.into()))
    }

    /// The server's certificate, which Lua gives back; as its address.
    fn ngx_http_lua_ffi_proxy_ssl_get_verify_cert(r: Token, err: *mut *const c_char) -> usize, on_panic = 0 {
        let mut place = 0;
        with(r, err, VERIFY, |io| {
            let shown = io.client.as_ref().and_then(|client| client.certificates().into_iter().next());
            let chain = Chain(vec![shown.ok_or(c"get verify result failed")?]);
            place = Box::into_raw(Box::new(chain)).addr();
            Ok(OK)
        });
        place
    }

    /// Lua has no more use for it. Upstream's answers nothing.
    fn ngx_http_lua_ffi_proxy_ssl_free_verify_cert(chain: *mut Chain) -> c_int, on_panic = 0 {
        if !chain.is_null() {
            // SAFETY: the entry above made it, and Lua gives it back once.
            drop(unsafe { Box::from_raw(chain) });
        }
        OK
    }
}
