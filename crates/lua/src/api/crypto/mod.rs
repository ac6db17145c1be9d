//! `moonrest.crypto`: the functions that `resty.openssl`, `resty.sha256`, `resty.aes` and their like are made of.
//!
//! What fails answers nil, the error as OpenSSL's tools print it, and what is wrong alone. Objects are userdata with methods.

mod bn;
mod cipher;
mod digest;
mod kdf;
mod objects;
mod pkey;
mod x509;
mod x509_crl;
mod x509_make;

use moonrest_crypto::{Error, Outcome};
use moonrest_luajit::{Call, FromLua, IntoLuaMulti, LuaError, LuaResult, Nil, Return, Stack, Table, Value};

type Function = super::Function;

/// Makes the module's table.
pub(super) fn open(call: &mut Call<'_>) -> LuaResult<Return> {
    let module = call.table(0, 64)?;
    digest::install(call, module)?;
    cipher::install(call, module)?;
    kdf::install(call, module)?;
    bn::install(call, module)?;
    objects::install(call, module)?;
    pkey::install(call, module)?;
    x509::install(call, module)?;
    x509_make::install(call, module)?;
    x509_crl::install(call, module)?;
    super::define(call, module, &[("random", random), ("version", version)])?;
    call.ret(module)
}

/// `random(size) -> bytes or nil, error`.
fn random(call: &mut Call<'_>) -> LuaResult<Return> {
    let size: f64 = call.arg(1)?;
    if !(0.0..=f64::from(1 << 28)).contains(&size) {
        return Err(LuaError::argument(1, "size is out of range"));
    }
    let bytes = moonrest_crypto::random(size as usize);
    answer(call, bytes.as_deref())
}

/// `version() -> text`.
fn version(call: &mut Call<'_>) -> LuaResult<Return> {
    call.ret(moonrest_crypto::version())
}

/// Answers a value, or nil and the library's words.
fn answer<V: IntoLuaMulti>(call: &Call<'_>, outcome: Result<V, &Error>) -> LuaResult<Return> {
    match outcome {
        Ok(value) => call.ret(value),
        Err(error) => refuse(call, error),
    }
}

/// Answers true, or nil and the library's words.
fn done(call: &Call<'_>, outcome: Outcome<()>) -> LuaResult<Return> {
    answer(call, outcome.map(|()| true).as_ref().map(|value| *value))
}

fn refuse(call: &Call<'_>, error: &Error) -> LuaResult<Return> {
    call.ret((Nil, error.to_string(), error.reason()))
}

/// Answers a new object, or nil and the library's words.
fn object<T: 'static>(call: &Call<'_>, outcome: Outcome<T>) -> LuaResult<Return> {
    match outcome {
        Ok(value) => {
            let object = call.userdata(value)?;
            call.ret(object)
        }
        Err(error) => refuse(call, &error),
    }
}

/// Calls `f` with the object that is the n-th argument.
fn with<T: 'static, R>(call: &Call<'_>, n: u32, f: impl FnOnce(&T) -> R) -> LuaResult<R> {
    if let Value::Userdata(userdata) = call.value(n as usize)
        && let Some(object) = userdata.get::<T>(call)
    {
        return Ok(f(&object));
    }
    Err(LuaError::argument(n, "an object of another type"))
}

/// The n-th argument, if there is one.
fn optional<'c, T: FromLua<'c>>(call: &Call<'c>, n: u32) -> LuaResult<Option<T>> {
    match call.value(n as usize) {
        Value::Nil => Ok(None),
        _ => call.arg(n).map(Some),
    }
}

fn boolean(call: &Call<'_>, n: u32) -> bool {
    call.value(n as usize).is_true()
}

/// The n-th argument as text.
fn text(call: &Call<'_>, n: u32) -> LuaResult<String> {
    let bytes: &[u8] = call.arg(n)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// The n-th argument as a number of this range.
fn integer(call: &Call<'_>, n: u32, min: f64, max: f64) -> LuaResult<f64> {
    let number: f64 = call.arg(n)?;
    if (min..=max).contains(&number) {
        Ok(number.trunc())
    } else {
        Err(LuaError::argument(n, "out of range"))
    }
}

/// Says what objects of a type can do: each is a method, and `is_NAME` in the module tells them.
fn define_type<T: 'static>(
    call: &mut Call<'_>,
    module: Table<'_>,
    check: &str,
    methods: &'static [(&'static str, Function)],
) -> LuaResult<()> {
    define_type_with::<T>(call, module, check, &[methods])
}

/// The same for methods of several files.
fn define_type_with<T: 'static>(
    call: &mut Call<'_>,
    module: Table<'_>,
    check: &str,
    methods: &[&'static [(&'static str, Function)]],
) -> LuaResult<()> {
    call.define_type::<T>(|stack, _, table| {
        methods.iter().try_for_each(|methods| super::define(stack, table, methods))
    })?;
    let is_one = call.function(|call| {
        let found = match call.value(1) {
            Value::Userdata(userdata) => userdata.get::<T>(call).is_some(),
            _ => false,
        };
        call.ret(found)
    })?;
    module.set(call, check, is_one)
}

/// Sets a field to bytes, if there are any.
fn set_bytes(stack: &Stack<'_>, table: Table<'_>, name: &str, bytes: Option<&[u8]>) -> LuaResult<()> {
    bytes.map_or(Ok(()), |bytes| table.raw_set(stack, name, bytes))
}
