//! LuaJIT made safe: VMs, values, coroutines, Rust functions and exported C symbols.
//!
//! ```
//! use moonrest_luajit::{Form, Options, Resumed, Vm};
//!
//! let vm = Vm::new(&Options::default())?;
//! let chunk = vm.with(|stack| {
//!     // A Rust function that waits: it leaves an operation and yields.
//!     let sleep = stack.function(|call| {
//!         let seconds: f64 = call.arg(1)?;
//!         call.suspend(std::time::Duration::from_secs_f64(seconds), ())
//!     })?;
//!     stack.globals()?.raw_set(stack, "sleep", sleep)?;
//!     let chunk = stack.load(b"return 'slept ' .. sleep(0.5)", "=content_by_lua(nginx.conf:12)", Form::Text)?;
//!     stack.keep(chunk)
//! })?;
//! let coroutine = vm.coroutine()?;
//! let Resumed::Yielded(Some(operation)) = coroutine.start(&chunk, ())? else { panic!() };
//! assert_eq!(operation.downcast_ref(), Some(&std::time::Duration::from_millis(500)));
//! assert!(matches!(coroutine.resume("well")?, Resumed::Finished));
//! assert_eq!(coroutine.stack(|stack| stack.read::<String>(1))??, "slept well");
//! # Ok::<(), moonrest_luajit::LuaError>(())
//! ```
//!
//! # Parts
//!
//! | Type | Is |
//! |---|---|
//! | [`Vm`], [`Lua`] | a Lua state and its life; the handle to it |
//! | [`Stack`] | a Lua stack in Rust's turn: pushing, reading, calling, compiling; [`Value`], [`Table`], … are slots on it |
//! | [`Call`] | one call of a Rust function: arguments, [`Return`]; derefs to its `Stack` |
//! | [`Coroutine`], [`Resumed`], [`Ran`] | a coroutine that Rust runs, and how it stopped |
//! | [`Ref`] | a Lua value that Rust keeps |
//! | [`LuaError`] | message, traceback, error value |
//! | [`Interrupter`] | stops a run from another thread |
//! | [`json`] | JSON text from Lua values and back |
//! | [`raw`] | what exported FFI entries need |
//!
//! # The rules it keeps
//!
//! - *A Lua error never unwinds a Rust frame that owns something.* What may raise runs in a protected call. What
//!   could raise only "not enough memory" runs while the allocator refuses nothing (module `heap`): the limit is then
//!   noted, and raised by the frame that owns nothing (module `call`).
//! - *A panic never crosses a Lua frame.* It becomes a Lua error in a Rust function, a code in an FFI entry. Its report
//!   has no backtrace, because a walk over compiled Lua code aborts: see [`is_running_lua`].
//! - *Rust and Lua take turns.* An FFI entry runs within Lua's turn, so every handle refuses it.
//! - *A handle is checked when used.* Wrong ones give errors. Lua code that goes behind the scenes with `ffi` or bytecode
//!   can of course do harm; with `debug` it can confuse, but not corrupt, except by `debug.setlocal` on Rust's frames.
//! - *Recursion ends in a Lua error* (module `c_stack`): threads that run Lua have [`THREAD_STACK_SIZE`].
//!
//! # Linking a program
//!
//! `ffi.C` and C modules find symbols that the executable exports. The build script of the *binary's* package prints
//!
//! ```text
//! cargo:rustc-link-arg-bins=-rdynamic
//! ```
//!
//! That is all: `#[unsafe(no_mangle)]` functions of any crate linked in, called or not, and the whole `lua_*`, `luaL_*`
//! interface are exported then, also with fat LTO. `panic` stays `unwind`: Lua errors unwind C-unwind frames. The
//! example `hosting` shows it with Debian's lua-cjson, lua-filesystem and lua-lpeg.
//!
//! # LuaJIT's build
//!
//! GC64, JIT, FFI, Lua 5.2's extras, external unwinding. `LUAJIT_ENABLE_CHECKHOOK` makes compiled loops see hooks, at two
//! instructions a round; see `interrupt` for how a run is stopped. With `MOONREST_LUAJIT_ASSERT=1` in the environment
//! LuaJIT checks itself. `jit.v`, `jit.dump`, `jit.p`, `jit.bc` and the rest are embedded, for `resty -j`.
//!
//! # Costs
//!
//! Instructions for one, counted by `examples/bench.sh` (release build, the loop's 6 included where Lua loops):
//!
//! | What | Instructions |
//! |---|---|
//! | pooled coroutine taken, run, finished, returned, with `lend` | 826 |
//! | yield from a Rust function with an operation, and resume, with `lend` | 743 |
//! | function called from Rust through `with` and `call` (a protected call with a handler) | 725 |
//! | C function of LuaJIT's library (`os.time`) | 263 |
//! | Rust function, nothing in or out | 213 |
//! | Rust function, number in and out; string in and out | 287; 452 |
//! | Rust function that returns a table of two fields (collecting it included) | 2,035 |
//! | FFI entry of another library (`getppid`) in a compiled loop | 14 |
//! | FFI getter with `exdata()` and `raw::host` in a compiled loop | 32 |
//! | `table.isempty`; `isarray`, `nkeys`, `clone` of a table with 10 keys, all compiled | 31; 661, 788, 2,530 |
//! | error raised by `error`, by a Rust function, and caught by `pcall` | 15,400, 23,700 |
#![allow(unsafe_code)]

mod bytecode;
mod c_stack;
mod call;
mod chunk;
mod convert;
mod coroutine;
mod coroutines;
mod direct;
mod error;
mod extras;
mod ffi;
mod guards;
mod heap;
mod host;
mod interrupt;
pub mod json;
mod modules;
mod panics;
pub mod raw;
mod reference;
mod shared;
mod stack;
mod table;
mod traceback;
mod userdata;
mod vm;

pub use c_stack::THREAD_STACK_SIZE;
pub use call::{Call, FromArgs, Native, Return};
pub use chunk::{Bytecode, Form};
pub use convert::{FromLua, IntoLua, IntoLuaMulti, Light, Nil, With};
pub use coroutine::{Coroutine, Ran, Resumed};
pub use error::{ErrorKind, LuaError, LuaResult};
pub use interrupt::Interrupter;
pub use panics::is_running_lua;
pub use reference::{Ref, Text};
pub use stack::{Function, Results, Slot, Stack, Table, Thread, Userdata, Value};
pub use table::Origin;
pub use traceback::{Place, format_coroutines};
pub use userdata::Borrowed;
pub use vm::{Lua, Options, Vm};
