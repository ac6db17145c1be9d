//! `ngx.log`, `print` and the levels.
//! <https://github.com/openresty/lua-nginx-module#ngxlog>

use super::{define, output::number_text};
use crate::host::Host;
use moonrest_core::Level;
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table, Value};

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
    define(stack, ngx, &[("log", log)])?;
    for (name, level) in LEVELS {
        ngx.set(stack, name, level as i32)?;
    }
    ngx.set(stack, "STDERR", 0)?;
    let globals = stack.globals()?;
    define(stack, globals, &[("print", print)])
}

fn log(call: &mut Call<'_>) -> LuaResult<Return> {
    let number: f64 = call.arg(1)?;
    let level = LEVELS.iter().find(|(_, level)| f64::from(*level as i32) == number).map(|(_, level)| *level);
    let level = match (level, number as i32) {
        (Some(level), _) => level,
        (None, 0) => Level::Emerg,
        (None, other) => return Err(LuaError::argument(1, format!("bad log level: {other}"))),
    };
    write(call, level, 2)
}

fn print(call: &mut Call<'_>) -> LuaResult<Return> {
    write(call, Level::Notice, 1)
}

fn write(call: &mut Call<'_>, level: Level, first: usize) -> LuaResult<Return> {
    let mut text = Vec::new();
    for n in first..=call.args_len() {
        match call.value(n) {
            Value::Nil => text.extend_from_slice(b"nil"),
            Value::Boolean(flag) => text.extend_from_slice(if flag { b"true" } else { b"false" }),
            Value::String(part) => text.extend_from_slice(part),
            Value::Number(number) => text.extend_from_slice(number_text(number).as_bytes()),
            Value::Light(0) => text.extend_from_slice(b"null"),
            other => {
                let n = u32::try_from(n).unwrap_or(u32::MAX);
                return Err(LuaError::argument(
                    n,
                    format!("string, number, boolean, or nil expected, got {}", other.type_name()),
                ));
            }
        }
    }
    let place = place(&call.traceback(1));
    let text = String::from_utf8_lossy(&text).into_owned();
    call.host(|host: &Host| match &host.request {
        Some(r) => r.log_at(level, format_args!("[lua] {place}{text}")),
        None => host.log.write(level, None, format_args!("[lua] {place}{text}")),
    });
    call.ret(())
}

/// `file:line: name(): ` of the function that called, out of a traceback.
fn place(traceback: &str) -> String {
    let frame = traceback
        .lines()
        .map(str::trim)
        .find(|line| line.contains(':') && !line.starts_with('[') && !line.starts_with("stack"));
    let Some((at, what)) = frame.and_then(|frame| frame.split_once(": in ")) else { return String::new() };
    match what.strip_prefix("function ") {
        Some(name) if name.starts_with('\'') => format!("{at}: {}(): ", name.trim_matches('\'')),
        _ => format!("{at}: "),
    }
}
