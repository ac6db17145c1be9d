//! `ngx.var` and `ngx.ctx`.
//! <https://github.com/openresty/lua-nginx-module#ngxvarvariable>

use super::{define, request, subtable};
use moonrest_core::Subject;
use moonrest_http::Request;
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Ref, Return, Stack, Table, Value};
use std::cell::RefCell;

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let var = subtable(stack, ngx, "var")?;
    let meta = stack.table(0, 2)?;
    define(stack, meta, &[("__index", get), ("__newindex", set)])?;
    var.set_metatable(stack, Some(meta))?;
    // `ngx.ctx` is found through a table that stands for the present request's.
    let proxy = subtable(stack, ngx, "ctx")?;
    let meta = stack.table(0, 2)?;
    define(stack, meta, &[("__index", ctx_get), ("__newindex", ctx_set)])?;
    proxy.set_metatable(stack, Some(meta))
}

fn get(call: &mut Call<'_>) -> LuaResult<Return> {
    let mut value = Vec::new();
    let found = match call.value(2) {
        Value::Number(n) => {
            let n = n as usize;
            request(call, |r, _| Ok(r.capture(n, &mut value)))?
        }
        Value::String(name) => {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            request(call, |r, _| Ok(r.vars().append_by_name(r, &name, &mut value)))?
        }
        _ => return Err(LuaError::new("bad variable name")),
    };
    if found { call.ret(value.as_slice()) } else { call.ret(Nil) }
}

fn set(call: &mut Call<'_>) -> LuaResult<Return> {
    let name = String::from_utf8_lossy(call.arg::<&[u8]>(2)?).to_ascii_lowercase();
    let value = match call.value(3) {
        Value::Nil => None,
        Value::String(text) => Some(text.to_vec()),
        Value::Number(number) => Some(super::output::number_text(number).into_bytes()),
        other => {
            return Err(LuaError::argument(
                3,
                format!("string, number, or nil expected, but got {}", other.type_name()),
            ));
        }
    };
    request(call, |r, _| {
        let vars = r.vars();
        let Some(id) = vars.find(&name) else {
            return Err(LuaError::new(format!(
                "variable \"{name}\" not found for writing; maybe it is a built-in variable that is not changeable or you forgot to use \"set ${name} '';\" in the config file to define it first"
            )));
        };
        if !vars.variable(id).is_some_and(|variable| variable.changeable) {
            return Err(LuaError::new(format!("variable \"{name}\" not changeable")));
        }
        vars.assign(&**r, id, value.as_deref());
        Ok(())
    })?;
    call.ret(())
}

/// The table of a request, made on first use; subrequests and redirects have their own.
#[derive(Default)]
struct Context(RefCell<Option<Ref>>);

fn table(call: &Call<'_>) -> LuaResult<Ref> {
    let known = request(call, |r, _| Ok(r.ctx::<Context>().0.borrow().clone()))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let table = call.table(0, 8)?;
    let made = call.keep(table)?;
    request(call, |r, _| {
        *r.ctx::<Context>().0.borrow_mut() = Some(made.clone());
        Ok(())
    })?;
    Ok(made)
}

/// Makes a table of Lua's that of a request which has none yet.
pub(super) fn give_ctx(call: &Call<'_>, r: &Request, table: Table<'_>) -> LuaResult<()> {
    let kept = call.keep(table)?;
    *r.ctx::<Context>().0.borrow_mut() = Some(kept);
    Ok(())
}

fn ctx_get(call: &mut Call<'_>) -> LuaResult<Return> {
    let table = table(call)?;
    let Value::Table(table) = call.put(&table)? else { return call.ret(Nil) };
    let key = call.value(2);
    let value = table.get(call, key)?;
    call.ret(value)
}

fn ctx_set(call: &mut Call<'_>) -> LuaResult<Return> {
    let table = table(call)?;
    let Value::Table(table) = call.put(&table)? else { return call.ret(()) };
    let (key, value) = (call.value(2), call.value(3));
    table.set(call, key, value)?;
    call.ret(())
}
