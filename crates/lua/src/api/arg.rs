//! `ngx.arg`: the arguments of `set_by_lua*`; the present part of the body in `body_filter_by_lua*`.
//! <https://github.com/openresty/lua-nginx-module#ngxarg>

use super::{number_text, output};
use crate::{host::Host, phase_io::PhaseIo};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Nil, Return, Stack, Table, Value};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let arg = super::subtable(stack, ngx, "arg")?;
    let meta = stack.table(0, 2)?;
    super::define_native(stack, meta, &[("__index", Native::new(get)), ("__newindex", Native::new(set))])?;
    arg.set_metatable(stack, Some(meta))
}

fn get(call: &mut Call<'_>) -> LuaResult<Return> {
    let index = match call.value(2) {
        Value::Number(index) => index as i64,
        _ => 0,
    };
    call.host(|host: &Host| match &*host.io.borrow() {
        PhaseIo::Set { args, .. } => {
            let arg = usize::try_from(index - 1).ok().and_then(|index| args.get(index));
            match arg.filter(|arg| !arg.is_empty()) {
                Some(arg) => call.ret(arg.as_slice()),
                None => call.ret(Nil),
            }
        }
        PhaseIo::Body(arg) if index == 1 => call.ret(&*arg.data),
        PhaseIo::Body(arg) if index == 2 => call.ret(arg.eof),
        PhaseIo::Body(_) => call.ret(Nil),
        _ => Err(LuaError::new("API disabled in the current context")),
    })
    .unwrap_or_else(|| Err(LuaError::new("no request found")))
}

fn set(call: &mut Call<'_>) -> LuaResult<Return> {
    let index: f64 = call.arg(2)?;
    let index = index as i64;
    let is_body = call.host(|host: &Host| matches!(*host.io.borrow(), PhaseIo::Body(_)));
    match is_body {
        None => return Err(LuaError::new("no request found")),
        Some(false) => return Err(LuaError::new("API disabled in the current context")),
        Some(true) if !matches!(index, 1 | 2) => return Err(LuaError::new(format!("bad index: {index}"))),
        Some(true) => {}
    }
    if index == 2 {
        let eof = !matches!(call.value(3), Value::Nil | Value::Boolean(false));
        call.host(|host: &Host| {
            if let PhaseIo::Body(arg) = &mut *host.io.borrow_mut() {
                arg.eof = eof;
            }
        });
        return call.ret(());
    }
    let mut data = Vec::new();
    match call.value(3) {
        Value::Nil => {}
        Value::String(text) => data.extend_from_slice(text),
        Value::Number(number) => data.extend_from_slice(number_text(number).as_bytes()),
        table @ Value::Table(_) => output::append(call, 3, table, 0, &mut data)?,
        other => return Err(LuaError::new(format!("bad chunk data type: {}", other.type_name()))),
    }
    call.host(|host: &Host| {
        if let PhaseIo::Body(arg) = &mut *host.io.borrow_mut() {
            arg.data = data.into();
        }
    });
    call.ret(())
}
