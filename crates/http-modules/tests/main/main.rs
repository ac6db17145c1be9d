//! The filters and subrequests inside the engine: a request in memory, an exchange that records, a client as slow as a
//! test wants it.
#![allow(clippy::unwrap_used, reason = "a test stops by panicking")]

mod engine;
mod filters;
mod panics;
