//! `ngx.say`, `ngx.print`, `ngx.flush`, `ngx.eof`, `ngx.send_headers`.
//! <https://github.com/openresty/lua-nginx-module#ngxsay>

use super::{define_native, request};
use crate::{
    host::{Host, LuaPhase},
    scheduler::{Item, Operation, Values},
    sending,
};
use moonrest_http::{RequestError, filter::FilterStep};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Nil, Return, Stack, Table, Value};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    // The most used of all: without a userdata that names the function.
    ngx.set(stack, "say", stack.function(|call| send(call, true))?)?;
    ngx.set(stack, "print", stack.function(|call| send(call, false))?)?;
    define_native(
        stack,
        ngx,
        &[
            ("flush", Native::new(flush)),
            ("eof", Native::new(eof)),
            ("send_headers", Native::new(send_headers)),
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
        Value::Number(number) => append_number(out, number),
        Value::Light(0) => out.extend_from_slice(b"null"),
        Value::Table(table) => {
            if depth == MAX_DEPTH {
                return Err(bad("a table nested too deeply"));
            }
            if table.append_texts(stack, MAX_DEPTH - depth - 1, out)? {
                return Ok(());
            }
            let Some(len) = table.array_len(stack)? else {
                return Err(LuaError::argument(n, "non-array table found"));
            };
            for index in 1..=len {
                stack.scope(|stack| {
                    let item = table.raw_index(stack, index)?;
                    append(stack, n, item, depth + 1, out)
                })?;
            }
        }
        Value::Light(_) if depth > 0 => {}
        other if depth > 0 => {
            return Err(LuaError::argument(n, format!("bad data type {} found", other.type_name())));
        }
        other => return Err(bad(other.type_name())),
    }
    Ok(())
}

/// Appends a number as Lua writes it, whole ones without the formatting machinery.
pub(crate) fn append_number(out: &mut Vec<u8>, number: f64) {
    let whole = number as u64;
    if whole as f64 == number && whole < 100_000_000_000_000 && number.is_sign_positive() {
        moonrest_http::decimal::append(out, whole);
    } else {
        out.extend_from_slice(number_text(number).as_bytes());
    }
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
    let begun = call.host(|host: &Host| {
        let r = host.request.as_ref().filter(|_| host.phase.makes_response())?;
        Some(match sending::refused(r) {
            Some(reason) => Err(reason),
            None => Ok(sending::buffer(r, host.state())),
        })
    });
    let mut text = match begun.flatten() {
        Some(Ok(text)) => text,
        Some(Err(reason)) => return call.ret((Nil, reason)),
        None => {
            super::only_in(call, LuaPhase::makes_response)?;
            return Err(super::no_request(call));
        }
    };
    let before = text.len();
    let count = call.args_len();
    text.reserve(match call.text(1) {
        Some(first) if count == 1 => first.len() + 1,
        _ => 64,
    });
    for n in 1..=count {
        if let Some(part) = call.text(n) {
            text.extend_from_slice(part);
            continue;
        }
        let value = call.value(n);
        if let Err(error) = append(call, u32::try_from(n).unwrap_or(u32::MAX), value, 0, &mut text) {
            text.truncate(before);
            call.host(|host: &Host| sending::give_back(host.state(), text));
            return Err(error);
        }
    }
    if newline {
        text.push(b'\n');
    }
    let step = request(call, |r, host| {
        host.responding.set(true);
        host.has_data.set(true);
        Ok(sending::data(r, host.state(), text))
    })?;
    answer(call, step)
}

type Sent = Result<FilterStep<()>, RequestError>;

/// What a function that sends answers, when what it sent has passed the filters.
fn answer(call: &Call<'_>, step: Sent) -> LuaResult<Return> {
    match step {
        Ok(FilterStep::Now(())) => call.ret(1),
        Ok(FilterStep::Wait(wait)) => {
            let wait = async move {
                match wait.await {
                    Ok(()) => Values::one(Item::Number(1.0)),
                    Err(_) => Values::error(REFUSED),
                }
            };
            call.suspend(Operation::Wait(Box::pin(wait)), ())
        }
        Err(_) => call.ret((Nil, REFUSED)),
    }
}

const REFUSED: &str = "nginx output filter error";

/// `ngx.flush(wait?)`.
fn flush(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given > 1 {
        return Err(LuaError::new(format!("attempt to pass {given} arguments, but accepted 0 or 1")));
    }
    super::only_in(call, LuaPhase::has_request)?;
    let (r, has_data) = request(call, |r, host| Ok((r.clone(), host.has_data.get())))?;
    let wait = !r.is_subrequest() && super::req::flag(call, 1)?;
    super::only_in(call, LuaPhase::makes_response)?;
    let step = match sending::flush(&r, has_data, wait) {
        Err(reason) => return call.ret((Nil, reason)),
        Ok(step) if !wait => return answer(call, step),
        Ok(step) => step,
    };
    let Ok(step) = step else { return call.ret((Nil, REFUSED)) };
    let wait = async move {
        if let FilterStep::Wait(wait) = step
            && wait.await.is_err()
        {
            return Values::error(REFUSED);
        }
        match r.drained(0).await {
            Ok(()) => Values::one(Item::Number(1.0)),
            Err(error) => {
                let (level, message) = error.describe();
                r.log_at(level, format_args!("{message}"));
                Values::error(if error.status() == 408 { "timeout" } else { "client aborted" })
            }
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

/// `ngx.eof()`.
fn eof(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.args_len() != 0 {
        return Err(LuaError::new("no argument is expected"));
    }
    super::only_in(call, LuaPhase::makes_response)?;
    let refused = request(call, |r, _| {
        Ok(if r.done.get() { Some("seen eof") } else { sending::refused(r).filter(|_| !r.header_only.get()) })
    })?;
    if let Some(reason) = refused {
        return call.ret((Nil, reason));
    }
    let step = request(call, |r, host| {
        host.responding.set(true);
        Ok(sending::end(r, host.state()))
    })?;
    answer(call, step)
}

/// `ngx.send_headers()`.
fn send_headers(call: &mut Call<'_>) -> LuaResult<Return> {
    super::only_in(call, LuaPhase::makes_response)?;
    let step = request(call, |r, host| {
        host.responding.set(true);
        Ok(sending::head(r, host.state()))
    })?;
    answer(call, step)
}

#[cfg(test)]
mod tests {
    use super::{append_number, number_text};

    #[test]
    fn numbers_look_as_in_lua() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (-3.0, "-3"),
            (1234567890.0, "1234567890"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-07"),
            (123_456.789, "123456.789"),
            (1.0 / 3.0, "0.33333333333333"),
        ] {
            assert_eq!(number_text(number), text);
            let mut out = Vec::new();
            append_number(&mut out, number);
            assert_eq!(out, text.as_bytes());
        }
    }
}
