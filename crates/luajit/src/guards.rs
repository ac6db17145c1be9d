//! Library functions that call Lua from C, with a check of the C stack in front (see `c_stack`).
//!
//! `string.gsub`, `table.sort`, `load` and the like become the same C functions behind a check, in the same frame: they
//! take no Lua stack, and errors and tracebacks read as before.
use std::ffi::c_int;
use std::sync::OnceLock;

use crate::c_stack;
use crate::call;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, CFunction, lua_State};
use crate::shared::Shared;
use crate::stack::{Stack, Value};

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
