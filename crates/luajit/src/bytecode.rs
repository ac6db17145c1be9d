//! Bytecode as `string.dump` writes it, read as far as to make a chunk one that LuaJIT compiles to machine code: that
//! has to be a function without `...`, which a chunk is not, even if it never looks at it.
//!
//! `layout.c` checks the numbers when LuaJIT is built; `lj_bcdump.h` describes the format.
use std::ops::Range;

const MAGIC: &[u8] = b"\x1bLJ\x02";
/// In the header: there are no names.
const STRIPPED: u32 = 2;
/// Of a function: it has `...`.
const VARARG: u8 = 2;
/// The instruction that reads `...`.
const READS_VARARGS: u8 = 71;

/// The same chunk without `...`; none if it needs that, or has not got it.
pub(crate) fn without_varargs(dump: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { bytes: dump, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return None;
    }
    let stripped = reader.number()? & STRIPPED != 0;
    if !stripped {
        let name = reader.number()?;
        reader.take(name as usize)?;
    }
    let flags = reader.last_function()?.start;
    reader.at = flags;
    // Flags, parameters, size of the frame, upvalues; constants of both kinds.
    let has = *reader.take(4)?.first()? & VARARG != 0;
    reader.number()?;
    reader.number()?;
    let instructions = reader.number()? as usize;
    if !stripped && reader.number()? != 0 {
        reader.number()?;
        reader.number()?;
    }
    let code = reader.take(instructions.checked_mul(4)?)?;
    if !has || code.chunks_exact(4).any(|instruction| instruction.first() == Some(&READS_VARARGS)) {
        return None;
    }
    let mut fixed = dump.to_vec();
    *fixed.get_mut(flags)? &= !VARARG;
    Some(fixed)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A number, seven bits to a byte, the lowest first.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Where the last of the functions is, which has all others within: the chunk itself.
    fn last_function(&mut self) -> Option<Range<usize>> {
        let mut last = None;
        loop {
            let size = self.number()? as usize;
            if size == 0 {
                return last;
            }
            let start = self.at;
            self.take(size)?;
            last = Some(start..self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, LuaResult, Options, Vm};

    fn dumped(code: &str) -> Option<Vec<u8>> {
        let vm = Vm::new(&Options::default()).unwrap();
        let dump = vm.with(|stack| {
            let chunk = stack.load(code.as_bytes(), "=test", Form::Text)?;
            stack.dump(chunk)
        });
        without_varargs(dump.unwrap().as_bytes())
    }

    #[test]
    fn a_chunk_that_reads_its_arguments_keeps_them() {
        for code in ["return ...", "local a = ... f(a)", "return {...}", "if x then f(select('#', ...)) end"]
        {
            assert_eq!(dumped(code), None, "{code}");
        }
        for code in ["", "return 1", "return function(...) return ... end", "for i = 1, 3 do f(i) end"] {
            assert!(dumped(code).is_some(), "{code}");
        }
    }

    #[test]
    fn what_is_no_whole_dump_is_left_alone() {
        let vm = Vm::new(&Options::default()).unwrap();
        let dump = vm.with(|stack| {
            let chunk =
                stack.load(b"local a, b = 1, 'x' return function() return a, b end", "=test", Form::Text)?;
            stack.dump(chunk)
        });
        let dump = dump.unwrap();
        for size in 0..dump.len() {
            assert_eq!(without_varargs(&dump.as_bytes()[..size]), None, "{size}");
        }
    }

    #[test]
    fn it_runs_as_it_did() -> LuaResult<()> {
        let vm = Vm::new(&Options::default())?;
        vm.with(|stack| {
            let code = b"local sum = 0 for i = 1, 10 do sum = sum + i end x = sum return sum, debug.getinfo(1, 'S').what, \
                 debug.getinfo(1, 'l').currentline, getfenv(1) == _G";
            let chunk = stack.load_hot(code, "=test", Form::Text)?;
            for _ in 0..200 {
                let results = stack.call(chunk, "ignored")?;
                assert_eq!(results.value(stack, 0).as_number(), Some(55.0));
                assert_eq!(results.value(stack, 1).as_bytes(), Some(&b"main"[..]));
                assert_eq!(results.value(stack, 2).as_number(), Some(1.0));
                assert!(results.value(stack, 3).is_true());
            }
            let failing = stack.load_hot(b"\nerror('bad')", "=content_by_lua(nginx.conf:3)", Form::Text)?;
            let error = stack.call(failing, ()).map(|_| ()).unwrap_err();
            assert_eq!(error.message(), b"content_by_lua(nginx.conf:3):2: bad");
            assert!(error.traceback().is_some_and(|trace| trace.contains("in main chunk")));
            let asking = stack.load_hot(b"return ...", "=test", Form::Text)?;
            assert_eq!(stack.call(asking, 7)?.value(stack, 0).as_number(), Some(7.0));
            Ok(())
        })
    }
}
