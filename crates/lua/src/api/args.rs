//! Arguments of URIs and form bodies: made of Lua tables, and made into them.

use super::{escape::decode, number_text};
use moonrest_luajit::{LuaError, LuaResult, Stack, Table, Value};
use moonrest_proto::escape::{self, Kind};

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
    escape::escape(Kind::UriComponent, key, out);
    if let Some(text) = text {
        out.push(b'=');
        escape::escape(Kind::UriComponent, &text, out);
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
        let name = decode(name);
        if !name.is_empty() {
            stack.scope(|stack| put(stack, table, &name, value.map(decode).as_deref()))?;
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
