//! `lua_shared_dict` and `ngx.shared`. What is called often are FFI entries (`ffi::shdict`); what upstream has as C
//! functions is here.
//! <https://github.com/openresty/lua-nginx-module#lua_shared_dict>

use crate::{api, settings::Main};
use moonrest_core::zone::dict::{Dict, Element, End, Value as Stored};
use moonrest_http::prelude::*;
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Value};

/// Smaller dictionaries are refused.
const MIN_SIZE: u64 = 8192;
const MAX_KEY: usize = 65_535;
/// How many keys `get_keys` answers unless it is told.
const KEYS: f64 = 1024.0;

/// `lua_shared_dict NAME SIZE`
pub(crate) fn lua_shared_dict(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let name = args.lossy(0).clone();
    if name.is_empty() {
        return Err(Fault::message("invalid lua shared dict name \"\""));
    }
    let size = args.size(1).ok().filter(|size| *size >= MIN_SIZE);
    let size =
        size.ok_or_else(|| Fault::message(format!("invalid lua shared dict size \"{}\"", args.lossy(1))))?;
    let zones = &args.env.zones;
    let known = zones.get::<Dict>(&name).is_some();
    let dict = zones.declare(&name, size, || Dict::new(&name, size))?;
    if known {
        return Err(Fault::message(format!("lua_shared_dict \"{name}\" is already defined as \"{name}\"")));
    }
    main.dicts.push(dict);
    Ok(())
}

/// Makes `ngx.shared`: a table for each dictionary, all with one metatable. resty.core adds its functions to that.
pub(crate) fn install(stack: &mut Stack<'_>, dicts: &[Arc<Dict>]) -> LuaResult<()> {
    let Some(ngx) = stack.globals()?.get(stack, "ngx")?.as_table() else { return Ok(()) };
    let shared = stack.table(0, dicts.len())?;
    ngx.raw_set(stack, "shared", shared)?;
    let methods = stack.table(0, 22)?;
    api::define(
        stack,
        methods,
        &[
            ("lpush", |call| push(call, End::Left)),
            ("rpush", |call| push(call, End::Right)),
            ("lpop", |call| pop(call, End::Left)),
            ("rpop", |call| pop(call, End::Right)),
            ("llen", llen),
            ("flush_expired", flush_expired),
            ("get_keys", get_keys),
        ],
    )?;
    methods.raw_set(stack, "__index", methods)?;
    for dict in dicts {
        let table = stack.table(1, 0)?;
        let userdata = stack.userdata(dict.clone())?;
        table.set_index(stack, 1, userdata)?;
        table.set_metatable(stack, Some(methods))?;
        shared.raw_set(stack, dict.name(), table)?;
    }
    Ok(())
}

/// The dictionary whose method is called.
fn dict(call: &Call<'_>) -> LuaResult<Option<Arc<Dict>>> {
    let Value::Table(table) = call.value(1) else { return Ok(None) };
    let Value::Userdata(userdata) = table.raw_index(call, 1)? else { return Ok(None) };
    Ok(userdata.get::<Arc<Dict>>(call).map(|dict| dict.clone()))
}

fn dict_of_list(call: &Call<'_>, arguments: usize) -> LuaResult<Arc<Dict>> {
    if call.args_len() != arguments {
        let seen = call.args_len();
        return Err(LuaError::new(format!("expecting {arguments} arguments, but only seen {seen}")));
    }
    dict(call)?.ok_or_else(|| LuaError::new("bad \"zone\" argument"))
}

/// The key, or why it is none.
fn key<'c>(call: &Call<'c>) -> LuaResult<Result<&'c [u8], &'static str>> {
    if matches!(call.value(2), Value::Nil) {
        return Ok(Err("nil key"));
    }
    let key: &[u8] = call.arg(2)?;
    Ok(match key.len() {
        0 => Err("empty key"),
        len if len > MAX_KEY => Err("key too long"),
        _ => Ok(key),
    })
}

fn push(call: &mut Call<'_>, end: End) -> LuaResult<Return> {
    let dict = dict_of_list(call, 3)?;
    let key = match key(call)? {
        Ok(key) => key,
        Err(problem) => return call.ret((Nil, problem)),
    };
    let value = match call.value(3) {
        Value::String(text) => Stored::Text(text),
        Value::Number(number) => Stored::Number(number),
        _ => return call.ret((Nil, "bad value type")),
    };
    match dict.push(key, value, end) {
        Ok(len) => call.ret(len as f64),
        Err(refusal) => call.ret((Nil, refusal.text())),
    }
}

fn pop(call: &mut Call<'_>, end: End) -> LuaResult<Return> {
    let dict = dict_of_list(call, 2)?;
    let key = match key(call)? {
        Ok(key) => key,
        Err(problem) => return call.ret((Nil, problem)),
    };
    match dict.pop(key, end) {
        Ok(Some(Element::Text(text))) => call.ret(text.as_slice()),
        Ok(Some(Element::Number(number))) => call.ret(number),
        Ok(None) => call.ret(Nil),
        Err(refusal) => call.ret((Nil, refusal.text())),
    }
}

fn llen(call: &mut Call<'_>) -> LuaResult<Return> {
    let dict = dict_of_list(call, 2)?;
    let key = match key(call)? {
        Ok(key) => key,
        Err(problem) => return call.ret((Nil, problem)),
    };
    match dict.list_len(key) {
        Ok(len) => call.ret(len as f64),
        Err(refusal) => call.ret((Nil, refusal.text())),
    }
}

/// The dictionary, and how many records the caller wants at most (0: all).
fn limited(call: &Call<'_>, default: f64) -> LuaResult<(Arc<Dict>, usize)> {
    let seen = call.args_len();
    if !(1..=2).contains(&seen) {
        return Err(LuaError::new(format!("expecting 1 or 2 argument(s), but saw {seen}")));
    }
    let _: moonrest_luajit::Table<'_> = call.arg(1)?;
    let dict = dict(call)?.ok_or_else(|| LuaError::new("bad user data for the ngx_shm_zone_t pointer"))?;
    let max: f64 = if seen == 2 { call.arg(2)? } else { default };
    Ok((dict, max as usize))
}

fn flush_expired(call: &mut Call<'_>) -> LuaResult<Return> {
    let (dict, max) = limited(call, 0.0)?;
    call.ret(dict.flush_expired(max) as f64)
}

fn get_keys(call: &mut Call<'_>) -> LuaResult<Return> {
    let (dict, max) = limited(call, KEYS)?;
    let keys = dict.keys(max);
    let table = call.table(keys.len(), 0)?;
    for (n, key) in keys.iter().enumerate() {
        table.set_index(call, n + 1, key.as_slice())?;
    }
    call.ret(table)
}
