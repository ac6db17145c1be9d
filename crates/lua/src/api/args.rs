//! Query strings made of Lua tables, as `ngx.exec`, `ngx.encode_args` and subrequests take them.

use super::number_text;
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
