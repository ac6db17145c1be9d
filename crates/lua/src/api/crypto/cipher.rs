//! Ciphers.

use super::{answer, define_type, done, object, with};
use moonrest_crypto::{
    Error,
    cipher::{self, Algorithm, Cipher},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Table};
use std::cell::RefCell;

type Held = RefCell<Cipher>;

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<Held>(
        call,
        module,
        "is_cipher",
        &[
            ("start", start),
            ("update", update),
            ("update_aad", update_aad),
            ("finish", finish),
            ("tag", tag),
            ("set_tag", set_tag),
            ("sizes", sizes),
            ("derive", derive),
        ],
    )?;
    super::super::define(call, module, &[("cipher", by_name), ("aes_wrap", aes_wrap)])
}

/// `cipher(name) -> cipher or nil`.
fn by_name(call: &mut Call<'_>) -> LuaResult<Return> {
    match Algorithm::by_name(&super::text(call, 1)?) {
        Some(algorithm) => object(call, Cipher::new(algorithm).map(RefCell::new)),
        None => call.ret(Nil),
    }
}

/// `aes_wrap(wraps, key, iv, text) -> text or nil, error`.
fn aes_wrap(call: &mut Call<'_>) -> LuaResult<Return> {
    let (key, iv, text): (&[u8], &[u8], &[u8]) = (call.arg(2)?, call.arg(3)?, call.arg(4)?);
    let iv = iv.try_into().map_err(|_| LuaError::argument(3, "eight bytes expected"))?;
    answer(call, cipher::aes_wrap(super::boolean(call, 1), key, iv, text).as_deref())
}

/// `cipher:sizes() -> key, iv, block, authenticates`.
fn sizes(call: &mut Call<'_>) -> LuaResult<Return> {
    let algorithm = with(call, 1, |cipher: &Held| cipher.borrow().algorithm())?;
    let (key, iv, block) = (algorithm.key_len(), algorithm.iv_len(), algorithm.block_len());
    call.ret((key as f64, iv as f64, block as f64, algorithm.is_aead()))
}

/// `cipher:start(encrypts, key, iv, pads) -> true or nil, error`.
fn start(call: &mut Call<'_>) -> LuaResult<Return> {
    let (encrypts, pads) = (super::boolean(call, 2), super::boolean(call, 5));
    let (key, iv): (&[u8], Option<&[u8]>) = (call.arg(3)?, super::optional(call, 4)?);
    let outcome = with(call, 1, |cipher: &Held| {
        cipher.borrow_mut().start(encrypts, key, iv.unwrap_or_default(), pads)
    })?;
    done(call, outcome)
}

/// `cipher:update(bytes, ...) -> bytes or nil, error`.
fn update(call: &mut Call<'_>) -> LuaResult<Return> {
    let mut out = Vec::new();
    for n in 2..=call.args_len() as u32 {
        let bytes: &[u8] = call.arg(n)?;
        let outcome = with(call, 1, |cipher: &Held| cipher.borrow_mut().update(bytes, &mut out))?;
        if outcome.is_err() {
            return done(call, outcome);
        }
    }
    call.ret(out)
}

/// `cipher:finish(bytes?) -> bytes or nil, error`.
fn finish(call: &mut Call<'_>) -> LuaResult<Return> {
    let last: Option<&[u8]> = super::optional(call, 2)?;
    let outcome = with(call, 1, |cipher: &Held| -> Result<Vec<u8>, Error> {
        let mut cipher = cipher.borrow_mut();
        let mut out = Vec::new();
        last.map_or(Ok(()), |bytes| cipher.update(bytes, &mut out))?;
        cipher.finish(&mut out)?;
        Ok(out)
    })?;
    answer(call, outcome.as_deref())
}

fn update_aad(call: &mut Call<'_>) -> LuaResult<Return> {
    let bytes: &[u8] = call.arg(2)?;
    let outcome = with(call, 1, |cipher: &Held| cipher.borrow_mut().update_aad(bytes))?;
    done(call, outcome)
}

fn tag(call: &mut Call<'_>) -> LuaResult<Return> {
    let size: f64 = call.arg(2)?;
    let tag = with(call, 1, |cipher: &Held| cipher.borrow_mut().tag(size as usize))?;
    answer(call, tag.as_deref())
}

fn set_tag(call: &mut Call<'_>) -> LuaResult<Return> {
    let bytes: &[u8] = call.arg(2)?;
    let outcome = with(call, 1, |cipher: &Held| cipher.borrow_mut().set_tag(bytes))?;
    done(call, outcome)
}

/// `cipher:derive(digest, salt, password, rounds) -> key, iv or nil, error`. A salt has eight bytes.
fn derive(call: &mut Call<'_>) -> LuaResult<Return> {
    let Some(digest) = super::digest::algorithm(call, 2)? else { return call.ret((Nil, "unknown digest")) };
    let (salt, password): (Option<&[u8]>, &[u8]) = (super::optional(call, 3)?, call.arg(4)?);
    let rounds = super::integer(call, 5, 1.0, 1e8)? as u32;
    let salt = match salt {
        Some(salt) => Some(salt.try_into().map_err(|_| LuaError::argument(3, "eight bytes expected"))?),
        None => None,
    };
    let made =
        with(call, 1, |cipher: &Held| cipher.borrow().algorithm().derive(digest, salt, password, rounds))?;
    answer(call, made.as_ref().map(|(key, iv)| (key.as_slice(), iv.as_slice())))
}
