//! Listeners, connectors, TLS, resolver, connection pools and timers.

pub mod addr;
pub mod io;
pub mod timer;
