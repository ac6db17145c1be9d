//! The event loop of a worker: one thread that waits for descriptors and deadlines, and runs tasks.
//!
//! A turn is: run what was woken, fire what is due, wait in `epoll_wait`, wake who waited for what has happened. Tasks
//! are futures of this thread; a waker is a number ([`word`]), so that waking is a push to a queue and costs no memory.
//!
//! ```text
//!  epoll_wait ──► sources (source.rs): readiness, wakers ──┐
//!  other threads ──► remote.rs ────────────────────────────┼──► queue ──► tasks (tasks.rs)
//!  deadlines ──► sleep.rs, timer.rs ───────────────────────┘
//! ```

pub mod blocking;
mod budget;
pub mod clock;
pub mod fd;
mod join;
mod local;
mod remote;
mod runtime;
pub mod sleep;
mod source;
mod tasks;
pub mod timer;
mod word;

pub use blocking::spawn_blocking;
pub use budget::yield_now;
pub use fd::Watched;
pub use join::{JoinHandle, Lost, spawn_joined};
pub use local::{is_running, looks};
pub use moonrest_sys::epoll::Interest;
pub use runtime::{Options, Runtime, block_on};
pub use tasks::spawn;

#[cfg(test)]
mod tests;
