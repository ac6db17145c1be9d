//! Operations on tables, functions and threads of a stack.
use std::ffi::c_int;

use crate::convert::{IntoLua, Nil};
use crate::error::{LuaError, LuaResult};
use crate::ffi;
use crate::stack::{Function, Stack, Table, Thread, Value};
use crate::traceback;

impl<'t> Table<'t> {
    /// What the table holds under `key`, without metamethods.
    pub fn raw_get<'s>(self, stack: &Stack<'s>, key: impl IntoLua) -> LuaResult<Value<'s>> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.push(key)?;
        // SAFETY: a table at `index`, a key on top.
        unsafe { ffi::lua_rawget(stack.l, index) };
        Ok(stack.value_at(stack.top()))
    }

    /// The element at `n`, counted from 1, without metamethods.
    pub fn raw_index<'s>(self, stack: &Stack<'s>, n: usize) -> LuaResult<Value<'s>> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve()?;
        // SAFETY: a table at `index`, room for one value.
        unsafe { ffi::lua_rawgeti(stack.l, index, element(n)?) };
        Ok(stack.value_at(stack.top()))
    }

    /// Sets a field, without metamethods.
    #[inline]
    pub fn raw_set<K: IntoLua>(self, stack: &Stack<'_>, key: K, value: impl IntoLua) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.check_memory()?;
        key.push(stack)?;
        if !K::IS_KEY {
            check_key(stack)?;
        }
        if let Err(error) = value.push(stack) {
            // SAFETY: the key is on top.
            unsafe { ffi::pop(stack.l, 1) };
            return Err(error);
        }
        // SAFETY: a table at `index`, a key that is neither nil nor NaN and a value on top; both used spare slots.
        unsafe { ffi::lua_rawset(stack.l, index) };
        Ok(())
    }

    /// Sets the element at `n`, counted from 1, without metamethods.
    #[inline]
    pub fn set_index(self, stack: &Stack<'_>, n: usize, value: impl IntoLua) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.check_memory()?;
        let n = element(n)?;
        value.push(stack)?;
        // SAFETY: a table at `index`, a value on top.
        unsafe { ffi::lua_rawseti(stack.l, index, n) };
        Ok(())
    }

    /// Sets the element at `to` to the one at `from`, without metamethods.
    pub fn copy_index(self, stack: &Stack<'_>, from: usize, to: usize) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.check_memory()?;
        let (from, to) = (element(from)?, element(to)?);
        // SAFETY: a table at `index`; the value takes a spare slot.
        unsafe {
            ffi::lua_rawgeti(stack.l, index, from);
            ffi::lua_rawseti(stack.l, index, to);
        }
        Ok(())
    }

    /// Sets the element at `n` to the last value that `make` pushes, and removes what else it pushed. So elements that are
    /// tables need no slots beyond their making.
    ///
    /// The closure is `Send` so that it cannot hold handles of this stack, whose new slots would not outlive it.
    pub fn set_made(
        self,
        stack: &Stack<'_>,
        n: usize,
        make: impl for<'i> FnOnce(&mut Stack<'i>) -> LuaResult<()> + Send,
    ) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        let n = element(n)?;
        let top = stack.top();
        stack.made_within(make, |l, now| {
            if now > top {
                // SAFETY: a table at `index`, a value of the closure's on top.
                unsafe { ffi::lua_rawseti(l, index, n) };
            }
        })
    }

    /// Sets a field whose name may be there already, without metamethods: what has several values becomes a list of them.
    /// `fresh` says that the name is known to be new.
    pub fn raw_collect(
        self,
        stack: &Stack<'_>,
        name: &[u8],
        value: impl IntoLua,
        fresh: bool,
    ) -> LuaResult<()> {
        if fresh {
            return self.raw_set(stack, name, value);
        }
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve_many(4)?;
        stack.check_memory()?;
        let top = stack.top();
        name.push(stack)?;
        // SAFETY: a table at `index`; room was made for name, present value, list and elements. The name is a string.
        let pushed = unsafe {
            ffi::lua_pushvalue(stack.l, -1);
            ffi::lua_rawget(stack.l, index);
            match ffi::lua_type(stack.l, -1) {
                ffi::TNIL => {
                    ffi::pop(stack.l, 1);
                    value.push(stack).map(|()| ffi::lua_rawset(stack.l, index))
                }
                ffi::TTABLE => {
                    let n = c_int::try_from(ffi::lua_objlen(stack.l, -1)).unwrap_or(c_int::MAX - 1);
                    value.push(stack).map(|()| ffi::lua_rawseti(stack.l, -2, n + 1))
                }
                _ => {
                    ffi::lua_createtable(stack.l, 4, 0);
                    ffi::lua_insert(stack.l, -2);
                    ffi::lua_rawseti(stack.l, -2, 1);
                    value.push(stack).map(|()| {
                        ffi::lua_rawseti(stack.l, -2, 2);
                        ffi::lua_rawset(stack.l, index);
                    })
                }
            }
        };
        // SAFETY: back to what was there before the name.
        unsafe { ffi::lua_settop(stack.l, top) };
        pushed
    }

    /// Takes all fields away, without metamethods.
    pub fn clear(self, stack: &Stack<'_>) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve_many(4)?;
        // SAFETY: a table at `index`, room for two keys and a value. Each key came from the table, and setting a field to
        // nil disturbs no walk. What was pushed is popped.
        unsafe {
            ffi::lua_pushnil(stack.l);
            while ffi::lua_next(stack.l, index) != 0 {
                ffi::pop(stack.l, 1);
                ffi::lua_pushvalue(stack.l, -1);
                ffi::lua_pushnil(stack.l);
                ffi::lua_rawset(stack.l, index);
            }
        }
        Ok(())
    }

    /// Adds an element behind the last.
    pub fn append(self, stack: &Stack<'_>, value: impl IntoLua) -> LuaResult<()> {
        self.set_index(stack, self.raw_len(stack) + 1, value)
    }

    /// The number of elements, without metamethods.
    pub fn raw_len(self, stack: &Stack<'_>) -> usize {
        let Ok(index) = stack.index_of(self.0, ffi::TTABLE) else { return 0 };
        // SAFETY: a table at `index`.
        unsafe { ffi::lua_objlen(stack.l, index) }
    }

    /// The largest key, if all keys are integers from 1 on; holes are allowed.
    pub fn array_len(self, stack: &Stack<'_>) -> LuaResult<Option<usize>> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve_many(2)?;
        let mut len = 0;
        // SAFETY: a table at `index`, room for key and value. `lua_next` raises for a key that is not in the table, but
        // each of these came from it and nothing changes it meanwhile. What was pushed is popped.
        unsafe {
            ffi::lua_pushnil(stack.l);
            while ffi::lua_next(stack.l, index) != 0 {
                let is_number = ffi::lua_type(stack.l, -2) == ffi::TNUMBER;
                let key = if is_number { ffi::lua_tonumber(stack.l, -2) } else { 0.0 };
                if key < 1.0 || key.fract() != 0.0 || key > f64::from(c_int::MAX) {
                    ffi::pop(stack.l, 2);
                    return Ok(None);
                }
                len = len.max(key as usize);
                ffi::pop(stack.l, 1);
            }
        }
        Ok(Some(len))
    }

    /// Appends the strings and numbers of a list, and those of lists in it down to `depth` levels, without a slot for any
    /// of them. False, and nothing is appended, when there is something else in it, or not in the part of a table that is
    /// for lists.
    pub fn append_texts(self, stack: &Stack<'_>, depth: usize, out: &mut Vec<u8>) -> LuaResult<bool> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        let before = out.len();
        // SAFETY: a table at `index`.
        let appended = unsafe { ffi::append_list(stack.l, index, depth, out) }.is_ok();
        if !appended {
            out.truncate(before);
        }
        Ok(appended)
    }

    /// `table[key]`, as Lua does it.
    pub fn get<'s>(self, stack: &Stack<'s>, key: impl IntoLua) -> LuaResult<Value<'s>> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve()?;
        // SAFETY: any index may be asked for that; without a metatable a look into the table runs no code and raises nothing.
        if unsafe { ffi::is_plain_table(stack.l, index) } {
            key.push(stack)?;
            // SAFETY: a table at `index`, a key on top.
            unsafe { ffi::lua_rawget(stack.l, index) };
            return Ok(stack.value_at(stack.top()));
        }
        // SAFETY: spare slots for the function and the table.
        unsafe {
            stack.shared.push_reference(stack.l, stack.shared.helpers.get().get);
            ffi::lua_pushvalue(stack.l, index);
        }
        push_or_pop(stack, key, 2)?;
        stack.protected(2, 1, 0)?;
        Ok(stack.value_at(stack.top()))
    }

    /// `table[key] = value`, as Lua does it.
    pub fn set(self, stack: &Stack<'_>, key: impl IntoLua, value: impl IntoLua) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        // SAFETY: spare slots for the function and the table.
        unsafe {
            stack.shared.push_reference(stack.l, stack.shared.helpers.get().set);
            ffi::lua_pushvalue(stack.l, index);
        }
        push_or_pop(stack, key, 2)?;
        push_or_pop(stack, value, 3)?;
        stack.protected(3, 0, 0)
    }

    pub fn set_metatable(self, stack: &Stack<'_>, metatable: Option<Table<'_>>) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        match metatable {
            Some(metatable) => metatable.push(stack)?,
            None => Nil.push(stack)?,
        }
        // SAFETY: a table at `index`, a table or nil on top.
        unsafe { ffi::lua_setmetatable(stack.l, index) };
        Ok(())
    }

    pub fn metatable<'s>(self, stack: &Stack<'s>) -> LuaResult<Option<Table<'s>>> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.reserve()?;
        // SAFETY: a table at `index`, room for one value.
        let found = unsafe { ffi::lua_getmetatable(stack.l, index) } != 0;
        Ok(found.then(|| Table(stack.last())))
    }

    /// Calls `each` with every key and value, on a scope of its own. Fields may be changed or removed meanwhile; after
    /// a new one was added the walk may end with an error, as in Lua.
    pub fn for_each(
        self,
        stack: &mut Stack<'_>,
        mut each: impl for<'i> FnMut(&mut Stack<'i>, Value<'i>, Value<'i>) -> LuaResult<()>,
    ) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TTABLE)?;
        stack.scope(|stack| {
            stack.reserve_many(6)?;
            let key = stack.top() + 1;
            // SAFETY: room was made; slot `key` holds the current key, and is written here alone.
            unsafe { ffi::lua_pushnil(stack.l) };
            loop {
                // SAFETY: room was made for function, table and key; the helper gives nil at the end of the table.
                unsafe {
                    stack.shared.push_reference(stack.l, stack.shared.helpers.get().next);
                    ffi::lua_pushvalue(stack.l, index);
                    ffi::lua_pushvalue(stack.l, key);
                }
                stack.protected(2, 2, 0)?;
                // SAFETY: the next key and its value are on top.
                if unsafe { ffi::lua_type(stack.l, key + 1) } == ffi::TNIL {
                    return Ok(());
                }
                stack.reserve_many(6)?;
                stack.scope(|inner| {
                    let (k, v) = (inner.value_at(key + 1), inner.value_at(key + 2));
                    each(inner, k, v)
                })?;
                // SAFETY: drops the value and moves the key to its slot. Handles to both ended with the closure.
                unsafe {
                    ffi::pop(stack.l, 1);
                    ffi::lua_replace(stack.l, key);
                }
            }
        })
    }
}

/// Pushes a value, or takes off the `n` before it.
fn push_or_pop(stack: &Stack<'_>, value: impl IntoLua, n: c_int) -> LuaResult<()> {
    value.push(stack).inspect_err(|_| {
        // SAFETY: the caller pushed `n` values.
        unsafe { ffi::pop(stack.l, n) };
    })
}

fn element(n: usize) -> LuaResult<c_int> {
    c_int::try_from(n).map_err(|_| LuaError::exactly("table index is out of range"))
}

/// Refuses the key on top if no table can have it.
fn check_key(stack: &Stack<'_>) -> LuaResult<()> {
    let problem = match stack.value_at(stack.top()) {
        Value::Nil => "table index is nil",
        Value::Number(number) if number.is_nan() => "table index is NaN",
        _ => return Ok(()),
    };
    // SAFETY: the key is on top.
    unsafe { ffi::pop(stack.l, 1) };
    Err(LuaError::exactly(problem))
}

/// Where a function was defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The chunk's name as it was loaded with, `=` or `@` included.
    pub source: String,
    pub line: i32,
    pub is_c: bool,
}

impl Function<'_> {
    /// Where it was defined.
    pub fn origin(self, stack: &Stack<'_>) -> LuaResult<Origin> {
        let index = stack.index_of(self.0, ffi::TFUNCTION)?;
        // SAFETY: a function at `index`.
        Ok(unsafe { traceback::origin(stack.l, index) })
    }

    /// `setfenv(function, table)`.
    pub fn set_environment(self, stack: &Stack<'_>, environment: Table<'_>) -> LuaResult<()> {
        let index = stack.index_of(self.0, ffi::TFUNCTION)?;
        environment.push(stack)?;
        // SAFETY: a function at `index`, a table on top.
        unsafe { ffi::lua_setfenv(stack.l, index) };
        Ok(())
    }
}

impl Thread<'_> {
    /// A number that no other live coroutine has.
    pub fn id(self, stack: &Stack<'_>) -> usize {
        // SAFETY: positive indices are valid; null for what is no thread.
        unsafe { ffi::lua_tothread(stack.l, self.0.index).addr() }
    }
}
