//! Library functions that call Lua from C, with a check of the C stack in front (see `c_stack`).
//!
//! `string.gsub`, `table.sort`, `load` and the like become the same C functions behind a check, in the same frame: they
//! take no Lua stack, and errors and tracebacks read as before. `coroutine.resume` and `coroutine.wrap`, which LuaJIT
//! implements in assembler, are implemented here.
use std::ffi::c_int;
use std::sync::OnceLock;

use crate::c_stack;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, CFunction, lua_State};
use crate::shared::Shared;
use crate::stack::{Stack, Value};
use crate::{call, traceback};

/// A library function that calls back and may use much of the C stack, an ordinary C function, and its guarded self.
struct Guarded {
    library: &'static str,
    name: &'static str,
    replacement: CFunction,
}

const GUARDED: [Guarded; 7] = [
    Guarded { library: "string", name: "gsub", replacement: guarded::<0> },
    Guarded { library: "table", name: "sort", replacement: guarded::<1> },
    Guarded { library: "_G", name: "load", replacement: guarded::<2> },
    Guarded { library: "_G", name: "loadstring", replacement: guarded::<3> },
    Guarded { library: "_G", name: "loadfile", replacement: guarded::<4> },
    Guarded { library: "_G", name: "dofile", replacement: guarded::<5> },
    Guarded { library: "_G", name: "require", replacement: guarded::<6> },
];

/// The functions of the library, the same for every VM.
static ORIGINALS: [OnceLock<CFunction>; GUARDED.len()] = [const { OnceLock::new() }; GUARDED.len()];

pub(crate) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let globals = stack.globals()?;
    for (guarded, original) in GUARDED.iter().zip(&ORIGINALS) {
        let Value::Table(library) = globals.raw_get(stack, guarded.library)? else { continue };
        let Value::Function(function) = library.raw_get(stack, guarded.name)? else { continue };
        // SAFETY: a function at that index; null for Lua functions and those in assembler.
        let Some(found) = (unsafe { ffi::lua_tocfunction(stack.l, function.0.index) }) else { continue };
        if *original.get_or_init(|| found) as usize != found as usize {
            continue;
        }
        stack.reserve()?;
        // SAFETY: lenient, with spare slots. `require` reads its environment, so the guarded one gets the same.
        unsafe {
            ffi::lua_pushcclosure(stack.l, guarded.replacement, 0);
            ffi::lua_getfenv(stack.l, function.0.index);
            ffi::lua_setfenv(stack.l, -2);
        }
        library.raw_set(stack, guarded.name, stack.last())?;
    }
    let Value::Table(coroutine) = globals.raw_get(stack, "coroutine")? else { return Ok(()) };
    for (name, function) in [("resume", resume as CFunction), ("wrap", wrap)] {
        stack.reserve()?;
        // SAFETY: lenient, room for one value.
        unsafe { ffi::lua_pushcclosure(stack.l, function, 0) };
        coroutine.raw_set(stack, name, stack.last())?;
    }
    Ok(())
}

/// Whether there is C stack enough for one more level.
#[inline]
unsafe fn has_stack(l: *mut lua_State) -> bool {
    // SAFETY: a live state of ours.
    c_stack::here() >= unsafe { Shared::of(l) }.floor.get()
}

/// Leaves an error message on the stack.
#[cold]
unsafe fn refuse(l: *mut lua_State, message: &'static str) {
    // SAFETY: called by Lua with a live state.
    unsafe { call::answer(l, |_| Err(LuaError::new(message))) };
}

/// Calls the library's function in this frame, if there is C stack enough.
unsafe extern "C-unwind" fn guarded<const N: usize>(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us; nothing is owned when it raises.
    unsafe {
        match ORIGINALS[N].get() {
            Some(original) if has_stack(l) => original(l),
            _ => {
                refuse(l, "C stack overflow");
                ffi::lua_error(l)
            }
        }
    }
}

/// What keeps a coroutine from being resumed.
unsafe fn obstacle(l: *mut lua_State, co: *mut lua_State) -> Option<&'static str> {
    // SAFETY: live states; `lua_getstack` fills what it is given.
    unsafe {
        let mut debug = std::mem::MaybeUninit::uninit();
        match ffi::lua_status(co) {
            ffi::YIELD => None,
            ffi::OK if co == l => Some("cannot resume running coroutine"),
            ffi::OK if ffi::lua_getstack(co, 0, debug.as_mut_ptr()) != 0 => {
                Some("cannot resume normal coroutine")
            }
            // Without frames it is fresh, with its function at the bottom, or it has finished.
            ffi::OK if ffi::lua_gettop(co) > 0 && ffi::lua_type(co, 1) == ffi::TFUNCTION => None,
            _ => Some("cannot resume dead coroutine"),
        }
    }
}

/// Moves `nargs` arguments from the top of `l`, runs `co` and moves back what it gives: `Ok(count)`, or an error value
/// on top of `l`.
unsafe fn transfer(l: *mut lua_State, co: *mut lua_State, nargs: c_int) -> Result<c_int, ()> {
    // SAFETY: called by Lua; room is asked for on both stacks; `obstacle` found none.
    unsafe {
        if !has_stack(l) {
            refuse(l, "C stack overflow");
            return Err(());
        }
        if ffi::lua_checkstack(co, nargs + 1) == 0 {
            refuse(l, "stack overflow");
            return Err(());
        }
        ffi::lua_xmove(l, co, nargs);
        let status = ffi::lua_resume(co, nargs);
        let count = if status > ffi::YIELD { 1 } else { ffi::lua_gettop(co) };
        if ffi::lua_checkstack(l, count + 1) == 0 {
            ffi::lua_settop(co, 0);
            refuse(l, "too many results to resume");
            return Err(());
        }
        ffi::lua_xmove(co, l, count);
        if status > ffi::YIELD { Err(()) } else { Ok(count) }
    }
}

/// `coroutine.resume(co, ...)`.
unsafe extern "C-unwind" fn resume(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a live state and room as for a C function; nothing is owned when it raises.
    unsafe {
        let co = ffi::lua_tothread(l, 1);
        if co.is_null() {
            call::answer(l, |call| {
                let given = call.type_name(if call.args_len() == 0 { c_int::MAX } else { 1 });
                Err(LuaError::argument(1, format!("coroutine expected, got {given}")))
            });
            return ffi::lua_error(l);
        }
        if let Some(obstacle) = obstacle(l, co) {
            ffi::lua_settop(l, 0);
            ffi::lua_pushboolean(l, 0);
            ffi::lua_pushlstring(l, obstacle.as_ptr().cast(), obstacle.len());
            return 2;
        }
        let given = transfer(l, co, ffi::lua_gettop(l) - 1);
        let count = given.unwrap_or(1);
        ffi::lua_pushboolean(l, c_int::from(given.is_ok()));
        ffi::lua_insert(l, -count - 1);
        count + 1
    }
}

/// `coroutine.wrap(f)`.
unsafe extern "C-unwind" fn wrap(l: *mut lua_State) -> c_int {
    // SAFETY: as in `resume`; out of memory is raised, which Lua called us for.
    unsafe {
        if ffi::lua_type(l, 1) != ffi::TFUNCTION {
            call::answer(l, |call| call.arg::<crate::Function<'_>>(1).and_then(|_| call.ret(())));
            return ffi::lua_error(l);
        }
        let co = ffi::lua_newthread(l);
        ffi::lua_pushvalue(l, 1);
        ffi::lua_xmove(l, co, 1);
        ffi::lua_pushcclosure(l, wrapped, 1);
        1
    }
}

/// What `coroutine.wrap` returned.
unsafe extern "C-unwind" fn wrapped(l: *mut lua_State) -> c_int {
    // SAFETY: as in `resume`.
    unsafe {
        let co = ffi::lua_tothread(l, ffi::upvalue(1));
        let obstacle = if co.is_null() { Some("cannot resume dead coroutine") } else { obstacle(l, co) };
        if let Some(obstacle) = obstacle {
            refuse(l, obstacle);
            return ffi::lua_error(l);
        }
        match transfer(l, co, ffi::lua_gettop(l)) {
            Ok(count) => count,
            Err(()) => {
                locate(l);
                ffi::lua_error(l)
            }
        }
    }
}

/// Messages that have grown to this length get no more positions: an error that passes ten thousand coroutines would
/// otherwise copy a growing message ten thousand times.
const LONG_MESSAGE: usize = 1024;

/// Puts the caller's position before an error message, as LuaJIT does for `wrap`.
unsafe fn locate(l: *mut lua_State) {
    // SAFETY: an error value is on top of a live state.
    unsafe {
        if ffi::lua_type(l, -1) == ffi::TSTRING && ffi::lua_objlen(l, -1) < LONG_MESSAGE {
            call::answer(l, |call| {
                let mut message = traceback::position(l, 1);
                message.extend_from_slice(call.value_at(call.top()).as_bytes().unwrap_or_default());
                Err(LuaError::exactly(message))
            });
        }
    }
}
