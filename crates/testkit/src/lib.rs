//! For tests: starts a server on a free port, raw client, mock upstream, the specification runner.
//!
//! A test kit stops a test by panicking, so `expect` with a message that names what went wrong is its error
//! handling; the specification runner in [`spec`] is a program and reports instead.

pub mod client;
pub mod logs;
pub mod port;
pub mod process;
pub mod response;
pub mod server;
pub mod services;
pub mod spec;
pub mod tls;
pub mod upstream;

pub use client::Client;
pub use port::Port;
pub use response::Response;
pub use server::{Server, ServerBuilder, StartFailure};
pub use upstream::{Recorded, Upstream};
