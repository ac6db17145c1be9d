//! Runaway recursion ends with a Lua error, whatever it goes through.
use crate::{check, fails, with_vm};
use moonrest_luajit::{LuaError, Vm};

fn define_rust_functions(vm: &Vm) {
    vm.with(|stack| {
        let call = stack.function(|call| {
            let function = call.arg(1)?;
            let results = call.call(function, ())?;
            Ok(call.ret_from(results.first()))
        })?;
        stack.globals()?.raw_set(stack, "call", call)?;
        let spawn = stack.function(|call| {
            let coroutine = call.lua().coroutine()?;
            let function = call.value(1);
            match function.as_function() {
                Some(function) => {
                    let kept = call.keep(function)?;
                    match coroutine.start(&kept, ())? {
                        moonrest_luajit::Resumed::Failed(error) => Err(error),
                        _ => call.ret(()),
                    }
                }
                None => Err(LuaError::argument(1, "function expected")),
            }
        })?;
        stack.globals()?.raw_set(stack, "spawn", spawn)
    })
    .unwrap();
}

#[test]
fn recursion_is_bounded_on_every_road() {
    with_vm(|vm| {
        define_rust_functions(vm);
        for source in [
            "local function f() return 1 + f() end; f()",
            "local function f(...) return (f(1, ...)) end; f()",
            "local function f() local ok, e = pcall(f) if not ok then error(e, 0) end return 1 end; f()",
            "local function f() string.gsub('a', 'a', f) end; f()",
            "local function f() table.sort({ 1, 2, 3 }, f) end; f()",
            "local t = setmetatable({}, { __tostring = function(t) return tostring(t) .. '' end }); tostring(t)",
            "local t = setmetatable({}, { __tostring = function(t) return string.format('%s', t) end }); tostring(t)",
            "local t = setmetatable({}, { __tostring = function(t) print(t) return '' end }); print(t)",
            "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }); return t[1]",
            "local t = setmetatable({}, { __concat = function(a, b) return a .. b end }); return t .. t",
            "local t = setmetatable({}, { __lt = function(a, b) return (a < b) == 1 end }); return t < t",
            "local t = setmetatable({}, { __call = function(t) return t() .. '' end }); t()",
            "local function f() coroutine.wrap(f)() end; f()",
            "local function f() local ok, e = coroutine.resume(coroutine.create(f)) if not ok then error(e, 0) end end; f()",
            "local function f() local chunk, e = load(function() f() end) if not chunk then error(e, 0) end end; f()",
            "local function f() return loadstring('local f = ... return f(), 1')(f) end; f()",
            "package.preload.again = function() package.loaded.again = nil; require 'again' end; require 'again'",
            "local function f() call(f) end; f()",
            "local function f() spawn(f) end; f()",
            "local function f() call(function() string.gsub('a', 'a', function() coroutine.wrap(f)() end) end) end; f()",
        ] {
            match crate::eval(vm, source) {
                Ok(text) => panic!("{source}: answered {text}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        ["stack overflow", "C stack overflow", "error in error handling", "loop or previous"]
                            .iter()
                            .any(|expected| text.contains(expected)),
                        "{source}: {text}"
                    );
                }
            }
            vm.collect().unwrap();
            check(vm, "return 1 + 1", "2");
        }
    });
}

#[test]
fn error_handlers_that_recurse_end_too() {
    with_vm(|vm| {
        check(vm, "local function h() return h() .. '' end; return (xpcall(error, h))", "false");
        check(vm, "local function h(e) error(e) end; return (xpcall(error, h, 'x'))", "false");
        check(
            vm,
            "local function f() return 1 + f() end; return (xpcall(f, function() return debug.traceback() end))",
            "false",
        );
    });
}

#[test]
fn deeply_nested_source_is_refused() {
    with_vm(|vm| {
        for (open, close) in
            [("(", ")"), ("{", "}"), ("not ", ""), ("function() return ", " end"), ("f{", "}")]
        {
            let source = format!("return {}1{}", open.repeat(100_000), close.repeat(100_000));
            fails(vm, &format!("return assert(loadstring({source:?}))"), "");
        }
        fails(vm, &format!("return {}", "do ".repeat(100_000)), "");
        fails(vm, "local p = ('a?'):rep(100000); return (('a'):rep(100000)):find(p .. 'b')", "");
    });
}

#[test]
fn recursion_inside_a_small_thread_is_bounded_too() {
    let run = || {
        let vm = Vm::new(&moonrest_luajit::Options::default()).unwrap();
        define_rust_functions(&vm);
        for source in [
            "local function f() string.gsub('a', 'a', f) end; f()",
            "local function f() coroutine.wrap(f)() end; f()",
            "local function f() call(f) end; f()",
        ] {
            fails(&vm, source, "stack overflow");
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}
