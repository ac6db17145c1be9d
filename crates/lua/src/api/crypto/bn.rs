//! Numbers of any size.

use super::{answer, define_type, object, refuse, with};
use moonrest_crypto::{
    Outcome,
    bn::{self, BigNum, Binary, Modular},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table, Value};

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<BigNum>(
        call,
        module,
        "is_bn",
        &[
            ("to_binary", |call| {
                let size: Option<f64> = super::optional(call, 2)?;
                let bytes = with(call, 1, |number: &BigNum| match size {
                    Some(size) => number.to_binary_padded(size as usize),
                    None => Ok(number.to_binary()),
                })?;
                answer(call, bytes.as_deref())
            }),
            ("to_mpi", |call| {
                let bytes = with(call, 1, BigNum::to_mpi)?;
                call.ret(bytes)
            }),
            ("to_hex", |call| {
                let digits = with(call, 1, BigNum::to_hex)?;
                call.ret(digits)
            }),
            ("to_dec", |call| {
                let digits = with(call, 1, BigNum::to_dec)?;
                answer(call, digits.as_deref())
            }),
            ("to_number", |call| {
                let word = with(call, 1, BigNum::to_word)?;
                call.ret(word as f64)
            }),
            ("negated", |call| {
                let number = with(call, 1, BigNum::negated)?;
                object(call, number)
            }),
            ("dup", |call| {
                let number = with(call, 1, BigNum::dup)?;
                object(call, number)
            }),
            ("is_negative", |call| {
                let answer = with(call, 1, BigNum::is_negative)?;
                call.ret(answer)
            }),
            ("is_odd", |call| {
                let answer = with(call, 1, BigNum::is_odd)?;
                call.ret(answer)
            }),
            ("is_word", |call| {
                let word: f64 = call.arg(2)?;
                let answer = with(call, 1, |number: &BigNum| number.is_word(word as u64))?;
                call.ret(answer)
            }),
            ("is_prime", |call| {
                let checks: Option<f64> = super::optional(call, 2)?;
                let prime = with(call, 1, |number: &BigNum| number.is_prime(checks.unwrap_or(0.0) as u32))?;
                answer(call, prime.as_ref().map(|prime| *prime))
            }),
            ("compare", |call| {
                let order = pair(call, BigNum::compare)?;
                call.ret(f64::from(order as i8))
            }),
            ("shifted", |call| {
                let bits: f64 = call.arg(2)?;
                let number = with(call, 1, |number: &BigNum| number.shifted(bits as i32))?;
                object(call, number)
            }),
            ("apply", apply),
            ("apply_modulo", apply_modulo),
        ],
    )?;
    super::super::define(
        call,
        module,
        &[
            ("bn_from_binary", |call| parse(call, BigNum::from_binary)),
            ("bn_from_mpi", |call| parse(call, BigNum::from_mpi)),
            ("bn_from_hex", |call| parse(call, BigNum::from_hex)),
            ("bn_from_dec", |call| parse(call, BigNum::from_dec)),
            ("bn_from_number", |call| {
                let word: f64 = call.arg(1)?;
                object(call, BigNum::from_word(word as u64))
            }),
            ("bn_prime", |call| {
                let bits = super::integer(call, 1, 0.0, 1e6)? as u32;
                object(call, BigNum::prime(bits, super::boolean(call, 2)))
            }),
            ("ecdsa_from_der", ecdsa_from_der),
            ("ecdsa_to_der", |call| {
                let der = pair(call, bn::ecdsa_to_der)?;
                answer(call, der.as_deref())
            }),
        ],
    )
}

fn parse(call: &mut Call<'_>, parse: fn(&[u8]) -> Outcome<BigNum>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    object(call, parse(text))
}

/// Calls `f` with the numbers that are the first two arguments.
fn pair<R>(call: &Call<'_>, f: impl FnOnce(&BigNum, &BigNum) -> R) -> LuaResult<R> {
    with(call, 1, |a: &BigNum| with(call, 2, |b: &BigNum| f(a, b)))?
}

/// `a:apply(b, operation) -> number or nil, error`.
fn apply(call: &mut Call<'_>) -> LuaResult<Return> {
    let operation = match call.arg::<&[u8]>(3)? {
        b"add" => Binary::Add,
        b"sub" => Binary::Sub,
        b"mul" => Binary::Mul,
        b"div" => Binary::Div,
        b"mod" => Binary::Mod,
        b"gcd" => Binary::Gcd,
        b"exp" => Binary::Exp,
        _ => return Err(LuaError::argument(3, "no such operation")),
    };
    let result = pair(call, |a, b| a.apply(operation, b))?;
    object(call, result)
}

/// `a:apply_modulo(b, modulus, operation) -> number or nil, error`.
fn apply_modulo(call: &mut Call<'_>) -> LuaResult<Return> {
    let operation = match call.arg::<&[u8]>(4)? {
        b"add" => Modular::Add,
        b"sub" => Modular::Sub,
        b"mul" => Modular::Mul,
        b"exp" => Modular::Exp,
        _ => return Err(LuaError::argument(4, "no such operation")),
    };
    let result = pair(call, |a, b| with(call, 3, |modulus: &BigNum| a.apply_modulo(operation, b, modulus)))??;
    object(call, result)
}

/// `ecdsa_from_der(der) -> r, s or nil, error`.
fn ecdsa_from_der(call: &mut Call<'_>) -> LuaResult<Return> {
    let der: &[u8] = call.arg(1)?;
    match bn::ecdsa_from_der(der) {
        Ok((r, s)) => {
            let (r, s) = (call.userdata(r)?, call.userdata(s)?);
            call.ret((r, s))
        }
        Err(error) => refuse(call, &error),
    }
}

/// Sets a field to a number, if there is one.
pub(super) fn set(stack: &Stack<'_>, table: Table<'_>, name: &str, number: Option<BigNum>) -> LuaResult<()> {
    match number {
        Some(number) => {
            let number = stack.userdata(number)?;
            table.raw_set(stack, name, number)
        }
        None => Ok(()),
    }
}

/// The number in a field, if there is one.
pub(super) fn field(stack: &Stack<'_>, table: Table<'_>, name: &str) -> LuaResult<Option<BigNum>> {
    match table.raw_get(stack, name)? {
        Value::Nil => Ok(None),
        Value::Userdata(userdata) => match userdata.get::<BigNum>(stack) {
            Some(number) => Ok(number.dup().ok()),
            None => Err(LuaError::exactly("expect value to be a bn instance")),
        },
        _ => Err(LuaError::exactly("expect value to be a bn instance")),
    }
}
