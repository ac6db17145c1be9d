//! What of TLS is read before, or beside, the library that speaks it.

mod client_hello;

pub use client_hello::{ClientHello, Parse, parse};
