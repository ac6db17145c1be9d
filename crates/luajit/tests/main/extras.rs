//! What OpenResty's LuaJIT adds, and LuaJIT's own extensions.
use crate::{check, fails, with_vm};

#[test]
fn table_functions_answer_as_upstream() {
    with_vm(|vm| {
        check(
            vm,
            "local f = require 'table.isempty'; return tostring(f {}) .. tostring(f { 1 }) .. tostring(f { a = 1 })",
            "truefalsefalse",
        );
        check(
            vm,
            "local f = require 'table.isempty'; local t = { a = 1, 2 }; t.a = nil; t[1] = nil; return f(t)",
            "true",
        );
        check(
            vm,
            "local f = require 'table.isarray'
             return tostring(f {}) .. tostring(f { 1, 2 }) .. tostring(f { 1, nil, 3 }) .. tostring(f { a = 1 })
                 .. tostring(f { 1, 2, [2.5] = 1 }) .. tostring(f { [0] = 1 })",
            "truetruetruefalsefalsefalse",
        );
        check(
            vm,
            "local f = require 'table.nkeys'; return f {} .. f { 1, 2, nil, 4 } .. f { 1, a = 2, b = 3 }",
            "033",
        );
        check(
            vm,
            "local f = require 'table.clone'; local inner = {}
             local t = setmetatable({ 1, 2, x = inner }, {}); local c = f(t)
             c[3] = 3
             return tostring(c[1] == 1 and c[2] == 2 and c.x == inner and t[3] == nil and getmetatable(c) == nil)",
            "true",
        );
        for name in ["isempty", "isarray", "nkeys", "clone"] {
            let message = format!("test:1: bad argument #1 to '{name}' (table expected, got ");
            fails(vm, &format!("local f = require 'table.{name}'; f()"), &format!("{message}no value)"));
            fails(vm, &format!("local f = require 'table.{name}'; f(1)"), &format!("{message}number)"));
            fails(vm, &format!("local f = require 'table.{name}'; f(nil)"), &format!("{message}nil)"));
        }
        check(vm, "local t = require('table.new')(10, 10); require('table.clear')(t); return #t", "0");
        check(vm, "return require('string.buffer').encode({ 1 }) ~= nil", "true");
    });
}

#[test]
fn exdata_shows_the_token_of_the_run() {
    with_vm(|vm| {
        let source = "local ffi = require 'ffi'; local r = require 'thread.exdata' ()
                      return tostring(ffi.istype('void *', r)) .. tostring(r == nil) .. string.format('%d', tonumber(ffi.cast('uintptr_t', r)))";
        check(vm, source, "truetrue0");
        vm.lend(&(), 0x7fff_1234_5678, || {
            check(vm, source, "truefalse140733498807928");
            check(
                vm,
                "return coroutine.wrap(function() return require 'thread.exdata' () ~= nil end)()",
                "true",
            );
        });
        check(vm, source, "truetrue0");
        check(
            vm,
            "local e = require 'thread.exdata2'; local ffi = require 'ffi'
             e(ffi.cast('void *', 5)); return tonumber(ffi.cast('uintptr_t', e()))",
            "5",
        );
    });
}

#[test]
fn hot_loops_over_the_extras_are_compiled() {
    with_vm(|vm| {
        for body in [
            "n = n + (isempty(t) and 1 or 2)",
            "n = n + nkeys(t)",
            "n = n + (isarray(t) and 1 or 0)",
            "local c = clone(t); n = n + c[1]",
            "if exdata() ~= nil then n = n + 1 end",
        ] {
            let source = format!(
                "local isempty, nkeys, isarray, clone, exdata = require 'table.isempty', require 'table.nkeys',
                     require 'table.isarray', require 'table.clone', require 'thread.exdata'
                 local aborts = 0
                 jit.attach(function(what, tr, fn, pc, code)
                     if what == 'abort' then aborts = aborts + 1 end end, 'trace')
                 local t, n = {{ 1, 2, 3 }}, 0
                 for i = 1, 2000 do {body} end
                 jit.attach(function() end)
                 local traces = 0
                 for i = 1, 100 do if require('jit.util').traceinfo(i) then traces = traces + 1 end end
                 jit.flush()
                 return tostring(traces > 0) .. tostring(aborts < 8)"
            );
            check(vm, &source, "truetrue");
        }
    });
}
