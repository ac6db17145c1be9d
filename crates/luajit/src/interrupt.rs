//! Stopping a script that runs away.
//!
//! `lua_sethook` may be called from a signal handler, so the thread that wants to stop a run sends a signal (`SIGURG`,
//! which is ignored where nobody handles it) to the VM's thread, whose handler sets a hook; at the next instruction
//! the hook raises an error. Compiled code does not look for hooks in an ordinary build of LuaJIT; ours is built
//! with `LUAJIT_ENABLE_CHECKHOOK`, so that each trace checks once per round (two instructions) and leaves to the
//! interpreter. The hook stays until the run is over: a script that catches the error gets it again.
//!
//! A run that is inside a C function (a long `string.rep`, a system call) stops when that function returns.
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Once};

use crate::call;
use crate::error::LuaError;
use crate::ffi::{self, lua_Debug, lua_State};

/// Shared between the VM's thread, its signal handler and the threads that may stop it.
#[derive(Default)]
struct Flags {
    /// Counts beginnings and ends of runs: odd while one is under way.
    run: AtomicU64,
    /// The run to be stopped.
    unwanted: AtomicU64,
    /// The hook is set.
    armed: AtomicBool,
}

/// A VM's side of it.
pub(crate) struct Stop {
    flags: Arc<Flags>,
    /// Calls from Rust into Lua, one inside the other.
    nested: Cell<u32>,
    /// The hook raised its error in the last run.
    fired: Cell<bool>,
    /// What ran on this thread before: another VM, or nothing.
    before: Cell<*const Self>,
    main: Cell<*mut lua_State>,
    /// Where the hook found the run.
    place: RefCell<Option<String>>,
}

thread_local! {
    /// What the signal handler acts on: the VM that runs on this thread.
    static TARGET: Cell<*const Stop> = const { Cell::new(ptr::null()) };
}

/// Whether a VM runs on this thread.
pub(crate) fn is_running() -> bool {
    !TARGET.get().is_null()
}

static HANDLER: Once = Once::new();

/// Stops what a VM runs, from any thread.
#[derive(Clone)]
pub struct Interrupter {
    flags: Arc<Flags>,
    thread: libc::pid_t,
}

impl Interrupter {
    /// The number of the run under way; none when the VM runs nothing. A watchdog that sees the same number twice,
    /// some time apart, knows how long that run takes.
    pub fn run(&self) -> Option<u64> {
        let run = self.flags.run.load(Ordering::Acquire);
        (run % 2 == 1).then_some(run)
    }

    /// Stops that run with an error; nothing happens if it is over. May be repeated.
    pub fn stop(&self, run: u64) {
        self.flags.unwanted.store(run, Ordering::Release);
        // SAFETY: sends a signal that this process handles; a thread that is gone is no thread of ours.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, libc::SIGURG) };
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            flags: Arc::default(),
            nested: Cell::new(0),
            fired: Cell::new(false),
            before: Cell::new(ptr::null()),
            main: Cell::new(ptr::null_mut()),
            place: RefCell::default(),
        }
    }
}

impl Stop {
    /// Makes this thread ready to be interrupted.
    pub(crate) fn interrupter(&self) -> Interrupter {
        HANDLER.call_once(install);
        // SAFETY: unblocks one signal in this thread; the set is initialised before use.
        let thread = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGURG);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
            libc::gettid()
        };
        Interrupter { flags: self.flags.clone(), thread }
    }

    /// A call into Lua begins.
    #[inline]
    pub(crate) fn begin(&self, main: *mut lua_State) {
        let nested = self.nested.get();
        self.nested.set(nested + 1);
        if nested == 0 {
            self.fired.set(false);
            self.main.set(main);
            self.before.set(TARGET.replace(self));
            compiler_fence(Ordering::SeqCst);
            // Only this thread writes it.
            let run = self.flags.run.load(Ordering::Relaxed);
            self.flags.run.store(run + 1, Ordering::Release);
        }
    }

    /// A call into Lua is over.
    #[inline]
    pub(crate) fn end(&self) {
        let nested = self.nested.get() - 1;
        self.nested.set(nested);
        if nested == 0 {
            let run = self.flags.run.load(Ordering::Relaxed);
            self.flags.run.store(run + 1, Ordering::Release);
            // From here on the handler finds no run; what it armed before is seen below.
            compiler_fence(Ordering::SeqCst);
            TARGET.set(self.before.get());
            if self.flags.armed.load(Ordering::Relaxed) {
                self.flags.armed.store(false, Ordering::Relaxed);
                // SAFETY: a live state of this thread.
                unsafe { ffi::lua_sethook(self.main.get(), None, 0, 0) };
            }
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.fired.get()
    }

    /// The call stack where the last run was stopped.
    pub(crate) fn place(&self) -> Option<String> {
        self.place.borrow().clone()
    }
}

fn install() {
    // SAFETY: the struct is valid when zeroed; the handler is safe in signal context.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut());
    }
}

/// Runs on the thread that was sent the signal, at any instruction.
extern "C" fn on_signal(_signal: c_int) {
    // SAFETY: null, or set for the length of a run, which the VM outlives.
    let Some(stop) = (unsafe { TARGET.get().as_ref() }) else { return };
    let flags = &*stop.flags;
    let run = flags.run.load(Ordering::Relaxed);
    if run % 2 == 1 && flags.unwanted.load(Ordering::Acquire) == run {
        flags.armed.store(true, Ordering::Relaxed);
        // Cleared first, so that a repeated signal rewrites LuaJIT's dispatch table even if the last one came while
        // LuaJIT itself was rewriting it.
        // SAFETY: a live state of this thread; `lua_sethook` is made to be called from signal handlers.
        unsafe {
            ffi::lua_sethook(stop.main.get(), None, 0, 0);
            ffi::lua_sethook(stop.main.get(), Some(on_hook), ffi::MASKCOUNT, 1);
        }
    }
}

unsafe extern "C-unwind" fn on_hook(l: *mut lua_State, _debug: *mut lua_Debug) {
    // SAFETY: LuaJIT calls with a live state and room as for a C function; after the verdict nothing is owned.
    unsafe {
        call::answer(l, |call| {
            let stop = &call.shared.stop;
            if !stop.fired.replace(true) {
                *stop.place.borrow_mut() = Some(crate::traceback::frames(l, 0));
            }
            let mut message = crate::traceback::position(l, 0);
            message.extend_from_slice(b"script interrupted: it ran for too long");
            Err(LuaError::exactly(message))
        });
        ffi::lua_error(l);
    }
}
