//! `ngx.log`, `print` and the levels.
//! <https://github.com/openresty/lua-nginx-module#ngxlog>

use super::{define_native, output::number_text};
use crate::host::Host;
use moonrest_core::Level;
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Place, Return, Stack, Table, Value};

const LEVELS: [(&str, Level); 8] = [
    ("EMERG", Level::Emerg),
    ("ALERT", Level::Alert),
    ("CRIT", Level::Crit),
    ("ERR", Level::Error),
    ("WARN", Level::Warn),
    ("NOTICE", Level::Notice),
    ("INFO", Level::Info),
    ("DEBUG", Level::Debug),
];

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define_native(stack, ngx, &[("log", Native::new(log))])?;
    for (name, level) in LEVELS {
        ngx.set(stack, name, level as i32)?;
    }
    ngx.set(stack, "STDERR", 0)?;
    let globals = stack.globals()?;
    define_native(stack, globals, &[("print", Native::new(print))])
}

fn log(call: &mut Call<'_>) -> LuaResult<Return> {
    let number: f64 = call.arg(1)?;
    // `ngx.STDERR` is written whatever `error_log` says, and without a level's name.
    if number as i32 == 0 {
        return write(call, None, 2);
    }
    match LEVELS.iter().find(|(_, level)| *level as i32 == number as i32) {
        Some((_, level)) => write(call, Some(*level), 2),
        None => Err(LuaError::argument(1, format!("bad log level: {}", number as i32))),
    }
}

fn print(call: &mut Call<'_>) -> LuaResult<Return> {
    write(call, Some(Level::Notice), 1)
}

fn write(call: &mut Call<'_>, level: Option<Level>, first: usize) -> LuaResult<Return> {
    let wanted = call.host(|host: &Host| host.listens(level.unwrap_or(Level::Emerg)));
    if wanted != Some(true) {
        return call.ret(());
    }
    let mut text = Vec::with_capacity(128);
    text.extend_from_slice(b"[lua] ");
    if let Some(place) = call.caller() {
        append_place(&place, &mut text);
    }
    for n in first..=call.args_len() {
        append(call, n, n + 1 - first, &mut text)?;
    }
    let text = String::from_utf8_lossy(&text);
    call.host(|host: &Host| match (&host.request, level) {
        (_, Some(level)) => host.log(level, format_args!("{text}")),
        (Some(r), None) => r.log_nameless(format_args!("{text}")),
        (None, None) => host.log_file().write_nameless(None, format_args!("{text}")),
    });
    call.ret(())
}

/// `file:line: function(): `, the file without directories.
fn append_place(place: &Place, out: &mut Vec<u8>) {
    let file = place.source.rsplit(['/', '\\']).next().unwrap_or_default();
    out.extend_from_slice(format!("{file}:{}: ", place.line).as_bytes());
    if let Some(function) = &place.function {
        out.extend_from_slice(format!("{function}(): ").as_bytes());
    }
}

/// Appends argument `n`, which error messages number `shown`.
fn append(call: &mut Call<'_>, n: usize, shown: usize, out: &mut Vec<u8>) -> LuaResult<()> {
    let shown = u32::try_from(shown).unwrap_or(u32::MAX);
    match call.value(n) {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Boolean(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::String(part) => out.extend_from_slice(part),
        Value::Number(number) => out.extend_from_slice(number_text(number).as_bytes()),
        Value::Light(0) => out.extend_from_slice(b"null"),
        Value::Light(_) => {}
        Value::Table(table) => match to_string(call, table)? {
            Some(text) => out.extend_from_slice(&text),
            None => return Err(LuaError::argument(shown, "expected table to have __tostring metamethod")),
        },
        other => {
            let problem = format!("string, number, boolean, or nil expected, got {}", other.type_name());
            return Err(LuaError::argument(shown, problem));
        }
    }
    Ok(())
}

/// What a table's `__tostring` says, if it has one.
fn to_string(call: &mut Call<'_>, table: Table<'_>) -> LuaResult<Option<Vec<u8>>> {
    let Some(meta) = table.metatable(call)? else { return Ok(None) };
    let Value::Function(function) = meta.raw_get(call, "__tostring")? else { return Ok(None) };
    let results = call.call(function, table)?;
    Ok(Some(match results.value(call, 0) {
        Value::String(text) => text.to_vec(),
        Value::Number(number) => number_text(number).into_bytes(),
        _ => Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_file_line_and_function() {
        let check = |source: &str, function: Option<&str>, expect: &str| {
            let place = Place { source: source.to_owned(), line: 8, function: function.map(str::to_owned) };
            let mut out = Vec::new();
            append_place(&place, &mut out);
            assert_eq!(out, expect.as_bytes());
        };
        check("/srv/html/test.lua", Some("bar"), "test.lua:8: bar(): ");
        check("content_by_lua(nginx.conf:43)", None, "content_by_lua(nginx.conf:43):8: ");
    }
}
