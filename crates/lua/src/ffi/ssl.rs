//! `ngx.ssl`: the TLS session with the client, and the certificates that it is shown.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl.md>

use super::{BAD_CONTEXT, DECLINED, ERROR, OK, Token, buffer, fail, lend};
use crate::{
    handshake::{self, Chain, Choice, Key},
    host::{Host, LuaPhase},
    phase_io::PhaseIo,
};
use moonrest_http::{
    RequestRef,
    tls::hook::{ClientAuth, Handshake},
};
use moonrest_luajit::{ffi_entry, raw};
use moonrest_net::{
    addr::Addr,
    tls::{Info, certificate, rustls::pki_types::CertificateDer, verify::Store, x509::Certificate},
};
use std::{
    cell::RefCell,
    collections::HashSet,
    ffi::{CStr, c_char, c_int, c_ushort, c_void},
    net::IpAddr,
    sync::Arc,
};

/// Calls `f` with what stands for the client's connection.
pub(super) fn with_client(
    r: Token,
    err: *mut *const c_char,
    f: impl FnOnce(&RequestRef, &Info, &Host) -> c_int,
) -> c_int {
    let answer = raw::host(r, |host: &Host| {
        let found = match &*host.io.borrow() {
            PhaseIo::Handshake { r, .. } => Some(r.clone()),
            _ => host.request.clone(),
        };
        let found = found.as_ref().and_then(|r| r.tls().map(|info| (r, info)));
        match found {
            Some((r, info)) => f(r, info, host),
            None => fail(err, c"bad request"),
        }
    });
    answer.unwrap_or_else(|| fail(err, c"bad request"))
}

/// Calls `f` with the handshake under way.
pub(super) fn with_handshake(
    r: Token,
    err: *mut *const c_char,
    f: impl FnOnce(&Handshake, LuaPhase) -> c_int,
) -> c_int {
    let answer = raw::host(r, |host: &Host| match &*host.io.borrow() {
        PhaseIo::Handshake { handshake, .. } => f(handshake, host.phase),
        _ => match &host.request {
            Some(r) if r.tls().is_some() => fail(err, c"API disabled in the current context"),
            _ => fail(err, c"bad request"),
        },
    });
    answer.unwrap_or_else(|| fail(err, c"no request found"))
}

/// Edits the certificates that are offered.
fn choose(
    r: Token,
    err: *mut *const c_char,
    f: impl FnOnce(&mut Choice) -> Result<(), &'static CStr>,
) -> c_int {
    with_handshake(r, err, |handshake, _| {
        let Some(kept) = handshake::kept(handshake) else { return fail(err, c"bad ssl conn") };
        let mut choice = kept.choice.borrow_mut();
        if let Err(problem) = f(&mut choice) {
            return fail(err, problem);
        }
        *handshake.offered.borrow_mut() = Some(choice.offered());
        OK
    })
}

/// Hands bytes out that stay until the next call.
pub(super) fn give(bytes: &[u8], data: *mut *const u8, size: *mut usize) {
    lend(
        |out| out.extend_from_slice(bytes),
        // SAFETY: Lua passes places for a pointer and a length, and copies the bytes at once.
        |bytes| unsafe {
            raw::store(data, bytes.as_ptr());
            raw::store(size, bytes.len());
        },
    );
}

/// An address as it stands in packets, or a path, with upstream's number for its kind.
fn give_addr(addr: &Addr, data: *mut *const u8, size: *mut usize, kind: *mut c_int) -> c_int {
    let number = match addr {
        Addr::Unix(path) => {
            give(path, data, size);
            0
        }
        Addr::Inet(addr) => match addr.ip() {
            IpAddr::V4(ip) => {
                give(&ip.octets(), data, size);
                1
            }
            IpAddr::V6(ip) => {
                give(&ip.octets(), data, size);
                2
            }
        },
    };
    // SAFETY: Lua passes a place for a number.
    unsafe { raw::store(kind, number) };
    OK
}

/// What `text` is in a buffer whose size is in `size`, which takes the length.
fn give_copy(text: &[u8], out: *mut u8, size: *mut usize) -> c_int {
    // SAFETY: Lua passes a place with the buffer's size; a size of 0 asks for the length.
    unsafe {
        let room = if size.is_null() { 0 } else { size.read_unaligned() };
        let written = if room == 0 { text.len() } else { raw::fill(out, room, text) };
        raw::store(size, written);
    }
    OK
}

/// The version that was agreed on, or is going to be.
fn version(r: &RequestRef, info: &Info) -> u16 {
    match info.version.get() {
        0 => r.conn.handshake.get().map_or(0, |handshake| handshake.version()),
        known => known,
    }
}

ffi_entry! {
    /// Nothing of the server's own certificates is shown.
    fn ngx_http_lua_ffi_ssl_clear_certs(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        choose(r, err, |choice| {
            choice.clear();
            Ok(())
        })
    }

    /// Chooses a certificate with those above it, encoded one behind the other.
    fn ngx_http_lua_ffi_ssl_set_der_certificate(r: Token, data: *const u8, len: usize, err: *mut *const c_char)
        -> c_int, on_panic = -1
    {
        // SAFETY: Lua passes a string.
        let chain = certificate::chain_from_der(unsafe { raw::bytes(data, len) });
        choose(r, err, |choice| {
            choice.set_chain(chain.ok_or(c"d2i_X509_bio() failed")?);
            Ok(())
        })
    }

    /// Chooses the key for it.
    fn ngx_http_lua_ffi_ssl_set_der_private_key(r: Token, data: *const u8, len: usize, err: *mut *const c_char)
        -> c_int, on_panic = -1
    {
        // SAFETY: Lua passes a string.
        let key = certificate::private_key_from_der(unsafe { raw::bytes(data, len) });
        choose(r, err, |choice| choice.set_key(key.ok_or(c"d2i_PrivateKey_bio() failed")?))
    }

    /// Chooses a certificate that was parsed before.
    fn ngx_http_lua_ffi_set_cert(r: Token, chain: *const Chain, err: *mut *const c_char) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes null or a chain that an entry gave it.
        let chain = unsafe { chain.as_ref() };
        choose(r, err, |choice| {
            choice.set_chain(chain.ok_or(c"invalid certificate chain")?.0.clone());
            Ok(())
        })
    }

    /// Chooses a key that was parsed before.
    fn ngx_http_lua_ffi_set_priv_key(r: Token, key: *const Key, err: *mut *const c_char) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes null or a key that an entry gave it.
        let key = unsafe { key.as_ref() };
        choose(r, err, |choice| choice.set_key(key.ok_or(c"invalid private key")?.0.clone()))
    }

    /// Parses certificates.
    fn ngx_http_lua_ffi_parse_pem_cert(pem: *const u8, len: usize, err: *mut *const c_char) -> usize, on_panic = 0 {
        // SAFETY: Lua passes a string.
        match certificate::chain(unsafe { raw::bytes(pem, len) }) {
            Ok(chain) => leak_chain(Some(chain), err, c""),
            Err(why) => leak_chain(None, err, unreadable(&why)),
        }
    }

    /// The same for encoded ones, one behind the other.
    fn ngx_http_lua_ffi_parse_der_cert(der: *const u8, len: usize, err: *mut *const c_char) -> usize, on_panic = 0 {
        if der.is_null() || len == 0 {
            fail(err, c"invalid argument");
            return 0;
        }
        // SAFETY: Lua passes a string.
        let chain = certificate::chain_from_der(unsafe { raw::bytes(der, len) });
        leak_chain(chain, err, c"d2i_X509_bio() failed")
    }

    /// Parses a private key.
    fn ngx_http_lua_ffi_parse_pem_priv_key(pem: *const u8, len: usize, err: *mut *const c_char) -> usize,
        on_panic = 0
    {
        // SAFETY: Lua passes a string.
        let key = certificate::private_key(unsafe { raw::bytes(pem, len) }, &[]).ok();
        leak(key.map(Key), err, c"PEM_read_bio_PrivateKey() failed")
    }

    /// The same for an encoded one.
    fn ngx_http_lua_ffi_parse_der_priv_key(der: *const u8, len: usize, err: *mut *const c_char) -> usize,
        on_panic = 0
    {
        if der.is_null() || len == 0 {
            fail(err, c"invalid argument");
            return 0;
        }
        // SAFETY: Lua passes a string.
        let key = certificate::private_key_from_der(unsafe { raw::bytes(der, len) });
        leak(key.map(Key), err, c"d2i_PrivateKey_bio() failed")
    }

    /// Lua has no more use for a chain. Upstream's answers nothing.
    fn ngx_http_lua_ffi_free_cert(chain: *mut Chain) -> c_int, on_panic = 0 {
        if !chain.is_null() {
            CHAINS.with_borrow_mut(|chains| chains.remove(&chain.addr()));
            // SAFETY: it came from `leak`, and Lua gives it back once.
            drop(unsafe { Box::from_raw(chain) });
        }
        OK
    }

    /// Lua has no more use for a key. Upstream's answers nothing.
    fn ngx_http_lua_ffi_free_priv_key(key: *mut Key) -> c_int, on_panic = 0 {
        if !key.is_null() {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(key) });
        }
        OK
    }

    /// Encodes certificates into a buffer as long as their text.
    fn ngx_http_lua_ffi_cert_pem_to_der(pem: *const u8, len: usize, der: *mut u8, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        // SAFETY: Lua passes a string.
        let chain = match certificate::chain(unsafe { raw::bytes(pem, len) }) {
            Ok(chain) => chain,
            Err(why) => return fail(err, unreadable(&why)),
        };
        let encoded: Vec<u8> = chain.iter().flat_map(|one| one.iter().copied()).collect();
        give_der(&encoded, len, der, err)
    }

    /// Encodes a private key into a buffer as long as its text.
    fn ngx_http_lua_ffi_priv_key_pem_to_der(
        pem: *const u8, len: usize, passphrase: *const c_char, der: *mut u8, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string, and null or a string that ends in a zero.
        let (text, password) = unsafe {
            let password = (!passphrase.is_null()).then(|| CStr::from_ptr(passphrase).to_bytes().to_vec());
            (raw::bytes(pem, len), password)
        };
        let passwords: Vec<_> = password.into_iter().collect();
        match certificate::private_key_to_der(text, &passwords) {
            Ok(key) => give_der(&key, len, der, err),
            Err(_) => fail(err, c"PEM_read_bio_PrivateKey() failed"),
        }
    }
}

/// Why certificates cannot be read: the first of them, or one of the others.
fn unreadable(why: &certificate::Unusable) -> &'static CStr {
    match why.call {
        "PEM_read_bio_X509() failed" => c"PEM_read_bio_X509() failed",
        _ => c"PEM_read_bio_X509_AUX() failed",
    }
}

/// Copies an encoding, which is shorter than the text that it comes from.
fn give_der(bytes: &[u8], room: usize, der: *mut u8, err: *mut *const c_char) -> c_int {
    if bytes.len() > room {
        return fail(err, c"buffer too small");
    }
    // SAFETY: Lua passes a buffer as long as the text.
    unsafe { raw::fill(der, room, bytes) };
    c_int::try_from(bytes.len()).unwrap_or(ERROR)
}

thread_local! {
    /// The chains that Lua has.
    static CHAINS: RefCell<HashSet<usize>> = RefCell::default();
}

/// Whether that is the address of a chain that Lua has.
pub(super) fn is_chain(address: usize) -> bool {
    CHAINS.with_borrow(|chains| chains.contains(&address))
}

fn leak_chain(
    chain: Option<Vec<CertificateDer<'static>>>,
    err: *mut *const c_char,
    problem: &'static CStr,
) -> usize {
    let address = leak(chain.map(Chain), err, problem);
    if address != 0 {
        CHAINS.with_borrow_mut(|chains| chains.insert(address));
    }
    address
}

/// Hands something over to Lua, as the address that it is given back with.
fn leak<T>(made: Option<T>, err: *mut *const c_char, problem: &'static CStr) -> usize {
    match made {
        Some(made) => Box::into_raw(Box::new(made)).addr(),
        None => {
            fail(err, problem);
            0
        }
    }
}

ffi_entry! {
    /// The server's address.
    fn ngx_http_lua_ffi_ssl_raw_server_addr(
        r: Token, addr: *mut *const u8, len: *mut usize, kind: *mut c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_client(r, err, |r, _, _| r.with_local(|local| give_addr(local, addr, len, kind)))
    }

    /// The client's address.
    fn ngx_http_lua_ffi_ssl_raw_client_addr(
        r: Token, addr: *mut *const u8, len: *mut usize, kind: *mut c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_client(r, err, |r, _, _| give_addr(&r.conn.remote, addr, len, kind))
    }

    /// The port that the client has connected to.
    fn ngx_http_lua_ffi_ssl_server_port(r: Token, port: *mut c_ushort, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        with_client(r, err, |r, _, _| r.with_local(|local| match local {
            Addr::Unix(_) => fail(err, c"unix domain has no port"),
            Addr::Inet(addr) => {
                // SAFETY: Lua passes a place for a number.
                unsafe { raw::store(port, addr.port()) };
                OK
            }
        }))
    }

    /// The name that the client asks for.
    fn ngx_http_lua_ffi_ssl_server_name(
        r: Token, name: *mut *const u8, len: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_client(r, err, |_, info, _| match &info.server_name {
            Some(found) => {
                give(found, name, len);
                OK
            }
            None => DECLINED,
        })
    }

    /// The version as its number in the protocol.
    fn ngx_http_lua_ffi_ssl_get_tls1_version(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with_client(r, err, |r, info, _| version(r, info).into())
    }

    /// The random bytes in the client's first message.
    fn ngx_http_lua_ffi_ssl_client_random(r: Token, out: *mut u8, len: *mut usize, err: *mut *const c_char)
        -> c_int, on_panic = -1
    {
        with_client(r, err, |_, info, _| give_copy(&info.random, out, len))
    }

    /// The random bytes in the server's first message; zeros before that is sent.
    fn ngx_http_lua_ffi_ssl_server_random(r: Token, out: *mut u8, len: *mut usize, err: *mut *const c_char)
        -> c_int, on_panic = -1
    {
        with_client(r, err, |_, info, _| {
            give_copy(info.secrets.get().map_or(&[0; 32], |secrets| &secrets.server_random), out, len)
        })
    }

    /// The secret that a session of TLS 1.2 is made of; nothing before there is one.
    fn ngx_http_lua_ffi_ssl_session_master_key(r: Token, out: *mut u8, len: *mut usize, err: *mut *const c_char)
        -> c_int, on_panic = -1
    {
        with_client(r, err, |_, info, _| {
            let secret = info.secrets.get().and_then(|secrets| secrets.master());
            // SAFETY: Lua passes a place with the buffer's size.
            let asked = unsafe { len.as_ref() }.copied();
            if secret.is_none() && asked == Some(0) {
                return give_copy(&[0; 48], out, len);
            }
            give_copy(secret.unwrap_or_default(), out, len)
        })
    }

    /// Bytes that both sides can derive and nobody else. RFC 5705.
    fn ngx_http_lua_ffi_ssl_export_keying_material(
        r: Token, out: *mut u8, size: usize, label: *const u8, label_len: usize, ctx: *const u8, ctx_len: usize,
        use_ctx: c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings, and a buffer of that size.
        let (label, context, out) = unsafe {
            (raw::bytes(label, label_len), raw::bytes(ctx, ctx_len), buffer(out, size))
        };
        with_client(r, err, |_, info, _| {
            let context = (use_ctx != 0).then_some(context);
            let derived = info.secrets.get().is_some_and(|secrets| secrets.export(info, label, context, out));
            if derived { OK } else { fail(err, c"SSL_export_keying_material() failed") }
        })
    }

    /// The same for early data, which has none here.
    fn ngx_http_lua_ffi_ssl_export_keying_material_early(
        r: Token, _out: *mut u8, _size: usize, _label: *const u8, _label_len: usize, _ctx: *const u8,
        _ctx_len: usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_client(r, err, |_, _, _| fail(err, c"SSL_export_keying_material_early() failed"))
    }

    /// The ciphers that both sides know, in the server's order. `count` has the room and takes the number.
    fn ngx_http_lua_ffi_req_shared_ssl_ciphers(
        r: Token, ciphers: *mut u16, count: *mut u16, filter_grease: c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_client(r, err, |r, info, _| {
            let enabled = r.conn.handshake.get().map(|handshake| handshake.enabled.ciphers.clone());
            let known = match enabled {
                Some(enabled) => enabled,
                None => server_ciphers(r),
            };
            // SAFETY: Lua passes a place for a number, and for as many numbers as it says.
            let room = usize::from(unsafe { count.as_ref() }.copied().unwrap_or(0));
            if known.len() > room {
                // SAFETY: as above.
                unsafe { raw::store(count, 0) };
                return fail(err, c"buffer too small");
            }
            let shared = known.iter().copied().filter(|cipher| {
                let grease = cipher & 0x0f0f == 0x0a0a;
                !(grease && filter_grease != 0) && Info::numbers(&info.ciphers).any(|offered| offered == *cipher)
            });
            let mut found = 0;
            for cipher in shared {
                // SAFETY: as above; there are no more than the room.
                unsafe { raw::store(ciphers.wrapping_add(usize::from(found)), cipher) };
                found += 1;
            }
            // SAFETY: as above.
            unsafe { raw::store(count, found) };
            OK
        })
    }

    /// Asks the client for a certificate and checks it against these; `$ssl_client_verify` has what came of it.
    fn ngx_http_lua_ffi_ssl_verify_client(
        r: Token, client: *const Chain, trusted: *const Chain, depth: c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes null or chains that an entry gave it.
        let (client, trusted) = unsafe { (client.as_ref(), trusted.as_ref()) };
        with_handshake(r, err, |handshake, phase| {
            if phase != LuaPhase::SslCertificate {
                return fail(err, c"API disabled in the current context");
            }
            *handshake.client.borrow_mut() = Some(client_auth(handshake, client, trusted, depth));
            OK
        })
    }

    /// There is no OpenSSL here.
    fn ngx_http_lua_ffi_get_req_ssl_pointer(r: Token, err: *mut *const c_char) -> usize, on_panic = 0 {
        with_client(r, err, |_, _, _| fail(err, c"bad ssl connection"));
        0
    }

    /// As above.
    fn ngx_http_lua_ffi_get_upstream_ssl_pointer(r: Token, err: *mut *const c_char) -> usize, on_panic = 0 {
        with_client(r, err, |_, _, _| fail(err, c"bad ssl connection"));
        0
    }

    /// As above: no pointer to a session is ever given out.
    fn SSL_session_reused(_ssl: *const c_void) -> c_int, on_panic = 0 {
        0
    }
}

const _: () = assert!(BAD_CONTEXT < ERROR);

/// The ciphers of the server that a connection has begun with.
fn server_ciphers(r: &RequestRef) -> Arc<[u16]> {
    let http = r.http();
    let tls = &http.location(http.server(r.conn.server.get()).location).tls;
    tls.as_ref().map(|tls| tls.enabled().ciphers).unwrap_or_default()
}

/// How the client's certificate is checked: against these authorities, or those of the server.
fn client_auth(
    handshake: &Handshake,
    client: Option<&Chain>,
    trusted: Option<&Chain>,
    depth: c_int,
) -> ClientAuth {
    let enabled = &handshake.enabled;
    let depth = usize::try_from(depth).unwrap_or(enabled.depth);
    let parsed = |chain: &CertificateDer<'static>| Certificate::from_der(chain).map(Arc::new);
    let anchors = |chain: Option<&Chain>| -> Vec<Arc<Certificate>> {
        chain.map(|chain| chain.0.iter().filter_map(parsed).collect()).unwrap_or_default()
    };
    if client.is_none() && trusted.is_none() {
        let store = match &enabled.store {
            Some(own) => Store { anchors: own.anchors.clone(), crls: own.crls.clone(), depth },
            None => Store { depth, ..Store::default() },
        };
        return ClientAuth { store: Arc::new(store), names: Vec::new() };
    }
    let mut all = anchors(client);
    let names = all.iter().map(|anchor| anchor.subject().to_vec()).collect();
    all.extend(anchors(trusted));
    ClientAuth { store: Arc::new(Store { anchors: all, depth, ..Store::default() }), names }
}
