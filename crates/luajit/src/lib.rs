//! LuaJIT made safe: VMs, values, coroutines, Rust functions and exported C symbols.
#![allow(unsafe_code)]

mod c_stack;
mod call;
mod chunk;
mod convert;
mod coroutine;
mod error;
mod extras;
mod ffi;
mod guards;
mod heap;
mod host;
mod interrupt;
mod modules;
pub mod raw;
mod reference;
mod shared;
mod stack;
mod table;
mod traceback;
mod userdata;
mod vm;

pub use c_stack::THREAD_STACK_SIZE;
pub use call::{Call, FromArgs, Return};
pub use chunk::{Bytecode, Form};
pub use convert::{FromLua, IntoLua, IntoLuaMulti, Light, Nil, With};
pub use coroutine::{Coroutine, Resumed};
pub use error::{ErrorKind, LuaError, LuaResult};
pub use interrupt::Interrupter;
pub use reference::Ref;
pub use stack::{Function, Results, Slot, Stack, Table, Thread, Userdata, Value};
pub use traceback::format_coroutines;
pub use userdata::Borrowed;
pub use vm::{Lua, Options, Vm};
