//! Coroutines driven by Rust.
use moonrest_luajit::{
    Coroutine, ErrorKind, Form, LuaResult, Ran, Ref, Resumed, Value, Vm, format_coroutines,
};

use crate::{check, eval, with_vm};

/// What `wait` leaves for the scheduler.
#[derive(Debug, PartialEq)]
struct Wait(String);

/// Compiles a chunk, in a VM where `wait(x)` suspends and `block(f)` calls f through Rust.
fn program(vm: &Vm, source: &str) -> Ref {
    vm.with(|stack| {
        let wait = stack.function(|call| {
            let what: String = call.arg(1)?;
            call.suspend(Wait(what), (1, 2))
        })?;
        stack.globals()?.raw_set(stack, "wait", wait)?;
        let block = stack.function(|call| {
            let function = call.arg(1)?;
            call.call(function, ())?;
            call.ret(())
        })?;
        stack.globals()?.raw_set(stack, "block", block)?;
        let chunk = stack.load(source.as_bytes(), "=test", Form::Text)?;
        stack.keep(chunk)
    })
    .unwrap()
}

fn waits(resumed: LuaResult<Resumed>, expect: &str) {
    match resumed.unwrap() {
        Resumed::Yielded(Some(operation)) => {
            assert_eq!(operation.downcast_ref::<Wait>(), Some(&Wait(expect.into())))
        }
        other => panic!("{other:?}"),
    }
}

fn results(coroutine: &Coroutine) -> Vec<String> {
    coroutine
        .stack(|stack| {
            (1..=stack.len()).map(|n| stack.read::<String>(n).unwrap_or_else(|e| e.to_string())).collect()
        })
        .unwrap()
}

#[test]
fn a_run_yields_its_operation_and_takes_results() {
    with_vm(|vm| {
        let chunk = program(vm, "local a = ...; local b, c = wait('one' .. a); return b, c, wait('two')");
        let coroutine = vm.coroutine().unwrap();
        waits(coroutine.start(&chunk, "!"), "one!");
        // Two marks of our own come first.
        assert_eq!(results(&coroutine)[2..], ["1", "2"]);
        waits(coroutine.resume(("b", 3)), "two");
        assert!(matches!(coroutine.resume("last").unwrap(), Resumed::Finished));
        assert_eq!(results(&coroutine), ["b", "3", "last"]);
        // It can run again.
        waits(coroutine.start(&chunk, "?"), "one?");
    });
}

#[test]
fn yields_cross_pcall_metamethods_and_iterators() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "local log = {}
             log[1] = select(2, pcall(function() return wait('pcall') end))
             log[2] = select(2, xpcall(function() return wait('xpcall') end, print))
             local t = setmetatable({}, {
                 __index = function() return wait('index') end, __newindex = function() wait('newindex') end,
                 __add = function() return wait('add') end, __eq = function() return wait('eq') end,
                 __lt = function() return wait('lt') end, __concat = function() return wait('concat') end,
                 __call = function() return wait('call') end, __len = function() return wait('len') end })
             log[3] = t.x; t.x = 1; log[4] = t + 1; log[5] = tostring(t < t); log[6] = t .. 'x'; log[7] = t()
             log[8] = #t
             for v in function() return wait('iterator') end do log[#log + 1] = v end
             local ok, e = pcall(function() wait('then'); error('caught', 0) end)
             log[#log + 1] = e
             return table.concat(log, ' ')",
        );
        let coroutine = vm.coroutine().unwrap();
        waits(coroutine.start(&chunk, ()), "pcall");
        for next in
            ["xpcall", "index", "newindex", "add", "lt", "concat", "call", "len", "iterator", "iterator"]
        {
            waits(coroutine.resume("v"), next);
        }
        waits(coroutine.resume(()), "then");
        assert!(matches!(coroutine.resume(()).unwrap(), Resumed::Finished));
        assert_eq!(results(&coroutine), ["v v v v true v v v v caught"]);
    });
}

#[test]
fn yields_do_not_cross_c_functions() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "local out = {}
             local tries = { function() table.sort({ 3, 2, 1 }, function() wait('sort') end) end,
                 function() string.gsub('a', 'a', function() wait('gsub') end) end,
                 function() block(function() wait('rust') end) end }
             for i, try in ipairs(tries) do out[i] = select(2, pcall(try)) end
             coroutine.yield('plain')
             return unpack(out)",
        );
        let coroutine = vm.coroutine().unwrap();
        // A yield that failed leaves no operation behind for the plain one.
        assert!(matches!(coroutine.start(&chunk, ()).unwrap(), Resumed::Yielded(None)));
        assert!(matches!(coroutine.resume(()).unwrap(), Resumed::Finished));
        for error in results(&coroutine) {
            assert!(error.ends_with("attempt to yield across C-call boundary"), "{error}");
        }
        assert!(
            eval(vm, "wait('main')")
                .unwrap_err()
                .to_string()
                .contains("attempt to yield across C-call boundary")
        );
    });
}

#[test]
fn an_operation_passes_all_coroutines_outward_and_its_results_inward() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "local inner = coroutine.create(function(a)
                 local b = wait('inner' .. a)
                 local c = coroutine.yield(b)
                 return c, pcall(function() return wait('again'), nil end)
             end)
             local log = {}
             local function note(ok, ...) log[#log + 1] = select('#', ...) .. tostring(...) end
             local outer = coroutine.wrap(function()
                 note(coroutine.resume(inner, 1))
                 log[#log + 1] = coroutine.status(inner)
                 note(coroutine.resume(inner, 'c'))
                 log[#log + 1] = coroutine.status(inner)
                 return wait('outer')
             end)
             local last = outer(); log[#log + 1] = last
             return unpack(log)",
        );
        let coroutine = vm.coroutine().unwrap();
        waits(coroutine.start(&chunk, ()), "inner1");
        waits(coroutine.resume("b"), "again");
        waits(coroutine.resume(("x", "y")), "outer");
        assert!(matches!(coroutine.resume("end").unwrap(), Resumed::Finished));
        assert_eq!(results(&coroutine), ["1b", "suspended", "4c", "dead", "end"]);
    });
}

#[test]
fn what_waits_cannot_be_resumed_by_lua() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "me = coroutine.running()
             within = coroutine.create(function() wait('x') end)
             without = coroutine.create(function() return coroutine.resume(within) end)
             coroutine.resume(without)",
        );
        let coroutine = vm.coroutine().unwrap();
        waits(coroutine.start(&chunk, ()), "x");
        for (name, state) in [("me", "normal"), ("without", "normal"), ("within", "running")] {
            check(vm, &format!("return coroutine.status({name})"), state);
            let refusal = format!("cannot resume {state} coroutine");
            check(vm, &format!("return select(2, coroutine.resume({name}))"), &refusal);
        }
        assert!(matches!(coroutine.resume(()).unwrap(), Resumed::Finished));
        check(vm, "return coroutine.status(within)", "dead");
    });
}

#[test]
fn a_scheduler_marks_what_it_runs() {
    with_vm(|vm| {
        let chunk =
            program(vm, "me = coroutine.running(); coroutine.yield(); coroutine._yield(); return 'result'");
        let coroutine = vm.with(|stack| stack.new_coroutine()).unwrap();
        assert!(matches!(coroutine.start(&chunk, ()).unwrap(), Resumed::Yielded(None)));
        check(vm, "return coroutine.status(me)", "suspended");
        coroutine.park().unwrap();
        check(vm, "return coroutine.status(me)", "running");
        assert!(matches!(coroutine.resume(()).unwrap(), Resumed::Parked));
        assert!(matches!(coroutine.resume(()).unwrap(), Resumed::Finished));
        coroutine.retire().unwrap();
        let given = vm.with(|stack| {
            stack.push_results(&coroutine)?;
            Ok((stack.read::<bool>(1)?, stack.read::<String>(2)?))
        });
        assert_eq!(given.unwrap(), (true, "result".into()));
        check(vm, "return coroutine.status(me)", "zombie");
        check(vm, "return select(2, coroutine.resume(me))", "cannot resume zombie coroutine");
        coroutine.end().unwrap();
        assert!(coroutine.is_over());
        check(vm, "return coroutine.status(me)", "dead");
    });
}

#[test]
fn an_error_that_leaves_wrapped_coroutines_shows_all_their_stacks() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "local one = coroutine.wrap(function() error('inside') end)
             coroutine.wrap(function() one() end)()",
        );
        let coroutine = vm.coroutine().unwrap();
        let Resumed::Failed(error) = coroutine.start(&chunk, ()).unwrap() else { panic!() };
        assert_eq!(error.to_string(), "test:1: inside");
        let text = format_coroutines(error.tracebacks());
        assert!(
            text.starts_with("stack traceback:\ncoroutine 0:\n\t[C]: in function 'error'\n\ttest:1:"),
            "{text}"
        );
        assert_eq!(text.matches("\ncoroutine ").count(), 3, "{text}");
    });
}

#[test]
fn errors_end_a_run_with_message_value_and_traceback() {
    with_vm(|vm| {
        let chunk =
            program(vm, "local function deep() wait('x'); error('broken') end\nlocal ok = deep()\nreturn ok");
        let coroutine = vm.coroutine().unwrap();
        waits(coroutine.start(&chunk, ()), "x");
        let Resumed::Failed(error) = coroutine.resume(()).unwrap() else { panic!() };
        assert_eq!(error.to_string(), "test:1: broken");
        assert_eq!(
            format_coroutines([error.traceback().unwrap()]),
            "stack traceback:\ncoroutine 0:\n\t[C]: in function 'error'\n\ttest:1: in function 'deep'\n\ttest:2: in main chunk"
        );
        assert!(coroutine.has_failed());
        assert_eq!(coroutine.resume(()).unwrap_err().to_string(), "cannot resume dead coroutine");
        assert_eq!(coroutine.start(&chunk, ()).unwrap_err().kind(), ErrorKind::Misuse);
        // A dead coroutine does not come back from the pool.
        let id = coroutine.id();
        drop(coroutine);
        assert_ne!(vm.coroutine().unwrap().id(), id);

        let chunk = program(vm, "error({ code = 404 })");
        let coroutine = vm.coroutine().unwrap();
        let Resumed::Failed(error) = coroutine.start(&chunk, ()).unwrap() else { panic!() };
        assert_eq!(error.to_string(), "(error object is a table value)");
        let code = vm.with(|stack| {
            let object = stack.put(error.value().unwrap())?.as_table().unwrap();
            Ok(object.raw_get(stack, "code")?.as_number())
        });
        assert_eq!(code.unwrap(), Some(404.0));
        assert!(coroutine.stack(|stack| stack.value(stack.len()).as_table().is_some()).unwrap());
    });
}

#[test]
fn finished_coroutines_are_reused_with_clean_globals() {
    with_vm(|vm| {
        let chunk = program(vm, "setfenv(0, { leaked = true }); return 1");
        let coroutine = vm.coroutine().unwrap();
        coroutine.start(&chunk, ()).unwrap();
        let id = coroutine.id();
        drop(coroutine);
        let chunk = program(vm, "return loadstring('return leaked')()");
        let coroutine = vm.coroutine().unwrap();
        assert_eq!(coroutine.id(), id);
        coroutine.start(&chunk, ()).unwrap();
        assert_eq!(results(&coroutine), ["string expected, got nil"]);
        let environment = vm.with(|stack| {
            let table = stack.table(0, 1)?;
            table.raw_set(stack, "leaked", "own")?;
            table.raw_set(stack, "loadstring", stack.globals()?.raw_get(stack, "loadstring")?)?;
            stack.keep(table)
        });
        coroutine.clear().unwrap();
        coroutine.set_globals(environment.unwrap()).unwrap();
        let chunk = program(vm, "return loadstring('return leaked')()");
        coroutine.start(&chunk, ()).unwrap();
        assert_eq!(results(&coroutine), ["own"]);
    });
}

#[test]
fn values_move_between_coroutines() {
    with_vm(|vm| {
        let chunk = program(
            vm,
            "local co = ...; local r = { coroutine.yield(co, 'x', { 'table' }) }; return r[1] .. r[2]",
        );
        let parent = vm.coroutine().unwrap();
        let child_function = eval_ref(vm, "return function(s, t) return s .. '-child', t[1] end");
        let child = vm
            .with(|stack| {
                let child = stack.new_coroutine()?;
                stack.globals()?.raw_set(stack, "child", &child)?;
                Ok(child)
            })
            .unwrap();
        child.stack(|stack| stack.push(&child_function)).unwrap().unwrap();
        assert!(matches!(parent.start(&chunk, &child).unwrap(), Resumed::Yielded(None)));
        // The handle that a scheduler gets from the thread value means the same coroutine.
        let found = parent
            .stack(|stack| {
                let Value::Thread(thread) = stack.value(1) else { panic!() };
                assert_eq!(thread.id(stack), child.id());
                stack.coroutine(thread).unwrap()
            })
            .unwrap();
        parent.stack(|stack| found.push_from(stack, 2, stack.len() - 1)).unwrap().unwrap();
        assert!(matches!(found.run().unwrap(), Resumed::Finished));
        parent.clear().unwrap();
        found.stack(|stack| parent.push_from(stack, 1, stack.len())).unwrap().unwrap();
        assert!(matches!(parent.run().unwrap(), Resumed::Finished));
        assert_eq!(results(&parent), ["x-childtable"]);
        assert_eq!(found.run().unwrap_err().to_string(), "cannot resume dead coroutine");
    });
}

fn eval_ref(vm: &Vm, source: &str) -> Ref {
    vm.with(|stack| {
        let chunk = stack.load(source.as_bytes(), "=test", Form::Text)?;
        let value = stack.call(chunk, ())?.value(stack, 0);
        stack.keep(value)
    })
    .unwrap()
}

#[test]
fn a_running_coroutine_is_left_alone() {
    with_vm(|vm| {
        let chunk = program(vm, "return try(coroutine.running())");
        vm.with(|stack| {
            let attempt = stack.function(|call| {
                let thread = call.arg(1)?;
                let coroutine = call.coroutine(thread)?;
                assert!(coroutine.is_active());
                assert!(coroutine.clear().is_err());
                assert!(coroutine.stack(|_| ()).is_err());
                let error = coroutine.resume("x").unwrap_err();
                assert!(call.current_thread()?.is_some());
                call.ret(error.to_string())
            })?;
            stack.globals()?.raw_set(stack, "try", attempt)
        })
        .unwrap();
        let coroutine = vm.coroutine().unwrap();
        coroutine.start(&chunk, ()).unwrap();
        assert_eq!(results(&coroutine), ["the coroutine is running"]);
        let second = vm.coroutine().unwrap();
        let refused =
            coroutine.stack(|_| (coroutine.run().is_err(), second.start(&chunk, ()).is_ok())).unwrap();
        assert_eq!(refused, (true, true));
    });
}

#[test]
fn coroutines_resume_inside_callbacks() {
    with_vm(|vm| {
        let inner = program(vm, "return 'inner ' .. (...)");
        vm.with(|stack| {
            let nested = stack.function_with(inner, |call, inner: &Ref| {
                let coroutine = call.lua().coroutine()?;
                coroutine.start(inner, call.arg::<&[u8]>(1)?)?;
                let text = coroutine.stack(|stack| stack.read::<String>(1))??;
                call.ret(text)
            })?;
            stack.globals()?.raw_set(stack, "nested", nested)
        })
        .unwrap();
        let outer = program(vm, "return nested('a') .. nested('b')");
        let coroutine = vm.coroutine().unwrap();
        coroutine.start(&outer, ()).unwrap();
        assert_eq!(results(&coroutine), ["inner ainner b"]);
    });
}

#[test]
fn a_hundred_thousand_coroutines_leave_no_memory_behind() {
    with_vm(|vm| {
        let chunk = program(vm, "local t = { ... }; wait('x'); return #t");
        let function = eval_ref(vm, "return function() coroutine.yield() end");
        let round = |count: usize| {
            for n in 0..count {
                // Half are dropped while they wait, half from outside the pool.
                let coroutine = vm.coroutine().unwrap();
                waits(coroutine.start(&chunk, n), "x");
                if n % 2 == 0 {
                    coroutine.resume(()).unwrap();
                }
                let own = vm.with(|stack| stack.new_coroutine()).unwrap();
                assert!(matches!(own.start(&function, ()).unwrap(), Resumed::Yielded(None)));
            }
            vm.collect().unwrap();
            vm.collect().unwrap();
            vm.memory_used()
        };
        let before = round(1000);
        let after = round(100_000);
        assert!(after < before + 64 * 1024, "{before} → {after}");
    });
}

#[test]
fn the_standard_coroutine_library_works_as_before() {
    with_vm(|vm| {
        check(
            vm,
            "local co = coroutine.create(function(a, b) local c = coroutine.yield(a + b); return c * 2 end)
             local log = { coroutine.status(co) }
             log[2] = tostring(select(2, coroutine.resume(co, 1, 2)))
             log[3] = coroutine.status(co)
             log[4] = tostring(select(2, coroutine.resume(co, 21)))
             log[5] = coroutine.status(co)
             log[6] = select(2, coroutine.resume(co))
             return table.concat(log, ' ')",
            "suspended 3 suspended 42 dead cannot resume dead coroutine",
        );
        check(vm, "return tostring(select('#', coroutine.resume(coroutine.create(function() end))))", "1");
        check(
            vm,
            "return select(2, coroutine.resume(coroutine.create(function() error({ 5 }) end)))[1]",
            "5",
        );
        check(
            vm,
            "local co; co = coroutine.create(function() return select(2, coroutine.resume(co)) end)
             return select(2, coroutine.resume(co))",
            "cannot resume running coroutine",
        );
        check(
            vm,
            "local co; co = coroutine.create(function()
                 return coroutine.wrap(function() return select(2, coroutine.resume(co)) end)() end)
             return select(2, coroutine.resume(co))",
            "cannot resume normal coroutine",
        );
        check(
            vm,
            "local n = 0; for v in coroutine.wrap(function() for i = 1, 4 do coroutine.yield(i) end end) do n = n + v end return n",
            "10",
        );
        check(vm, "return select(2, pcall(coroutine.wrap(function() error('x', 0) end)))", "x");
        check(
            vm,
            "local f = coroutine.wrap(function() end); f(); return select(2, pcall(f))",
            "cannot resume dead coroutine",
        );
        check(
            vm,
            "return select(2, pcall(coroutine.resume))",
            "bad argument #1 to 'resume' (coroutine expected)",
        );
        check(
            vm,
            "return select(2, pcall(coroutine.wrap, 1))",
            "bad argument #1 to 'wrap' (Lua function expected)",
        );
        check(
            vm,
            "local co = coroutine.wrap(function(...) return select('#', ...) end); return co(unpack({}, 1, 7000))",
            "7000",
        );
    });
}

#[test]
fn nothing_is_called_on_a_coroutine_that_waits_or_died() {
    with_vm(|vm| {
        let chunk = program(vm, "local mode = ...; if mode == 'wait' then wait('x') end; error('x')");
        for mode in ["wait", "die"] {
            let coroutine = vm.coroutine().unwrap();
            coroutine.start(&chunk, mode).unwrap();
            let error = coroutine.stack(|stack| {
                let print = stack.globals()?.raw_get(stack, "print")?.as_function().unwrap();
                let before = stack.len();
                let error = stack.call(print, ()).map(|_| ()).unwrap_err();
                assert_eq!(stack.len(), before);
                Err::<(), _>(error)
            });
            assert_eq!(error.unwrap().unwrap_err().kind(), ErrorKind::Misuse);
        }
        check(vm, "return 'well'", "well");
    });
}

/// Runs code without arguments and says how that ended.
fn ran(vm: &Vm, source: &str) -> Ran {
    let chunk = program(vm, source);
    vm.run(&chunk, &5_u8, 7, |id| assert_ne!(id, 0)).unwrap()
}

#[test]
fn code_that_returns_needs_no_coroutine_of_ones_own() {
    with_vm(|vm| {
        assert!(matches!(ran(vm, "return 5"), Ran::Finished(Some(5.0))));
        assert!(matches!(ran(vm, "return 'x', 5"), Ran::Finished(None)));
        assert!(matches!(ran(vm, "setfenv(0, { leaked = true }); return 6"), Ran::Finished(Some(6.0))));
        assert!(matches!(ran(vm, "return loadstring('return leaked')()"), Ran::Finished(None)));
        let Ran::Stopped(_, Resumed::Failed(error)) = ran(vm, "error('no')") else { panic!("it failed") };
        assert_eq!(error.message(), b"test:1: no");
        let Ran::Stopped(coroutine, resumed) = ran(vm, "local a = wait('one'); return a") else {
            panic!("it waits")
        };
        waits(Ok(resumed), "one");
        // Meanwhile others run, on other coroutines.
        assert!(matches!(ran(vm, "return 5"), Ran::Finished(Some(5.0))));
        assert!(matches!(coroutine.resume("a").unwrap(), Resumed::Finished));
        assert_eq!(results(&coroutine), ["a"]);
    });
}
