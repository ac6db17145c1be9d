//! Methods of sockets that never wait: timeouts, `bind`, `close`, `getreusedtimes`.

use super::{fail, stream};
use moonrest_luajit::{Call, LuaError, LuaResult, Return};
use moonrest_net::{connect::Local, resolver};
use std::net::SocketAddr;

/// A timeout as it is given; negative ones and 0 stand for the location's.
fn timeout(call: &Call<'_>, n: u32) -> LuaResult<u64> {
    // As in C, what is no number counts as 0.
    let number: f64 = call.arg(n).unwrap_or(0.0);
    if number >= 2_147_483_648.0 || number <= -1.0 {
        return Err("bad timeout value".into());
    }
    Ok(number as u64)
}

fn expect_args(call: &Call<'_>, name: &str, count: usize) -> LuaResult<()> {
    let given = call.args_len();
    if given == count {
        return Ok(());
    }
    Err(LuaError::new(format!(
        "ngx.socket {name}: expecting {count} arguments (including the object) but seen {given}"
    )))
}

/// `sock:settimeout(ms)`.
pub(super) fn set_timeout(call: &mut Call<'_>) -> LuaResult<Return> {
    expect_args(call, "settimeout", 2)?;
    let timeout = timeout(call, 2)?;
    if let Some(handle) = stream::of(call)? {
        handle.0.timeouts.set(timeout, timeout, timeout);
    }
    call.ret(())
}

/// `sock:settimeouts(connect, send, read)`.
pub(super) fn set_timeouts(call: &mut Call<'_>) -> LuaResult<Return> {
    expect_args(call, "settimeouts", 4)?;
    let (connect, send, read) = (timeout(call, 2)?, timeout(call, 3)?, timeout(call, 4)?);
    if let Some(handle) = stream::of(call)? {
        handle.0.timeouts.set(connect, send, read);
    }
    call.ret(())
}

/// `sock:bind(address, port?)`.
pub(super) fn bind(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 2 && given != 3 {
        return Err(format!("expecting 2 or 3 arguments, but got {given}").into());
    }
    super::owner(call)?;
    let handle = stream::of(call)?;
    let port = if given == 3 {
        let Ok(port) = call.arg::<f64>(3) else {
            let got = call.value(3).type_name();
            return fail(call, &format!("expecting port to be anumber but got type: {got}"));
        };
        match u16::try_from(port as i64) {
            Ok(port) => port,
            Err(_) => return fail(call, &format!("bad port number: {}", port as i64)),
        }
    } else {
        0
    };
    let Some(ip) = resolver::literal(call.arg(2)?) else { return fail(call, "bad address") };
    if let Some(handle) = handle {
        handle.0.bound.set(Some(Local { addr: SocketAddr::new(ip, port), transparent: false }));
    }
    call.ret(true)
}

/// `sock:close()`.
pub(super) fn close(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 {
        return Err(format!("expecting 1 argument (including the object) but seen {given}").into());
    }
    let handle = stream::of(call)?;
    let Some(stream) = handle.as_ref().map(|handle| &handle.0) else { return fail(call, "closed") };
    if !stream.is_open() || (stream.read_closed.get() && stream.write_closed.get()) {
        return match stream.busy(false, false) {
            Some(busy) => fail(call, busy),
            None => fail(call, "closed"),
        };
    }
    stream.check_owner(super::owner(call)?)?;
    if let Some(busy) = stream.busy(true, true) {
        return fail(call, busy);
    }
    if stream.is_client() {
        return fail(call, "attempt to close a request socket");
    }
    stream.finalize();
    call.ret(1)
}

/// `sock:shutdown(direction)`: of LuaSocket; `send`, `receive` or `both`.
pub(super) fn shutdown(call: &mut Call<'_>) -> LuaResult<Return> {
    let handle = stream::of(call)?;
    let Some(stream) = handle.as_ref().map(|handle| &handle.0) else { return fail(call, "closed") };
    if !stream.is_open() {
        return fail(call, "closed");
    }
    stream.check_owner(super::owner(call)?)?;
    if stream.is_client() {
        return fail(call, "attempt to shutdown a request socket");
    }
    let direction: Option<&[u8]> = call.arg(2)?;
    let (read, write) = match direction {
        Some(b"send") | None => (false, true),
        Some(b"receive") => (true, false),
        Some(b"both") => (true, true),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            return Err(LuaError::argument(2, format!("bad \"direction\" value: {other}")));
        }
    };
    if let Some(busy) = stream.busy(read, write) {
        return fail(call, busy);
    }
    if let Err(error) = stream.shutdown(read, write) {
        return fail(call, &super::error_text(&error));
    }
    call.ret(1)
}

/// `connection_id(sock)`: a number that no other connection of this worker has, also in later requests.
pub(super) fn connection_id(call: &mut Call<'_>) -> LuaResult<Return> {
    let handle = stream::of(call)?;
    match handle.as_ref().map(|handle| handle.0.side.borrow()).as_deref() {
        Some(stream::Side::Peer(connection)) => call.ret(connection.id as f64),
        _ => call.ret(moonrest_luajit::Nil),
    }
}

/// `tls_session(sock) -> certificates, cipher, protocol` of a TLS connection: what the server has shown, in DER, its own
/// certificate first; nothing without TLS.
pub(super) fn tls_session(call: &mut Call<'_>) -> LuaResult<Return> {
    let handle = stream::of(call)?;
    let session = match handle.as_ref().map(|handle| handle.0.side.borrow()).as_deref() {
        Some(stream::Side::Peer(connection)) => {
            connection.io.client().map(|tls| (tls.certificates(), tls.cipher(), tls.version()))
        }
        _ => None,
    };
    let Some((certificates, cipher, version)) = session else { return call.ret(moonrest_luajit::Nil) };
    let list = call.table(certificates.len(), 0)?;
    for certificate in &certificates {
        list.append(call, &certificate[..])?;
    }
    call.ret((list, cipher, version))
}

/// `sock:getreusedtimes()`.
pub(super) fn get_reused_times(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 {
        return Err(format!("expecting 1 argument (including the object), but got {given}").into());
    }
    let handle = stream::of(call)?;
    let Some(stream) = handle.as_ref().map(|handle| &handle.0) else { return fail(call, "closed") };
    if stream.dialing.get() {
        return call.ret(0);
    }
    if !stream.is_open() || (stream.read_closed.get() && stream.write_closed.get()) {
        return fail(call, "closed");
    }
    match &*stream.side.borrow() {
        stream::Side::Peer(connection) => call.ret(connection.reused),
        _ => call.ret(0),
    }
}
