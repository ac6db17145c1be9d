//! Listeners, connectors, TLS, resolver, connection pools and timers.

pub mod addr;
pub mod connect;
pub mod io;
pub mod report;
pub mod resolver;
pub mod sleep;
pub mod timer;
pub mod tls;
