//! The promises of the crate, each with its test.
#![allow(unsafe_code, clippy::unwrap_used)]

mod calls;
mod coroutines;
mod entries;
mod extras;
mod interrupts;
mod memory;
mod modules;
mod recursion;
mod values;

use moonrest_luajit::{Form, LuaResult, Options, THREAD_STACK_SIZE, Vm};

/// Runs a test on a thread with a stack for Lua, with a VM of its own.
fn with_vm(test: impl FnOnce(&Vm) + Send + 'static) {
    on_thread(move || test(&Vm::new(&Options::default()).unwrap()));
}

/// The same for tests in which allocations fail. LuaJIT's accounts are wrong after some of those, which its assertions
/// would notice when the VM is closed: with them it stays open.
fn with_options(options: Options, test: impl FnOnce(&Vm) + Send + 'static) {
    on_thread(move || {
        let vm = Vm::new(&options).unwrap();
        test(&vm);
        if cfg!(luajit_assert) {
            std::mem::forget(vm);
        }
    });
}

fn on_thread(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK_SIZE);
    if let Err(panic) = thread.spawn(run).unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a chunk and returns its first result as text.
fn eval(vm: &Vm, source: &str) -> LuaResult<String> {
    vm.with(|stack| {
        let chunk = stack.load(source.as_bytes(), "=test", Form::Text)?;
        let tostring = stack.load(b"local v = ...; return tostring(v)", "=tostring", Form::Text)?;
        let results = stack.call(chunk, ())?;
        let text = stack.call(tostring, results.value(stack, 0))?;
        text.read(stack, 0)
    })
}

/// Checks what a chunk returns.
fn check(vm: &Vm, source: &str, expect: &str) {
    match eval(vm, source) {
        Ok(text) => assert_eq!(text, expect, "{source}"),
        Err(error) => panic!("{source}: {error:?}"),
    }
}

/// Checks with which message a chunk fails.
fn fails(vm: &Vm, source: &str, expect: &str) {
    match eval(vm, source) {
        Ok(text) => panic!("{source}: answered {text}"),
        Err(error) => assert!(error.to_string().contains(expect), "{source}: {error}"),
    }
}
