//! Sans-I/O codecs, one file each: bytes in, values out. Does no input or output and reads no clock.
//!
//! Nothing here trusts a byte: no panicking access, no unchecked arithmetic on lengths that a peer announced.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod cookie;
pub mod date;
pub mod escape;
pub mod http1;
pub mod mysql;
pub mod postgres;
pub mod proxy_protocol;
pub mod query;
pub mod range;
pub mod rds;
pub mod redis;
mod span;
pub mod tls;
pub mod uri;
pub mod websocket;

pub use span::Span;
