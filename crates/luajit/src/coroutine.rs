//! `Coroutine`: a Lua coroutine that Rust runs.
//!
//! ```text
//!            start(function, args)                resume(args)
//!   idle ────────────────────────▶ runs ◀──────────────────────┐
//!    ▲                              │ │                         │
//!    │   Finished: results on stack │ │ Yielded: values on stack, operation handed over
//!    └──────────────────────────────┘ └────────────────────────▶ suspended
//!                                   │
//!                                   └─▶ Failed: the error value on the stack; dead
//! ```
use std::any::Any;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::rc::Rc;

use crate::convert::{IntoLua, IntoLuaMulti, Light};
use crate::coroutines;
use crate::error::{ErrorKind, LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::host;
use crate::reference::Ref;
use crate::shared::{Idle, Shared};
use crate::stack::{Stack, Thread};
use crate::traceback;
use crate::vm::Use;

/// A coroutine of a VM. Dropping the handle lets it go, suspended or not: it never runs again unless Lua code holds
/// it; one from `Lua::coroutine` that finished goes back to the pool.
pub struct Coroutine {
    pub(crate) shared: Rc<Shared>,
    l: *mut lua_State,
    pub(crate) anchor: c_int,
    pooled: bool,
}

/// How a coroutine stopped.
#[derive(Debug)]
pub enum Resumed {
    /// It waits to be resumed. The operation is what `Call::suspend` left, here or in a coroutine that this one resumed;
    /// none when plain Lua code yielded, and the values yielded are on its stack.
    Yielded(Option<Box<dyn Any>>),
    /// `coroutine._yield()`: it waits for something that it has asked for in another way.
    Parked,
    /// It returned; the results are on its stack.
    Finished,
    /// It is dead. The error comes with the traceback of this coroutine; its value is on the stack.
    Failed(LuaError),
}

/// How `Lua::run` ended.
pub enum Ran {
    /// The function returned. Its first result, if that is a number.
    Finished(Option<f64>),
    /// It did something else.
    Stopped(Coroutine, Resumed),
}

/// An idle coroutine with nothing on its stack.
fn idle(shared: &Shared, main: *mut lua_State) -> LuaResult<Idle> {
    if let Some(idle) = shared.pool.borrow_mut().pop() {
        return Ok(idle);
    }
    // SAFETY: Rust's turn; room is asked for; the reference keeps the coroutine.
    unsafe {
        if ffi::lua_checkstack(main, 4) == 0 {
            return Err(LuaError::memory());
        }
        let l = ffi::lua_newthread(main);
        Ok(Idle { l, anchor: shared.refer(main) })
    }
}

/// Runs a function without arguments on a coroutine from the pool, with `value` lent: see `Lua::run`. It does what
/// `take`, `start` and `drop` of a coroutine do, without what is known to hold.
pub(crate) fn run<T: 'static>(
    shared: &Rc<Shared>,
    function: &Ref,
    value: &T,
    token: usize,
    begin: impl FnOnce(usize),
) -> LuaResult<Ran> {
    let main = shared.ready()?;
    if !Rc::ptr_eq(&function.0.shared, shared) {
        return Err(LuaError::misuse("a value of another VM"));
    }
    let Idle { l, anchor } = idle(shared, main)?;
    let coroutine = || Coroutine { shared: shared.clone(), l, anchor, pooled: true };
    if shared.heap.overdrawn.get() {
        drop(coroutine());
        if shared.depth.get() == 0 {
            shared.heap.settle();
        }
        return Err(LuaError::memory());
    }
    // SAFETY: Rust's turn; an idle coroutine of ours, with room for one value. The function's reference is this VM's.
    unsafe {
        if ffi::free_slots(l) < ROOM && ffi::lua_checkstack(l, ROOM) == 0 {
            drop(coroutine());
            return Err(LuaError::memory());
        }
        shared.push_reference(l, function.0.id);
        if ffi::lua_type(l, 1) != ffi::TFUNCTION {
            drop(coroutine());
            return Err(LuaError::misuse("cannot resume dead coroutine"));
        }
    }
    begin(l.addr());
    let resumed = host::lend(&shared.cells, value, token, || {
        let _turn = shared.turn()?;
        // SAFETY: Lua's turn; there is a function on an idle coroutine.
        Ok(unsafe { ffi::lua_resume(l, 0) })
    });
    let status = match resumed {
        Ok(status) => status,
        Err(error) => {
            drop(coroutine());
            return Err(error);
        }
    };
    shared.heap.relax();
    // SAFETY: it has finished, its results are on its stack; nobody else uses it.
    unsafe {
        if status == ffi::OK && !shared.heap.overdrawn.get() && ffi::globals(l) == shared.globals.get() {
            let number = ffi::lua_type(l, 1) == ffi::TNUMBER;
            let answer = number.then(|| ffi::lua_tonumber(l, 1));
            ffi::lua_settop(l, 0);
            let mut pool = shared.pool.borrow_mut();
            if pool.len() < shared.pool_size.get() {
                pool.push(Idle { l, anchor });
            } else {
                shared.bury(anchor);
            }
            return Ok(Ran::Finished(answer));
        }
    }
    let coroutine = coroutine();
    let resumed = coroutine.outcome(status);
    if let Resumed::Finished = resumed {
        let answer = coroutine.stack(|stack| stack.value(1).as_number())?;
        return Ok(Ran::Finished(answer));
    }
    Ok(Ran::Stopped(coroutine, resumed))
}

/// Slots that a fresh coroutine needs for a function.
const ROOM: c_int = 8;

impl Coroutine {
    pub(crate) fn take(shared: &Rc<Shared>) -> LuaResult<Self> {
        let main = shared.ready()?;
        let Idle { l, anchor } = idle(shared, main)?;
        let coroutine = Self { shared: shared.clone(), l, anchor, pooled: true };
        if shared.heap.overdrawn.get() {
            if shared.depth.get() == 0 {
                shared.heap.settle();
            }
            return Err(LuaError::memory());
        }
        Ok(coroutine)
    }

    /// A number that no other live coroutine of the VM has; `Thread::id` of the same coroutine is equal.
    pub fn id(&self) -> usize {
        self.l.addr()
    }

    fn status(&self) -> c_int {
        // SAFETY: the coroutine is anchored and the VM open, as all callers checked.
        unsafe { ffi::lua_status(self.l) }
    }

    /// Whether it runs, or waits for a coroutine that it resumed.
    pub fn is_active(&self) -> bool {
        if self.shared.main.get().is_null() {
            return false;
        }
        let mut debug = MaybeUninit::uninit();
        // SAFETY: as in `status`; `lua_getstack` fills what it is given. Without status and with a frame it runs.
        self.status() == ffi::OK && unsafe { ffi::lua_getstack(self.l, 0, debug.as_mut_ptr()) } != 0
    }

    /// Whether an error ended it.
    pub fn has_failed(&self) -> bool {
        !self.shared.main.get().is_null() && self.status() > ffi::YIELD
    }

    /// Whether it yielded and waits.
    pub fn is_suspended(&self) -> bool {
        !self.shared.main.get().is_null() && self.status() == ffi::YIELD
    }

    /// Errors unless Rust may use the stack of this coroutine now.
    fn usable(&self) -> LuaResult<()> {
        self.shared.ready()?;
        // When no call into Lua and no loan is under way, nothing runs.
        if self.shared.depth.get() == 0 {
            return Ok(());
        }
        if self.is_active() {
            return Err(LuaError::misuse("the coroutine is running"));
        }
        if self.shared.is_lent(self.l) {
            return Err(LuaError::misuse("the coroutine's stack is in use"));
        }
        Ok(())
    }

    /// Removes the values it yielded or returned.
    pub fn clear(&self) -> LuaResult<()> {
        self.usable()?;
        // SAFETY: usable: idle or suspended, nobody holds its slots.
        unsafe { ffi::lua_settop(self.l, 0) };
        Ok(())
    }

    /// Marks a suspended coroutine as one that waits, so that Lua code sees it running and cannot resume it.
    pub fn park(&self) -> LuaResult<()> {
        self.clear()?;
        self.push(|stack| coroutines::push_marks(stack, false).map(|()| 2))
    }

    /// Marks a coroutine that has finished as one whose results are still to be fetched, with `Stack::push_results`.
    pub fn retire(&self) -> LuaResult<()> {
        self.mark_below(coroutines::ZOMBIE, true)
    }

    /// As `retire`, for a coroutine that failed: its result is the error. After `error(text)`, as upstream, the text
    /// as it was given comes first, and then the message with its position.
    pub fn retire_failed(&self, error: &LuaError) -> LuaResult<()> {
        let given = self.stack(|stack| stack.value(1).as_bytes().map(<[u8]>::to_vec))?;
        let given = given.filter(|given| {
            let prefix = error.message().strip_suffix(given.as_slice());
            error.value().is_none() && prefix.is_some_and(|prefix| prefix.ends_with(b": "))
        });
        self.clear()?;
        self.push(|stack| {
            if let Some(given) = &given {
                stack.push(given)?;
            }
            match error.value() {
                Some(value) => stack.push(value)?,
                None => stack.push(error.message())?,
            }
            Ok(0)
        })?;
        self.mark_below(coroutines::ZOMBIE, false)
    }

    /// Marks a coroutine as one that will not run any more, whatever it is doing.
    pub fn end(&self) -> LuaResult<()> {
        self.clear()?;
        self.mark_below(coroutines::OVER, false)
    }

    /// Whether `end` was called.
    pub fn is_over(&self) -> bool {
        // SAFETY: an open VM's coroutine.
        !self.shared.main.get().is_null() && unsafe { coroutines::mark(self.l) } == Some(coroutines::OVER)
    }

    fn mark_below(&self, mark: usize, flag: bool) -> LuaResult<()> {
        self.usable()?;
        self.push(|stack| {
            stack.push(Light(mark))?;
            stack.push(flag)?;
            // SAFETY: both are on top of a stack that nobody else looks at.
            unsafe {
                ffi::lua_insert(stack.l, 1);
                ffi::lua_insert(stack.l, 1);
            }
            Ok(2)
        })
    }

    /// Lends its stack: to read what it yielded, returned or failed with, or to push what it is resumed with.
    pub fn stack<R>(&self, work: impl for<'s> FnOnce(&mut Stack<'s>) -> R) -> LuaResult<R> {
        self.usable()?;
        let _use = Use::new(&self.shared);
        self.shared.lent.borrow_mut().push(self.l);
        let _lent = Lent(&self.shared);
        // SAFETY: Rust's turn; the stack is ours alone while it is on the list.
        let mut stack = unsafe { Stack::new(self.l, &self.shared, 0) };
        Ok(work(&mut stack))
    }

    /// Runs `function` with `args` from the beginning. Only on a fresh coroutine, or one that finished.
    pub fn start(&self, function: impl IntoLua, args: impl IntoLuaMulti) -> LuaResult<Resumed> {
        self.clear()?;
        if self.status() != ffi::OK {
            return Err(LuaError::misuse("cannot start a coroutine twice"));
        }
        self.push(|stack| {
            stack.push(function)?;
            args.push_all(stack)
        })?;
        self.go()
    }

    /// Goes on after a yield, with `args` as what the yielding call returns.
    pub fn resume(&self, args: impl IntoLuaMulti) -> LuaResult<Resumed> {
        self.clear()?;
        self.push(|stack| args.push_all(stack))?;
        self.go()
    }

    fn push(&self, work: impl FnOnce(&Stack<'_>) -> LuaResult<c_int>) -> LuaResult<()> {
        let _use = Use::new(&self.shared);
        self.shared.lent.borrow_mut().push(self.l);
        let _lent = Lent(&self.shared);
        // SAFETY: Rust's turn; usable, as `clear` found, and ours alone while it is on the list.
        let stack = unsafe { Stack::new(self.l, &self.shared, 0) };
        let pushed = work(&stack).and_then(|_| stack.check_memory());
        if pushed.is_err() {
            // SAFETY: as above.
            unsafe { ffi::lua_settop(self.l, 0) };
        }
        pushed
    }

    /// Runs with what is on the stack: the function and its arguments, or what the yielding call returns.
    pub fn run(&self) -> LuaResult<Resumed> {
        self.usable()?;
        self.go()
    }

    /// Runs with what is on the stack, which is known to be usable.
    fn go(&self) -> LuaResult<Resumed> {
        // SAFETY: usable. `lua_resume` needs a function below the arguments on a fresh coroutine.
        let nargs = unsafe {
            let top = ffi::lua_gettop(self.l);
            match self.status() {
                ffi::YIELD => top,
                ffi::OK if ffi::lua_type(self.l, 1) == ffi::TFUNCTION => top - 1,
                _ => return Err(LuaError::misuse("cannot resume dead coroutine")),
            }
        };
        let status = {
            let _turn = self.shared.turn()?;
            // SAFETY: Lua's turn; checked above.
            unsafe { ffi::lua_resume(self.l, nargs) }
        };
        self.shared.heap.relax();
        Ok(self.outcome(status))
    }

    /// What the status says that a resume has answered.
    fn outcome(&self, status: c_int) -> Resumed {
        match status {
            ffi::OK => Resumed::Finished,
            ffi::YIELD => {
                // Also when nobody waits: it is that of a coroutine that could not wait.
                let wanted = self.shared.wanted.borrow_mut().take();
                // SAFETY: it is suspended.
                match (unsafe { coroutines::mark(self.l) }, wanted) {
                    (Some(coroutines::WAITS), Some(wanted)) => Resumed::Yielded(Some(wanted)),
                    (Some(coroutines::WAITS), None) => Resumed::Parked,
                    _ => Resumed::Yielded(None),
                }
            }
            status => Resumed::Failed(self.failure(status)),
        }
    }

    #[cold]
    fn failure(&self, status: c_int) -> LuaError {
        let _use = Use::new(&self.shared);
        // SAFETY: Rust's turn; the coroutine is dead, its error value on top, and its frames still there to look at.
        unsafe {
            let stack = Stack::new(self.l, &self.shared, 0);
            let error = if stack.top() == 0 {
                LuaError::of(ErrorKind::Runtime, "unknown error")
            } else {
                stack.describe_error_on_main(status)
            };
            // The hook that stops a run leaves no line number behind.
            let place = if error.kind() == ErrorKind::Interrupted { self.shared.stop.place() } else { None };
            let own = place.unwrap_or_else(|| traceback::frames(self.l, 0));
            let mut inner = self.shared.take_failure(error.message()).into_iter();
            let Some(innermost) = inner.next() else { return error.with_traceback(own) };
            let mut error = error.with_traceback(innermost);
            inner.chain([own]).for_each(|frames| error.add_traceback(frames));
            error
        }
    }

    /// The call stack, innermost frame first: `\n\tframe` per frame.
    pub fn traceback(&self) -> LuaResult<String> {
        self.shared.ready()?;
        // SAFETY: Rust's turn; looking at frames changes nothing.
        Ok(unsafe { traceback::frames(self.l, 0) })
    }

    /// Pushes `count` values of another stack, from slot `first` on.
    pub fn push_from(&self, source: &Stack<'_>, first: usize, count: usize) -> LuaResult<()> {
        self.usable()?;
        if source.l == self.l || !std::ptr::eq(source.shared, Rc::as_ptr(&self.shared)) {
            return Err(LuaError::misuse("values can move only between coroutines of one VM"));
        }
        copy(source, first, count, self.l)
    }

    /// Sets the table of globals for functions that this coroutine loads, and `setfenv(0)`.
    pub fn set_globals(&self, globals: impl IntoLua) -> LuaResult<()> {
        let main = self.shared.ready()?;
        let lua = crate::Lua(self.shared.clone());
        lua.with(|stack| {
            stack.push(self)?;
            let environment = stack.put(globals)?;
            if environment.as_table().is_none() {
                return Err(LuaError::misuse("the table of globals must be a table"));
            }
            // SAFETY: the coroutine is below the table on the main stack.
            unsafe { ffi::lua_setfenv(main, -2) };
            stack.forget_room();
            Ok(())
        })
    }
}

/// Copies values to the top of another state of the same VM.
fn copy(source: &Stack<'_>, first: usize, count: usize, to: *mut lua_State) -> LuaResult<()> {
    let count = count.min((source.len() + 1).saturating_sub(first));
    let (Ok(first), Ok(n)) = (c_int::try_from(first), c_int::try_from(count)) else {
        return Err(LuaError::memory());
    };
    source.reserve_many(n)?;
    // SAFETY: Rust's turn; room is asked for on both sides; the indices are within the stack.
    unsafe {
        if ffi::lua_checkstack(to, n + 8) == 0 {
            return Err(LuaError::exactly("stack overflow"));
        }
        for index in first..first + n {
            ffi::lua_pushvalue(source.l, index);
        }
        ffi::lua_xmove(source.l, to, n);
    }
    Ok(())
}

/// Ends the loan of a stack.
struct Lent<'a>(&'a Shared);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.lent.borrow_mut().pop();
    }
}

impl<'s> Stack<'s> {
    /// A handle to a coroutine that Lua code made.
    pub fn coroutine(&self, thread: Thread<'_>) -> LuaResult<Coroutine> {
        let index = self.index_of(thread.0, ffi::TTHREAD)?;
        // SAFETY: a thread at `index`; a spare slot for the reference.
        unsafe {
            let l = ffi::lua_tothread(self.l, index);
            if l == self.shared.main.get() {
                return Err(LuaError::misuse("the main state is no coroutine"));
            }
            ffi::lua_pushvalue(self.l, index);
            let anchor = self.shared.refer(self.l);
            Ok(Coroutine { shared: self.shared.handle(), l, anchor, pooled: false })
        }
    }

    /// A new coroutine, not from the pool, for Lua code to hold: push it with `&Coroutine`.
    pub fn new_coroutine(&self) -> LuaResult<Coroutine> {
        self.reserve()?;
        self.check_memory()?;
        // SAFETY: lenient, room for one value, which the reference then takes off.
        unsafe {
            let l = ffi::lua_newthread(self.l);
            let anchor = self.shared.refer(self.l);
            Ok(Coroutine { shared: self.shared.handle(), l, anchor, pooled: false })
        }
    }

    /// Pushes what a retired coroutine has to give: whether it succeeded, then its results or the error.
    pub fn push_results(&self, retired: &Coroutine) -> LuaResult<()> {
        let l = self.l;
        self.reserve_many(0)?;
        retired.stack(|stack| copy(stack, 2, stack.len(), l))?
    }

    /// The coroutine this stack belongs to; nothing for the main state.
    pub fn current_thread(&self) -> LuaResult<Option<Thread<'s>>> {
        self.reserve()?;
        // SAFETY: room for one value.
        let is_main = unsafe { ffi::lua_pushthread(self.l) } != 0;
        Ok((!is_main).then(|| Thread(self.last())))
    }

    /// Describes the error on top of a dead coroutine, from the main stack: nothing may be called on the dead one.
    fn describe_error_on_main(&self, status: c_int) -> LuaError {
        let lua = self.lua();
        let described = lua.with(|main| {
            copy(self, self.len(), 1, main.l)?;
            Ok(main.describe_error(main.top(), status))
        });
        described.unwrap_or_else(|error| error)
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        let shared = &self.shared;
        let free = self.pooled
            && !shared.main.get().is_null()
            && self.status() == ffi::OK
            && (shared.depth.get() == 0 || !self.is_active())
            && shared.pool.borrow().len() < shared.pool_size.get();
        if !free || shared.heap.strict.get() || shared.is_lent(self.l) {
            shared.bury(self.anchor);
            return;
        }
        // SAFETY: Rust's turn; it is idle and nobody uses its stack. Globals that the last run set do not stay.
        unsafe {
            ffi::lua_settop(self.l, 0);
            if ffi::globals(self.l) != shared.globals.get() {
                let main = shared.main.get();
                if ffi::lua_checkstack(main, 1) == 0 {
                    shared.bury(self.anchor);
                    return;
                }
                ffi::lua_pushvalue(main, ffi::GLOBALS);
                ffi::lua_xmove(main, self.l, 1);
                ffi::lua_replace(self.l, ffi::GLOBALS);
            }
        }
        shared.pool.borrow_mut().push(Idle { l: self.l, anchor: self.anchor });
    }
}
