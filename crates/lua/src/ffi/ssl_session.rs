//! `ngx.ssl.session`: sessions of TLS 1.2 that Lua code keeps and finds again.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl/session.md>
//!
//! ```text
//! mark (4) | length of the terms (1) | terms | the library's session
//! ```
//!
//! The terms stand for what the server asks of its clients: a session made under others is not taken.

use super::{ERROR, OK, Token, fail, ssl::with_handshake};
use crate::host::LuaPhase;
use moonrest_http::tls::hook::Handshake;
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_char, c_int};

const MARK: &[u8; 4] = b"MRs1";
/// The longest identifier of a session.
const MAX_ID: usize = 32;

fn serialize(handshake: &Handshake) -> Option<Vec<u8>> {
    let made = handshake.sessions.made.lock();
    let (_, session) = made.as_ref()?;
    let terms = &handshake.enabled.context;
    let len = u8::try_from(terms.len()).ok()?;
    Some([&MARK[..], &[len], terms, session].concat())
}

/// The session in what was serialized under the same terms.
fn parse<'a>(text: &'a [u8], handshake: &Handshake) -> Option<&'a [u8]> {
    let (&len, rest) = text.strip_prefix(MARK)?.split_first()?;
    let (terms, session) = rest.split_at_checked(usize::from(len))?;
    (*terms == *handshake.enabled.context && !session.is_empty()).then_some(session)
}

/// The identifier of the session that is looked for, or was made.
fn identifier(handshake: &Handshake, phase: LuaPhase) -> Option<Vec<u8>> {
    let place = match phase {
        LuaPhase::SslSessionFetch => &handshake.sessions.found,
        _ => &handshake.sessions.made,
    };
    place.lock().as_ref().map(|(id, _)| id.clone())
}

ffi_entry! {
    /// Gives the handshake a session to go on with.
    fn ngx_http_lua_ffi_ssl_set_serialized_session(
        r: Token, data: *const u8, len: c_int, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, phase| {
            if phase != LuaPhase::SslSessionFetch {
                return fail(err, c"bad lua context");
            }
            let Some(len) = usize::try_from(len).ok().filter(|len| *len > 0) else {
                return fail(err, c"invalid session length");
            };
            // SAFETY: Lua passes a string.
            let text = unsafe { raw::bytes(data, len) };
            let Some(session) = parse(text, handshake) else {
                return fail(err, c"failed to de-serialize session");
            };
            if let Some((_, found)) = &mut *handshake.sessions.found.lock() {
                *found = session.to_vec();
            }
            OK
        })
    }

    /// Writes the session that was made into a buffer of the size asked for before.
    fn ngx_http_lua_ffi_ssl_get_serialized_session(r: Token, out: *mut u8, err: *mut *const c_char) -> c_int,
        on_panic = -1
    {
        with_handshake(r, err, |handshake, _| match serialize(handshake) {
            Some(text) => {
                // SAFETY: Lua passes a buffer of that size.
                unsafe { raw::fill(out, text.len(), &text) };
                OK
            }
            None => fail(err, c"bad session in lua context"),
        })
    }

    /// The size of the session that was made.
    fn ngx_http_lua_ffi_ssl_get_serialized_session_size(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, _| match serialize(handshake) {
            Some(text) => c_int::try_from(text.len()).unwrap_or(ERROR),
            None => fail(err, c"bad session in lua context"),
        })
    }

    /// Writes the session's identifier, in hexadecimal digits, into a buffer of the size asked for before.
    fn ngx_http_lua_ffi_ssl_get_session_id(r: Token, out: *mut u8, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, phase| match identifier(handshake, phase) {
            Some(id) => {
                let text: String = id.iter().take(MAX_ID).map(|byte| format!("{byte:02x}")).collect();
                // SAFETY: Lua passes a buffer of that size.
                unsafe { raw::fill(out, text.len(), text.as_bytes()) };
                OK
            }
            None => fail(err, c"bad session in lua context"),
        })
    }

    /// The size of that.
    fn ngx_http_lua_ffi_ssl_get_session_id_size(r: Token, err: *mut *const c_char) -> c_int, on_panic = -1 {
        with_handshake(r, err, |handshake, phase| match identifier(handshake, phase) {
            Some(id) => c_int::try_from(id.len().min(MAX_ID) * 2).unwrap_or(ERROR),
            None => fail(err, c"bad session in lua context"),
        })
    }
}
