//! Values to text.
use std::ffi::{c_int, c_void};

use super::{Encoding, InvalidNumbers, Settings, number};
use crate::c_stack;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::stack::{Cut, Stack, Table};

/// Slots that a level of nesting needs, with those that errors and protected calls take.
const SLOTS: c_int = 12;

pub(super) fn encode(settings: &Settings, stack: &Stack<'_>, index: usize) -> LuaResult<()> {
    let Ok(index) = c_int::try_from(index) else { return Err(LuaError::misuse("no such slot")) };
    let indent = settings.indent.borrow().clone();
    let mut encoder = Encoder {
        l: stack.l,
        stack,
        out: settings.take_buffer(),
        set: settings.encoding.get(),
        indent: indent.as_deref(),
        array: settings.marks.array,
        empty_array: settings.marks.empty_array,
        ran_lua: false,
    };
    let made = {
        let _cut = Cut { l: stack.l, top: stack.top() };
        encoder.value(index, 0)
    };
    // Whatever this took it has given back.
    stack.forget_room();
    let out = encoder.out;
    let pushed = made.and_then(|_| stack.push(out.as_slice()));
    settings.return_buffer(out);
    pushed
}

struct Encoder<'e, 's> {
    l: *mut lua_State,
    stack: &'e Stack<'s>,
    out: Vec<u8>,
    set: Encoding,
    indent: Option<&'e [u8]>,
    array: *const c_void,
    empty_array: *const c_void,
    /// A metamethod has run: tables may change while they are walked.
    ran_lua: bool,
}

/// Whether a value was left out.
type Skipped = bool;

#[cold]
fn unserialisable(kind: &str, reason: &str) -> LuaError {
    LuaError::new(format!("Cannot serialise {kind}: {reason}"))
}

impl Encoder<'_, '_> {
    /// Appends the value at a slot.
    #[inline]
    fn value(&mut self, index: c_int, depth: c_int) -> LuaResult<Skipped> {
        // SAFETY: the slot is in use; each reader fits the type found.
        unsafe {
            match ffi::lua_type(self.l, index) {
                ffi::TSTRING => self.string(index),
                ffi::TNUMBER => self.number(ffi::lua_tonumber(self.l, index))?,
                ffi::TBOOLEAN => {
                    let text: &[u8] = if ffi::lua_toboolean(self.l, index) != 0 { b"true" } else { b"false" };
                    self.out.extend_from_slice(text);
                }
                ffi::TTABLE => self.table(index, depth + 1)?,
                ffi::TNIL => self.out.extend_from_slice(b"null"),
                ffi::TLIGHTUSERDATA => {
                    let pointer = ffi::lua_touserdata(self.l, index);
                    if pointer.is_null() {
                        self.out.extend_from_slice(b"null");
                    } else if pointer.addr() == super::empty_array().0 {
                        self.out.extend_from_slice(b"[]");
                    } else {
                        return self.unsupported(index);
                    }
                }
                _ => return self.unsupported(index),
            }
        }
        Ok(false)
    }

    #[cold]
    fn unsupported(&self, index: c_int) -> LuaResult<Skipped> {
        if self.set.skip_unsupported {
            return Ok(true);
        }
        Err(unserialisable(self.stack.type_name(index), "type not supported"))
    }

    /// Appends the string at a slot.
    fn string(&mut self, index: c_int) {
        // SAFETY: a string is there, and stays while this runs.
        let text = unsafe { self.stack.bytes_at(index) };
        let slash = if self.set.escape_forward_slash { b'/' } else { b'"' };
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        let mut rest = text;
        loop {
            let plain = plain_len(rest, slash);
            self.out.extend_from_slice(&rest[..plain]);
            let Some(&byte) = rest.get(plain) else { break };
            self.escape(byte);
            rest = &rest[plain + 1..];
        }
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            _ => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
                self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                return;
            }
        };
        self.out.extend_from_slice(&[b'\\', short]);
    }

    #[inline]
    fn number(&mut self, value: f64) -> LuaResult<()> {
        if !value.is_finite() {
            return self.invalid_number(value);
        }
        number::write(&mut self.out, value, usize::try_from(self.set.number_precision).unwrap_or(14));
        Ok(())
    }

    #[cold]
    fn invalid_number(&mut self, value: f64) -> LuaResult<()> {
        let text: &[u8] = match self.set.invalid_numbers {
            InvalidNumbers::Refused => return Err(unserialisable("number", "must not be NaN or Infinity")),
            InvalidNumbers::Null => b"null",
            InvalidNumbers::Written if value.is_nan() => b"NaN",
            InvalidNumbers::Written if value < 0.0 => b"-Infinity",
            InvalidNumbers::Written => b"Infinity",
        };
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// Appends the table at a slot.
    fn table(&mut self, t: c_int, depth: c_int) -> LuaResult<()> {
        // SAFETY: a live state in Rust's turn.
        let room = depth <= self.set.max_depth && unsafe { ffi::lua_checkstack(self.l, SLOTS) } != 0;
        if !room || c_stack::here() < self.stack.shared.floor.get() {
            return Err(LuaError::new(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        // SAFETY: a table at `t`, with room for its metatable.
        if unsafe { ffi::lua_getmetatable(self.l, t) } != 0 {
            return self.with_metatable(t, depth);
        }
        self.plain(t, depth)
    }

    /// A table without a metatable. What begins as a list is written as one while it is being checked.
    fn plain(&mut self, t: c_int, depth: c_int) -> LuaResult<()> {
        let start = self.out.len();
        // SAFETY: room for key and value.
        unsafe { ffi::lua_pushnil(self.l) };
        if !self.next(t)? {
            let text: &[u8] = if self.set.empty_table_as_object { b"{}" } else { b"[]" };
            self.out.extend_from_slice(text);
            return Ok(());
        }
        // SAFETY: key and value are above the table.
        unsafe {
            match ffi::lua_type(self.l, t + 1) {
                ffi::TSTRING => return self.members(t, depth),
                ffi::TNUMBER if ffi::lua_tonumber(self.l, t + 1) == 1.0 => {}
                _ => {
                    ffi::pop(self.l, 2);
                    return self.checked(t, depth, true, false);
                }
            }
        }
        match self.list(t, depth) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.out.truncate(start);
                self.checked(t, depth, true, false)
            }
            Err(error) => {
                // SAFETY: back to the table.
                unsafe { ffi::lua_settop(self.l, t) };
                // That an array is too sparse comes before what is wrong with its elements.
                self.array_len(t)?;
                Err(error)
            }
        }
    }

    /// Writes the elements of a list whose first key and value are on top. False if it turns out to be no list.
    fn list(&mut self, t: c_int, depth: c_int) -> LuaResult<bool> {
        self.out.push(b'[');
        let mut written = false;
        let mut expected = 1.0;
        loop {
            self.element(t + 2, depth, &mut written)?;
            // SAFETY: the value is on top.
            unsafe { ffi::pop(self.l, 1) };
            if !self.next(t)? {
                break;
            }
            expected += 1.0;
            // SAFETY: the key is above the table.
            unsafe {
                if ffi::lua_type(self.l, t + 1) != ffi::TNUMBER
                    || ffi::lua_tonumber(self.l, t + 1) != expected
                {
                    ffi::pop(self.l, 2);
                    return Ok(false);
                }
            }
        }
        self.end(b']', depth);
        Ok(true)
    }

    /// Appends an element at a slot, with what comes before it.
    #[inline]
    fn element(&mut self, index: c_int, depth: c_int, written: &mut bool) -> LuaResult<()> {
        let before = self.out.len();
        if *written {
            self.out.push(b',');
        }
        self.new_line(depth);
        if self.value(index, depth)? {
            self.out.truncate(before);
        } else {
            *written = true;
        }
        Ok(())
    }

    /// A table whose metatable is on top.
    fn with_metatable(&mut self, t: c_int, depth: c_int) -> LuaResult<()> {
        // SAFETY: the metatable is on top; there is room for a key.
        let (meta, len_type) = unsafe {
            let meta = ffi::lua_topointer(self.l, -1);
            if meta == self.array {
                ffi::pop(self.l, 1);
                let len = ffi::lua_objlen(self.l, t);
                return self.array(t, depth, c_int::try_from(len).unwrap_or(c_int::MAX), true);
            }
            ffi::lua_pushlstring(self.l, c"__len".as_ptr(), 5);
            ffi::lua_rawget(self.l, -2);
            (meta, ffi::lua_type(self.l, -1))
        };
        if len_type == ffi::TNIL {
            // SAFETY: the metatable and nil are on top.
            unsafe { ffi::pop(self.l, 2) };
            return self.checked(t, depth, false, meta == self.empty_array);
        }
        // SAFETY: the function (or what else is called) is on top; there is room for its argument.
        unsafe { ffi::lua_pushvalue(self.l, t) };
        self.ran_lua = true;
        self.stack.protected(1, 1, 0)?;
        // SAFETY: the result is on top.
        let len = unsafe {
            let len = ffi::lua_tonumber(self.l, -1);
            ffi::lua_settop(self.l, t);
            len
        };
        self.array(t, depth, len as c_int, false)
    }

    /// A table that is walked once to see what it is and once to write it.
    fn checked(&mut self, t: c_int, depth: c_int, raw: bool, array_if_empty: bool) -> LuaResult<()> {
        match self.array_len(t)? {
            Some(len) if len > 0 || !self.set.empty_table_as_object => self.array(t, depth, len, raw),
            _ if array_if_empty => {
                // SAFETY: a table at `t`.
                let len = unsafe { ffi::lua_objlen(self.l, t) };
                self.array(t, depth, c_int::try_from(len).unwrap_or(c_int::MAX), true)
            }
            _ => {
                // SAFETY: room for key and value.
                unsafe { ffi::lua_pushnil(self.l) };
                if self.next(t)? {
                    return self.members(t, depth);
                }
                self.out.extend_from_slice(b"{}");
                Ok(())
            }
        }
    }

    /// The largest index, if all keys are integers from 1 on and there are not too many holes.
    fn array_len(&mut self, t: c_int) -> LuaResult<Option<c_int>> {
        let (mut max, mut items) = (0.0, 0.0);
        // SAFETY: room for key and value, which are popped.
        unsafe {
            ffi::lua_pushnil(self.l);
            while self.next(t)? {
                let is_number = ffi::lua_type(self.l, t + 1) == ffi::TNUMBER;
                let key = if is_number { ffi::lua_tonumber(self.l, t + 1) } else { 0.0 };
                if key < 1.0 || key.floor() != key {
                    ffi::pop(self.l, 2);
                    return Ok(None);
                }
                max = key.max(max);
                items += 1.0;
                ffi::pop(self.l, 1);
            }
        }
        let sparse = self.set.sparse_ratio > 0
            && max > items * f64::from(self.set.sparse_ratio)
            && max > f64::from(self.set.sparse_safe);
        if !sparse {
            return Ok(Some(max as c_int));
        }
        if self.set.sparse_convert {
            return Ok(None);
        }
        Err(unserialisable("table", "excessively sparse array"))
    }

    /// Writes elements 1 to `len`, asking `__index` for those that are missing unless `raw`.
    fn array(&mut self, t: c_int, depth: c_int, len: c_int, raw: bool) -> LuaResult<()> {
        self.out.push(b'[');
        let mut written = false;
        for n in 1..=len {
            // SAFETY: a table at `t`, room for one value.
            unsafe {
                ffi::lua_rawgeti(self.l, t, n);
                if !raw && ffi::lua_type(self.l, -1) == ffi::TNIL {
                    ffi::pop(self.l, 1);
                    self.ran_lua = true;
                    Table(self.stack.slot(t)).get(self.stack, f64::from(n))?;
                }
            }
            self.element(self.stack.top(), depth, &mut written)?;
            // SAFETY: back to the table.
            unsafe { ffi::lua_settop(self.l, t) };
        }
        if len > 0 {
            self.end(b']', depth);
        } else {
            self.out.push(b']');
        }
        Ok(())
    }

    /// Writes an object whose first key and value are on top.
    fn members(&mut self, t: c_int, depth: c_int) -> LuaResult<()> {
        self.out.push(b'{');
        let mut written = false;
        loop {
            let before = self.out.len();
            if written {
                self.out.push(b',');
            }
            self.new_line(depth);
            self.key(t + 1)?;
            if self.value(t + 2, depth)? {
                self.out.truncate(before);
            } else {
                written = true;
            }
            // SAFETY: the value is on top.
            unsafe { ffi::pop(self.l, 1) };
            if !self.next(t)? {
                break;
            }
        }
        self.end(b'}', depth);
        Ok(())
    }

    #[inline]
    fn key(&mut self, index: c_int) -> LuaResult<()> {
        // SAFETY: the key is there; a number is only read, because `lua_next` needs it as it is.
        unsafe {
            match ffi::lua_type(self.l, index) {
                ffi::TSTRING => self.string(index),
                ffi::TNUMBER => {
                    self.out.push(b'"');
                    self.number(ffi::lua_tonumber(self.l, index))?;
                    self.out.push(b'"');
                }
                _ => {
                    let kind = self.stack.type_name(index);
                    return Err(unserialisable(kind, "table key must be a number or string"));
                }
            }
        }
        self.out.push(b':');
        if self.indent.is_some() {
            self.out.push(b' ');
        }
        Ok(())
    }

    #[inline]
    fn new_line(&mut self, depth: c_int) {
        if let Some(indent) = self.indent {
            self.out.push(b'\n');
            for _ in 0..depth {
                self.out.extend_from_slice(indent);
            }
        }
    }

    #[inline]
    fn end(&mut self, bracket: u8, depth: c_int) {
        self.new_line(depth - 1);
        self.out.push(bracket);
    }

    /// Replaces the key on top by the next key and its value; false and nothing on top at the end.
    #[inline]
    fn next(&mut self, t: c_int) -> LuaResult<bool> {
        if self.ran_lua {
            return self.next_protected(t);
        }
        // SAFETY: a table at `t`, a key that came from it on top, and room for a value. Nothing has changed the table
        // since, so the key is found and no error is raised.
        Ok(unsafe { ffi::lua_next(self.l, t) } != 0)
    }

    #[cold]
    fn next_protected(&mut self, t: c_int) -> LuaResult<bool> {
        // SAFETY: room for function and table; the key stays above them. The helper gives nil at the end.
        unsafe {
            ffi::lua_rawgeti(self.l, ffi::REGISTRY, self.stack.shared.helpers.get().next);
            ffi::lua_insert(self.l, -2);
            ffi::lua_pushvalue(self.l, t);
            ffi::lua_insert(self.l, -2);
        }
        self.stack.protected(2, 2, 0)?;
        // SAFETY: a key (or nil) and a value are on top.
        unsafe {
            if ffi::lua_type(self.l, -2) == ffi::TNIL {
                ffi::pop(self.l, 2);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How many bytes at the front need no escape.
#[inline]
fn plain_len(text: &[u8], slash: u8) -> usize {
    let special =
        |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f) | (byte == slash);
    let mut at = 0;
    // Sixteen at a time: the compiler makes one comparison of each of these.
    for chunk in text.chunks_exact(16) {
        if chunk.iter().fold(false, |found, byte| found | special(*byte)) {
            break;
        }
        at += 16;
    }
    at + text[at..].iter().position(|byte| special(*byte)).unwrap_or(text.len() - at)
}
