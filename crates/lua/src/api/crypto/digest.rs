//! Digests and message authentication codes.

use super::{answer, define_type, done, object, with};
use moonrest_crypto::{
    cipher,
    digest::{Algorithm, Digest},
    mac::Mac,
};
use moonrest_luajit::{Call, LuaResult, Nil, Return, Table, Value};
use std::cell::RefCell;

/// A digest as Lua holds it.
pub(super) type Held = RefCell<Digest>;
type HeldMac = RefCell<Mac>;

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<Held>(
        call,
        module,
        "is_digest",
        &[("update", update), ("final", finish), ("reset", reset), ("size", size)],
    )?;
    define_type::<HeldMac>(
        call,
        module,
        "is_mac",
        &[("update", mac_update), ("final", mac_final), ("reset", mac_reset)],
    )?;
    super::super::define(
        call,
        module,
        &[("digest", digest), ("hmac", hmac), ("cmac", cmac), ("digest_size", digest_size)],
    )
}

/// The algorithm that the n-th argument names.
pub(super) fn algorithm(call: &Call<'_>, n: u32) -> LuaResult<Option<Algorithm>> {
    Ok(Algorithm::by_name(&super::text(call, n)?))
}

/// As above, where it need not be given.
pub(super) fn optional_algorithm(call: &Call<'_>, n: u32) -> LuaResult<Option<Algorithm>> {
    if matches!(call.value(n as usize), Value::Nil) { Ok(None) } else { algorithm(call, n) }
}

/// `digest(name) -> digest or nil`.
fn digest(call: &mut Call<'_>) -> LuaResult<Return> {
    match algorithm(call, 1)? {
        Some(algorithm) => object(call, Digest::new(algorithm).map(RefCell::new)),
        None => call.ret(Nil),
    }
}

/// `digest_size(name) -> bytes or nil`.
fn digest_size(call: &mut Call<'_>) -> LuaResult<Return> {
    call.ret(algorithm(call, 1)?.map(|algorithm| algorithm.size() as f64))
}

/// `digest:update(bytes, ...) -> true or nil, error`.
fn update(call: &mut Call<'_>) -> LuaResult<Return> {
    for n in 2..=call.args_len() as u32 {
        let bytes: &[u8] = call.arg(n)?;
        let outcome = with(call, 1, |digest: &Held| digest.borrow_mut().update(bytes))?;
        if outcome.is_err() {
            return done(call, outcome);
        }
    }
    call.ret(true)
}

/// `digest:final(bytes?) -> digest or nil, error`.
fn finish(call: &mut Call<'_>) -> LuaResult<Return> {
    let last: Option<&[u8]> = super::optional(call, 2)?;
    let made = with(call, 1, |digest: &Held| {
        let mut digest = digest.borrow_mut();
        last.map_or(Ok(()), |bytes| digest.update(bytes))?;
        digest.finish()
    })?;
    answer(call, made.as_deref())
}

fn reset(call: &mut Call<'_>) -> LuaResult<Return> {
    let outcome = with(call, 1, |digest: &Held| digest.borrow_mut().reset())?;
    done(call, outcome)
}

fn size(call: &mut Call<'_>) -> LuaResult<Return> {
    let size = with(call, 1, |digest: &Held| digest.borrow().algorithm().size())?;
    call.ret(size as f64)
}

/// `hmac(name, key) -> mac or nil, error`; nothing but nil for an unknown digest.
fn hmac(call: &mut Call<'_>) -> LuaResult<Return> {
    let key: &[u8] = call.arg(2)?;
    match algorithm(call, 1)? {
        Some(algorithm) => object(call, Mac::hmac(algorithm, key).map(RefCell::new)),
        None => call.ret(Nil),
    }
}

/// `cmac(cipher, key) -> mac or nil, error`.
fn cmac(call: &mut Call<'_>) -> LuaResult<Return> {
    let key: &[u8] = call.arg(2)?;
    match cipher::Algorithm::by_name(&super::text(call, 1)?) {
        Some(algorithm) => object(call, Mac::cmac(algorithm, key).map(RefCell::new)),
        None => call.ret(Nil),
    }
}

fn mac_update(call: &mut Call<'_>) -> LuaResult<Return> {
    for n in 2..=call.args_len() as u32 {
        let bytes: &[u8] = call.arg(n)?;
        let outcome = with(call, 1, |mac: &HeldMac| mac.borrow_mut().update(bytes))?;
        if outcome.is_err() {
            return done(call, outcome);
        }
    }
    call.ret(true)
}

fn mac_final(call: &mut Call<'_>) -> LuaResult<Return> {
    let last: Option<&[u8]> = super::optional(call, 2)?;
    let made = with(call, 1, |mac: &HeldMac| {
        let mut mac = mac.borrow_mut();
        last.map_or(Ok(()), |bytes| mac.update(bytes))?;
        mac.finish()
    })?;
    answer(call, made.as_deref())
}

fn mac_reset(call: &mut Call<'_>) -> LuaResult<Return> {
    let outcome = with(call, 1, |mac: &HeldMac| mac.borrow_mut().reset())?;
    done(call, outcome)
}
