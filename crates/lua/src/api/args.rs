//! Arguments of URIs and form bodies: made of Lua tables, and made into them.

use super::{define_native, number_text};
use crate::escape;
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Return, Stack, Table, Value};

pub(super) fn install(stack: &Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define_native(
        stack,
        ngx,
        &[("encode_args", Native::new(encode_args)), ("decode_args", Native::new(decode_args))],
    )
}

/// Upstream's default number of arguments.
const DEFAULT_MAX: usize = 100;

/// `ngx.encode_args(table)`
fn encode_args(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.args_len() != 1 {
        return Err(LuaError::new(format!("expecting 1 argument but seen {}", call.args_len())));
    }
    let table: Table<'_> = call.arg(1)?;
    let text = encode(call, table)?;
    call.ret(text)
}

/// `ngx.decode_args(text, max?) -> args, err`
fn decode_args(call: &mut Call<'_>) -> LuaResult<Return> {
    if !matches!(call.args_len(), 1 | 2) {
        return Err(LuaError::new(format!("expecting 1 or 2 arguments but seen {}", call.args_len())));
    }
    let text: &[u8] = call.arg(1)?;
    let max = if call.args_len() == 2 { call.arg::<f64>(2)? as usize } else { DEFAULT_MAX };
    let args = call.table(0, 4)?;
    if parse(call, text, max, args)? { call.ret((args, "truncated")) } else { call.ret(args) }
}

/// `key=value&…` of a table: a list is its key several times, `true` a key without value, `false` nothing.
///
/// # Errors
/// Upstream's, for keys and values that cannot be written.
pub(super) fn encode(stack: &mut Stack<'_>, table: Table<'_>) -> LuaResult<Vec<u8>> {
    let mut out = Vec::new();
    table.for_each(stack, |stack, key, value| {
        let Value::String(key) = key else {
            return Err(LuaError::new("attempt to use a non-string key in the \"args\" option table"));
        };
        match value {
            Value::Table(list) => list.for_each(stack, |_, _, value| pair(key, value, &mut out)),
            value => pair(key, value, &mut out),
        }
    })?;
    Ok(out)
}

fn pair(key: &[u8], value: Value<'_>, out: &mut Vec<u8>) -> LuaResult<()> {
    let text = match value {
        Value::Boolean(false) => return Ok(()),
        Value::Boolean(true) => None,
        Value::String(text) => Some(text.to_vec()),
        Value::Number(number) => Some(number_text(number).into_bytes()),
        other => {
            return Err(LuaError::new(format!("attempt to use {} as query arg value", other.type_name())));
        }
    };
    if !out.is_empty() {
        out.push(b'&');
    }
    escape::component().append(key, out);
    if let Some(text) = text {
        out.push(b'=');
        escape::component().append(&text, out);
    }
    Ok(())
}

/// A value of a table of headers or arguments: a repeated name makes a list; `None` is a name alone.
pub(super) fn put(stack: &Stack<'_>, table: Table<'_>, name: &[u8], value: Option<&[u8]>) -> LuaResult<()> {
    let known = table.raw_get(stack, name)?;
    match known {
        Value::Nil => match value {
            Some(value) => table.raw_set(stack, name, value),
            None => table.raw_set(stack, name, true),
        },
        Value::Table(list) => append(stack, list, value),
        first => {
            let list = stack.table(4, 0)?;
            list.append(stack, first)?;
            append(stack, list, value)?;
            table.raw_set(stack, name, list)
        }
    }
}

fn append(stack: &Stack<'_>, list: Table<'_>, value: Option<&[u8]>) -> LuaResult<()> {
    match value {
        Some(value) => list.append(stack, value),
        None => list.append(stack, true),
    }
}

/// Puts the arguments of `text` into a table, `max` at most (0 for all). Whether there may be more.
pub(super) fn parse(stack: &mut Stack<'_>, text: &[u8], max: usize, table: Table<'_>) -> LuaResult<bool> {
    let mut count = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'&');
        let pair = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..)),
            None => (pair, None),
        };
        let name = escape::unescaped(name);
        if !name.is_empty() {
            stack.scope(|stack| put(stack, table, &name, value.map(escape::unescaped).as_deref()))?;
        }
        let Some(end) = end else { break };
        rest = rest.get(end + 1..).unwrap_or_default();
        count += 1;
        if count == max {
            return Ok(true);
        }
    }
    Ok(false)
}
