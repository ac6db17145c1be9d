//! LuaJIT's stack, read and written without a call: what is asked for with every argument and every result.
//!
//! The functions have the names and the meaning of LuaJIT's own, which they call for what is rare: other indices, a
//! stack that has to grow, conversions. `layout.c` checks the offsets and tags when LuaJIT is built.
use std::ffi::{c_char, c_int, c_void};

use crate::ffi::{self, lua_State};
use crate::json;

/// The first fields of a `lua_State`.
#[repr(C)]
struct State {
    _header: [u8; 11],
    status: u8,
    _padding: [u8; 4],
    global: *const Global,
    _list: u64,
    base: *mut Word,
    top: *mut Word,
    limit: *mut Word,
    _stack: u64,
    _upvalues: u64,
    globals: *const c_void,
}

/// The first fields of the state that all threads share.
#[repr(C)]
struct Global {
    _allocate: *const c_void,
    data: *mut c_void,
}

/// A value: a number, or a tag in the upper 17 bits over a pointer or nothing.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Word(u64);

/// What a word is, as LuaJIT counts: its tag, inverted.
mod tag {
    pub(super) const NIL: u32 = 0;
    pub(super) const FALSE: u32 = 1;
    pub(super) const STRING: u32 = 4;
    pub(super) const TABLE: u32 = 11;
    pub(super) const USERDATA: u32 = 12;
    /// A whole number, where LuaJIT has them; doubles are beyond.
    pub(super) const INTEGER: u32 = 13;
}

/// The types by tag.
const TYPES: [i8; 14] = [
    ffi::TNIL as i8,
    ffi::TBOOLEAN as i8,
    ffi::TBOOLEAN as i8,
    ffi::TLIGHTUSERDATA as i8,
    ffi::TSTRING as i8,
    ffi::TNIL as i8,
    ffi::TTHREAD as i8,
    ffi::TNIL as i8,
    ffi::TFUNCTION as i8,
    ffi::TNIL as i8,
    ffi::TCDATA as i8,
    ffi::TTABLE as i8,
    ffi::TUSERDATA as i8,
    ffi::TNUMBER as i8,
];

/// What a string, a table and a userdata begin with, as far as it is read here.
#[repr(C)]
struct Text {
    _header: [u8; 20],
    size: u32,
}
#[repr(C)]
struct Block {
    _header: [u8; 24],
    size: u32,
    _rest: [u8; 20],
}
#[repr(C)]
struct Tab {
    _header: [u8; 16],
    array: *const Word,
    _list: u64,
    metatable: u64,
    /// The fields, or one that is nobody's where there are none. Each begins with its value.
    fields: *const Word,
    array_size: u32,
    fields_mask: u32,
}

/// What a function in C begins with.
#[repr(C)]
struct Function {
    _header: [u8; 48],
    upvalue: Word,
}

const _: () = assert!(size_of::<Text>() == 24 && size_of::<Block>() == 48);

impl Word {
    const NIL: Self = Self(u64::MAX);

    #[inline]
    fn tag(self) -> u32 {
        !((self.0.cast_signed() >> 47) as u32)
    }

    #[inline]
    fn pointer<T>(self) -> *const T {
        std::ptr::with_exposed_provenance((self.0 & ((1 << 47) - 1)) as usize)
    }

    #[inline]
    fn kind(self) -> c_int {
        // The last of the table serves all numbers.
        c_int::from(TYPES[self.tag().min(tag::INTEGER) as usize])
    }
}

#[inline]
fn state(l: *mut lua_State) -> *mut State {
    l.cast()
}

/// The word at an index that counts from the bottom or from the top; none for other indices and beyond the top.
///
/// # Safety
/// A live state, and an index that its function may use.
#[inline]
unsafe fn word(l: *mut lua_State, index: c_int) -> Option<Word> {
    // SAFETY: the caller's promise: what is between base and top are values.
    unsafe {
        let s = state(l);
        let place = if index > 0 {
            (*s).base.wrapping_add((index - 1) as usize)
        } else if index > ffi::REGISTRY {
            (*s).top.wrapping_offset(index as isize)
        } else {
            return None;
        };
        (place < (*s).top).then(|| place.read())
    }
}

/// Puts a word on top; false when the stack has to grow for that.
///
/// # Safety
/// A live state; the word is a live value of its VM.
#[inline]
unsafe fn push(l: *mut lua_State, word: Word) -> bool {
    // SAFETY: below its limit the stack is memory; the limit itself is kept free, as LuaJIT does.
    unsafe {
        let s = state(l);
        let top = (*s).top;
        if top.wrapping_add(1) >= (*s).limit {
            return false;
        }
        top.write(word);
        (*s).top = top.add(1);
        true
    }
}

/// # Safety
/// As LuaJIT's function; this goes for all below.
#[inline]
pub(crate) unsafe fn lua_gettop(l: *mut lua_State) -> c_int {
    // SAFETY: both point into one stack, which has fewer than 2^31 slots.
    unsafe { (*state(l)).top.offset_from((*state(l)).base) as c_int }
}

#[inline]
pub(crate) unsafe fn lua_settop(l: *mut lua_State, index: c_int) {
    // SAFETY: the caller's promise; it only shrinks here.
    unsafe {
        let s = state(l);
        let place = if index >= 0 {
            (*s).base.wrapping_add(index as usize)
        } else {
            (*s).top.wrapping_offset(index as isize + 1)
        };
        if place <= (*s).top {
            (*s).top = place;
        } else {
            ffi::slow::lua_settop(l, index);
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_status(l: *mut lua_State) -> c_int {
    // SAFETY: a live state.
    unsafe { c_int::from((*state(l)).status) }
}

/// How many slots there are between the top and the stack's limit.
#[inline]
pub(crate) unsafe fn free_slots(l: *mut lua_State) -> c_int {
    // SAFETY: both point into one stack.
    unsafe { (*state(l)).limit.offset_from((*state(l)).top) as c_int }
}

/// The address of the table of globals, as `lua_topointer` gives it.
#[inline]
pub(crate) unsafe fn globals(l: *mut lua_State) -> *const c_void {
    // SAFETY: a live state.
    unsafe { (*state(l)).globals }
}

/// What the allocator was given.
#[inline]
pub(crate) unsafe fn allocator_data(l: *mut lua_State) -> *mut c_void {
    // SAFETY: a live state.
    unsafe { (*(*state(l)).global).data }
}

#[inline]
pub(crate) unsafe fn lua_type(l: *mut lua_State, index: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) => word.kind(),
            None if index > ffi::REGISTRY => ffi::TNONE,
            None => ffi::slow::lua_type(l, index),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_toboolean(l: *mut lua_State, index: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { word(l, index).map_or(0, |word| c_int::from(word.tag() > tag::FALSE)) }
}

#[inline]
pub(crate) unsafe fn lua_tonumber(l: *mut lua_State, index: c_int) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() > tag::INTEGER => f64::from_bits(word.0),
            Some(word) if word.tag() == tag::INTEGER => f64::from(word.0 as u32 as i32),
            _ => ffi::slow::lua_tonumber(l, index),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_isnumber(l: *mut lua_State, index: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() >= tag::INTEGER => 1,
            Some(word) if word.tag() != tag::STRING => 0,
            _ => ffi::slow::lua_isnumber(l, index),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_tolstring(l: *mut lua_State, index: c_int, size: *mut usize) -> *const c_char {
    // SAFETY: the caller's promise; the bytes follow what a string begins with.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() == tag::STRING => {
                let text = word.pointer::<Text>();
                if !size.is_null() {
                    *size = (*text).size as usize;
                }
                text.wrapping_add(1).cast()
            }
            _ => ffi::slow::lua_tolstring(l, index, size),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_objlen(l: *mut lua_State, index: c_int) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() == tag::USERDATA => (*word.pointer::<Block>()).size as usize,
            _ => ffi::slow::lua_objlen(l, index),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_touserdata(l: *mut lua_State, index: c_int) -> *mut c_void {
    // SAFETY: the caller's promise; the block follows what a userdata begins with.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() == tag::USERDATA => {
                word.pointer::<Block>().wrapping_add(1).cast::<c_void>().cast_mut()
            }
            _ => ffi::slow::lua_touserdata(l, index),
        }
    }
}

/// The bytes of the string at an index that counts from the bottom.
#[inline]
pub(crate) unsafe fn string_at(l: *mut lua_State, index: c_int) -> Option<(*const u8, usize)> {
    // SAFETY: the caller's promise; the bytes follow what a string begins with.
    unsafe {
        let word = word(l, index).filter(|word| word.tag() == tag::STRING)?;
        let text = word.pointer::<Text>();
        Some((text.wrapping_add(1).cast(), (*text).size as usize))
    }
}

/// The block of the full userdata at an index that counts from the bottom, and its size.
#[inline]
pub(crate) unsafe fn full_userdata(l: *mut lua_State, index: c_int) -> Option<(*mut c_void, usize)> {
    // SAFETY: the caller's promise; the block follows what a userdata begins with.
    unsafe {
        let word = word(l, index).filter(|word| word.tag() == tag::USERDATA)?;
        let head = word.pointer::<Block>();
        Some((head.wrapping_add(1).cast::<c_void>().cast_mut(), (*head).size as usize))
    }
}

/// The block of the full userdata that is the first upvalue of the function in C that runs, and its size.
#[inline]
pub(crate) unsafe fn upvalue_userdata(l: *mut lua_State) -> Option<(*mut c_void, usize)> {
    // SAFETY: the caller's promise: below the base there is the function, two slots deep, and it has an upvalue. The block
    // follows what a userdata begins with.
    unsafe {
        let function = (*state(l)).base.sub(2).read().pointer::<Function>();
        let word = (*function).upvalue;
        if word.tag() != tag::USERDATA {
            return None;
        }
        let head = word.pointer::<Block>();
        Some((head.wrapping_add(1).cast::<c_void>().cast_mut(), (*head).size as usize))
    }
}

/// Whether there is a table without a metatable at an index that counts from the bottom.
#[inline]
pub(crate) unsafe fn is_plain_table(l: *mut lua_State, index: c_int) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        word(l, index).is_some_and(|word| word.tag() == tag::TABLE && (*word.pointer::<Tab>()).metatable == 0)
    }
}

#[inline]
pub(crate) unsafe fn lua_pushvalue(l: *mut lua_State, index: c_int) {
    // SAFETY: the caller's promise; a value of the same stack.
    unsafe {
        match word(l, index) {
            Some(word) if push(l, word) => {}
            _ => ffi::slow::lua_pushvalue(l, index),
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_pushnil(l: *mut lua_State) {
    // SAFETY: the caller's promise.
    unsafe {
        if !push(l, Word::NIL) {
            ffi::slow::lua_pushnil(l);
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_pushboolean(l: *mut lua_State, flag: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        if !push(l, Word(!((u64::from(flag != 0) + 1) << 47))) {
            ffi::slow::lua_pushboolean(l, flag);
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_pushnumber(l: *mut lua_State, number: f64) {
    // SAFETY: the caller's promise. The bits of other NaNs would be tags.
    unsafe {
        if number.is_nan() || !push(l, Word(number.to_bits())) {
            ffi::slow::lua_pushnumber(l, number);
        }
    }
}

#[inline]
pub(crate) unsafe fn lua_rawgeti(l: *mut lua_State, index: c_int, n: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() == tag::TABLE && push_element(l, word.pointer(), n) => {}
            _ => ffi::slow::lua_rawgeti(l, index, n),
        }
    }
}

/// Pushes element `n` of the table at an index that counts from the bottom, and gives the block and its size if it is a full
/// userdata. `Err` when nothing was pushed: it is no table, or the element is not in its array.
#[inline]
pub(crate) unsafe fn push_userdata(
    l: *mut lua_State,
    index: c_int,
    n: c_int,
) -> Result<Option<(*mut c_void, usize)>, NotPushed> {
    // SAFETY: the caller's promise; the block follows what a userdata begins with.
    unsafe {
        let Some(word) = word(l, index).filter(|word| word.tag() == tag::TABLE) else {
            return Err(NotPushed);
        };
        if !push_element(l, word.pointer(), n) {
            return Err(NotPushed);
        }
        let element = (*state(l)).top.sub(1).read();
        if element.tag() != tag::USERDATA {
            return Ok(None);
        }
        let head = element.pointer::<Block>();
        Ok(Some((head.wrapping_add(1).cast::<c_void>().cast_mut(), (*head).size as usize)))
    }
}

/// What [`push_userdata`] leaves to others.
pub(crate) struct NotPushed;

/// The element of a table that stays where it is, given by `lua_topointer`.
///
/// # Safety
/// A live table of the state's VM, which is also at `index`.
#[inline]
pub(crate) unsafe fn raw_element(l: *mut lua_State, table: *const c_void, index: c_int, n: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        if !push_element(l, table.cast(), n) {
            ffi::slow::lua_rawgeti(l, index, n);
        }
    }
}

/// Pushes an element that is in the table's array; false when it is not, or there is no room.
#[inline]
unsafe fn push_element(l: *mut lua_State, table: *const Tab, n: c_int) -> bool {
    // SAFETY: a live table, whose array has that many words.
    unsafe {
        let n = n as u32;
        n < (*table).array_size && push(l, (*table).array.add(n as usize).read())
    }
}

/// What [`append_list`] says of a list that has something else in it.
pub(crate) struct SomethingElse;

/// Appends the strings and finite numbers of the list at an index that counts from the bottom, and those of the lists in
/// it, `depth` levels of them. What is something else (a hole, a field, another value) ends that; what was appended before
/// is left to the caller to take back.
#[inline]
pub(crate) unsafe fn append_list(
    l: *mut lua_State,
    index: c_int,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), SomethingElse> {
    // SAFETY: the caller's promise.
    unsafe {
        match word(l, index) {
            Some(word) if word.tag() == tag::TABLE => append_elements(word.pointer(), depth, out),
            _ => Err(SomethingElse),
        }
    }
}

/// Nothing here calls LuaJIT, so the tables and strings are what they are until this returns.
unsafe fn append_elements(table: *const Tab, depth: usize, out: &mut Vec<u8>) -> Result<(), SomethingElse> {
    // SAFETY: a live table: its array has that many words (none where it is null), the first of which is that of the
    // index 0; of fields there is at least one. What it refers to lives as long as it does.
    unsafe {
        if (*table).fields_mask != 0 || (*table).fields.read().tag() != tag::NIL {
            return Err(SomethingElse);
        }
        let words = match (*table).array_size {
            0 => &[],
            size => std::slice::from_raw_parts((*table).array, size as usize),
        };
        // Room for more to come is no element.
        let end = words.iter().rposition(|word| word.tag() != tag::NIL).map_or(0, |last| last + 1);
        let Some((zero, elements)) = words[..end].split_first() else { return Ok(()) };
        if zero.tag() != tag::NIL {
            return Err(SomethingElse);
        }
        for word in elements {
            match word.tag() {
                tag::STRING => {
                    let text = word.pointer::<Text>();
                    let bytes = text.wrapping_add(1).cast::<u8>();
                    out.extend_from_slice(std::slice::from_raw_parts(bytes, (*text).size as usize));
                }
                tag::TABLE if depth > 0 => append_elements(word.pointer(), depth - 1, out)?,
                tag::INTEGER => json::append_number(out, f64::from(word.0 as u32 as i32)),
                tag::INTEGER.. if f64::from_bits(word.0).is_finite() => {
                    json::append_number(out, f64::from_bits(word.0));
                }
                _ => return Err(SomethingElse),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, Light, Nil, Options, Vm};

    #[test]
    fn answers_are_those_of_the_library() {
        let vm = Vm::new(&Options::default()).unwrap();
        vm.with(|stack| {
            let chunk = stack.load(
                b"return nil, true, false, 0, -1.5, 1e300, 0/0, '', 'text', '12', {1, 'x'}, print, newproxy(), \
                  coroutine.create(print), require'ffi'.new'int'",
                "=test",
                Form::Text,
            )?;
            stack.call(chunk, ())?;
            stack.push(Light(7))?;
            stack.push(Nil)?;
            let l = stack.l;
            for index in (-lua_top(l)..=lua_top(l) + 2).filter(|index| *index != 0) {
                // SAFETY: indices of the stack, or positive ones beyond.
                unsafe {
                    assert_eq!(lua_type(l, index), ffi::slow::lua_type(l, index), "{index}");
                    assert_eq!(lua_toboolean(l, index), ffi::slow::lua_toboolean(l, index));
                    assert_eq!(lua_isnumber(l, index), ffi::slow::lua_isnumber(l, index));
                    let (here, there) = (lua_tonumber(l, index), ffi::slow::lua_tonumber(l, index));
                    assert_eq!(here.to_bits(), there.to_bits());
                    assert_eq!(lua_touserdata(l, index), ffi::slow::lua_touserdata(l, index));
                    if lua_type(l, index) == ffi::TSTRING {
                        let (mut here, mut there) = (0, 0);
                        let data = lua_tolstring(l, index, &raw mut here);
                        assert_eq!(data, ffi::slow::lua_tolstring(l, index, &raw mut there));
                        assert_eq!(here, there);
                    }
                    assert_eq!(lua_objlen(l, index), ffi::slow::lua_objlen(l, index));
                    lua_pushvalue(l, index.max(1));
                    lua_settop(l, -2);
                }
            }
            Ok(())
        })
        .unwrap();
    }

    fn lua_top(l: *mut lua_State) -> c_int {
        // SAFETY: a live state.
        let (here, there) = unsafe { (lua_gettop(l), ffi::slow::lua_gettop(l)) };
        assert_eq!(here, there);
        here
    }

    #[test]
    fn what_is_pushed_is_what_lua_sees() {
        let vm = Vm::new(&Options::default()).unwrap();
        vm.with(|stack| {
            let chunk = stack.load(
                b"local a, b, c, d, e, f = ... return a == nil and b == true and c == false and d == -2.5 and e ~= e and f == 3",
                "=test",
                Form::Text,
            )?;
            let answer = stack.call(chunk, (Nil, true, false, -2.5, f64::NAN, 3))?;
            assert!(answer.value(stack, 0).is_true());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn lists_of_strings_and_numbers_are_put_together() {
        let vm = Vm::new(&Options::default()).unwrap();
        let check = |code: &str, expect: Option<&str>| {
            vm.with(|stack| {
                let chunk = stack.load(code.as_bytes(), "=test", Form::Text)?;
                let list = stack.call(chunk, ())?.value(stack, 0).as_table().unwrap();
                let mut out = b"before ".to_vec();
                let appended = list.append_texts(stack, 2, &mut out)?;
                let text = String::from_utf8(out).unwrap();
                assert_eq!(appended.then_some(&text[7..]), expect, "{code}");
                assert!(appended || text == "before ", "{code}");
                Ok(())
            })
            .unwrap();
        };
        check("return {}", Some(""));
        check("return {'a', 1, -2.5, 'b'}", Some("a1-2.5b"));
        check("local t = require 'table.new'(20, 0) t[1], t[2] = '*', 3 return t", Some("*3"));
        check("local t = {} for i = 1, 40 do t[#t + 1] = i % 10 end return t", Some(&"1234567890".repeat(4)));
        check("return {'a', {'b', {'c'}}}", Some("abc"));
        check("return {'a', {'b', {'c', {'d'}}}}", None);
        check("return {'a', nil, 'b'}", None);
        check("return {'a', true}", None);
        check("return {'a', 0/0}", None);
        check("return {'a', 1/0}", None);
        check("return {'a', x = 1}", None);
        check("return {[0] = 'a', 'b'}", None);
        check("return {[1000] = 'a'}", None);
    }

    #[test]
    fn the_stack_grows_as_it_must() {
        let vm = Vm::new(&Options::default()).unwrap();
        vm.with(|stack| {
            for n in 0..5000 {
                stack.push(n)?;
            }
            assert_eq!(stack.value(5000).as_number(), Some(4999.0));
            Ok(())
        })
        .unwrap();
    }
}
