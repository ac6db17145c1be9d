//! Compiling: source text or bytecode to a function, and a function to bytecode.
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use crate::bytecode;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::stack::{Function, Stack};

/// What a chunk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Source text only.
    Text,
    /// Source text, or bytecode of LuaJIT's `-b` or `string.dump`. LuaJIT does not verify bytecode: it must come from
    /// as trusted a place as the program itself.
    TextOrBytecode,
}

/// A compiled function that any VM of this process can load without compiling it again.
#[derive(Clone)]
pub struct Bytecode(Arc<[u8]>);

impl Bytecode {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, as for a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'s> Stack<'s> {
    /// Compiles a chunk. `name` is what errors call it: `@file`, `=what stands before the line number`, or the source
    /// itself. A syntax error reads `name:line: message`.
    pub fn load(&self, chunk: &[u8], name: &str, form: Form) -> LuaResult<Function<'s>> {
        let mode = match form {
            Form::Text => c"t",
            Form::TextOrBytecode => c"bt",
        };
        // A name ends at its first NUL.
        let name = CString::new(name.split('\0').next().unwrap_or_default()).unwrap_or_default();
        self.reserve()?;
        self.check_memory()?;
        let status = {
            // The compiler catches its own errors, and the limit holds for it.
            let _turn = self.shared.turn()?;
            // SAFETY: the chunk and the strings live for the call; answers a function or an error value.
            unsafe {
                ffi::luaL_loadbufferx(
                    self.l,
                    chunk.as_ptr().cast(),
                    chunk.len(),
                    name.as_ptr(),
                    mode.as_ptr(),
                )
            }
        };
        match status {
            ffi::OK => Ok(Function(self.last())),
            status => Err(self.take_error(status)),
        }
    }

    /// As `load`, for a chunk that runs often: LuaJIT may compile it to machine code, which it does with functions, but not
    /// with what has `...`. A chunk that looks at its arguments stays what it is.
    pub fn load_hot(&self, chunk: &[u8], name: &str, form: Form) -> LuaResult<Function<'s>> {
        let function = self.load(chunk, name, form)?;
        match bytecode::without_varargs(&self.dump(function)?.0) {
            Some(fixed) => self.load(&fixed, name, Form::TextOrBytecode),
            None => Ok(function),
        }
    }

    /// Loads what `dump` made, in this VM or another.
    pub fn load_bytecode(&self, bytecode: &Bytecode) -> LuaResult<Function<'s>> {
        self.load(&bytecode.0, "=bytecode", Form::TextOrBytecode)
    }

    /// The bytecode of a Lua function, debug information included. Upvalues are lost, as with `string.dump`.
    pub fn dump(&self, function: Function<'_>) -> LuaResult<Bytecode> {
        let index = self.index_of(function.0, ffi::TFUNCTION)?;
        self.reserve()?;
        let mut out: Vec<u8> = Vec::new();
        // SAFETY: the function is put on top; the writer gets the vector. Errors are answered, not raised.
        let status = unsafe {
            ffi::lua_pushvalue(self.l, index);
            let status = ffi::lua_dump(self.l, write, (&raw mut out).cast());
            ffi::pop(self.l, 1);
            status
        };
        if status != 0 {
            return Err(LuaError::exactly("unable to dump given function"));
        }
        Ok(Bytecode(out.into()))
    }
}

/// Takes a piece of bytecode. Aborts if it panics, which only a lack of memory could make it.
unsafe extern "C-unwind" fn write(
    _l: *mut lua_State,
    piece: *const c_void,
    size: usize,
    out: *mut c_void,
) -> c_int {
    // SAFETY: `dump` passed the vector; LuaJIT passes a readable piece.
    unsafe {
        let out = &mut *out.cast::<Vec<u8>>();
        out.extend_from_slice(std::slice::from_raw_parts(piece.cast(), size));
    }
    0
}
