//! Memory limits: errors, never aborts.
use moonrest_luajit::{ErrorKind, Form, LuaError, Options, Resumed, Vm};

use crate::{check, eval, with_options};

const LIMIT: usize = 8 * 1024 * 1024;

fn limited() -> Options {
    Options { memory_limit: Some(LIMIT), ..Options::default() }
}

#[test]
fn lua_code_gets_an_error_at_the_limit_and_goes_on() {
    with_options(limited(), |vm| {
        for hoard in [
            "local t = {} for i = 1, 1e9 do t[i] = 'string ' .. i end",
            "local t = {} for i = 1, 1e9 do t[i] = { i } end",
            "local s = 'x' while true do s = s .. s end",
            "return ('x'):rep(1e9)",
            "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(print) end",
            "local t = {} for i = 1, 1e9 do t[i] = function() return i end end",
            "local ffi = require 'ffi'; local t = {} for i = 1, 1e9 do t[i] = ffi.new('char[1000]') end",
            "return table.concat({ ('x'):rep(3e6), ('y'):rep(3e6) })",
        ] {
            let error = eval(vm, hoard).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Memory, "{hoard}: {error}");
            assert_eq!(error.to_string(), "not enough memory", "{hoard}");
            assert!(vm.memory_used() <= LIMIT + 64 * 1024, "{hoard}: {}", vm.memory_used());
            // Lua can catch it as well.
            check(vm, &format!("return select(2, pcall(function() {hoard} end))"), "not enough memory");
            vm.collect().unwrap();
        }
        check(vm, "return 'still here'", "still here");
    });
}

#[test]
fn garbage_does_not_count_as_used() {
    with_options(limited(), |vm| {
        // Five megabytes live, and a hundred of garbage: an ordinary cycle would begin at ten.
        eval(vm, "live = {} for i = 1, 5000 do live[i] = ('x'):rep(1000) .. i end").unwrap();
        eval(vm, "for i = 1, 100000 do local s = ('y'):rep(1000) .. i end").unwrap();
        check(vm, "for i = 1, 1e6 do local t = { i } end return #live", "5000");
    });
}

#[test]
fn rust_functions_get_errors_too() {
    with_options(limited(), |vm| {
        vm.with(|stack| {
            let hoard = stack.function(|call| {
                let table = call.table(0, 0)?;
                for n in 0..10_000_000u32 {
                    table.raw_set(call, n, format!("string {n}"))?;
                }
                call.ret(table)
            })?;
            stack.globals()?.raw_set(stack, "hoard", hoard)?;
            let large = stack.function(|call| {
                let bytes = vec![0; call.arg(1)?];
                call.ret(bytes)
            })?;
            stack.globals()?.raw_set(stack, "large", large)?;
            let careless = stack.function(|call| {
                // Takes more than there is, and does not look.
                for n in 0..200 {
                    let _ = call.push(vec![n as u8; 60_000]);
                }
                call.ret("done")
            })?;
            stack.globals()?.raw_set(stack, "careless", careless)
        })
        .unwrap();
        for source in ["hoard()", "large(20e6)", "careless()"] {
            let error = eval(vm, source).unwrap_err();
            assert_eq!(error.to_string(), "not enough memory", "{source}");
            assert!(vm.memory_used() < LIMIT + LIMIT / 2, "{source}: {}", vm.memory_used());
            vm.collect().unwrap();
        }
        check(vm, "return #large(1000)", "1000");
        let error = vm.with(|stack| stack.push(vec![0u8; 20_000_000])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        let error =
            vm.with(|stack| (0..1000).try_for_each(|_| stack.push(vec![1u8; 50_000].as_slice()))).err();
        assert!(error.is_none_or(|error| error.kind() == ErrorKind::Memory));
        let error = vm.with(|stack| stack.table(1 << 26, 0).map(|_| ())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        vm.collect().unwrap();
        check(vm, "return 'still here'", "still here");
    });
}

#[test]
fn coroutines_and_compiling_respect_the_limit() {
    with_options(limited(), |vm| {
        let source = format!("return {{ {} }}", "'a string', ".repeat(2_000_000));
        let error =
            vm.with(|stack| stack.load(source.as_bytes(), "=big", Form::Text).map(|_| ())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        let chunk = vm
            .with(|stack| {
                let chunk =
                    stack.load(b"local t = {} for i = 1, 1e9 do t[i] = { i } end", "=c", Form::Text)?;
                stack.keep(chunk)
            })
            .unwrap();
        for _ in 0..20 {
            let coroutine = vm.coroutine().unwrap();
            let Resumed::Failed(error) = coroutine.start(&chunk, ()).unwrap() else { panic!() };
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Memory, "not enough memory"));
        }
        let held: Result<Vec<_>, LuaError> = (0..100_000).map(|_| vm.coroutine()).collect();
        assert_eq!(held.err().unwrap().kind(), ErrorKind::Memory);
    });
}

#[test]
fn a_vm_that_does_not_fit_is_refused_at_every_size() {
    if cfg!(luajit_assert) {
        return; // See `with_options`: here each failure closes a VM.
    }
    let mut smallest = 0;
    for limit in (0..400_000).step_by(1009) {
        match Vm::new(&Options { memory_limit: Some(limit), ..Options::default() }) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Memory, "{limit}: {error}"),
            Ok(vm) if smallest == 0 => smallest = vm.memory_used(),
            Ok(_) => {}
        }
    }
    assert!(smallest > 0);
}

#[test]
fn every_allocation_may_fail_in_turn() {
    with_options(Options::default(), |vm| {
        vm.with(|stack| {
            let callback = stack.function(|call| {
                let table = call.table(4, 4)?;
                table.raw_set(call, "k", call.arg::<&[u8]>(1)?)?;
                call.ret((table, "two"))
            })?;
            stack.globals()?.raw_set(stack, "callback", callback)
        })
        .unwrap();
        let work = "local t = {} for i = 1, 50 do t[i] = callback('x' .. i) end
                    local co = coroutine.wrap(function(...) for i = 1, 5 do coroutine.yield({ i }) end end)
                    for i = 1, 5 do co() end
                    return (('a'):rep(100):gsub('a', function(c) return { c } and 'b' end))";
        let mut failures = 0;
        for extra in (0..60_000).step_by(67) {
            vm.set_memory_limit(None);
            vm.collect().unwrap();
            vm.set_memory_limit(Some(vm.memory_used() + extra));
            match eval(vm, work) {
                Ok(text) => assert_eq!(text, "b".repeat(100)),
                Err(error) => {
                    assert!(error.to_string().contains("not enough memory"), "{extra}: {error}");
                    failures += 1;
                }
            }
        }
        assert!(failures > 20, "{failures}");
    });
}

#[test]
fn collection_can_be_driven_from_outside() {
    with_options(Options::default(), |vm| {
        eval(vm, "for i = 1, 100000 do local t = { i } end").unwrap();
        while !vm.collect_step(100).unwrap() {}
        vm.collect().unwrap();
        let used = vm.memory_used();
        check(vm, "return math.floor(collectgarbage('count')) > 0", "true");
        assert!(used > 50_000 && used < 2_000_000, "{used}");
        assert_eq!(vm.set_gc_pause(150).unwrap(), 200);
    });
}

#[test]
fn a_small_heap_is_collected_less_often_unless_the_program_says_otherwise() {
    with_options(Options::default(), |vm| {
        check(vm, "return collectgarbage('setpause', 200)", "200");
        let run = || (0..5000).for_each(|_| drop(eval(vm, "return 1").unwrap()));
        run();
        check(vm, "return collectgarbage('setpause', 300)", "500");
        run();
        check(vm, "return collectgarbage('setpause', 300)", "300");
    });
    with_options(Options::default(), |vm| {
        eval(vm, "live = ('x'):rep(6e6)").unwrap();
        (0..5000).for_each(|_| drop(eval(vm, "return 1").unwrap()));
        check(vm, "return collectgarbage('setpause')", "200");
    });
}
