//! What the crossings between Rust and Lua cost, in instructions.
//!
//! `cargo build --release -p moonrest-luajit --example bench`, then for each name:
//! `valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/bench NAME 100000`
//! and the same with 200000: the difference of the totals, divided by 100000, is the cost of one. The script
//! `bench.sh` beside this file does so.
#![allow(unsafe_code, clippy::print_stdout)]

use std::ffi::{c_int, c_void};

use moonrest_luajit::{
    Call, Form, LuaResult, Options, Ref, Resumed, Return, THREAD_STACK_SIZE, Vm, ffi_entry, raw,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What stands for a request.
struct Request {
    number: c_int,
}

ffi_entry! {
    /// A getter as `ngx.req.*` has them.
    fn moonrest_bench_get(request: *const c_void) -> c_int, on_panic = -1 {
        raw::host(request, |request: &Request| request.number).unwrap_or(-100)
    }
}

fn compile(vm: &Vm, source: &str) -> LuaResult<Ref> {
    vm.with(|stack| {
        let chunk = stack.load(source.as_bytes(), "=bench", Form::Text)?;
        let made = stack.call(chunk, ())?.value(stack, 0);
        stack.keep(made)
    })
}

fn define<F: Fn(&mut Call<'_>) -> LuaResult<Return> + Copy + 'static>(
    vm: &Vm,
    name: &str,
    f: F,
) -> LuaResult<()> {
    vm.with(|stack| {
        let function = stack.function(f)?;
        stack.globals()?.raw_set(stack, name, function)
    })
}

/// Runs a Lua function that loops by itself.
fn in_lua(vm: &Vm, body: &str, rounds: u32) -> LuaResult<()> {
    let source = format!(
        "local ffi = require 'ffi'
         pcall(ffi.cdef, 'int moonrest_bench_get(void *r); int getppid(void);')
         local C, exdata, nop, getnum = ffi.C, require 'thread.exdata', nop, getnum
         local isempty, isarray, nkeys, clone = require 'table.isempty', require 'table.isarray',
             require 'table.nkeys', require 'table.clone'
         local t = {{ 1, 2, 3, 4, 5, 6, 7, 8, a = 1, b = 2 }}
         return function(n) local x = 0 for i = 1, n do {body} end return x end"
    );
    let function = compile(vm, &source)?;
    let coroutine = vm.coroutine()?;
    vm.lend(&Request { number: 3 }, 0x1000, || match coroutine.start(&function, rounds)? {
        Resumed::Failed(error) => Err(error),
        _ => Ok(()),
    })
}

fn run(name: &str, rounds: u32) -> LuaResult<()> {
    let vm = &Vm::new(&Options::default())?;
    define(vm, "nop", |call| call.ret(()))?;
    define(vm, "getnum", |call| {
        let n: i32 = call.arg(1)?;
        call.ret(n)
    })?;
    define(vm, "getstr", |call| {
        let s: &[u8] = call.arg(1)?;
        call.ret(s)
    })?;
    define(vm, "wait", |call| call.suspend(5u64, ()))?;
    define(vm, "headers", |call| {
        let table = call.table(0, 4)?;
        table.raw_set(call, "host", "localhost")?;
        table.raw_set(call, "accept", "*/*")?;
        call.ret(table)
    })?;
    let request = Request { number: 3 };
    match name {
        "resume-finish" => {
            let function = compile(vm, "return function() end")?;
            for _ in 0..rounds {
                let coroutine = vm.coroutine()?;
                vm.lend(&request, 0x1000, || coroutine.start(&function, ()))?;
            }
        }
        "yield-resume" => {
            let function = compile(vm, "return function() while true do wait() end end")?;
            let coroutine = vm.coroutine()?;
            vm.lend(&request, 0x1000, || coroutine.start(&function, ()))?;
            for n in 0..rounds {
                vm.lend(&request, 0x1000, || coroutine.resume(n))?;
            }
        }
        "call-from-rust" => {
            let function = compile(vm, "return function() end")?;
            for _ in 0..rounds {
                vm.with(|stack| {
                    let function = stack.put(&function)?.as_function().ok_or("no function")?;
                    stack.call(function, ()).map(|_| ())
                })?;
            }
        }
        "loop" => in_lua(vm, "x = x + 1", rounds)?,
        "c-function" => in_lua(vm, "nop()", rounds)?,
        "c-function-number" => in_lua(vm, "x = x + getnum(i)", rounds)?,
        "c-function-string" => in_lua(vm, "local s = getstr('some text')", rounds)?,
        "c-function-table" => in_lua(vm, "local s = headers()", rounds)?,
        "c-function-library" => in_lua(vm, "local s = os.time()", rounds)?,
        "ffi-bare" => in_lua(vm, "x = x + C.getppid()", rounds)?,
        "ffi-getter" => in_lua(vm, "x = x + C.moonrest_bench_get(exdata())", rounds)?,
        "isempty" => in_lua(vm, "if isempty(t) then x = x + 1 end", rounds)?,
        "isarray" => in_lua(vm, "if isarray(t) then x = x + 1 end", rounds)?,
        "nkeys" => in_lua(vm, "x = x + nkeys(t)", rounds)?,
        "clone" => in_lua(vm, "x = x + #clone(t)", rounds)?,
        "pcall-error" => in_lua(vm, "pcall(error, 'x')", rounds)?,
        "rust-error" => in_lua(vm, "pcall(getnum, 'x')", rounds)?,
        _ => return Err(format!("no benchmark {name}").into()),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let rounds = args.next().unwrap_or_default().parse()?;
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK_SIZE);
    match thread.spawn(move || run(&name, rounds).map_err(|error| format!("{error:?}")))?.join() {
        Ok(answer) => Ok(answer?),
        Err(_) => Err("the thread panicked".into()),
    }
}
