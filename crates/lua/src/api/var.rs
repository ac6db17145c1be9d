//! Reading `ngx.var`, as a C function: where code is not compiled, the FFI costs ten times as much.
//! <https://github.com/openresty/lua-nginx-module#ngxvarvariable>

use crate::{ffi::lend, host::Host};
use moonrest_core::{Subject, VarId};
use moonrest_http::Request;
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Value};
use std::cell::{Cell, RefCell};

/// Where `resty.core.var` finds the function.
const MODULE: &str = "moonrest.var_get";

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(package) = stack.globals()?.raw_get(stack, "package")? else { return Ok(()) };
    let Value::Table(loaded) = package.raw_get(stack, "loaded")? else { return Ok(()) };
    loaded.raw_set(stack, MODULE, stack.function(get)?)
}

/// `ngx.var[name]`; a number is a capture's.
fn get(call: &mut Call<'_>) -> LuaResult<Return> {
    let answer = call.host(|host: &Host| {
        let r = host.request()?;
        Some(match call.text(2) {
            Some(name) => match known(r, name) {
                Some(id) => answer(call, |out| r.vars().append(r, id, out)),
                None => find(call, r, name),
            },
            None => match call.value(2) {
                Value::Number(n) if n >= 1.0 => answer(call, |out| r.capture(n as usize, out)),
                Value::Number(_) => call.ret(Nil),
                _ => Err(LuaError::new("bad variable name")),
            },
        })
    });
    answer.flatten().unwrap_or_else(|| Err(super::no_request(call)))
}

/// Looks a name up that is not known yet.
fn find(call: &Call<'_>, r: &Request, name: &[u8]) -> LuaResult<Return> {
    let mut lowered = smallvec::SmallVec::<[u8; 48]>::from_slice(name);
    lowered.make_ascii_lowercase();
    let Ok(lowered) = std::str::from_utf8(&lowered) else { return call.ret(Nil) };
    match r.vars().find(lowered) {
        Some(id) => {
            remember(r, name, id);
            answer(call, |out| r.vars().append(r, id, out))
        }
        None => answer(call, |out| r.vars().append_by_name(r, lowered, out)),
    }
}

#[inline]
fn answer(call: &Call<'_>, value_of: impl FnOnce(&mut Vec<u8>) -> bool) -> LuaResult<Return> {
    let found = Cell::new(false);
    lend(|out| found.set(value_of(out)), |bytes| if found.get() { call.ret(bytes) } else { call.ret(Nil) })
}

/// A name that was looked up, as Lua wrote it.
struct Known {
    /// The table it was found in, by its address.
    table: usize,
    name: Box<[u8]>,
    id: VarId,
}

/// How many names are remembered, in pairs of places.
const KNOWN: usize = 256;

thread_local! {
    static NAMES: RefCell<[Option<Known>; KNOWN]> = const { RefCell::new([const { None }; KNOWN]) };
}

/// The first of the two places of a name, told by the address of its text, which Lua has once.
#[inline]
fn place(name: &[u8]) -> usize {
    let mixed = (name.as_ptr().addr() as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 40) as usize % KNOWN) & !1
}

/// The number of a variable that was read before.
#[inline]
fn known(r: &Request, name: &[u8]) -> Option<VarId> {
    let table = std::ptr::from_ref(r.vars()).addr();
    NAMES.with_borrow(|names| {
        let place = place(name);
        let is = |known: &&Known| known.table == table && *known.name == *name;
        let first = names.get(place)?.as_ref().filter(is);
        Some(first.or_else(|| names.get(place + 1)?.as_ref().filter(is))?.id)
    })
}

fn remember(r: &Request, name: &[u8], id: VarId) {
    let table = std::ptr::from_ref(r.vars()).addr();
    NAMES.with_borrow_mut(|names| {
        let place = place(name);
        if let Some([first, second]) = names.get_mut(place..place + 2) {
            // The older one goes.
            *second = first.take();
            *first = Some(Known { table, name: name.into(), id });
        }
    });
}
