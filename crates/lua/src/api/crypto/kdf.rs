//! Key derivation functions.

use super::{answer, digest::algorithm, integer};
use moonrest_crypto::kdf::{self, HkdfMode};
use moonrest_luajit::{Call, LuaResult, Nil, Return, Table};

const SIZE_MAX: f64 = 16_777_216.0;
const COST_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    super::super::define(
        call,
        module,
        &[("pbkdf2", pbkdf2), ("hkdf", hkdf), ("scrypt", scrypt), ("tls1_prf", tls1_prf)],
    )
}

/// `pbkdf2(digest, password, salt, rounds, size)`.
fn pbkdf2(call: &mut Call<'_>) -> LuaResult<Return> {
    let Some(digest) = algorithm(call, 1)? else { return call.ret((Nil, "unknown digest")) };
    let (password, salt): (&[u8], &[u8]) = (call.arg(2)?, call.arg(3)?);
    let rounds = integer(call, 4, 1.0, f64::from(u32::MAX))? as u32;
    let size = integer(call, 5, 0.0, SIZE_MAX)? as usize;
    answer(call, kdf::pbkdf2(digest, password, salt, rounds, size).as_deref())
}

/// `hkdf(digest, mode, key, salt, info, size)`; the mode is OpenSSL's number.
fn hkdf(call: &mut Call<'_>) -> LuaResult<Return> {
    let Some(digest) = algorithm(call, 1)? else { return call.ret((Nil, "unknown digest")) };
    let mode = match integer(call, 2, 0.0, 2.0)? as u8 {
        0 => HkdfMode::ExtractAndExpand,
        1 => HkdfMode::Extract,
        _ => HkdfMode::Expand,
    };
    let (key, salt, info): (&[u8], &[u8], &[u8]) = (call.arg(3)?, call.arg(4)?, call.arg(5)?);
    let size = integer(call, 6, 0.0, SIZE_MAX)? as usize;
    answer(call, kdf::hkdf(digest, mode, key, salt, info, size).as_deref())
}

/// `scrypt(password, salt, n, r, p, max_memory, size)`.
fn scrypt(call: &mut Call<'_>) -> LuaResult<Return> {
    let (password, salt): (&[u8], &[u8]) = (call.arg(1)?, call.arg(2)?);
    let cost = |n| integer(call, n, 0.0, COST_MAX).map(|cost| cost as u64);
    let costs = (cost(3)?, cost(4)?, cost(5)?);
    let (memory, size) = (cost(6)? as usize, integer(call, 7, 0.0, SIZE_MAX)? as usize);
    answer(call, kdf::scrypt(password, salt, costs, memory, size).as_deref())
}

/// `tls1_prf(digest, secret, seed, size)`.
fn tls1_prf(call: &mut Call<'_>) -> LuaResult<Return> {
    let Some(digest) = algorithm(call, 1)? else { return call.ret((Nil, "unknown digest")) };
    let (secret, seed): (&[u8], &[u8]) = (call.arg(2)?, call.arg(3)?);
    let size = integer(call, 4, 0.0, SIZE_MAX)? as usize;
    answer(call, kdf::tls1_prf(digest, secret, seed, size).as_deref())
}
