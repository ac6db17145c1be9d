//! Exported C symbols, as the FFI and C modules see them.
use std::ffi::{c_char, c_int, c_void};

use moonrest_luajit::{Lua, ffi_entry, raw};

use crate::{check, with_vm};

/// Stands for a request.
struct Request {
    name: &'static str,
    lua: Lua,
}

ffi_entry! {
    /// Writes the request's name; answers its length, or -100 without a request.
    fn moonrest_test_name(request: *const c_void, buffer: *mut u8, size: usize) -> c_int, on_panic = -1 {
        raw::host(request, |request: &Request| {
            // SAFETY: Lua passes a buffer with its size.
            unsafe { raw::fill(buffer, size, request.name.as_bytes()) }
        }).map_or(-100, |count| count as c_int)
    }

    /// Compares what it is given with the request's name.
    fn moonrest_test_same(request: *const c_void, data: *const u8, size: usize) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string with its size.
        let given = unsafe { raw::bytes(data, size) };
        raw::host(request, |request: &Request| c_int::from(request.name.as_bytes() == given)).unwrap_or(-100)
    }

    /// Adds.
    fn moonrest_test_add(a: c_int, b: c_int) -> c_int, on_panic = 0 {
        a.wrapping_add(b)
    }

    /// Panics.
    fn moonrest_test_panic() -> c_int, on_panic = -5 {
        panic!("in an FFI entry")
    }

    /// Tries to use the VM, which is running.
    fn moonrest_test_misuse(request: *const c_void, message: *mut *const c_char) -> c_int, on_panic = -1 {
        let refused = raw::host(request, |request: &Request| {
            request.lua.with(|stack| stack.push("x")).is_err()
                && request.lua.coroutine().is_err()
                && request.lua.collect().is_err()
        });
        // SAFETY: Lua passes a place for a pointer.
        unsafe { raw::store(message, c"refused".as_ptr()) };
        c_int::from(refused == Some(true))
    }
}

const DECLARATIONS: &str = "
    local ffi = require 'ffi'
    pcall(ffi.cdef, [[
        int moonrest_test_name(void *r, char *buf, size_t size);
        int moonrest_test_same(void *r, const char *data, size_t size);
        int moonrest_test_add(int a, int b);
        int moonrest_test_panic(void);
        int moonrest_test_misuse(void *r, const char **message);
    ]])
    local C = ffi.C
    local exdata = require 'thread.exdata'\n";

#[test]
fn lua_finds_exported_symbols_and_compiles_calls_to_them() {
    with_vm(|vm| {
        check(vm, &format!("{DECLARATIONS} return C.moonrest_test_add(40, 2)"), "42");
        check(
            vm,
            &format!(
                "{DECLARATIONS} local n = 0 for i = 1, 1000 do n = C.moonrest_test_add(n, i) end
                 return n .. ' ' .. tostring(jit.status()) .. ' ' .. require('jit.util').traceinfo(1).linktype"
            ),
            "500500 true loop",
        );
        check(vm, "return require('ffi').abi('gc64') and require('ffi').abi('64bit')", "true");
    });
}

#[test]
fn entries_see_the_request_of_the_run() {
    with_vm(|vm| {
        let name = format!(
            "{DECLARATIONS} local buf = ffi.new('char[16]') local n
             for i = 1, 200 do n = C.moonrest_test_name(exdata(), buf, 16) end
             return n < 0 and n or ffi.string(buf, n)"
        );
        check(vm, &name, "-100");
        let request = Request { name: "outer", lua: (**vm).clone() };
        let inner = Request { name: "inner", lua: (**vm).clone() };
        vm.lend(&request, 0x1000, || {
            check(vm, &name, "outer");
            vm.lend(&inner, 0x2000, || check(vm, &name, "inner"));
            check(vm, &name, "outer");
            check(vm, &format!("{DECLARATIONS} return C.moonrest_test_same(exdata(), 'outer', 5)"), "1");
            // A pointer from an earlier request is no request.
            check(
                vm,
                &format!("{DECLARATIONS} return C.moonrest_test_same(ffi.cast('void *', 1), 'outer', 5)"),
                "-100",
            );
            check(vm, &format!("{DECLARATIONS} return C.moonrest_test_same(nil, 'outer', 5)"), "-100");
        });
        vm.lend(&5u8, 0x1000, || check(vm, &name, "-100"));
        check(vm, &name, "-100");
    });
}

#[test]
fn a_panic_below_compiled_code_is_reported_without_a_backtrace() {
    // A process of its own, whose environment asks for backtraces.
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "entries::panics_become_codes_and_the_vm_cannot_be_used", "--nocapture"]);
    let output = again.env("RUST_BACKTRACE", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("which runs Lua code, panicked at") && text.contains("in an FFI entry"), "{text}");
}

#[test]
fn panics_become_codes_and_the_vm_cannot_be_used() {
    with_vm(|vm| {
        check(
            vm,
            &format!(
                "{DECLARATIONS} local n = 0 for i = 1, 500 do n = n + C.moonrest_test_panic() end return n"
            ),
            "-2500",
        );
        let request = Request { name: "x", lua: (**vm).clone() };
        vm.lend(&request, 0x1000, || {
            check(
                vm,
                &format!(
                    "{DECLARATIONS} local n, m = 0, ffi.new('const char *[1]')
                     for i = 1, 500 do n = n + C.moonrest_test_misuse(exdata(), m) end
                     return n .. ffi.string(m[0])"
                ),
                "500refused",
            );
        });
    });
}

#[test]
fn the_program_exports_the_interface_of_lua_for_c_modules() {
    let functions = [
        c"lua_pushlstring",
        c"lua_newuserdata",
        c"lua_setmetatable",
        c"lua_rawgeti",
        c"lua_next",
        c"lua_concat",
        c"luaL_register",
        c"luaL_checklstring",
        c"luaL_newmetatable",
        c"luaL_checkudata",
        c"luaL_ref",
        c"luaL_error",
        c"luaL_buffinit",
        c"luaL_pushresult",
        c"luaL_checkoption",
        c"luaL_setfuncs",
        c"luaL_traceback",
        c"lua_yield",
        c"lua_pushfstring",
        c"lua_sethook",
        c"luaL_openlibs",
        c"luaJIT_setmode",
        c"lua_upvalueid",
        c"luaL_gsub",
    ];
    for name in functions {
        // SAFETY: asks the loader for a symbol of this program.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?}");
    }
}
