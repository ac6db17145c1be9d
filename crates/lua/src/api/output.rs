//! `ngx.say`, `ngx.print`, `ngx.flush`, `ngx.eof`, `ngx.send_headers`.
//! <https://github.com/openresty/lua-nginx-module#ngxsay>

use super::{define, request};
use crate::{
    host::Host,
    scheduler::{Item, Operation, Values},
};
use moonrest_http::{
    RequestRef,
    filter::{FilterStep, Piece},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table, Value};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(
        stack,
        ngx,
        &[
            ("say", |call| send(call, true)),
            ("print", |call| send(call, false)),
            ("flush", flush),
            ("eof", eof),
            ("send_headers", send_headers),
        ],
    )
}

/// Nesting of tables given to `ngx.say`.
const MAX_DEPTH: usize = 32;

/// Appends a value as `ngx.say` writes it; the `n`th argument of the function that is called.
pub(super) fn append(
    stack: &mut Stack<'_>,
    n: u32,
    value: Value<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> LuaResult<()> {
    let bad = |what: &str| {
        LuaError::argument(
            n,
            format!("string, number, boolean, nil, ngx.null, or array table expected, got {what}"),
        )
    };
    match value {
        Value::Nil => out.extend_from_slice(b"nil"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::String(text) => out.extend_from_slice(text),
        Value::Number(number) => out.extend_from_slice(number_text(number).as_bytes()),
        Value::Light(0) => out.extend_from_slice(b"null"),
        Value::Table(table) => {
            if depth == MAX_DEPTH {
                return Err(bad("a table nested too deeply"));
            }
            for index in 1..=table.raw_len(stack) {
                let item = table.raw_index(stack, index)?;
                if item.is_nil() {
                    return Err(LuaError::argument(n, "non-array table found"));
                }
                append(stack, n, item, depth + 1, out)?;
            }
        }
        other => return Err(bad(other.type_name())),
    }
    Ok(())
}

/// A number as Lua writes it (`%.14g`).
pub(crate) fn number_text(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e15 {
        return format!("{number:.0}");
    }
    let digits = format!("{number:.13e}");
    let Some((mantissa, exponent)) = digits.split_once('e') else { return number.to_string() };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-5..14).contains(&exponent) {
        let places = usize::try_from(13 - exponent).unwrap_or(0);
        return trim(&format!("{number:.places$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

fn send(call: &mut Call<'_>, newline: bool) -> LuaResult<Return> {
    let mut text = Vec::new();
    for n in 1..=call.args_len() {
        let value = call.value(n);
        append(call, u32::try_from(n).unwrap_or(u32::MAX), value, 0, &mut text)?;
    }
    if newline {
        text.push(b'\n');
    }
    let step = request(call, |r, host| {
        host.responding.set(true);
        if r.done.get() {
            return Ok(None);
        }
        Ok(Some(output(r, host, Piece::Data(text.into()))))
    })?;
    match step {
        None => call.ret((moonrest_luajit::Nil, "seen eof")),
        Some(Ok(FilterStep::Now(()))) => call.ret(1),
        Some(Ok(FilterStep::Wait(wait))) => suspend(call, wait),
        Some(Err(_)) => call.ret((moonrest_luajit::Nil, "nginx output filter error")),
    }
}

type Waited = moonrest_http::phase::LocalBoxFuture<Result<(), moonrest_http::RequestError>>;

fn suspend(call: &Call<'_>, wait: Waited) -> LuaResult<Return> {
    let wait = async move {
        match wait.await {
            Ok(()) => Values::one(Item::Number(1.0)),
            Err(_) => Values::error("nginx output filter error"),
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

/// Sends the head if it was not sent yet, then the piece.
fn output(r: &RequestRef, host: &Host, piece: Piece) -> Result<FilterStep<()>, moonrest_http::RequestError> {
    prepare(r, host);
    match r.send_header()? {
        FilterStep::Now(()) => r.output(piece),
        FilterStep::Wait(wait) => {
            let r = r.clone();
            Ok(FilterStep::Wait(Box::pin(async move {
                wait.await?;
                r.send(piece).await
            })))
        }
    }
}

fn prepare(r: &RequestRef, host: &Host) {
    if !r.header_sent.get() {
        if r.out().status == 0 {
            r.out_mut().status = 200;
        }
        if !host.state().type_set.get() {
            r.set_content_type();
        }
    }
}

/// `ngx.flush(wait?)`.
fn flush(call: &mut Call<'_>) -> LuaResult<Return> {
    let wait: Option<bool> = call.arg(1)?;
    let (r, step) = request(call, |r, host| {
        host.responding.set(true);
        Ok((r.clone(), output(r, host, Piece::Flush)))
    })?;
    if step.is_err() {
        return call.ret((moonrest_luajit::Nil, "nginx output filter error"));
    }
    if wait != Some(true) {
        return call.ret(1);
    }
    suspend(call, Box::pin(async move { r.drained(0).await }))
}

/// `ngx.eof()`.
fn eof(call: &mut Call<'_>) -> LuaResult<Return> {
    let step = request(call, |r, host| {
        host.responding.set(true);
        Ok(if r.done.get() { None } else { Some(output(r, host, Piece::Last)) })
    })?;
    match step {
        None => call.ret((moonrest_luajit::Nil, "seen eof")),
        Some(Ok(FilterStep::Now(()))) => call.ret(1),
        Some(Ok(FilterStep::Wait(wait))) => suspend(call, wait),
        Some(Err(_)) => call.ret((moonrest_luajit::Nil, "nginx output filter error")),
    }
}

/// `ngx.send_headers()`.
fn send_headers(call: &mut Call<'_>) -> LuaResult<Return> {
    let step = request(call, |r, host| {
        host.responding.set(true);
        prepare(r, host);
        Ok(r.send_header())
    })?;
    match step {
        Ok(FilterStep::Now(())) => call.ret(1),
        Ok(FilterStep::Wait(wait)) => suspend(call, wait),
        Err(_) => call.ret((moonrest_luajit::Nil, "nginx output filter error")),
    }
}

#[cfg(test)]
mod tests {
    use super::number_text;

    #[test]
    fn numbers_look_as_in_lua() {
        for (number, text) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-07"),
            (123_456.789, "123456.789"),
            (1.0 / 3.0, "0.33333333333333"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }
}
