//! `ngx.ctx`: the table of a request, kept in a table of resty.core's (`ngx_lua_ctx_tables` of the registry) under a
//! number that the request knows. When it ends, the number is given back.
//! <https://github.com/openresty/lua-nginx-module#ngxctx>

use super::{ERROR, NO_REQ_CTX, OK, Token};
use crate::{
    handshake,
    host::{Host, State},
    vm::WorkerVm,
};
use moonrest_http::Request;
use moonrest_luajit::{LuaResult, Nil, Ref, Stack, Table, Value, ffi_entry, raw};
use std::{
    cell::RefCell,
    ffi::c_int,
    rc::{Rc, Weak},
};

/// No table yet (`LUA_NOREF`).
pub(crate) const NONE: c_int = -2;

ffi_entry! {
    /// The number of the table; negative when there is none.
    fn ngx_http_lua_ffi_get_ctx_ref(r: Token, in_ssl_phase: *mut c_int, ssl_ref: *mut c_int) -> c_int, on_panic = -1 {
        let answer = raw::host(r, |host: &Host| {
            let number = host.state().ctx_ref.get();
            if number < 0 {
                // SAFETY: Lua passes places for numbers, or NULL.
                unsafe {
                    raw::store(in_ssl_phase, c_int::from(host.phase.is_handshake()));
                    raw::store(ssl_ref, of_connection(host));
                }
            }
            number
        });
        answer.unwrap_or(NO_REQ_CTX)
    }

    /// Remembers the number of the table.
    fn ngx_http_lua_ffi_set_ctx_ref(r: Token, number: c_int) -> c_int, on_panic = -1 {
        let done = raw::host(r, |host: &Host| {
            let state = host.state();
            state.ctx_ref.set(number);
            *state.vm.borrow_mut() = host.vm.get().map_or_else(Weak::new, Rc::downgrade);
        });
        if done.is_some() { OK } else { NO_REQ_CTX }
    }
}

/// The number of the table that code in the connection's handshake has left.
fn of_connection(host: &Host) -> c_int {
    let handshake = host.request.as_ref().and_then(|r| r.conn.handshake.get());
    let Some(kept) = handshake.and_then(|handshake| handshake::kept(handshake)) else { return NONE };
    // A VM of the request's own does not have it.
    let known = kept.state.vm.borrow().upgrade();
    let same = known.is_some_and(|known| host.vm.get().is_some_and(|vm| Rc::ptr_eq(&known, vm)));
    if same { kept.state.ctx_ref.get() } else { NONE }
}

const _: () = assert!(NONE < ERROR);

/// The field of the registry.
const TABLES: &str = "ngx_lua_ctx_tables";

/// Finds resty.core's table of tables, for [`release`] and [`attach`].
pub(crate) fn find_tables(stack: &Stack<'_>) -> LuaResult<Option<Ref>> {
    let Value::Table(debug) = stack.globals()?.raw_get(stack, "debug")? else { return Ok(None) };
    let Value::Function(registry) = debug.raw_get(stack, "getregistry")? else { return Ok(None) };
    let Value::Table(registry) = stack.call(registry, ())?.value(stack, 0) else { return Ok(None) };
    match registry.raw_get(stack, TABLES)? {
        Value::Table(tables) => Ok(Some(stack.keep(tables)?)),
        _ => Ok(None),
    }
}

/// Makes a table that of a request which has none yet.
pub(crate) fn give(
    stack: &Stack<'_>,
    vm: Option<Rc<WorkerVm>>,
    r: &Request,
    ctx: Table<'_>,
) -> LuaResult<()> {
    let number = attach(stack, ctx)?;
    let state = r.ctx::<State>();
    state.ctx_ref.set(number);
    *state.vm.borrow_mut() = vm.map_or_else(Weak::new, |vm| Rc::downgrade(&vm));
    Ok(())
}

/// Puts a table into the table of tables.
fn attach(stack: &Stack<'_>, ctx: Table<'_>) -> LuaResult<c_int> {
    let Some(tables) = find_tables(stack)? else { return Ok(NONE) };
    let Value::Table(tables) = stack.put(&tables)? else { return Ok(NONE) };
    let free = tables.raw_index(stack, 0)?.as_number().filter(|free| *free > 0.0);
    let number = match free {
        Some(free) => {
            let next = tables.raw_get(stack, free)?;
            tables.raw_set(stack, 0, next)?;
            free as usize
        }
        None => tables.raw_len(stack) + 1,
    };
    tables.set_index(stack, number, ctx)?;
    Ok(c_int::try_from(number).unwrap_or(NONE))
}

thread_local! {
    /// Numbers whose requests ended while Lua code ran.
    static LATER: RefCell<Vec<(Weak<WorkerVm>, c_int)>> = const { RefCell::new(Vec::new()) };
}

/// Gives a number back, and lets its table go.
pub(crate) fn release(vm: &Rc<WorkerVm>, number: c_int) {
    if free(vm, number).is_err() {
        LATER.with_borrow_mut(|later| later.push((Rc::downgrade(vm), number)));
        return;
    }
    for (vm, number) in LATER.take() {
        // What cannot be freed now neither is only a table too many.
        let _ = vm.upgrade().map(|vm| free(&vm, number));
    }
}

/// A list of free places: element 0 has the first, each the next, the last has nothing.
fn free(vm: &WorkerVm, number: c_int) -> LuaResult<()> {
    let Some(tables) = &vm.ctx_tables else { return Ok(()) };
    vm.vm.with(|stack| {
        let Value::Table(tables) = stack.put(tables)? else { return Ok(()) };
        match tables.raw_index(stack, 0)? {
            Value::Number(next) => tables.raw_set(stack, number, next)?,
            _ => tables.raw_set(stack, number, Nil)?,
        }
        tables.raw_set(stack, 0, number)
    })
}
