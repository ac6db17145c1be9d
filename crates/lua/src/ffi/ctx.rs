//! `ngx.ctx`: the table of a request, kept in a table of resty.core's (`ngx_lua_ctx_tables` of the registry) under a
//! number that the request knows. When it ends, the number is given back. The table of the request that runs is also a
//! field of a table that `ngx` looks through, see [`Kept`].
//! <https://github.com/openresty/lua-nginx-module#ngxctx>

use super::{ERROR, NO_REQ_CTX, OK, Token};
use crate::{
    handshake,
    host::{Host, State},
    vm::WorkerVm,
};
use moonrest_http::Request;
use moonrest_luajit::{LuaResult, Nil, Ref, Stack, Table, Text, Value, ffi_entry, raw};
use std::{
    cell::{Cell, RefCell},
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
            if number >= 0 {
                note_kept(host, number);
            } else {
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
            note_kept(host, number);
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

/// The field of the registry with the table that `ngx` looks through.
const PLACE: &str = "ngx_lua_kept";

/// A request between two internal redirects, by its address; null when there is none.
type Owner = (*const Request, u32);
const NOBODY: Owner = (std::ptr::null(), 0);
/// There is one, but it goes before other code runs.
const GONE: Owner = (std::ptr::dangling(), 0);

/// What keeps the table of the request that runs where `ngx.ctx` finds it without a call. resty.core puts it there when
/// it was asked for; it is taken away before code runs for another request, and when it is the request's no more.
pub(crate) struct Kept {
    /// The table that has it, and the name of its field. Another resty.core than ours has none.
    place: Option<(Ref, Text)>,
    /// Whose it is, if there is one.
    owner: Cell<Owner>,
    /// Its number.
    number: Cell<c_int>,
}

impl Kept {
    pub(crate) fn new(stack: &Stack<'_>) -> LuaResult<Self> {
        let place = match stack.registry()?.raw_get(stack, PLACE)? {
            Value::Table(place) => Some((stack.keep(place)?, stack.keep_text(b"ctx")?)),
            _ => None,
        };
        Ok(Self { place, owner: Cell::new(NOBODY), number: Cell::new(NONE) })
    }

    fn has(&self, number: c_int) -> bool {
        !self.owner.get().0.is_null() && self.number.get() == number
    }

    fn clear(&self, stack: &Stack<'_>) -> LuaResult<()> {
        if let Some((place, name)) = &self.place
            && let Value::Table(place) = stack.put(place)?
        {
            place.raw_set(stack, name, Nil)?;
        }
        self.owner.set(NOBODY);
        Ok(())
    }
}

/// Code is about to run for a host, or goes on: what is kept has to be its own.
#[inline]
pub(crate) fn enter(vm: &WorkerVm, host: &Host) {
    let owner = vm.kept_ctx.owner.get();
    if !owner.0.is_null() && host.request().is_none_or(|r| owner != (std::ptr::from_ref(r), r.ctx_rounds())) {
        // What cannot be taken away now stays to be.
        let _ = vm.vm.with(|stack| vm.kept_ctx.clear(stack));
    }
}

/// Code has run for a host: what it was called from, if that is code, goes on.
#[inline]
pub(crate) fn leave(vm: &WorkerVm) {
    if !vm.kept_ctx.owner.get().0.is_null() {
        raw::any_host(|host: &Host| enter(vm, host));
    }
}

/// resty.core is about to keep the table of this number.
fn note_kept(host: &Host, number: c_int) {
    if let Some(vm) = host.vm.get().filter(|vm| vm.kept_ctx.place.is_some()) {
        vm.kept_ctx.owner.set(host.request().map_or(GONE, |r| (std::ptr::from_ref(r), r.ctx_rounds())));
        vm.kept_ctx.number.set(number);
    }
}

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
        if vm.kept_ctx.has(number) {
            vm.kept_ctx.owner.set(GONE);
        }
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
    let (Some(tables), Ok(place)) = (&vm.ctx_tables, usize::try_from(number)) else { return Ok(()) };
    vm.vm.with(|stack| {
        if vm.kept_ctx.has(number) {
            vm.kept_ctx.clear(stack)?;
        }
        let Value::Table(tables) = stack.put(tables)? else { return Ok(()) };
        match tables.raw_index(stack, 0)? {
            Value::Number(next) => tables.set_index(stack, place, next)?,
            _ => tables.set_index(stack, place, Nil)?,
        }
        tables.set_index(stack, 0, number)
    })
}
