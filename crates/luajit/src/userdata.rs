//! Rust values owned by Lua.
//!
//! A userdata's block starts with the identity of its type; a block is taken for a `T` only if it is a full userdata of
//! the right size with that identity. It holds a count of borrows, so that a `__gc` called by hand frees nothing in use.
use std::any::TypeId;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::{needs_drop, transmute};
use std::ops::Deref;
use std::ptr::NonNull;

use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::stack::{Stack, Table, Userdata, Value};

/// Which type a block of memory holds, comparable even where the block may be anything.
pub(crate) type Identity = [usize; 2];

#[repr(C)]
pub(crate) struct Block<T> {
    identity: Cell<Identity>,
    borrows: Cell<usize>,
    value: T,
}

pub(crate) const NO_IDENTITY: Identity = [0, 0];

#[inline]
pub(crate) fn identity<T: 'static>() -> Identity {
    // SAFETY: a `TypeId` is 16 bytes without padding; only equality of these bytes is used.
    unsafe { transmute::<TypeId, Identity>(TypeId::of::<T>()) }
}

/// A Rust value inside a userdata, borrowed for as long as its slot lives.
pub struct Borrowed<'s, T> {
    block: NonNull<Block<T>>,
    life: PhantomData<&'s T>,
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: `borrow` checked the block; the slot keeps it from the collector, the count from `__gc`.
        unsafe { &self.block.as_ref().value }
    }
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        // SAFETY: as in `deref`.
        let borrows = unsafe { &self.block.as_ref().borrows };
        borrows.set(borrows.get() - 1);
    }
}

/// Borrows the `T` in the userdata at an index, if there is one.
///
/// # Safety
/// Rust's turn; the index is valid, and its slot keeps its value for 's.
#[inline]
pub(crate) unsafe fn borrow<'s, T: 'static>(l: *mut lua_State, index: c_int) -> Option<Borrowed<'s, T>> {
    // SAFETY: the caller's promise. Identity and size are read only from a full userdata of exactly our size.
    unsafe {
        let (block, size) = ffi::full_userdata(l, index)?;
        borrow_block(block, size)
    }
}

/// Borrows the `T` in the userdata that is the first upvalue of the function that Lua called, if that is what it is.
///
/// # Safety
/// Rust's turn, in a function of ours with an upvalue, which keeps its value for 's.
#[inline]
pub(crate) unsafe fn borrow_upvalue<'s, T: 'static>(l: *mut lua_State) -> Option<Borrowed<'s, T>> {
    // SAFETY: the caller's promise.
    unsafe {
        let (block, size) = ffi::upvalue_userdata(l)?;
        borrow_block(block, size)
    }
}

/// Borrows the `T` in the block of a full userdata, if that is what it holds.
///
/// # Safety
/// Rust's turn; the block has this size, and a slot keeps its userdata for 's.
#[inline]
unsafe fn borrow_block<'s, T: 'static>(block: *mut c_void, size: usize) -> Option<Borrowed<'s, T>> {
    // SAFETY: the caller's promise. The identity is read only where the size is ours.
    unsafe {
        if size != size_of::<Block<T>>() {
            return None;
        }
        let block = NonNull::new(block.cast::<Block<T>>())?;
        let found = (&raw const (*block.as_ptr()).identity).cast::<Identity>().read();
        if found != identity::<T>() {
            return None;
        }
        let borrows = &block.as_ref().borrows;
        borrows.set(borrows.get() + 1);
        Some(Borrowed { block, life: PhantomData })
    }
}

/// The `T` in a userdata whose block the FFI passed.
///
/// # Safety
/// `block` is null or a full userdata's block, readable for 16 bytes, which lives for 's.
#[inline]
pub(crate) unsafe fn in_block<'s, T: 'static>(block: *const Block<T>) -> Option<&'s T> {
    if block.is_null() || !block.is_aligned() {
        return None;
    }
    // SAFETY: the caller's promise. What has the identity of `T` was written as a whole.
    unsafe {
        let found = (&raw const (*block).identity).cast::<Identity>().read();
        (found == identity::<T>()).then(|| &(*block).value)
    }
}

impl<'s> Userdata<'s> {
    /// The Rust value inside, if it is a `T`.
    #[inline]
    pub fn get<T: 'static>(self, stack: &Stack<'s>) -> Option<Borrowed<'s, T>> {
        let index = stack.index_of(self.0, ffi::TUSERDATA).ok()?;
        // SAFETY: the slot is this stack's and lives for 's.
        unsafe { borrow(stack.l, index) }
    }
}

impl<'s> Stack<'s> {
    /// Says what userdata of type `T` can do: `define` fills the metatable and the table its `__index` names. Once
    /// per VM and type, before the first one is made.
    pub fn define_type<T: 'static>(
        &mut self,
        define: impl for<'i> FnOnce(&Stack<'i>, Table<'i>, Table<'i>) -> LuaResult<()>,
    ) -> LuaResult<()> {
        self.scope(|stack| {
            let metatable = stack.metatable_of::<T>()?;
            let methods = stack.table(0, 8)?;
            metatable.raw_set(stack, "__index", methods)?;
            metatable.raw_set(stack, "__metatable", false)?;
            define(stack, metatable, methods)
        })
    }

    /// A userdata that owns `value` and drops it when collected.
    pub fn userdata<T: 'static>(&self, value: T) -> LuaResult<Userdata<'s>> {
        const { assert!(align_of::<Block<T>>() <= 8, "Lua's blocks are aligned to 8 bytes") };
        self.reserve()?;
        self.check_large(size_of::<Block<T>>())?;
        let metatable = self.metatable_reference::<T>()?;
        // SAFETY: lenient, with spare slots; the block is written before anybody can see it. The metatable, whose
        // `__gc` drops the value, is set last.
        unsafe {
            let block = ffi::lua_newuserdata(self.l, size_of::<Block<T>>()).cast::<Block<T>>();
            block.write(Block { identity: Cell::new(identity::<T>()), borrows: Cell::new(0), value });
            self.shared.push_reference(self.l, metatable);
            ffi::lua_setmetatable(self.l, -2);
        }
        Ok(Userdata(self.last()))
    }

    /// Pushes the metatable of `T`, making it when first asked.
    fn metatable_of<T: 'static>(&self) -> LuaResult<Table<'s>> {
        self.reserve()?;
        let id = self.metatable_reference::<T>()?;
        // SAFETY: room for one value.
        unsafe { self.shared.push_reference(self.l, id) };
        Ok(Table(self.last()))
    }

    /// The reference of the metatable of `T`.
    #[inline]
    fn metatable_reference<T: 'static>(&self) -> LuaResult<c_int> {
        let kind = TypeId::of::<T>();
        {
            let mut known = self.shared.metatables.borrow_mut();
            if let Some(at) = known.iter().position(|known| known.0 == kind) {
                let id = known[at].1;
                // What is made often is found early.
                known.swap(at, at.saturating_sub(1));
                return Ok(id);
            }
        }
        self.make_metatable::<T>()
    }

    #[cold]
    fn make_metatable<T: 'static>(&self) -> LuaResult<c_int> {
        let kind = TypeId::of::<T>();
        let metatable = self.table(0, 4)?;
        if needs_drop::<T>() {
            // SAFETY: lenient, with spare slots.
            unsafe {
                ffi::lua_pushlstring(self.l, b"__gc".as_ptr().cast(), 4);
                ffi::lua_pushcclosure(self.l, collect::<T>, 0);
                ffi::lua_rawset(self.l, metatable.0.index);
            }
        }
        // SAFETY: the metatable is on top, its slot spare: `refer` takes it.
        let id = unsafe { self.shared.refer(self.l) };
        self.shared.metatables.borrow_mut().push((kind, id));
        Ok(id)
    }
}

/// `__gc`: drops the value, unless it was dropped before or is in use. An error or panic here has nowhere to go.
unsafe extern "C-unwind" fn collect<T: 'static>(l: *mut lua_State) -> c_int {
    // SAFETY: Lua called us with a live state. Without identity nobody takes the block for a `T` again.
    unsafe {
        let verdict = crate::call::answer(l, |call| {
            if let Some(found) = borrow::<T>(l, 1)
                && found.block.as_ref().borrows.get() == 1
            {
                found.block.as_ref().identity.set(NO_IDENTITY);
                let block = found.block;
                drop(found);
                std::ptr::drop_in_place(&raw mut (*block.as_ptr()).value);
            }
            call.ret(())
        });
        verdict.max(0)
    }
}

/// Reads `self` of a method.
impl<'c> crate::call::Call<'c> {
    /// The Rust value in element `element` of the n-th argument, which must be a table; none if there is something else.
    #[inline]
    pub fn arg_element<T: 'static>(&self, n: u32, element: usize) -> LuaResult<Option<Borrowed<'c, T>>> {
        self.reserve()?;
        let element = c_int::try_from(element).unwrap_or(0);
        if n <= self.nargs()
            // SAFETY: an argument's index, and room for one value, which stays on the stack.
            && let Ok(found) = unsafe { ffi::push_userdata(self.l, n.cast_signed(), element) }
        {
            // SAFETY: the value's slot keeps it.
            return Ok(found.and_then(|(block, size)| unsafe { borrow_block(block, size) }));
        }
        let table: Table<'c> = self.arg(n)?;
        // SAFETY: a table at its index, room for one value, which stays on the stack; `arg` has no larger index.
        unsafe {
            ffi::lua_rawgeti(self.l, table.0.index, element);
            Ok(borrow(self.l, self.top()))
        }
    }

    /// The Rust value in the n-th argument, or `bad argument #n to 'f' (name expected, got …)`.
    pub fn arg_userdata<T: 'static>(&self, n: u32, name: &str) -> LuaResult<Borrowed<'c, T>> {
        let value: Option<Value<'c>> = self.arg(n)?;
        let found = match value {
            Some(Value::Userdata(userdata)) => userdata.get::<T>(self),
            _ => None,
        };
        found.ok_or_else(|| {
            let got = value.map_or("no value", |value| value.type_name());
            LuaError::argument(n, format!("{name} expected, got {got}"))
        })
    }
}
