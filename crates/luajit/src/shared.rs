//! What all handles of one VM share, and the rules by which Rust and Lua take turns.
//!
//! At any moment a VM is either in Lua (`heap.strict`) or in Rust. The stack is touched in Rust's turns only: an FFI
//! entry, which compiled code calls in the middle of Lua's turn, finds every operation refused.
use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::Rc;

use crate::c_stack;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::heap::{self, Heap};
use crate::host::Cells;
use crate::interrupt::Stop;

/// A coroutine that finished and waits for the next use.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) l: *mut lua_State,
    pub(crate) anchor: c_int,
}

/// Registry references of the helper functions that run under protected calls.
#[derive(Clone, Copy, Default)]
pub(crate) struct Helpers {
    pub(crate) get: c_int,
    pub(crate) set: c_int,
    pub(crate) next: c_int,
    pub(crate) describe: c_int,
    pub(crate) light: c_int,
    pub(crate) handler: c_int,
}

/// `heap` comes first: the allocator's pointer is this struct's, which is how a callback finds it.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) heap: Heap,
    pub(crate) cells: Cells,
    /// The main state; null once the VM is closed.
    pub(crate) main: Cell<*mut lua_State>,
    /// How many calls from Rust into Lua are under way.
    pub(crate) depth: Cell<u32>,
    /// The lowest address the C stack may reach when Lua is entered.
    pub(crate) floor: Cell<usize>,
    /// References dropped since the registry was last tidied.
    dead: RefCell<Vec<c_int>>,
    has_dead: Cell<bool>,
    /// What the coroutine that yields the mark waits for.
    pub(crate) wanted: RefCell<Option<Box<dyn Any>>>,
    /// The call stacks of wrapped coroutines through which the error with this message has passed, innermost first.
    failed: RefCell<Option<(Vec<u8>, Vec<String>)>>,
    /// Coroutines whose stack is lent to a closure, and so must not run.
    pub(crate) lent: RefCell<Vec<*mut lua_State>>,
    pub(crate) pool: RefCell<Vec<Idle>>,
    pub(crate) pool_size: Cell<usize>,
    /// The registry, which stays where it is.
    pub(crate) registry: Cell<*const c_void>,
    /// The table of globals the VM was made with.
    pub(crate) globals: Cell<*const c_void>,
    pub(crate) helpers: Cell<Helpers>,
    /// Registry references of the metatables of Rust types.
    pub(crate) metatables: RefCell<Vec<(TypeId, c_int)>>,
    pub(crate) panics: Cell<u64>,
    pub(crate) stop: Stop,
    /// Traceback taken by the message handler of the innermost protected call.
    pub(crate) traceback: RefCell<Option<String>>,
    /// Lua modules that `require` finds without a file.
    pub(crate) modules: RefCell<HashMap<&'static str, &'static [u8]>>,
    /// The same, found when there is no file.
    pub(crate) defaults: RefCell<HashMap<&'static str, &'static [u8]>>,
}

/// Lua's turn, until dropped.
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    was: bool,
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.shared.heap.strict.set(self.was);
        self.shared.stop.end();
        self.shared.depth.set(self.shared.depth.get() - 1);
    }
}

impl Shared {
    pub(crate) fn new(limit: Option<usize>) -> Rc<Self> {
        Rc::new(Self {
            heap: Heap::new(limit),
            cells: Cells::default(),
            main: Cell::new(ptr::null_mut()),
            depth: Cell::new(0),
            floor: Cell::new(c_stack::floor()),
            dead: RefCell::default(),
            has_dead: Cell::new(false),
            wanted: RefCell::default(),
            failed: RefCell::default(),
            lent: RefCell::default(),
            pool: RefCell::default(),
            pool_size: Cell::new(128),
            registry: Cell::new(ptr::null()),
            globals: Cell::new(ptr::null()),
            helpers: Cell::default(),
            metatables: RefCell::default(),
            panics: Cell::new(0),
            stop: Stop::default(),
            traceback: RefCell::default(),
            modules: RefCell::default(),
            defaults: RefCell::default(),
        })
    }

    /// Makes the state whose allocator is this struct's heap.
    pub(crate) fn open(self: &Rc<Self>) -> Option<*mut lua_State> {
        let heap = Rc::as_ptr(self).cast_mut().cast::<c_void>();
        // SAFETY: the heap is the first field; the state is closed before the last handle frees it.
        let main = unsafe { ffi::lua_newstate(heap::allocate, heap) };
        if main.is_null() {
            return None;
        }
        self.main.set(main);
        self.heap.main.set(main);
        // SAFETY: a live state; the registry is a table from the start.
        self.registry.set(unsafe { ffi::lua_topointer(main, ffi::REGISTRY) });
        self.heap.strict.set(false);
        Some(main)
    }

    /// The struct that a state belongs to.
    ///
    /// # Safety
    /// `l` is a live state made by `open`, and the reference is not used beyond the call from Lua it serves.
    #[inline]
    pub(crate) unsafe fn of<'a>(l: *mut lua_State) -> &'a Self {
        // SAFETY: `open` gave the allocator this struct's address; the caller vouches for the rest.
        unsafe { &*ffi::allocator_data(l).cast::<Self>() }
    }

    /// Another handle, from within a call that the VM's owner outlives.
    pub(crate) fn handle(&self) -> Rc<Self> {
        // SAFETY: every `Shared` lives in the `Rc` that `new` made, and some handle of it is alive while we borrow it.
        unsafe {
            Rc::increment_strong_count(self);
            Rc::from_raw(self)
        }
    }

    /// Errors unless it is Rust's turn and the VM is open; also tidies the registry.
    #[inline]
    pub(crate) fn ready(&self) -> LuaResult<*mut lua_State> {
        let main = self.main.get();
        if main.is_null() || self.heap.strict.get() {
            return Err(self.refusal());
        }
        if self.has_dead.get() {
            self.release(main);
        }
        Ok(main)
    }

    #[cold]
    fn refusal(&self) -> LuaError {
        LuaError::misuse(if self.main.get().is_null() {
            "the Lua VM is closed"
        } else {
            "the Lua VM is running: its stack cannot be used from an FFI entry"
        })
    }

    /// Begins Lua's turn. Errors when too little of the C stack is left.
    #[inline]
    pub(crate) fn turn(&self) -> LuaResult<Turn<'_>> {
        if c_stack::here() < self.floor.get() {
            return Err(LuaError::of(crate::ErrorKind::Runtime, "C stack overflow"));
        }
        self.depth.set(self.depth.get() + 1);
        self.stop.begin(self.main.get());
        Ok(Turn { shared: self, was: self.heap.strict.replace(true) })
    }

    /// Notes that a registry reference is no longer needed; the VM may be in Lua, so it is released later.
    pub(crate) fn bury(&self, reference: c_int) {
        // Borrowed only within this file, in functions that call nothing which could come back here.
        self.dead.borrow_mut().push(reference);
        self.has_dead.set(true);
    }

    #[cold]
    fn release(&self, main: *mut lua_State) {
        self.has_dead.set(false);
        let dead = std::mem::take(&mut *self.dead.borrow_mut());
        for reference in dead {
            // SAFETY: Rust's turn; the reference came from `luaL_ref` and is released once. No memory is needed.
            unsafe { ffi::luaL_unref(main, ffi::REGISTRY, reference) };
        }
    }

    /// References a value on top of `l`, popping it.
    ///
    /// # Safety
    /// Rust's turn, and there is a value on top of `l`.
    pub(crate) unsafe fn refer(&self, l: *mut lua_State) -> c_int {
        // SAFETY: the caller's promise; while lenient it raises nothing.
        unsafe { ffi::luaL_ref(l, ffi::REGISTRY) }
    }

    /// Pushes the value of a reference.
    ///
    /// # Safety
    /// Rust's turn, room for a value on `l`, and a reference that was not released.
    #[inline]
    pub(crate) unsafe fn push_reference(&self, l: *mut lua_State, reference: c_int) {
        // SAFETY: the caller's promise; `open` found the registry.
        unsafe { ffi::raw_element(l, self.registry.get(), ffi::REGISTRY, reference) }
    }

    /// An error leaves a wrapped coroutine, whose call stack is this.
    pub(crate) fn note_failure(&self, message: &[u8], frames: String) {
        let mut failed = self.failed.borrow_mut();
        match &mut *failed {
            Some((known, stacks)) if known == message => stacks.push(frames),
            other => *other = Some((message.to_vec(), vec![frames])),
        }
    }

    /// The call stacks that the error with this message has left behind.
    pub(crate) fn take_failure(&self, message: &[u8]) -> Vec<String> {
        let failed = self.failed.borrow_mut().take();
        failed.filter(|(known, _)| known == message).map(|(_, stacks)| stacks).unwrap_or_default()
    }

    pub(crate) fn is_lent(&self, l: *mut lua_State) -> bool {
        self.lent.borrow().contains(&l)
    }
}
