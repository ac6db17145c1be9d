//! The VM's allocator: mimalloc, counted and limited.
//!
//! It is called directly, not through `std::alloc`: after a failed allocation LuaJIT may free a block with a smaller
//! size than it asked for (closures whose upvalues did not fit), which the allocator of a Rust program may not see.
//!
//! While Lua code runs the limit is strict: past it an allocation fails and Lua raises "not enough memory". While Rust
//! code runs it is lenient: every allocation is granted, and passing the limit is noted instead. So the C functions
//! whose only error is "not enough memory" cannot raise there, and Rust needs no protected call around each string it
//! pushes. A noted overdraft fails the next operation and, at the latest, the callback as a whole: it is at most one
//! string or table. (When the system itself has no memory, Rust aborts anyway.)
//!
//! LuaJIT begins a cycle of collection when the heap has doubled. A small heap would be walked all the time, so it gets
//! some garbage to begin with (`SLACK`), unless the program has a pause of its own.
//!
//! LuaJIT collects nothing when an allocation fails, and its collector lets the heap double between cycles. With a
//! limit that would waste half of it, so each time usage passes a mark (three quarters of the limit, then halves of
//! what is left) the collector is asked for a whole cycle at its next safe point.
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

use libmimalloc_sys::{mi_free, mi_malloc, mi_realloc};

use crate::ffi::{self, lua_State};

/// Collector settings that LuaJIT starts with.
const STEP_MULTIPLIER: i32 = 200;
/// A step multiplier of zero means that one step is a whole cycle.
const WHOLE_CYCLE: i32 = 0;
const SMALLEST_MARK: usize = 64 * 1024;
/// The pause between cycles that LuaJIT starts with: the heap's size, in percent of what is alive, at which one begins.
const PAUSE: i32 = 200;
/// The longest one set here.
const LONGEST_PAUSE: i32 = 500;
/// So much garbage there may be at least before a cycle begins.
const SLACK: usize = 4 * 1024 * 1024;
/// After so many runs the pause is set anew.
const RUNS: u32 = 4096;

pub(crate) struct Heap {
    used: Cell<usize>,
    limit: Cell<usize>,
    /// Usage at which a collection is asked for next.
    mark: Cell<usize>,
    pressed: Cell<bool>,
    /// Lua code is running: past the limit, allocations fail.
    pub(crate) strict: Cell<bool>,
    /// The limit was passed while lenient.
    pub(crate) overdrawn: Cell<bool>,
    /// A collection was tried for this overdraft.
    collected: Cell<bool>,
    /// The main state once it is complete, for the collector's settings.
    pub(crate) main: Cell<*mut lua_State>,
    /// How many runs until the pause is looked at.
    runs: Cell<u32>,
    /// The smallest size after a run since then: about what is alive.
    smallest: Cell<usize>,
    /// The pause as it was left; 0 when the program has set one.
    pause: Cell<i32>,
}

impl Heap {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        Self {
            used: Cell::new(0),
            limit: Cell::new(limit),
            mark: Cell::new(limit - limit / 4),
            pressed: Cell::new(false),
            strict: Cell::new(true),
            overdrawn: Cell::new(false),
            collected: Cell::new(false),
            main: Cell::new(ptr::null_mut()),
            runs: Cell::new(RUNS),
            smallest: Cell::new(usize::MAX),
            pause: Cell::new(PAUSE),
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        let limit = limit.unwrap_or(usize::MAX);
        self.limit.set(limit);
        self.mark.set(limit - limit / 4);
    }

    /// Whether `size` more bytes stay within the limit; large pushes ask before they allocate.
    #[inline]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.used.get().saturating_add(size) <= self.limit.get()
    }

    /// Whether an overdraft stands, after a collection if need be. Only in Rust's turn.
    #[cold]
    pub(crate) fn is_exhausted(&self, l: *mut lua_State) -> bool {
        if !self.has_room(0) && !self.collected.replace(true) {
            // SAFETY: Rust's turn, on a live state.
            unsafe { ffi::lua_gc(l, ffi::GCCOLLECT, 0) };
        }
        let exhausted = !self.has_room(0);
        if !exhausted {
            self.settle();
        }
        exhausted
    }

    /// Forgets an overdraft.
    pub(crate) fn settle(&self) {
        self.overdrawn.set(false);
        self.collected.set(false);
    }

    /// Back to the collector's own pace once the pressure is gone. Called when Lua code has returned to Rust.
    #[inline]
    pub(crate) fn relax(&self) {
        if self.pressed.get() {
            self.relax_now();
        }
        self.smallest.set(self.smallest.get().min(self.used.get()));
        let runs = self.runs.get() - 1;
        self.runs.set(runs);
        if runs == 0 {
            self.pace();
        }
    }

    /// Sets the pause by what is alive.
    #[cold]
    fn pace(&self) {
        self.runs.set(RUNS);
        let alive = self.smallest.replace(usize::MAX).max(1);
        let known = self.pause.get();
        if known == 0 {
            return;
        }
        let percent = 100 + i32::try_from(SLACK.saturating_mul(100) / alive).unwrap_or(LONGEST_PAUSE);
        let pause = percent.clamp(PAUSE, LONGEST_PAUSE);
        let main = self.main.get();
        // SAFETY: stores a number in the global state; the main state lives as long as the heap is used. What was there is
        // the answer: another number is the program's, and stays.
        unsafe {
            let before = ffi::lua_gc(main, ffi::GCSETPAUSE, pause);
            if before != known {
                ffi::lua_gc(main, ffi::GCSETPAUSE, before);
                self.pause.set(0);
                return;
            }
        }
        self.pause.set(pause);
    }

    #[cold]
    fn relax_now(&self) {
        let limit = self.limit.get();
        let first = limit - limit / 4;
        if self.used.get() > limit - limit / 8 {
            // So that the next run, or the compiler, does not start at the limit because of garbage.
            // SAFETY: Rust's turn; the main state lives as long as the heap is used.
            unsafe { ffi::lua_gc(self.main.get(), ffi::GCCOLLECT, 0) };
        }
        if self.used.get() < first / 4 * 3 {
            self.pressed.set(false);
            self.mark.set(first);
            // SAFETY: sets a number in the global state; the main state lives as long as the heap is used.
            unsafe { ffi::lua_gc(self.main.get(), ffi::GCSETSTEPMUL, STEP_MULTIPLIER) };
        }
    }

    #[cold]
    fn press(&self) {
        let (used, limit) = (self.used.get(), self.limit.get());
        self.mark.set((used + (limit.saturating_sub(used) / 2).max(SMALLEST_MARK)).min(limit));
        let main = self.main.get();
        if main.is_null() {
            return;
        }
        self.pressed.set(true);
        // SAFETY: both calls only store numbers (the collector's threshold and pace), which is safe even from within
        // an allocation; the collector runs later, where LuaJIT checks the threshold.
        unsafe {
            ffi::lua_gc(main, ffi::GCSETSTEPMUL, WHOLE_CYCLE);
            ffi::lua_gc(main, ffi::GCRESTART, 0);
        }
    }

    /// Counts a change of size; false means that it is refused.
    #[inline]
    fn charge(&self, old: usize, new: usize) -> bool {
        let used = self.used.get().wrapping_sub(old).wrapping_add(new);
        if used > self.mark.get() && new > old {
            if used > self.limit.get() {
                if self.strict.get() {
                    // Whoever catches the error gets a collection first.
                    self.press();
                    return false;
                }
                self.overdrawn.set(true);
            }
            self.used.set(used);
            self.press();
        }
        self.used.set(used);
        true
    }
}

/// LuaJIT's allocation function.
///
/// # Safety
/// `heap` points to a live `Heap`; `pointer` is null or came from here with size `old`.
pub(crate) unsafe extern "C" fn allocate(
    heap: *mut c_void,
    pointer: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    let heap = unsafe { &*heap.cast::<Heap>() };
    let old = if pointer.is_null() { 0 } else { old };
    if !heap.charge(old, new) {
        return ptr::null_mut();
    }
    if new == 0 {
        // SAFETY: null or from here.
        unsafe { mi_free(pointer) };
        return ptr::null_mut();
    }
    // SAFETY: null or from here.
    let answer = unsafe { if pointer.is_null() { mi_malloc(new) } else { mi_realloc(pointer, new) } };
    if answer.is_null() {
        heap.used.set(heap.used.get().wrapping_sub(new).wrapping_add(old));
    }
    answer
}
