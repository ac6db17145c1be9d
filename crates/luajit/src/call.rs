//! Rust functions that Lua calls.
//!
//! A function runs inside `catch_unwind` while its VM is lenient, so no Lua error arises in it. What it answers (count
//! of results, a yield, an error value on the stack) leaves as a plain number, and the frame that then yields or
//! raises owns nothing.
use std::any::Any;
use std::ffi::c_int;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::convert::{FromLua, IntoLuaMulti};
use crate::error::{ErrorKind, LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::shared::Shared;
use crate::stack::{Function, Stack};
use crate::userdata;
use crate::{coroutines, host, traceback};

/// One call of a Rust function: its arguments (the stack's first slots) and the stack to work on.
pub struct Call<'c> {
    stack: Stack<'c>,
    nargs: c_int,
}

/// What a function answers; made by `Call::ret` and `Call::suspend`.
pub struct Return {
    count: c_int,
    operation: Option<Box<dyn Any>>,
    suspends: bool,
}

/// LuaJIT gives a C function this many slots beyond its arguments; the rest is spare (see `stack`).
const ROOM: c_int = 20 - 8;

/// The verdict on a call: a count of results, or one of these.
const RAISE: c_int = -1;
/// Yields of n values are `YIELD - n`.
const YIELD: c_int = -2;

impl<'c> Deref for Call<'c> {
    type Target = Stack<'c>;
    #[inline]
    fn deref(&self) -> &Stack<'c> {
        &self.stack
    }
}

impl<'c> DerefMut for Call<'c> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Stack<'c> {
        &mut self.stack
    }
}

impl<'c> Call<'c> {
    /// How many arguments were given.
    #[inline]
    pub fn args_len(&self) -> usize {
        self.nargs.try_into().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn nargs(&self) -> u32 {
        self.nargs.cast_unsigned()
    }

    /// The n-th argument, counted from 1.
    #[inline]
    pub fn arg<T: FromLua<'c>>(&self, n: u32) -> LuaResult<T> {
        let n = n.max(1);
        // Beyond the arguments there may be values of our own.
        let index = c_int::try_from(n).ok().filter(|n| *n <= self.nargs).unwrap_or(c_int::MAX);
        T::from_lua(&self.stack, index).ok_or_else(|| self.wrong_type(n, T::EXPECTED))
    }

    /// All arguments, as a tuple.
    #[inline]
    pub fn args<T: FromArgs<'c>>(&self) -> LuaResult<T> {
        T::from_args(self)
    }

    #[cold]
    fn wrong_type(&self, n: u32, expected: &str) -> LuaError {
        let index = c_int::try_from(n).ok().filter(|n| *n <= self.nargs).unwrap_or(c_int::MAX);
        LuaError::argument(n, format!("{expected} expected, got {}", self.stack.type_name(index)))
    }

    /// Answers these values.
    #[inline]
    pub fn ret(&self, values: impl IntoLuaMulti) -> LuaResult<Return> {
        Ok(Return { count: values.push_all(&self.stack)?, operation: None, suspends: false })
    }

    /// Answers the values from this slot to the top.
    #[inline]
    pub fn ret_from(&self, first: usize) -> Return {
        let count = (self.stack.len() + 1).saturating_sub(first);
        Return { count: count.try_into().unwrap_or(0), operation: None, suspends: false }
    }

    /// Where the function stands that called.
    pub fn caller(&self) -> Option<traceback::Place> {
        // SAFETY: a live state in Rust's turn.
        unsafe { traceback::place(self.stack.l, 1) }
    }

    /// Whether this call may suspend: no C function, and no call from Rust, is between here and the resume.
    pub fn can_suspend(&self) -> bool {
        // SAFETY: reads the state of a live coroutine.
        unsafe { ffi::lua_isyieldable(self.stack.l) != 0 }
    }

    /// Yields, through all coroutines that Lua code has resumed, to Rust, and leaves the operation for it to find. What it
    /// resumes with is what this call returns in Lua. The values are on the stack of the coroutine that called, after two
    /// of our own.
    pub fn suspend<O: Any>(&self, operation: O, values: impl IntoLuaMulti) -> LuaResult<Return> {
        self.suspend_boxed(Box::new(operation), values)
    }

    /// As `suspend`, with an operation that is boxed already.
    pub fn suspend_boxed(&self, operation: Box<dyn Any>, values: impl IntoLuaMulti) -> LuaResult<Return> {
        if !self.can_suspend() {
            return Err(LuaError::exactly("attempt to yield across C-call boundary"));
        }
        coroutines::push_marks(&self.stack, false)?;
        let count = values.push_all(&self.stack)?;
        Ok(Return { count: count + 2, operation: Some(operation), suspends: true })
    }

    /// As `suspend`, for what the host knows already: whoever resumed finds the coroutine parked.
    #[inline]
    pub fn park(&self) -> LuaResult<Return> {
        if !self.can_suspend() {
            return Err(LuaError::exactly("attempt to yield across C-call boundary"));
        }
        coroutines::push_marks(&self.stack, false)?;
        Ok(Return { count: 2, operation: None, suspends: true })
    }

    /// Yields these values without an operation, as `coroutine.yield` does.
    pub fn yield_values(&self, values: impl IntoLuaMulti) -> LuaResult<Return> {
        if !self.can_suspend() {
            return Err(LuaError::exactly("attempt to yield across C-call boundary"));
        }
        Ok(Return { count: values.push_all(&self.stack)?, operation: None, suspends: true })
    }

    /// Reads what the host lent for this run (see `Lua::lend`), if it is a `T`.
    #[inline]
    pub fn host<T: 'static, R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        host::borrowed(read)
    }
}

/// Tuples of arguments.
pub trait FromArgs<'c>: Sized {
    fn from_args(call: &Call<'c>) -> LuaResult<Self>;
}

macro_rules! from_args {
    ($(($($name:ident $n:literal)*))*) => {$(
        impl<'c, $($name: FromLua<'c>),*> FromArgs<'c> for ($($name,)*) {
            #[inline]
            fn from_args(call: &Call<'c>) -> LuaResult<Self> {
                Ok(($(call.arg::<$name>($n)?,)*))
            }
        }
    )*};
}
from_args! {
    (A 1) (A 1 B 2) (A 1 B 2 C 3) (A 1 B 2 C 3 D 4) (A 1 B 2 C 3 D 4 E 5) (A 1 B 2 C 3 D 4 E 5 F 6)
}

/// A Rust function without data of its own, to be kept in tables of functions. Called faster than one with data.
#[derive(Clone, Copy)]
pub struct Native(ffi::CFunction);

impl Native {
    /// Wraps a function item, or a closure that captures nothing.
    pub const fn new<F>(f: F) -> Self
    where
        F: Fn(&mut Call<'_>) -> LuaResult<Return> + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "captures something, or is a pointer: use function_with") };
        let _ = f;
        Self(plain::<F>)
    }
}

impl<'s> Stack<'s> {
    /// A Lua function that calls what was wrapped.
    pub fn native(&self, native: Native) -> LuaResult<Function<'s>> {
        self.reserve()?;
        self.check_memory()?;
        // SAFETY: lenient, room for one value.
        unsafe { ffi::lua_pushcclosure(self.l, native.0, 0) };
        Ok(Function(self.last()))
    }

    /// A Lua function that calls `f`: a function item or a closure that captures nothing.
    pub fn function<F>(&self, f: F) -> LuaResult<Function<'s>>
    where
        F: Fn(&mut Call<'_>) -> LuaResult<Return> + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "captures something: use function_with") };
        let _ = f;
        self.reserve()?;
        self.check_memory()?;
        // SAFETY: lenient, room for one value.
        unsafe { ffi::lua_pushcclosure(self.l, plain::<F>, 0) };
        Ok(Function(self.last()))
    }

    /// A Lua function that calls `f` with `data`, which it owns.
    pub fn function_with<T, F>(&self, data: T, f: F) -> LuaResult<Function<'s>>
    where
        T: 'static,
        F: Fn(&mut Call<'_>, &T) -> LuaResult<Return> + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "captures something: put it into data") };
        let _ = f;
        self.userdata(data)?;
        // SAFETY: lenient; the userdata on top becomes the upvalue, the function takes its slot.
        unsafe { ffi::lua_pushcclosure(self.l, with_data::<T, F>, 1) };
        Ok(Function(self.last()))
    }
}

unsafe extern "C-unwind" fn plain<F>(l: *mut lua_State) -> c_int
where
    F: Fn(&mut Call<'_>) -> LuaResult<Return> + Copy + 'static,
{
    // SAFETY: Lua called us with a live state; `F` has no bytes, so any aligned address holds one.
    unsafe {
        let verdict = answer(l, |call| NonNull::<F>::dangling().as_ref()(call));
        leave(l, verdict)
    }
}

unsafe extern "C-unwind" fn with_data<T, F>(l: *mut lua_State) -> c_int
where
    T: 'static,
    F: Fn(&mut Call<'_>, &T) -> LuaResult<Return> + Copy + 'static,
{
    // SAFETY: as in `plain`; the upvalue's type is checked, because `debug.setupvalue` can change it.
    unsafe {
        let verdict = answer(l, |call| match userdata::borrow_upvalue::<T>(l) {
            Some(data) => NonNull::<F>::dangling().as_ref()(call, &data),
            None => Err(LuaError::new("the function's data is gone")),
        });
        leave(l, verdict)
    }
}

/// Returns, yields or raises. Owns nothing, because the last two may not come back.
#[inline(always)]
unsafe fn leave(l: *mut lua_State, verdict: c_int) -> c_int {
    // SAFETY: the caller is a function called by Lua; `answer` left what the verdict says on the stack.
    unsafe {
        match verdict {
            0.. => verdict,
            RAISE => ffi::lua_error(l),
            _ => ffi::lua_yield(l, YIELD - verdict),
        }
    }
}

/// Rust's turn: runs the function and says how to leave.
#[inline]
pub(crate) unsafe fn answer<'c>(
    l: *mut lua_State,
    f: impl FnOnce(&mut Call<'c>) -> LuaResult<Return>,
) -> c_int {
    // SAFETY: Lua called with `l`, a live state, and waits for us.
    let shared: &'c Shared = unsafe { Shared::of(l) };
    let was = shared.heap.strict.replace(false);
    // SAFETY: LuaJIT grants 20 slots beyond the arguments; it is Rust's turn until this returns.
    let mut call = unsafe { Call { stack: Stack::new(l, shared, ROOM), nargs: ffi::lua_gettop(l) } };
    let mut verdict = match catch_unwind(AssertUnwindSafe(|| f(&mut call))) {
        Ok(Ok(Return { count, operation: None, suspends: false })) => count.min(call.stack.top()),
        Ok(Ok(given)) => suspend(&call, given),
        Ok(Err(error)) => raise(&call, &error),
        Err(panic) => raise_panic(&call, panic),
    };
    if shared.heap.overdrawn.get() && was && shared.heap.is_exhausted(l) {
        verdict = raise_memory(&call);
    }
    shared.heap.strict.set(was);
    verdict
}

fn suspend(call: &Call<'_>, given: Return) -> c_int {
    let count = given.count.min(call.stack.top());
    *call.stack.shared.wanted.borrow_mut() = given.operation;
    YIELD - count
}

#[cold]
fn raise(call: &Call<'_>, error: &LuaError) -> c_int {
    let stack = &call.stack;
    // SAFETY: a live state in Rust's turn.
    let position = |level| unsafe { traceback::position(stack.l, level) };
    let pushed = match (error.value(), error.kind()) {
        (Some(value), _) => stack.push(value),
        (None, ErrorKind::Argument(n)) => {
            let mut message = position(1);
            // SAFETY: as above.
            message.extend(unsafe { traceback::bad_argument(stack.l, n, error.message()) });
            stack.push(message)
        }
        (None, _) if error.is_located() => stack.push([&position(1), error.message()].concat()),
        (None, _) => stack.push(error.message()),
    };
    if pushed.is_err() { raise_memory(call) } else { RAISE }
}

#[cold]
fn raise_panic(call: &Call<'_>, panic: Box<dyn Any + Send>) -> c_int {
    let shared = call.stack.shared;
    shared.panics.set(shared.panics.get() + 1);
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    // A payload may panic when dropped.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
    raise(call, &LuaError::new(format!("internal error: panic: {text}")))
}

#[cold]
fn raise_memory(call: &Call<'_>) -> c_int {
    call.stack.shared.heap.settle();
    // A yield that is not going to happen waits for nothing.
    call.stack.shared.wanted.borrow_mut().take();
    // SAFETY: spare slots are there, and lenient, so this raises nothing. LuaJIT keeps this string for ever, so that
    // it takes no memory either.
    unsafe {
        let message = b"not enough memory";
        ffi::lua_pushlstring(call.stack.l, message.as_ptr().cast(), message.len());
    }
    RAISE
}
