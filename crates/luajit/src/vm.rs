//! `Vm`: a Lua state and its life; `Lua`: the handle through which all else goes.
use std::ffi::c_int;
use std::ops::Deref;
use std::rc::Rc;

use crate::call;
use crate::coroutine::{self, Coroutine, Ran};
use crate::coroutines;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::interrupt::Interrupter;
use crate::reference::Ref;
use crate::shared::{Helpers, Shared};
use crate::stack::{Cut, Stack};
use crate::{extras, guards, host, modules, panics, traceback};

/// How a VM is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most memory the VM may hold. Past it Lua code gets "not enough memory".
    pub memory_limit: Option<usize>,
    /// Whether hot code is compiled.
    pub jit: bool,
    /// How many finished coroutines wait for their next use.
    pub coroutine_pool: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_limit: None, jit: true, coroutine_pool: 128 }
    }
}

/// A Lua VM with the standard libraries. Dropping it closes it; values and handles that outlive it answer errors.
pub struct Vm(Lua);

/// A handle to a VM.
#[derive(Clone)]
pub struct Lua(pub(crate) Rc<Shared>);

impl Deref for Vm {
    type Target = Lua;
    fn deref(&self) -> &Lua {
        &self.0
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let shared = &self.0.0;
        if shared.depth.get() > 0 {
            // Closed from within its own code: what is running still needs the state, so it stays for ever.
            std::mem::forget(self.0.clone());
            return;
        }
        let main = shared.main.get();
        shared.pool.borrow_mut().clear();
        // SAFETY: nothing runs and nothing is borrowed (depth is 0). Finalizers run Rust's turn through callbacks; they
        // find the VM open. Handles find it closed afterwards.
        unsafe { ffi::lua_close(main) };
        shared.main.set(std::ptr::null_mut());
    }
}

/// Counts a use of the stacks, during which the VM is not closed.
pub(crate) struct Use<'a>(&'a Shared);

impl<'a> Use<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        shared.depth.set(shared.depth.get() + 1);
        Self(shared)
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let depth = self.0.depth.get() - 1;
        self.0.depth.set(depth);
        if depth == 0 {
            self.0.heap.settle();
        }
    }
}

impl Vm {
    /// Makes a VM, on the thread that will use it.
    pub fn new(options: &Options) -> LuaResult<Self> {
        panics::install();
        let shared = Shared::new(options.memory_limit);
        let main = shared.open().ok_or_else(LuaError::memory)?;
        let vm = Self(Lua(shared));
        vm.0.0.pool_size.set(options.coroutine_pool);
        vm.0.0.helpers.set(helpers(&vm.0.0, main));
        vm.with(|stack| {
            // SAFETY: room is there for a function; run under protection.
            unsafe { ffi::lua_pushcclosure(stack.l, open_libraries, 0) };
            stack.protected(0, 0, 0)?;
            // SAFETY: reads the address of the table of globals.
            unsafe {
                ffi::lua_pushvalue(stack.l, ffi::GLOBALS);
                stack.shared.globals.set(ffi::lua_topointer(stack.l, -1));
                ffi::pop(stack.l, 1);
            }
            guards::install(stack)?;
            coroutines::install(stack)?;
            modules::install(stack)?;
            extras::install(stack)
        })?;
        vm.set_jit(options.jit)?;
        Ok(vm)
    }
}

impl Lua {
    /// Lends the main stack to `work`, and afterwards removes what it pushed.
    pub fn with<R>(&self, work: impl for<'s> FnOnce(&mut Stack<'s>) -> LuaResult<R>) -> LuaResult<R> {
        let main = self.0.ready()?;
        let _use = Use::new(&self.0);
        // SAFETY: Rust's turn, on a live state.
        let _cut = Cut { l: main, top: unsafe { ffi::lua_gettop(main) } };
        // SAFETY: nothing is known to be free yet, so the first push asks.
        let mut stack = unsafe { Stack::new(main, &self.0, 0) };
        stack.reserve_many(0)?;
        let answer = work(&mut stack)?;
        if self.0.depth.get() == 1 {
            stack.check_memory()?;
        }
        Ok(answer)
    }

    /// Lends `value` to the functions that Lua calls while `run` runs (`Call::host`, `raw::host`). `token` is what
    /// `thread.exdata()` shows, as a pointer; 0 shows NULL.
    #[inline]
    pub fn lend<T: 'static, R>(&self, value: &T, token: usize, run: impl FnOnce() -> R) -> R {
        host::lend(&self.0.cells, value, token, run)
    }

    /// A coroutine to run a function on: one from the pool, or a new one.
    pub fn coroutine(&self) -> LuaResult<Coroutine> {
        Coroutine::take(&self.0)
    }

    /// Runs a function without arguments on a coroutine from the pool, while `value` is lent as in `lend`. `begin` gets the
    /// coroutine's number before it runs. As `coroutine` and `start`, for code of which most just returns.
    pub fn run<T: 'static>(
        &self,
        function: &Ref,
        value: &T,
        token: usize,
        begin: impl FnOnce(usize),
    ) -> LuaResult<Ran> {
        coroutine::run(&self.0, function, value, token, begin)
    }

    /// Bytes the VM holds.
    pub fn memory_used(&self) -> usize {
        self.0.heap.used()
    }

    pub fn set_memory_limit(&self, limit: Option<usize>) {
        self.0.heap.set_limit(limit);
    }

    /// Collects all garbage.
    pub fn collect(&self) -> LuaResult<()> {
        self.gc(ffi::GCCOLLECT, 0)?;
        Ok(())
    }

    /// Does a step of collection, as if `kibibytes` had been allocated. True when it ended a cycle.
    pub fn collect_step(&self, kibibytes: u32) -> LuaResult<bool> {
        Ok(self.gc(ffi::GCSTEP, kibibytes.try_into().unwrap_or(c_int::MAX))? == 1)
    }

    /// `collectgarbage("setpause", percent)`; answers the old value.
    pub fn set_gc_pause(&self, percent: u32) -> LuaResult<i32> {
        self.gc(ffi::GCSETPAUSE, percent.try_into().unwrap_or(c_int::MAX))
    }

    fn gc(&self, what: c_int, data: c_int) -> LuaResult<c_int> {
        let main = self.0.ready()?;
        let _use = Use::new(&self.0);
        // SAFETY: Rust's turn; finalizers' errors are LuaJIT's to catch.
        Ok(unsafe { ffi::lua_gc(main, what, data) })
    }

    /// Switches compilation on or off for the whole VM.
    pub fn set_jit(&self, on: bool) -> LuaResult<()> {
        const ENGINE: c_int = 0;
        const ON: c_int = 0x100;
        let main = self.0.ready()?;
        // SAFETY: Rust's turn.
        unsafe { ffi::luaJIT_setmode(main, 0, ENGINE | if on { ON } else { 0 }) };
        Ok(())
    }

    /// How many panics of Rust functions were turned into Lua errors.
    pub fn panics(&self) -> u64 {
        self.0.panics.get()
    }

    /// A handle with which another thread can stop what this VM runs.
    pub fn interrupter(&self) -> LuaResult<Interrupter> {
        self.0.ready()?;
        Ok(self.0.stop.interrupter())
    }

    /// Whether two handles mean the same VM.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// `luaL_openlibs` under protection.
unsafe extern "C-unwind" fn open_libraries(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us, protected.
    unsafe { ffi::luaL_openlibs(l) };
    0
}

unsafe extern "C-unwind" fn get(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a table and a key, protected.
    unsafe { ffi::lua_gettable(l, 1) };
    1
}

unsafe extern "C-unwind" fn set(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a table, a key and a value, protected.
    unsafe { ffi::lua_settable(l, 1) };
    0
}

unsafe extern "C-unwind" fn next(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a table and a key, protected.
    unsafe { if ffi::lua_next(l, 1) != 0 { 2 } else { 0 } }
}

unsafe extern "C-unwind" fn describe(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a value, protected.
    unsafe { ffi::luaL_callmeta(l, 1, c"__tostring".as_ptr()) }
}

unsafe extern "C-unwind" fn light(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a number, protected.
    unsafe {
        let address = ffi::lua_tonumber(l, 1) as usize;
        ffi::lua_pushlightuserdata(l, std::ptr::without_provenance_mut(address));
    }
    1
}

/// The message handler: notes the traceback and passes the error on unchanged.
unsafe extern "C-unwind" fn handler(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with the error value.
    unsafe {
        call::answer(l, |call| {
            let frames = traceback::frames(call.l, 1);
            *call.shared.traceback.borrow_mut() = Some(frames);
            Ok(call.ret_from(1))
        })
        .max(0)
    }
}

fn helpers(shared: &Shared, main: *mut lua_State) -> Helpers {
    let refer = |function: ffi::CFunction| {
        // SAFETY: Rust's turn, on a fresh state with room.
        unsafe {
            ffi::lua_pushcclosure(main, function, 0);
            shared.refer(main)
        }
    };
    Helpers {
        get: refer(get),
        set: refer(set),
        next: refer(next),
        describe: refer(describe),
        light: refer(light),
        handler: refer(handler),
    }
}
