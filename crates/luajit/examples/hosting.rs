//! A program that hosts Lua the way the server does: exported symbols for `ffi.C`, C modules, coroutines.
//!
//! `cargo run -p moonrest-luajit --example hosting [script.lua]` runs the script, or the checks below. The C modules
//! tried are those of Debian's packages lua-cjson, lua-filesystem and lua-lpeg; absent ones are named.
#![allow(unsafe_code, clippy::print_stdout)]

use std::ffi::{c_int, c_void};

use moonrest_luajit::{Form, LuaResult, Options, Resumed, THREAD_STACK_SIZE, Vm, ffi_entry, raw};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

ffi_entry! {
    /// The number that stands for the current request; -100 without one.
    fn moonrest_example_request(request: *const c_void) -> c_int, on_panic = -1 {
        raw::host(request, |number: &c_int| *number).unwrap_or(-100)
    }
}

const CHECKS: &str = r#"
    local ffi = require "ffi"
    print(jit.version, jit.arch, "jit " .. tostring(jit.status()), "gc64 " .. tostring(ffi.abi("gc64")))
    ffi.cdef "int moonrest_example_request(void *r);"
    local exdata = require "thread.exdata"
    local n = 0
    for _ = 1, 1000 do n = n + ffi.C.moonrest_example_request(exdata()) end
    print("ffi.C finds our symbols", n == 7000)
    local checks = {
        cjson = function(m) return m.decode(m.encode { answer = { 42 } }).answer[1] == 42 end,
        lfs = function(m) return m.attributes("/").mode == "directory" end,
        lpeg = function(m) return (m.C(m.R "az" ^ 1) * -1):match "moon" == "moon" end,
    }
    for name, check in pairs(checks) do
        local ok, m = pcall(require, name)
        print("C module " .. name, ok and check(m) or "absent: " .. tostring(m):match "[^\n]*")
    end
    print("error in a C module", pcall(function() require("cjson").decode "{" end))
    print("coroutine.yield answers", coroutine.yield("one", "two"))
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => CHECKS.to_owned(),
    };
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK_SIZE);
    let run = move || -> LuaResult<()> {
        let vm = Vm::new(&Options::default())?;
        let cpath = vm.package_cpath()?;
        vm.set_package_cpath(&[b"/usr/lib/x86_64-linux-gnu/lua/5.1/?.so;", &cpath[..]].concat())?;
        let chunk = vm.with(|stack| {
            let chunk = stack.load(source.as_bytes(), "=hosting", Form::Text)?;
            stack.keep(chunk)
        })?;
        let coroutine = vm.coroutine()?;
        let mut resumed = vm.lend(&(7 as c_int), 0x1000, || coroutine.start(&chunk, ()))?;
        while let Resumed::Yielded(_) = resumed {
            let count = coroutine.stack(|stack| stack.len())?;
            resumed = vm.lend(&(7 as c_int), 0x1000, || coroutine.resume(count))?;
        }
        match resumed {
            Resumed::Failed(error) => Err(error),
            _ => Ok(()),
        }
    };
    match thread.spawn(move || run().map_err(|error| format!("{error:?}")))?.join() {
        Ok(answer) => Ok(answer?),
        Err(_) => Err("the thread panicked".into()),
    }
}
