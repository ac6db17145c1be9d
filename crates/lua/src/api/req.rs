//! `ngx.req`: the client's request as Lua sees it.
//! <https://github.com/openresty/lua-nginx-module#ngxreqget_headers>

use super::{define, escape::decode, request, subtable};
use crate::scheduler::{Operation, Values};
use moonrest_luajit::{Call, LuaResult, Nil, Return, Stack, Table, Value};
use moonrest_proto::http1::Version;
use moonrest_sys::time;

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let req = subtable(stack, ngx, "req")?;
    define(
        stack,
        req,
        &[
            ("get_headers", get_headers),
            ("get_uri_args", get_uri_args),
            ("get_method", get_method),
            ("http_version", http_version),
            ("start_time", start_time),
            ("is_internal", |call| {
                let internal = request(call, |r, _| Ok(r.internal.get()))?;
                call.ret(internal)
            }),
            ("set_header", set_header),
            ("clear_header", clear_header),
            ("set_uri_args", set_uri_args),
            ("read_body", read_body),
            ("socket", super::socket::req_socket),
            ("get_body_data", get_body_data),
            ("discard_body", discard_body),
        ],
    )
}

/// Upstream's default number of headers and arguments.
const DEFAULT_MAX: usize = 100;

fn limit(max: Option<f64>) -> usize {
    match max {
        None => DEFAULT_MAX,
        Some(max) if max <= 0.0 => usize::MAX,
        Some(max) => max as usize,
    }
}

/// A repeated name makes a list.
fn put(call: &Call<'_>, table: Table<'_>, name: &[u8], value: Option<&[u8]>) -> LuaResult<()> {
    let known = table.raw_get(call, name)?;
    match known {
        Value::Nil => match value {
            Some(value) => table.raw_set(call, name, value),
            None => table.raw_set(call, name, true),
        },
        Value::Table(list) => match value {
            Some(value) => list.append(call, value),
            None => list.append(call, true),
        },
        first => {
            let list = call.table(4, 0)?;
            list.append(call, first)?;
            match value {
                Some(value) => list.append(call, value)?,
                None => list.append(call, true)?,
            }
            table.raw_set(call, name, list)
        }
    }
}

/// `ngx.req.get_headers(max?, raw?) -> headers, err`
fn get_headers(call: &mut Call<'_>) -> LuaResult<Return> {
    let (max, raw): (Option<f64>, Option<bool>) = call.args()?;
    let (max, raw) = (limit(max), raw == Some(true));
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    request(call, |r, _| {
        r.for_each_header(|name, value| {
            let name = if raw { name.to_vec() } else { name.to_ascii_lowercase() };
            fields.push((name, value.to_vec()));
        });
        Ok(())
    })?;
    let headers = call.table(0, fields.len())?;
    for (name, value) in fields.iter().take(max) {
        put(call, headers, name, Some(value))?;
    }
    if fields.len() > max { call.ret((headers, "truncated")) } else { call.ret(headers) }
}

/// `ngx.req.get_uri_args(max?) -> args, err`
fn get_uri_args(call: &mut Call<'_>) -> LuaResult<Return> {
    let max = limit(call.arg(1)?);
    let args = request(call, |r, _| Ok(r.args.borrow().clone()))?;
    let pairs: Vec<&[u8]> = args.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).collect();
    let table = call.table(0, pairs.len().min(max))?;
    for pair in pairs.iter().take(max) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..)),
            None => (*pair, None),
        };
        let decoded = decode(name);
        if decoded.is_empty() {
            continue;
        }
        match value {
            Some(value) => put(call, table, &decoded, Some(&decode(value)))?,
            None => put(call, table, &decoded, None)?,
        }
    }
    if pairs.len() > max { call.ret((table, "truncated")) } else { call.ret(table) }
}

fn get_method(call: &mut Call<'_>) -> LuaResult<Return> {
    let name = request(call, |r, _| Ok(r.head.borrow().method_name.of(&r.block.borrow()).to_vec()))?;
    call.ret(name.as_slice())
}

fn http_version(call: &mut Call<'_>) -> LuaResult<Return> {
    let version = request(call, |r, _| {
        Ok(match r.version.get() {
            Version::Http09 => 0.9,
            Version::Http10 => 1.0,
            Version::Http11 => 1.1,
        })
    })?;
    call.ret(version)
}

fn start_time(call: &mut Call<'_>) -> LuaResult<Return> {
    let began = request(call, |r, _| Ok(r.started_ms.get()))?;
    let age = time::monotonic_ms().saturating_sub(began);
    let now = time::wall();
    call.ret(now.secs as f64 + f64::from(now.millis()) / 1000.0 - age as f64 / 1000.0)
}

fn set_header(call: &mut Call<'_>) -> LuaResult<Return> {
    let name = call.arg::<&[u8]>(1)?.to_vec();
    let value = match call.value(2) {
        Value::Nil => None,
        Value::Number(number) => Some(super::output::number_text(number).into_bytes()),
        Value::String(text) => Some(text.to_vec()),
        other => {
            return Err(moonrest_luajit::LuaError::argument(
                2,
                format!("string expected, got {}", other.type_name()),
            ));
        }
    };
    request(call, |r, _| {
        match value {
            Some(value) => r.set_header(&name, &value),
            None => r.remove_header(&name),
        }
        Ok(())
    })?;
    call.ret(())
}

fn clear_header(call: &mut Call<'_>) -> LuaResult<Return> {
    let name = call.arg::<&[u8]>(1)?.to_vec();
    request(call, |r, _| {
        r.remove_header(&name);
        Ok(())
    })?;
    call.ret(())
}

fn set_uri_args(call: &mut Call<'_>) -> LuaResult<Return> {
    let args = call.arg::<&[u8]>(1)?.to_vec();
    request(call, |r, _| {
        *r.args.borrow_mut() = args;
        Ok(())
    })?;
    call.ret(())
}

fn read_body(call: &mut Call<'_>) -> LuaResult<Return> {
    let r = request(call, |r, _| Ok(r.clone()))?;
    if !r.has_unread_body() {
        return call.ret(());
    }
    let wait = async move {
        match moonrest_http::body::read(&r).await {
            Ok(()) => Values::default(),
            Err(_) => Values::error("the request body cannot be read"),
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn get_body_data(call: &mut Call<'_>) -> LuaResult<Return> {
    let body = request(call, |r, _| Ok(r.body.borrow().bytes()))?;
    match body {
        Some(body) if !body.is_empty() => call.ret(&*body),
        _ => call.ret(Nil),
    }
}

fn discard_body(call: &mut Call<'_>) -> LuaResult<Return> {
    let r = request(call, |r, _| Ok(r.clone()))?;
    let wait = async move {
        // What cannot be read is of no interest here.
        let _ = moonrest_http::body::discard(&r).await;
        Values::default()
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}
