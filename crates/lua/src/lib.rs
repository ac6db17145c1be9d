//! OpenResty: Lua code in nginx's phases, and the `ngx` API it sees.
//! <https://github.com/openresty/lua-nginx-module>
//!
//! ```text
//! directives → Code (text, name) → Handler attached to a phase
//!                                      │ runs a coroutine of the worker's VM
//!                                      ▼
//!                   scheduler: finished? → the phase goes on
//!                              waits?    → the operation's future is awaited, the coroutine resumed with its results
//! ```
mod api;
mod balancer;
mod clock;
mod code;
mod directives;
mod escape;
mod ffi;
mod filter;
mod handler;
mod handshake;
mod host;
mod library;
mod phase_io;
mod pipe;
mod regex;
mod response_fields;
mod scheduler;
mod semaphore;
mod sending;
mod set;
mod settings;
mod shdict;
mod timers;
mod vm;
mod websocket;
mod worker_threads;

pub use directives::HttpLua;
