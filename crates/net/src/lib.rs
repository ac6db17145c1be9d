//! Listeners, connectors, TLS, resolver, connection pools and timers.

pub mod addr;
pub mod connect;
pub mod io;
pub mod listen;
pub mod report;
pub mod resolver;
pub mod tls;

pub use moonrest_rt::{sleep, timer};
