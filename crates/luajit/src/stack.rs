//! `Stack`: a Lua stack during Rust's turn, and the values on it.
//!
//! Values are handles to stack slots. Slots are added and never changed or removed while their `Stack` lives, so a
//! handle, or the bytes of a string, stays good for that lifetime. A loop that makes temporaries uses `scope`.
//! Each operation checks what it finds in the slot, so a wrong handle gives a wrong answer or an error, never
//! undefined behaviour.
use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::slice;

use crate::convert::{FromLua, IntoLua, IntoLuaMulti};
use crate::error::{ErrorKind, LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::reference::{Ref, Text};
use crate::shared::{Shared, Turn};
use crate::traceback;
use crate::vm::Lua;

/// Slots kept free for temporaries of one operation.
const SPARE: c_int = 8;
/// Slots asked for at a time.
const STRIDE: c_int = 32;
/// Below this a stack is far from the bound that LuaJIT sets to C functions (8000 slots).
const FEW: c_int = 4000;
/// Strings and tables from this size on are checked against the memory limit beforehand.
const LARGE: usize = 64 * 1024;

/// A Lua stack that Rust may use.
pub struct Stack<'s> {
    pub(crate) l: *mut lua_State,
    pub(crate) shared: &'s Shared,
    /// How many slots may still be pushed before asking LuaJIT for more.
    room: Cell<c_int>,
    brand: PhantomData<fn(&'s ()) -> &'s ()>,
}

/// A place on a stack.
#[derive(Clone, Copy)]
pub struct Slot<'s> {
    pub(crate) l: *mut lua_State,
    pub(crate) index: c_int,
    life: PhantomData<&'s ()>,
}

/// A value on a stack.
#[derive(Clone, Copy)]
pub enum Value<'s> {
    Nil,
    Boolean(bool),
    Number(f64),
    String(&'s [u8]),
    /// A pointer without a type; `ngx.null` is the null one.
    Light(usize),
    Table(Table<'s>),
    Function(Function<'s>),
    Thread(Thread<'s>),
    Userdata(Userdata<'s>),
    /// A value of the FFI.
    Cdata(Slot<'s>),
}

/// A table on a stack; its operations are in `table`.
#[derive(Clone, Copy)]
pub struct Table<'s>(pub(crate) Slot<'s>);
/// A function on a stack.
#[derive(Clone, Copy)]
pub struct Function<'s>(pub(crate) Slot<'s>);
/// A coroutine on a stack.
#[derive(Clone, Copy)]
pub struct Thread<'s>(pub(crate) Slot<'s>);
/// A userdata on a stack, ours or a C module's.
#[derive(Clone, Copy)]
pub struct Userdata<'s>(pub(crate) Slot<'s>);

/// Cuts a stack back to where it was, also when a closure panics.
pub(crate) struct Cut {
    pub(crate) l: *mut lua_State,
    pub(crate) top: c_int,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // SAFETY: still Rust's turn on a live state, in the frame where `top` was taken; it is not above the top,
        // because slots are only added.
        unsafe { ffi::lua_settop(self.l, self.top) }
    }
}

impl<'s> Stack<'s> {
    /// # Safety
    /// `l` is a live state of `shared`, it is Rust's turn for as long as the stack lives, and nothing else removes
    /// slots of the current frame meanwhile. At least `room + SPARE` slots are free.
    #[inline]
    pub(crate) unsafe fn new(l: *mut lua_State, shared: &'s Shared, room: c_int) -> Self {
        Self { l, shared, room: Cell::new(room), brand: PhantomData }
    }

    /// How many slots are in use.
    #[inline]
    pub fn len(&self) -> usize {
        self.top().try_into().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.top() == 0
    }

    /// The VM.
    pub fn lua(&self) -> Lua {
        Lua(self.shared.handle())
    }

    #[inline]
    pub(crate) fn top(&self) -> c_int {
        // SAFETY: reads two pointers of a live state.
        unsafe { ffi::lua_gettop(self.l) }
    }

    /// Makes sure that one more value can stay on the stack.
    #[inline]
    pub(crate) fn reserve(&self) -> LuaResult<()> {
        let room = self.room.get();
        if room > 0 {
            self.room.set(room - 1);
            return Ok(());
        }
        self.reserve_many(1)
    }

    /// Makes sure that `n` more values can stay on the stack.
    #[cold]
    pub(crate) fn reserve_many(&self, n: c_int) -> LuaResult<()> {
        let wanted = n.saturating_add(STRIDE);
        // SAFETY: a live state in Rust's turn.
        let free = unsafe { ffi::free_slots(self.l) };
        if n < STRIDE && free > wanted + SPARE && self.top() < FEW {
            self.room.set(STRIDE);
            return Ok(());
        }
        // SAFETY: a live state in Rust's turn; errors are answered, not raised.
        if unsafe { ffi::lua_checkstack(self.l, wanted + SPARE) } != 0 {
            self.room.set(STRIDE);
            return Ok(());
        }
        Err(LuaError::of(ErrorKind::Runtime, "stack overflow"))
    }

    /// After Lua ran in a frame above, slots must be asked for again.
    #[inline]
    pub(crate) fn forget_room(&self) {
        self.room.set(0);
    }

    #[inline]
    pub(crate) fn check_memory(&self) -> LuaResult<()> {
        let heap = &self.shared.heap;
        if heap.overdrawn.get() && heap.is_exhausted(self.l) { Err(LuaError::memory()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn check_large(&self, size: usize) -> LuaResult<()> {
        if size >= LARGE && !self.shared.heap.has_room(size) {
            // SAFETY: Rust's turn, on a live state.
            unsafe { ffi::lua_gc(self.l, ffi::GCCOLLECT, 0) };
            if !self.shared.heap.has_room(size) {
                return Err(LuaError::memory());
            }
        }
        self.check_memory()
    }

    /// The slot on top.
    #[inline]
    pub(crate) fn last(&self) -> Slot<'s> {
        self.slot(self.top())
    }

    #[inline]
    pub(crate) fn slot(&self, index: c_int) -> Slot<'s> {
        Slot { l: self.l, index, life: PhantomData }
    }

    /// The index of a slot that must be this stack's and of this type.
    #[inline]
    pub(crate) fn index_of(&self, slot: Slot<'_>, kind: c_int) -> LuaResult<c_int> {
        // SAFETY: any positive index may be asked for its type.
        if slot.l == self.l && unsafe { ffi::lua_type(self.l, slot.index) } == kind {
            return Ok(slot.index);
        }
        Err(LuaError::misuse("a value of another stack"))
    }

    /// The value at `index`, counted from 1; nil beyond the top.
    pub fn value(&self, index: usize) -> Value<'s> {
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        self.value_at(index)
    }

    pub(crate) fn value_at(&self, index: c_int) -> Value<'s> {
        if index <= 0 {
            return Value::Nil;
        }
        let slot = self.slot(index);
        // SAFETY: positive indices are valid for these readers; each is used for the type it is meant for, and the
        // bytes of a string live as long as its slot, which is 's.
        unsafe {
            match ffi::lua_type(self.l, index) {
                ffi::TBOOLEAN => Value::Boolean(ffi::lua_toboolean(self.l, index) != 0),
                ffi::TNUMBER => Value::Number(ffi::lua_tonumber(self.l, index)),
                ffi::TSTRING => Value::String(self.bytes_at(index)),
                ffi::TLIGHTUSERDATA => Value::Light(ffi::lua_touserdata(self.l, index).addr()),
                ffi::TTABLE => Value::Table(Table(slot)),
                ffi::TFUNCTION => Value::Function(Function(slot)),
                ffi::TTHREAD => Value::Thread(Thread(slot)),
                ffi::TUSERDATA => Value::Userdata(Userdata(slot)),
                ffi::TCDATA => Value::Cdata(slot),
                _ => Value::Nil,
            }
        }
    }

    /// The bytes of a string or number (which becomes a string, as in any C function).
    ///
    /// # Safety
    /// There is a string or number at `index`.
    #[inline]
    pub(crate) unsafe fn bytes_at(&self, index: c_int) -> &'s [u8] {
        let mut size = 0;
        // SAFETY: it is a string afterwards, which stays in its slot for 's; lenient, so nothing is raised.
        unsafe {
            let data = ffi::lua_tolstring(self.l, index, &raw mut size);
            slice::from_raw_parts(data.cast(), size)
        }
    }

    /// The bytes of the string at `index`, counted from 1; none if something else is there.
    #[inline]
    pub fn text(&self, index: usize) -> Option<&'s [u8]> {
        let index = c_int::try_from(index).ok().filter(|index| *index > 0)?;
        // SAFETY: positive indices may be asked for; the bytes of a string live as long as its slot.
        unsafe {
            let (data, size) = ffi::string_at(self.l, index)?;
            Some(slice::from_raw_parts(data, size))
        }
    }

    /// The value at `index` as a Rust value, or why not.
    #[inline]
    pub fn read<T: FromLua<'s>>(&self, index: usize) -> LuaResult<T> {
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        T::from_lua(self, index).ok_or_else(|| {
            LuaError::exactly(format!("{} expected, got {}", T::EXPECTED, self.type_name(index)))
        })
    }

    /// What error messages call the type at `index`.
    pub(crate) fn type_name(&self, index: c_int) -> &'static str {
        // SAFETY: positive indices may be asked for their type.
        match unsafe { ffi::lua_type(self.l, index.max(1)) } {
            ffi::TNONE => "no value",
            ffi::TNIL => "nil",
            ffi::TBOOLEAN => "boolean",
            ffi::TLIGHTUSERDATA | ffi::TUSERDATA => "userdata",
            ffi::TNUMBER => "number",
            ffi::TSTRING => "string",
            ffi::TTABLE => "table",
            ffi::TFUNCTION => "function",
            ffi::TTHREAD => "thread",
            _ => "cdata",
        }
    }

    /// Pushes a value and leaves it there.
    #[inline]
    pub fn push(&self, value: impl IntoLua) -> LuaResult<()> {
        self.reserve()?;
        value.push(self)
    }

    /// Pushes a value and returns it as seen on the stack.
    #[inline]
    pub fn put(&self, value: impl IntoLua) -> LuaResult<Value<'s>> {
        self.push(value)?;
        Ok(self.value_at(self.top()))
    }

    /// A new table with room for this many elements and fields.
    #[inline]
    pub fn table(&self, array: usize, records: usize) -> LuaResult<Table<'s>> {
        self.reserve()?;
        let clamp = |n: usize| c_int::try_from(n.min(1 << 26)).unwrap_or(0);
        self.check_large(array.saturating_mul(8).saturating_add(records.saturating_mul(24)))?;
        // SAFETY: lenient, with room for one value.
        unsafe { ffi::lua_createtable(self.l, clamp(array), clamp(records)) };
        Ok(Table(self.last()))
    }

    /// The table of global variables.
    pub fn globals(&self) -> LuaResult<Table<'s>> {
        self.reserve()?;
        // SAFETY: room for one value.
        unsafe { ffi::lua_pushvalue(self.l, ffi::GLOBALS) };
        Ok(Table(self.last()))
    }

    /// The registry: values by name that Lua code reaches with `debug.getregistry` alone.
    pub fn registry(&self) -> LuaResult<Table<'s>> {
        self.reserve()?;
        // SAFETY: room for one value.
        unsafe { ffi::lua_pushvalue(self.l, ffi::REGISTRY) };
        Ok(Table(self.last()))
    }

    /// Keeps a value beyond this stack.
    pub fn keep(&self, value: impl IntoLua) -> LuaResult<Ref> {
        value.push(self)?;
        // SAFETY: Rust's turn, and the value is on top.
        let id = unsafe { self.shared.refer(self.l) };
        Ok(Ref::new(self.shared.handle(), id))
    }

    /// Keeps a string beyond this stack.
    pub fn keep_text(&self, text: &[u8]) -> LuaResult<Text> {
        self.keep(text).map(Text)
    }

    /// Runs `run` on this stack and then removes what it pushed.
    pub fn scope<R>(&mut self, run: impl for<'i> FnOnce(&mut Stack<'i>) -> R) -> R {
        let _cut = Cut { l: self.l, top: self.top() };
        // SAFETY: as for this stack, which cannot be used meanwhile: it is mutably borrowed.
        let mut inner = unsafe { Stack::new(self.l, self.shared, self.room.get()) };
        run(&mut inner)
    }

    /// Runs `make` with slots of its own, `then` if it went well, and removes these slots.
    pub(crate) fn made_within(
        &self,
        make: impl for<'i> FnOnce(&mut Stack<'i>) -> LuaResult<()> + Send,
        then: impl FnOnce(*mut lua_State, c_int),
    ) -> LuaResult<()> {
        let _cut = Cut { l: self.l, top: self.top() };
        // SAFETY: as for this stack, which the closure cannot hold: it is not `Send`.
        let mut inner = unsafe { Stack::new(self.l, self.shared, self.room.get()) };
        make(&mut inner)?;
        then(self.l, inner.top());
        Ok(())
    }

    /// Calls a function with these arguments; the results are the slots from the returned index to the top. Lua errors
    /// come back with a traceback. The function cannot yield: this call is a C boundary.
    pub fn call(&self, function: Function<'_>, args: impl IntoLuaMulti) -> LuaResult<Results<'s>> {
        let index = self.index_of(function.0, ffi::TFUNCTION)?;
        let first = self.top() + 1;
        self.reserve_many(2)?;
        // SAFETY: room for two values; the helper is a function.
        unsafe {
            self.shared.push_reference(self.l, self.shared.helpers.get().handler);
            ffi::lua_pushvalue(self.l, index);
        }
        let called = args.push_all(self).and_then(|count| self.protected(count, ffi::MULTRET, first));
        if let Err(error) = called {
            // SAFETY: back to what was there before the handler.
            unsafe { ffi::lua_settop(self.l, first - 1) };
            return Err(error);
        }
        // SAFETY: the handler is below the results.
        unsafe { ffi::lua_remove(self.l, first) };
        Ok(Results { first, count: self.top() + 1 - first, life: PhantomData })
    }

    /// Calls the function below `nargs` arguments on top; on an error nothing of them is left.
    pub(crate) fn protected(&self, nargs: c_int, nresults: c_int, handler: c_int) -> LuaResult<()> {
        let status = match self.turn() {
            // SAFETY: Lua's turn; the function and its arguments are on top, the handler (if any) below.
            Ok(_turn) => unsafe { ffi::lua_pcall(self.l, nargs, nresults, handler) },
            Err(error) => {
                // SAFETY: as above.
                unsafe { ffi::pop(self.l, nargs + 1) };
                return Err(error);
            }
        };
        self.forget_room();
        self.shared.heap.relax();
        if status == ffi::OK {
            return Ok(());
        }
        let error = self.take_error(status);
        let traceback = self.shared.traceback.borrow_mut().take();
        let place = if error.kind() == ErrorKind::Interrupted { self.shared.stop.place() } else { None };
        Err(match place.or(traceback) {
            Some(traceback) if handler != 0 => error.with_traceback(traceback),
            _ => error,
        })
    }

    /// Begins Lua's turn on this stack, which a suspended or dead coroutine has not.
    fn turn(&self) -> LuaResult<Turn<'s>> {
        // SAFETY: a live state.
        if unsafe { ffi::lua_status(self.l) } != ffi::OK {
            return Err(LuaError::misuse("cannot call a function on a coroutine that waits or has failed"));
        }
        self.shared.turn()
    }

    /// Turns the error value on top into an error, popping it.
    pub(crate) fn take_error(&self, status: c_int) -> LuaError {
        let error = self.describe_error(self.top(), status);
        // SAFETY: the error value is on top.
        unsafe { ffi::pop(self.l, 1) };
        error
    }

    /// The error whose value is at `index`.
    pub(crate) fn describe_error(&self, index: c_int, status: c_int) -> LuaError {
        let kind = match status {
            ffi::ERRMEM => ErrorKind::Memory,
            ffi::ERRSYNTAX => ErrorKind::Syntax,
            _ if self.shared.stop.is_set() => ErrorKind::Interrupted,
            _ => ErrorKind::Runtime,
        };
        match self.value_at(index) {
            Value::String(message) => LuaError::of(kind, message),
            // SAFETY: there is a number; it becomes a string in its slot, which nobody else looks at.
            Value::Number(_) => LuaError::of(kind, unsafe { self.bytes_at(index) }),
            _ => {
                let message = self.describe(index);
                let error = LuaError::of(kind, message);
                // SAFETY: room for one temporary; Rust's turn.
                let id = unsafe {
                    ffi::lua_pushvalue(self.l, index);
                    self.shared.refer(self.l)
                };
                error.with_object(Ref::new(self.shared.handle(), id))
            }
        }
    }

    /// What `__tostring` says of the value, or its type.
    fn describe(&self, index: c_int) -> Vec<u8> {
        let plain = format!("(error object is a {} value)", self.type_name(index)).into_bytes();
        if self.reserve_many(2).is_err() {
            return plain;
        }
        // SAFETY: room for two values; the helper is a function of one argument with one result.
        unsafe {
            self.shared.push_reference(self.l, self.shared.helpers.get().describe);
            ffi::lua_pushvalue(self.l, index);
        }
        if self.protected(1, 1, 0).is_err() {
            return plain;
        }
        let text = match self.value_at(self.top()) {
            Value::String(text) => text.to_vec(),
            _ => plain,
        };
        // SAFETY: the result is on top.
        unsafe { ffi::pop(self.l, 1) };
        text
    }

    /// The call stack of this state, innermost first: `\n\tframe` per frame.
    pub fn traceback(&self, level: usize) -> String {
        // SAFETY: a live state in Rust's turn.
        unsafe { traceback::frames(self.l, c_int::try_from(level).unwrap_or(0)) }
    }
}

/// The results of a call: slots of the stack they were called on.
#[derive(Clone, Copy)]
pub struct Results<'s> {
    pub(crate) first: c_int,
    pub(crate) count: c_int,
    life: PhantomData<&'s ()>,
}

impl<'s> Results<'s> {
    pub fn len(&self) -> usize {
        self.count.try_into().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.count <= 0
    }

    /// The stack index of the first result.
    pub fn first(&self) -> usize {
        self.first.try_into().unwrap_or(0)
    }

    /// The n-th result, counted from 0; nil when there are fewer.
    pub fn value(&self, stack: &Stack<'s>, n: usize) -> Value<'s> {
        if n < self.len() { stack.value(self.first() + n) } else { Value::Nil }
    }

    pub fn read<T: FromLua<'s>>(&self, stack: &Stack<'s>, n: usize) -> LuaResult<T> {
        stack.read(self.first() + n)
    }
}

impl<'s> Value<'s> {
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// What an `if` in Lua sees.
    pub fn is_true(&self) -> bool {
        !matches!(self, Value::Nil | Value::Boolean(false))
    }

    pub fn as_bytes(&self) -> Option<&'s [u8]> {
        if let Value::String(bytes) = self { Some(bytes) } else { None }
    }

    pub fn as_number(&self) -> Option<f64> {
        if let Value::Number(number) = self { Some(*number) } else { None }
    }

    pub fn as_table(&self) -> Option<Table<'s>> {
        if let Value::Table(table) = self { Some(*table) } else { None }
    }

    pub fn as_function(&self) -> Option<Function<'s>> {
        if let Value::Function(function) = self { Some(*function) } else { None }
    }

    /// Lua's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Boolean(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Light(_) | Value::Userdata(_) => "userdata",
            Value::Table(_) => "table",
            Value::Function(_) => "function",
            Value::Thread(_) => "thread",
            Value::Cdata(_) => "cdata",
        }
    }
}
