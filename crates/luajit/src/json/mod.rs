//! JSON text from Lua values and back, with the behaviour and the wording of OpenResty's lua-cjson.
//! <https://github.com/openresty/lua-cjson>
//!
//! It works on the Lua stack directly: each value costs the calls into LuaJIT that it needs and nothing more. Settings are
//! the caller's; see [`Settings`].
mod decode;
mod encode;
mod number;

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use crate::convert::Light;
use crate::error::LuaResult;
use crate::ffi;
use crate::reference::Ref;
use crate::stack::{Stack, Table};

/// Appends a finite number as Lua writes it.
pub(crate) fn append_number(out: &mut Vec<u8>, number: f64) {
    number::write(out, number, 14);
}

/// How values become text.
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    /// Arrays with too many holes become objects instead of errors.
    pub sparse_convert: bool,
    /// How many times larger than its number of elements an array may be; 0 is without a bound.
    pub sparse_ratio: c_int,
    /// Arrays up to this size may have any holes.
    pub sparse_safe: c_int,
    pub max_depth: c_int,
    pub invalid_numbers: InvalidNumbers,
    /// Significant digits.
    pub number_precision: c_int,
    /// Whether the buffer stays for the next text.
    pub keep_buffer: bool,
    pub empty_table_as_object: bool,
    pub escape_forward_slash: bool,
    /// Values that JSON does not know are left out instead of being errors.
    pub skip_unsupported: bool,
}

/// What becomes of infinity and NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidNumbers {
    Refused,
    Written,
    Null,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            max_depth: 1000,
            invalid_numbers: InvalidNumbers::Refused,
            number_precision: 14,
            keep_buffer: true,
            empty_table_as_object: true,
            escape_forward_slash: true,
            skip_unsupported: false,
        }
    }
}

/// How text becomes values.
#[derive(Clone, Copy, Debug)]
pub struct Decoding {
    /// Infinity, NaN, hexadecimal numbers, leading zeros and plus signs are read.
    pub invalid_numbers: bool,
    pub max_depth: c_int,
    /// Arrays get the metatable that makes them arrays again.
    pub array_with_array_mt: bool,
    pub allow_comment: bool,
}

impl Default for Decoding {
    fn default() -> Self {
        Self { invalid_numbers: true, max_depth: 1000, array_with_array_mt: false, allow_comment: false }
    }
}

/// The settings of one instance of the library, and its buffer.
pub struct Settings {
    pub encoding: Cell<Encoding>,
    pub decoding: Cell<Decoding>,
    /// Put before each line, once for each level; nothing means one line.
    pub indent: RefCell<Option<Rc<[u8]>>>,
    buffer: Cell<Vec<u8>>,
    marks: Marks,
    array_mt: Ref,
}

/// A larger buffer is given back.
const BUFFER_MAX: usize = 4 * 1024 * 1024;

/// The metatables that say "array", which all instances in a VM share. The registry keeps them.
#[derive(Clone, Copy)]
struct Marks {
    /// Addresses, for comparing.
    array: *const c_void,
    empty_array: *const c_void,
}

const ARRAY: &str = "moonrest.json.array_mt";
const EMPTY_ARRAY: &str = "moonrest.json.empty_array_mt";

/// Its address is the value that becomes `[]`.
static EMPTY: u8 = 0;

impl Settings {
    /// The settings that a new instance begins with.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new(stack: &Stack<'_>) -> LuaResult<Self> {
        let (array, array_address) = mark(stack, ARRAY)?;
        let (_, empty_array) = mark(stack, EMPTY_ARRAY)?;
        let marks = Marks { array: array_address, empty_array };
        Ok(Self {
            array_mt: stack.keep(array)?,
            encoding: Cell::default(),
            decoding: Cell::default(),
            indent: RefCell::default(),
            buffer: Cell::default(),
            marks,
        })
    }

    /// Gives the buffer back.
    pub fn free_buffer(&self) {
        self.buffer.set(Vec::new());
    }

    fn take_buffer(&self) -> Vec<u8> {
        let mut buffer = self.buffer.take();
        buffer.clear();
        buffer
    }

    fn return_buffer(&self, buffer: Vec<u8>) {
        if self.encoding.get().keep_buffer && buffer.capacity() <= BUFFER_MAX {
            self.buffer.set(buffer);
        }
    }

    /// Pushes the text of the value at a stack index.
    ///
    /// # Errors
    /// lua-cjson's words.
    pub fn encode(&self, stack: &Stack<'_>, index: usize) -> LuaResult<()> {
        encode::encode(self, stack, index)
    }

    /// Pushes the value of the text at a stack index, which is a string or a number.
    ///
    /// # Errors
    /// lua-cjson's words.
    pub fn decode(&self, stack: &Stack<'_>, index: usize) -> LuaResult<()> {
        decode::decode(self, stack, index)
    }
}

/// The metatable that makes a table an array.
///
/// # Errors
/// Only for want of memory.
pub fn array_mt<'s>(stack: &Stack<'s>) -> LuaResult<Table<'s>> {
    Ok(mark(stack, ARRAY)?.0)
}

/// The metatable that makes an empty table an array.
///
/// # Errors
/// Only for want of memory.
pub fn empty_array_mt<'s>(stack: &Stack<'s>) -> LuaResult<Table<'s>> {
    Ok(mark(stack, EMPTY_ARRAY)?.0)
}

/// The value that becomes `[]`.
pub fn empty_array() -> Light {
    Light((&raw const EMPTY).addr())
}

/// A metatable of the registry, made when first asked for, and where it is.
fn mark<'s>(stack: &Stack<'s>, name: &str) -> LuaResult<(Table<'s>, *const c_void)> {
    let registry = stack.registry()?;
    let table = match registry.raw_get(stack, name)?.as_table() {
        Some(table) => table,
        None => {
            let table = stack.table(0, 0)?;
            registry.raw_set(stack, name, table)?;
            table
        }
    };
    // SAFETY: a table is in its slot.
    Ok((table, unsafe { ffi::lua_topointer(stack.l, table.0.index) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, Options, Vm};

    /// What the Lua code returns becomes text, a value, and the same text again.
    fn check(code: &str, expected: &str) {
        let vm = Vm::new(&Options::default()).unwrap();
        let text = vm.with(|stack| {
            let settings = Settings::new(stack)?;
            let chunk = stack.load(code.as_bytes(), "=test", Form::Text)?;
            let first = stack.call(chunk, ())?.first();
            settings.encode(stack, first)?;
            let text: String = stack.read(stack.len())?;
            settings.decode(stack, stack.len())?;
            settings.encode(stack, stack.len())?;
            assert_eq!(stack.read::<String>(stack.len())?, text);
            Ok(text)
        });
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn text_comes_back_as_it_was() {
        check(
            "return { 1, 'a\\n\\0', false, { x = { -0.5, 1e300 } } }",
            r#"[1,"a\n\u0000",false,{"x":[-0.5,1e+300]}]"#,
        );
        check("local t = {} for n = 1, 200 do t[n] = { n } end return #t", "200");
        check(
            "return ('x'):rep(40) .. '\"' .. ('y'):rep(40)",
            &format!(r#""{}\"{}""#, "x".repeat(40), "y".repeat(40)),
        );
    }

    #[test]
    fn deep_and_wide_values_find_room_on_the_stack() {
        let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
        check("local t = 1 for n = 1, 900 do t = { t } end return t", &nested("[", "]", 900));
        check("local t = 1 for n = 1, 900 do t = { a = t } end return t", &nested(r#"{"a":"#, "}", 900));
        let wide = format!("[{}[2]]", "1,".repeat(31));
        check("local t = {} for n = 1, 31 do t[n] = 1 end t[32] = { 2 } return t", &wide);
        let code = "local t = 1 for n = 1, 300 do local u = {} for k = 1, 31 do u[k] = k end u[32] = t t = u end return t";
        let row: String = (1..=31).map(|n| format!("{n},")).collect();
        check(code, &nested(&format!("[{row}"), "]", 300));
        check(
            "return { setmetatable({}, { __len = function() return 2 end, __index = { 'a', 'b' } }) }",
            r#"[["a","b"]]"#,
        );
    }

    #[test]
    fn a_text_larger_than_the_memory_is_refused() {
        let vm = Vm::new(&Options { memory_limit: Some(4 << 20), ..Options::default() }).unwrap();
        let refused = vm.with(|stack| {
            let settings = Settings::new(stack)?;
            let text = format!("[{}0]", "[\"a string\"],".repeat(60_000));
            stack.push(text.as_str())?;
            settings.decode(stack, stack.len())
        });
        assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::Memory);
    }
}
