//! The `coroutine` table as Lua code sees it.
//!
//! Coroutines are LuaJIT's own, resumed natively. When a Rust function waits in one (`Call::suspend`), the coroutine yields
//! a *mark*; `resume` and `wrap`, which are Lua functions around the C functions here, pass it on to the coroutine outside,
//! and so on to the one that Rust resumed. So waiting costs a level of resumes per level of coroutines, and all else nothing.
//!
//! Marks stay at the bottom of a suspended coroutine's stack. There they say that it is not Lua code's to resume, and what
//! `coroutine.status` is to answer.
//!
//! LuaJIT's `resume` and `wrap` are written in assembler and do not check the C stack (see `c_stack`); these do.
use std::ffi::c_int;

use crate::c_stack;
use crate::chunk::Form;
use crate::convert::{IntoLua, Light};
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, CFunction, lua_State};
use crate::shared::Shared;
use crate::stack::{Stack, Value};
use crate::{call, traceback};

/// At the bottom of a coroutine's stack: it waits. True above it: for a coroutine that it has resumed.
pub(crate) const WAITS: usize = 0x6d72_0001;
/// It has ended, and its results (above) wait for somebody to ask.
pub(crate) const ZOMBIE: usize = 0x6d72_0002;
/// It has ended or was ended, and nobody may ask any more.
pub(crate) const OVER: usize = 0x6d72_0003;

pub(crate) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    let Value::Table(coroutine) = stack.globals()?.raw_get(stack, "coroutine")? else { return Ok(()) };
    let c_function = |function: CFunction| {
        stack.reserve()?;
        // SAFETY: lenient, room for one value.
        unsafe { ffi::lua_pushcclosure(stack.l, function, 0) };
        Ok::<_, LuaError>(stack.last())
    };
    coroutine.raw_set(stack, "status", c_function(status)?)?;
    let (resume, go_on) = (c_function(resume)?, c_function(go_on)?);
    let fail = stack.function(|call| {
        let error = match call.value(2) {
            Value::String(message) => LuaError::exactly(message),
            other => LuaError::object(call.keep(other)?),
        };
        // SAFETY: Rust's turn; null for what is no thread.
        let co = unsafe { ffi::lua_tothread(call.l, 1) };
        if !co.is_null() {
            // SAFETY: a live state that does not run; looking at its frames changes nothing.
            call.shared.note_failure(error.message(), unsafe { traceback::frames(co, 0) });
        }
        Err(error)
    })?;
    let chunk = stack.load(include_bytes!("lua/coroutines.lua"), "=coroutine", Form::Text)?;
    stack.call(chunk, (Light(WAITS), coroutine, resume, go_on, fail))?;
    Ok(())
}

/// The mark of a suspended or finished coroutine.
///
/// # Safety
/// A live state that does not run.
#[inline]
pub(crate) unsafe fn mark(co: *mut lua_State) -> Option<usize> {
    // SAFETY: the caller's promise; index 1 may be asked for its type.
    unsafe { (ffi::lua_type(co, 1) == ffi::TLIGHTUSERDATA).then(|| ffi::lua_touserdata(co, 1).addr()) }
}

/// Pushes the marks of a coroutine that waits, for itself or for another.
pub(crate) fn push_marks(stack: &Stack<'_>, within: bool) -> LuaResult<()> {
    stack.reserve_many(2)?;
    Light(WAITS).push(stack)?;
    within.push(stack)
}

/// What `coroutine.status` says.
unsafe fn state_of(l: *mut lua_State, co: *mut lua_State) -> &'static str {
    // SAFETY: live states; `lua_getstack` fills what it is given; index 2 may be asked for its truth.
    unsafe {
        let mut debug = std::mem::MaybeUninit::uninit();
        match ffi::lua_status(co) {
            ffi::YIELD => match mark(co) {
                Some(WAITS) if ffi::lua_toboolean(co, 2) != 0 => "normal",
                Some(WAITS) => "running",
                Some(OVER) => "dead",
                _ => "suspended",
            },
            ffi::OK if co == l => "running",
            ffi::OK if ffi::lua_getstack(co, 0, debug.as_mut_ptr()) != 0 => "normal",
            _ if mark(co) == Some(ZOMBIE) => "zombie",
            // Without frames it is fresh, with its function at the bottom, or it has finished.
            ffi::OK if ffi::lua_type(co, 1) == ffi::TFUNCTION => "suspended",
            _ => "dead",
        }
    }
}

/// Leaves an error message on the stack.
#[cold]
unsafe fn refuse(l: *mut lua_State, message: &'static str) {
    // SAFETY: called by Lua with a live state.
    unsafe { call::answer(l, |_| Err(LuaError::new(message))) };
}

/// Moves `nargs` arguments from the top of `l`, runs `co` and moves back what it gives: `Ok(count)`, or an error value
/// on top of `l`.
unsafe fn transfer(l: *mut lua_State, co: *mut lua_State, nargs: c_int) -> Result<c_int, ()> {
    // SAFETY: called by Lua; room is asked for on both stacks; the callers saw that `co` can be resumed.
    unsafe {
        if c_stack::here() < Shared::of(l).floor.get() {
            refuse(l, "C stack overflow");
            return Err(());
        }
        if ffi::lua_checkstack(co, nargs + 1) == 0 {
            refuse(l, "stack overflow");
            return Err(());
        }
        ffi::lua_xmove(l, co, nargs);
        let status = ffi::lua_resume(co, nargs);
        if status == ffi::YIELD && mark(co) == Some(WAITS) {
            // Its marks stay with it. `l` had room for a function and its arguments, now it gets one value.
            ffi::lua_settop(co, 2);
            ffi::lua_pushvalue(co, 1);
            ffi::lua_xmove(co, l, 1);
            return Ok(1);
        }
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

/// `coroutine.resume(co, ...)`, for which Lua has checked that it is a coroutine.
unsafe extern "C-unwind" fn resume(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a live state and room as for a C function; nothing is owned when it raises.
    unsafe {
        let co = ffi::lua_tothread(l, 1);
        match if co.is_null() { "dead" } else { state_of(l, co) } {
            "suspended" => run(l, co),
            state => {
                let message = match state {
                    "running" => "cannot resume running coroutine",
                    "normal" => "cannot resume normal coroutine",
                    "zombie" => "cannot resume zombie coroutine",
                    _ => "cannot resume dead coroutine",
                };
                ffi::lua_settop(l, 0);
                ffi::lua_pushboolean(l, 0);
                ffi::lua_pushlstring(l, message.as_ptr().cast(), message.len());
                2
            }
        }
    }
}

/// As `resume`, for a coroutine that waits: what it waited for is there.
unsafe extern "C-unwind" fn go_on(l: *mut lua_State) -> c_int {
    // SAFETY: as in `resume`.
    unsafe {
        let co = ffi::lua_tothread(l, 1);
        if co.is_null() || ffi::lua_status(co) != ffi::YIELD || mark(co) != Some(WAITS) {
            refuse(l, "cannot resume dead coroutine");
            return ffi::lua_error(l);
        }
        ffi::lua_settop(co, 0);
        run(l, co)
    }
}

/// Runs the coroutine in slot 1 with the arguments above it: `true` and what it gives, or `false` and the error.
unsafe fn run(l: *mut lua_State, co: *mut lua_State) -> c_int {
    // SAFETY: as in `resume`; `transfer` left room for the flag.
    unsafe {
        let given = transfer(l, co, ffi::lua_gettop(l) - 1);
        let count = given.unwrap_or(1);
        ffi::lua_pushboolean(l, c_int::from(given.is_ok()));
        ffi::lua_insert(l, -count - 1);
        count + 1
    }
}

/// `coroutine.status(co)`.
unsafe extern "C-unwind" fn status(l: *mut lua_State) -> c_int {
    // SAFETY: as in `resume`.
    unsafe {
        let co = ffi::lua_tothread(l, 1);
        if co.is_null() {
            call::answer(l, |_| Err(LuaError::argument(1, "coroutine expected")));
            return ffi::lua_error(l);
        }
        let state = state_of(l, co);
        ffi::lua_pushlstring(l, state.as_ptr().cast(), state.len());
        1
    }
}
