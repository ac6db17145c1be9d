//! Rust functions called by Lua: arguments, errors, panics.
use moonrest_luajit::{Call, ErrorKind, LuaError, LuaResult, Return, Stack, Value, Vm};

use crate::{check, eval, fails, with_vm};

/// Defines a global function.
fn define<F>(vm: &Vm, name: &str, f: F)
where
    F: Fn(&mut Call<'_>) -> LuaResult<Return> + Copy + 'static,
{
    vm.with(|stack: &mut Stack<'_>| {
        let function = stack.function(f)?;
        stack.globals()?.raw_set(stack, name, function)
    })
    .unwrap();
}

#[test]
fn arguments_arrive_and_results_return() {
    with_vm(|vm| {
        define(vm, "swap", |call| {
            let (a, b): (Value<'_>, Option<&[u8]>) = call.args()?;
            call.ret((b, a, call.args_len()))
        });
        check(vm, "local b, a, n = swap(1, 'two', 3); return b .. '|' .. a .. '|' .. n", "two|1|3");
        check(vm, "return (swap(nil))", "nil");
    });
}

#[test]
fn bad_arguments_read_as_luajit_words_them() {
    with_vm(|vm| {
        define(vm, "needs", |call| {
            let (_, _): (f64, &[u8]) = call.args()?;
            call.ret(())
        });
        fails(vm, "needs()", "test:1: bad argument #1 to 'needs' (number expected, got no value)");
        fails(vm, "needs(1, {})", "test:1: bad argument #2 to 'needs' (string expected, got table)");
        fails(vm, "needs('x')", "test:1: bad argument #1 to 'needs' (number expected, got string)");
        fails(
            vm,
            "local t = { f = needs }\n t:f(1)",
            "test:2: calling 'f' on bad self (number expected, got table)",
        );
        fails(
            vm,
            "local t = setmetatable({}, { __index = { f = needs } })\n t.f(1)",
            "bad argument #2 to 'f'",
        );
        fails(vm, "string.rep()", "bad argument #1 to 'rep' (string expected, got no value)");
    });
}

#[test]
fn errors_carry_positions_and_tracebacks() {
    with_vm(|vm| {
        define(vm, "refuse", |_| Err("no".into()));
        define(vm, "plainly", |_| Err(LuaError::exactly("no")));
        fails(vm, "\n\nrefuse()", "test:3: no");
        assert_eq!(eval(vm, "plainly()").unwrap_err().to_string(), "no");
        let error =
            eval(vm, "local function inner() refuse() end\nlocal function outer() inner() end\nouter()")
                .unwrap_err();
        let traceback = error.traceback().unwrap();
        assert!(traceback.contains("\n\t[C]: in function 'refuse'"), "{traceback}");
        assert!(traceback.contains("\n\ttest:1: in function 'inner'"), "{traceback}");
        assert!(traceback.contains("\n\ttest:3: in main chunk"), "{traceback}");
    });
}

#[test]
fn error_objects_keep_their_identity_through_rust() {
    with_vm(|vm| {
        define(vm, "through", |call| {
            let function = call.arg(1)?;
            call.call(function, ())?;
            call.ret(())
        });
        check(
            vm,
            "local e = {}; local _, got = pcall(through, function() error(e) end); return got == e",
            "true",
        );
        check(vm, "local _, got = pcall(through, function() error('s', 0) end); return got", "s");
        check(
            vm,
            "local e = setmetatable({}, { __tostring = function() return 'said' end })
             local _, got = pcall(through, function() through(function() error(e) end) end)
             return got == e",
            "true",
        );
        let error =
            eval(vm, "error(setmetatable({}, { __tostring = function() return 'said' end }))").unwrap_err();
        assert_eq!(error.to_string(), "said");
        let error =
            eval(vm, "error(setmetatable({}, { __tostring = function() error('again') end }))").unwrap_err();
        assert_eq!(error.to_string(), "(error object is a table value)");
        let error = eval(vm, "error()").unwrap_err();
        assert_eq!(error.to_string(), "(error object is a nil value)");
    });
}

#[test]
fn nested_callbacks_unwind_one_by_one() {
    with_vm(|vm| {
        define(vm, "nest", |call| {
            let (depth, function): (u32, _) = call.args()?;
            if depth == 0 {
                return Err(LuaError::exactly("bottom"));
            }
            let results = call.call(function, depth - 1)?;
            Ok(call.ret_from(results.first()))
        });
        check(
            vm,
            "local function f(n) local ok, e = pcall(nest, n, f); return (ok and e or tostring(e)) .. '<' .. n end
             return f(3)",
            "bottom<0<1<2<3",
        );
        fails(vm, "local function f(n) return nest(n, f) end; f(50)", "bottom");
    });
}

#[test]
fn a_panic_becomes_a_lua_error_and_leaves_the_vm_whole() {
    with_vm(|vm| {
        define(vm, "panics", |call| {
            let name: &[u8] = call.arg(1)?;
            call.push("left on the stack")?;
            panic!("about {}", String::from_utf8_lossy(name));
        });
        define(vm, "through", |call| {
            let function = call.arg(1)?;
            call.call(function, ())?;
            call.ret(())
        });
        check(vm, "local _, e = pcall(panics, 'it'); return e", "internal error: panic: about it");
        check(
            vm,
            "local _, e = pcall(through, function() panics('deep') end); return e",
            "test:1: internal error: panic: about deep",
        );
        for _ in 0..1000 {
            eval(vm, "pcall(panics, 'x')").unwrap();
        }
        assert_eq!(vm.panics(), 1002);
        check(vm, "return 1 + 1", "2");
    });
}

#[test]
fn panics_and_errors_in_finalizers_go_no_further() {
    struct Explosive;
    impl Drop for Explosive {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    with_vm(|vm| {
        for _ in 0..10 {
            vm.with(|stack| stack.userdata(Explosive).map(|_| ())).unwrap();
        }
        eval(vm, "for i = 1, 10 do getmetatable(newproxy(true)).__gc = function() error('in gc') end end")
            .unwrap();
        eval(
            vm,
            "for i = 1, 10 do local p = newproxy(true); getmetatable(p).__gc = function() error({}) end end",
        )
        .unwrap();
        vm.collect().unwrap();
        vm.collect().unwrap();
        assert_eq!(vm.panics(), 10);
        // Also where an allocation by Rust runs the collector.
        eval(vm, "for i = 1, 100 do local p = newproxy(true); getmetatable(p).__gc = function() error('gc') end end").unwrap();
        vm.with(|stack| {
            for n in 0..20_000 {
                stack.scope(|stack| stack.push(format!("string {n}")))?;
            }
            Ok(())
        })
        .unwrap();
        check(vm, "return 'well'", "well");
    });
}

#[test]
fn functions_can_own_data() {
    with_vm(|vm| {
        vm.with(|stack| {
            let counter =
                stack.function_with(std::cell::Cell::new(0), |call, count: &std::cell::Cell<u32>| {
                    count.set(count.get() + 1);
                    call.ret(count.get())
                })?;
            stack.globals()?.raw_set(stack, "counter", counter)
        })
        .unwrap();
        check(vm, "counter(); counter(); return counter()", "3");
        // The debug library can take the data away; the function notices.
        fails(vm, "debug.setupvalue(counter, 1, io.stdout); counter()", "the function's data is gone");
    });
}

#[test]
fn what_the_host_lends_ends_with_the_run() {
    with_vm(|vm| {
        define(vm, "host", |call| {
            let seen = call.host(|number: &u32| *number);
            assert!(call.host(|_: &String| ()).is_none());
            call.ret(seen)
        });
        let run = |expect: &str| check(vm, "return host()", expect);
        run("nil");
        vm.lend(&5u32, 0, || {
            run("5");
            vm.lend(&6u32, 0, || run("6"));
            run("5");
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                vm.lend(&7u32, 0, || panic!("out"))
            }));
            assert!(caught.is_err());
            run("5");
        });
        run("nil");
    });
}

#[test]
fn a_value_of_another_stack_is_an_error() {
    with_vm(|vm| {
        let other = Vm::new(&moonrest_luajit::Options::default()).unwrap();
        vm.with(|stack| {
            let table = stack.table(0, 0)?;
            other.with(|foreign| {
                foreign.table(0, 0)?;
                assert_eq!(table.raw_set(foreign, 1, 1).unwrap_err().kind(), ErrorKind::Misuse);
                assert_eq!(foreign.push(table).unwrap_err().kind(), ErrorKind::Misuse);
                Ok(())
            })
        })
        .unwrap();
    });
}

#[test]
fn results_count_what_is_there() {
    with_vm(|vm| {
        define(vm, "all", |call| Ok(call.ret_from(1)));
        define(vm, "none", |call| Ok(call.ret_from(100)));
        check(vm, "return select('#', all(1, nil, 3))", "3");
        check(vm, "return select('#', none(1, 2))", "0");
    });
}

#[test]
fn a_function_learns_where_it_is_called() {
    with_vm(|vm| {
        define(vm, "place", |call| {
            let place = call.caller().unwrap();
            let function = place.function.unwrap_or_default();
            call.ret(format!("{}:{}:{function}", place.source, place.line).as_str())
        });
        check(vm, "local at = place(); return at", "test:1:");
        check(
            vm,
            "local function told() local at = place() return at end\nlocal at = told() return at",
            "test:1:told",
        );
        check(vm, "return (select(2, pcall(place)))", "[C]:-1:");
    });
}
