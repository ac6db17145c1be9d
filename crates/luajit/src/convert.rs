//! Rust values as Lua values, and back.
use std::borrow::Cow;
use std::ffi::c_int;

use crate::coroutine::Coroutine;
use crate::error::{LuaError, LuaResult};
use crate::ffi;
use crate::reference::{Ref, Text};
use crate::stack::{Function, Slot, Stack, Table, Thread, Userdata, Value};

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// What becomes one Lua value. Sealed: implementations must push exactly one value.
pub trait IntoLua: Sealed {
    /// Whether every value of this type can be a table's key: it is never nil or NaN.
    #[doc(hidden)]
    const IS_KEY: bool = false;
    /// Pushes the value; the caller has reserved its slot.
    #[doc(hidden)]
    fn push(self, stack: &Stack<'_>) -> LuaResult<()>;
}

/// What becomes any number of Lua values: one value, a tuple, or `With`.
pub trait IntoLuaMulti {
    /// Pushes the values and says how many.
    #[doc(hidden)]
    fn push_all(self, stack: &Stack<'_>) -> LuaResult<c_int>;
}

/// What can be read from a slot.
pub trait FromLua<'s>: Sized {
    /// What error messages say was expected.
    const EXPECTED: &'static str;
    fn from_lua(stack: &Stack<'s>, index: c_int) -> Option<Self>;
}

/// Values pushed by a closure: all that it leaves on the stack.
pub struct With<F>(pub F);

/// A pointer without a type. `Light(0)` is `ngx.null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Light(pub usize);

/// `nil`.
#[derive(Clone, Copy, Debug)]
pub struct Nil;

macro_rules! into_lua {
    ($($kind:ty: $($key:ident)? |$value:ident, $stack:ident| $body:expr;)*) => {$(
        impl Sealed for $kind {}
        impl IntoLua for $kind {
            $(const IS_KEY: bool = $key;)?
            #[inline]
            fn push(self, $stack: &Stack<'_>) -> LuaResult<()> {
                let $value = self;
                $body
            }
        }
    )*};
}

#[inline]
fn push_number(stack: &Stack<'_>, number: f64) -> LuaResult<()> {
    // SAFETY: a slot is reserved; pushing a number raises nothing.
    unsafe { ffi::lua_pushnumber(stack.l, number) };
    Ok(())
}

#[inline]
fn push_bytes(stack: &Stack<'_>, bytes: &[u8]) -> LuaResult<()> {
    stack.check_large(bytes.len())?;
    // LuaJIT's own bound on strings; raising it is not possible here.
    if bytes.len() >= 0x7fff_ff00 {
        return Err(LuaError::memory());
    }
    // SAFETY: a slot is reserved; lenient, so out of memory is not raised; the bytes are copied.
    unsafe { ffi::lua_pushlstring(stack.l, bytes.as_ptr().cast(), bytes.len()) };
    Ok(())
}

#[inline]
fn push_slot(stack: &Stack<'_>, slot: Slot<'_>) -> LuaResult<()> {
    if slot.l != stack.l {
        return Err(LuaError::misuse("a value of another stack"));
    }
    // SAFETY: any positive index can be copied (nil beyond the top).
    unsafe { ffi::lua_pushvalue(stack.l, slot.index) };
    Ok(())
}

fn push_light(stack: &Stack<'_>, address: usize) -> LuaResult<()> {
    let pointer = std::ptr::without_provenance_mut(address);
    // The lowest 4 GiB have their block from the start. Others may be refused, so they are pushed in a protected call.
    if address < 1 << 32 {
        // SAFETY: a slot is reserved.
        unsafe { ffi::lua_pushlightuserdata(stack.l, pointer) };
        return Ok(());
    }
    // SAFETY: there are spare slots; the helper takes a number, which holds 53 bits (addresses have 47).
    unsafe {
        stack.shared.push_reference(stack.l, stack.shared.helpers.get().light);
        ffi::lua_pushnumber(stack.l, address as f64);
    }
    stack.protected(1, 1, 0)
}

into_lua! {
    Nil: |_value, stack| {
        // SAFETY: a slot is reserved.
        unsafe { ffi::lua_pushnil(stack.l) };
        Ok(())
    };
    bool: true |value, stack| {
        // SAFETY: a slot is reserved.
        unsafe { ffi::lua_pushboolean(stack.l, c_int::from(value)) };
        Ok(())
    };
    f64: |value, stack| push_number(stack, value);
    i32: true |value, stack| push_number(stack, f64::from(value));
    u32: true |value, stack| push_number(stack, f64::from(value));
    u16: true |value, stack| push_number(stack, f64::from(value));
    i64: true |value, stack| push_number(stack, value as f64);
    u64: true |value, stack| push_number(stack, value as f64);
    usize: true |value, stack| push_number(stack, value as f64);
    &[u8]: true |value, stack| push_bytes(stack, value);
    &str: true |value, stack| push_bytes(stack, value.as_bytes());
    String: true |value, stack| push_bytes(stack, value.as_bytes());
    &String: true |value, stack| push_bytes(stack, value.as_bytes());
    Vec<u8>: true |value, stack| push_bytes(stack, &value);
    &Vec<u8>: true |value, stack| push_bytes(stack, value);
    Cow<'_, [u8]>: true |value, stack| push_bytes(stack, &value);
    Cow<'_, str>: true |value, stack| push_bytes(stack, value.as_bytes());
    Light: true |value, stack| push_light(stack, value.0);
    Slot<'_>: |value, stack| push_slot(stack, value);
    Table<'_>: |value, stack| push_slot(stack, value.0);
    Function<'_>: |value, stack| push_slot(stack, value.0);
    Thread<'_>: |value, stack| push_slot(stack, value.0);
    Userdata<'_>: |value, stack| push_slot(stack, value.0);
    &Ref: |value, stack| {
        if !std::ptr::eq(std::rc::Rc::as_ptr(&value.0.shared), stack.shared) {
            return Err(LuaError::misuse("a value of another VM"));
        }
        // SAFETY: a slot is reserved; the reference is this VM's.
        unsafe { stack.shared.push_reference(stack.l, value.0.id) };
        Ok(())
    };
    Ref: |value, stack| (&value).push(stack);
    &Text: true |value, stack| (&value.0).push(stack);
    &Coroutine: |value, stack| {
        if !std::ptr::eq(std::rc::Rc::as_ptr(&value.shared), stack.shared) {
            return Err(LuaError::misuse("a value of another VM"));
        }
        // SAFETY: a slot is reserved; the reference is this VM's.
        unsafe { stack.shared.push_reference(stack.l, value.anchor) };
        Ok(())
    };
    Value<'_>: |value, stack| match value {
        Value::Nil => Nil.push(stack),
        Value::Boolean(boolean) => boolean.push(stack),
        Value::Number(number) => number.push(stack),
        Value::String(bytes) => bytes.push(stack),
        Value::Light(address) => Light(address).push(stack),
        Value::Table(Table(slot)) | Value::Function(Function(slot)) | Value::Thread(Thread(slot))
        | Value::Userdata(Userdata(slot)) | Value::Cdata(slot) => slot.push(stack),
    };
}

impl<const N: usize> Sealed for &[u8; N] {}
impl<const N: usize> IntoLua for &[u8; N] {
    const IS_KEY: bool = true;
    #[inline]
    fn push(self, stack: &Stack<'_>) -> LuaResult<()> {
        push_bytes(stack, self)
    }
}

impl<T: IntoLua> Sealed for Option<T> {}
impl<T: IntoLua> IntoLua for Option<T> {
    #[inline]
    fn push(self, stack: &Stack<'_>) -> LuaResult<()> {
        match self {
            Some(value) => value.push(stack),
            None => Nil.push(stack),
        }
    }
}

impl<T: IntoLua> IntoLuaMulti for T {
    #[inline]
    fn push_all(self, stack: &Stack<'_>) -> LuaResult<c_int> {
        stack.push(self)?;
        Ok(1)
    }
}

impl<F: FnOnce(&Stack<'_>) -> LuaResult<()>> IntoLuaMulti for With<F> {
    fn push_all(self, stack: &Stack<'_>) -> LuaResult<c_int> {
        let before = stack.top();
        (self.0)(stack)?;
        Ok(stack.top() - before)
    }
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: IntoLua),*> IntoLuaMulti for ($($name,)*) {
            #[inline]
            #[allow(non_snake_case, unused_variables)]
            fn push_all(self, stack: &Stack<'_>) -> LuaResult<c_int> {
                let ($($name,)*) = self;
                $(stack.push($name)?;)*
                Ok(0 $(+ { let _ = stringify!($name); 1 })*)
            }
        }
    )*};
}
tuples! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }

/// The type at an index that may be beyond the top.
#[inline]
fn type_at(stack: &Stack<'_>, index: c_int) -> c_int {
    // SAFETY: positive indices may be asked for their type.
    unsafe { ffi::lua_type(stack.l, index.max(1)) }
}

macro_rules! from_lua {
    ($($kind:ty, $expected:literal: |$stack:ident, $index:ident| $body:expr;)*) => {$(
        impl<'s> FromLua<'s> for $kind {
            const EXPECTED: &'static str = $expected;
            #[inline]
            fn from_lua($stack: &Stack<'s>, $index: c_int) -> Option<Self> {
                $body
            }
        }
    )*};
}

/// A number, or a string that reads as one.
#[inline]
fn number(stack: &Stack<'_>, index: c_int) -> Option<f64> {
    // SAFETY: positive indices are valid for both; nothing is raised or converted in place.
    unsafe {
        let number = ffi::lua_tonumber(stack.l, index.max(1));
        (number != 0.0 || ffi::lua_isnumber(stack.l, index.max(1)) != 0).then_some(number)
    }
}

from_lua! {
    // As in C functions: everything but nil and false is true.
    bool, "boolean": |stack, index| {
        // SAFETY: positive indices are valid.
        Some(unsafe { ffi::lua_toboolean(stack.l, index.max(1)) } != 0)
    };
    f64, "number": |stack, index| number(stack, index);
    i32, "number": |stack, index| number(stack, index).map(|number| number as i32);
    i64, "number": |stack, index| number(stack, index).map(|number| number as i64);
    u16, "number": |stack, index| number(stack, index).map(|number| number as u16);
    u32, "number": |stack, index| number(stack, index).map(|number| number as u32);
    u64, "number": |stack, index| number(stack, index).map(|number| number as u64);
    usize, "number": |stack, index| number(stack, index).map(|number| number as usize);
    // A number becomes a string in its slot, as in C functions.
    &'s [u8], "string": |stack, index| match type_at(stack, index) {
        // SAFETY: there is a string or number.
        ffi::TSTRING | ffi::TNUMBER => Some(unsafe { stack.bytes_at(index) }),
        _ => None,
    };
    Vec<u8>, "string": |stack, index| <&[u8]>::from_lua(stack, index).map(<[u8]>::to_vec);
    String, "string": |stack, index| <&[u8]>::from_lua(stack, index).map(|s| String::from_utf8_lossy(s).into_owned());
    Value<'s>, "value": |stack, index| (type_at(stack, index) != ffi::TNONE).then(|| stack.value_at(index));
    Table<'s>, "table": |stack, index| (type_at(stack, index) == ffi::TTABLE).then(|| Self(stack.slot(index)));
    Function<'s>, "function": |stack, index| (type_at(stack, index) == ffi::TFUNCTION).then(|| Self(stack.slot(index)));
    Thread<'s>, "thread": |stack, index| (type_at(stack, index) == ffi::TTHREAD).then(|| Self(stack.slot(index)));
    Userdata<'s>, "userdata": |stack, index| (type_at(stack, index) == ffi::TUSERDATA).then(|| Self(stack.slot(index)));
}

impl<'s, T: FromLua<'s>> FromLua<'s> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    #[inline]
    fn from_lua(stack: &Stack<'s>, index: c_int) -> Option<Self> {
        match type_at(stack, index) {
            ffi::TNONE | ffi::TNIL => Some(None),
            _ => T::from_lua(stack, index).map(Some),
        }
    }
}
