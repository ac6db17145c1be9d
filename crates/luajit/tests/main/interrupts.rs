//! Stopping runaway scripts from another thread.
use std::sync::mpsc;
use std::time::Duration;

use moonrest_luajit::{ErrorKind, Form, Resumed, Vm};

use crate::{check, eval, with_vm};

/// Stops every run that is still the same after a moment, until the returned sender is dropped.
fn watchdog(vm: &Vm) -> mpsc::Sender<()> {
    let interrupter = vm.interrupter().unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut last = None;
        while receiver.recv_timeout(Duration::from_millis(30)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let run = interrupter.run();
            if let (Some(run), true) = (run, run == last) {
                interrupter.stop(run);
            }
            last = run;
        }
    });
    sender
}

#[test]
fn loops_are_stopped_compiled_or_not() {
    with_vm(|vm| {
        let watchdog = watchdog(vm);
        for source in [
            "while true do end",
            "local n = 0 while true do n = n + 1 end",
            "for i = 1, math.huge do end",
            "jit.off(true, true); local n = 0 while true do n = n + 1 end",
            "local function f() return f() end; f()",
            "local function f(n) if n > 0 then return f(n - 1) end end; while true do f(10) end",
            "while true do pcall(error) end",
            "while true do pcall(function() while true do end end) end",
            "while true do xpcall(function() while true do end end, function(e) return e end) end",
            "local t = {} while true do t[1] = ('x'):rep(10) end",
            "while true do coroutine.wrap(function() while true do pcall(coroutine.running) end end)() end",
            "local ffi = require 'ffi'; ffi.cdef 'int getppid(void);' while true do ffi.C.getppid() end",
            "for _ in (function() return 1 end) do end",
            "::again:: goto again",
            "while true do for k, v in pairs({ 1, 2, 3 }) do end end",
            "while true do string.gsub('aaa', 'a', function() end) end",
        ] {
            let error = eval(vm, source).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{source}: {error}");
            assert!(error.to_string().contains("script interrupted"), "{source}: {error}");
        }
        // A busy machine may take as long for this as for a loop without end.
        drop(watchdog);
        check(vm, "local n = 0 for i = 1, 1e7 do n = n + 1 end return n", "10000000");
    });
}

#[test]
fn coroutines_are_stopped_with_the_place_where_they_were() {
    with_vm(|vm| {
        let _watchdog = watchdog(vm);
        let chunk = vm
            .with(|stack| {
                let chunk = stack.load(
                    b"local function spin()\nwhile true do end\nend\nspin()",
                    "@spin.lua",
                    Form::Text,
                )?;
                stack.keep(chunk)
            })
            .unwrap();
        for _ in 0..3 {
            let coroutine = vm.coroutine().unwrap();
            let Resumed::Failed(error) = coroutine.start(&chunk, ()).unwrap() else { panic!() };
            assert_eq!(error.kind(), ErrorKind::Interrupted);
            assert!(error.traceback().unwrap().contains("spin.lua:2: in function 'spin'"), "{error:?}");
        }
    });
}

#[test]
fn a_run_that_is_over_is_not_stopped() {
    with_vm(|vm| {
        let interrupter = vm.interrupter().unwrap();
        assert_eq!(interrupter.run(), None);
        vm.with(|stack| {
            let stop = stack.function_with(
                interrupter.clone(),
                |call, interrupter: &moonrest_luajit::Interrupter| {
                    let run = interrupter.run().unwrap_or_default();
                    interrupter.stop(call.arg::<Option<u64>>(1)?.unwrap_or(run));
                    call.ret(run)
                },
            )?;
            stack.globals()?.raw_set(stack, "stop", stop)
        })
        .unwrap();
        let last: u64 = eval(vm, "return stop(0)").unwrap().parse().unwrap();
        interrupter.stop(last);
        check(vm, "local n = 0 for i = 1, 1e6 do n = n + 1 end return n", "1000000");
        // A run may stop itself; the next one is unharmed.
        assert_eq!(eval(vm, "stop(); return 'not reached'").unwrap_err().kind(), ErrorKind::Interrupted);
        check(vm, "return 'next'", "next");
        assert_eq!(eval(vm, "error('own')").unwrap_err().kind(), ErrorKind::Runtime);
    });
}

#[test]
fn many_interrupts_leave_a_working_vm() {
    with_vm(|vm| {
        let interrupter = vm.interrupter().unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let hammer = std::thread::spawn(move || {
            while receiver.try_recv() == Err(mpsc::TryRecvError::Empty) {
                if let Some(run) = interrupter.run() {
                    interrupter.stop(run);
                }
                std::thread::yield_now();
            }
        });
        let work = "local t = {} for i = 1, 1e5 do t[i % 100] = { i, tostring(i) } end
                    for i = 1, 1e9 do t[i % 10] = i end";
        for _ in 0..300 {
            assert_eq!(eval(vm, work).unwrap_err().kind(), ErrorKind::Interrupted);
        }
        drop(sender);
        hammer.join().unwrap();
        check(vm, "local n = 0 for i = 1, 1e6 do n = n + i % 3 end return n", "1000000");
    });
}
