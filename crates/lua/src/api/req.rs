//! `ngx.req`: the client's request as Lua sees it.
//! <https://github.com/openresty/lua-nginx-module#ngxreqget_headers>

use super::{define, request, subtable};
use crate::scheduler::{Operation, Values};
use moonrest_luajit::{Call, LuaResult, Nil, Return, Stack, Table};
use moonrest_proto::http1::Version;

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let req = subtable(stack, ngx, "req")?;
    define(
        stack,
        req,
        &[
            ("http_version", http_version),
            ("set_uri_args", set_uri_args),
            ("read_body", read_body),
            ("get_body_data", get_body_data),
            ("discard_body", discard_body),
        ],
    )
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
