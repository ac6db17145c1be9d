//! Protocol drivers: what turns bytes of a connection into requests and back.

pub mod accept;
mod carry;
pub mod h1;
mod handshake;
mod head;
mod intake;
mod now;
mod proxy_protocol;
mod queue;
mod receive;
mod serve;
mod write;

pub use h1::Work;
pub(crate) use head::reason;
pub(crate) use queue::Queue;

/// Whether HTTP/2 is among the protocols that a TLS connection may choose from: not before there is a driver for it.
fn offers_http2(_h1: &h1::H1) -> bool {
    false
}

/// nginx's words when a client took too long.
const TIMED_OUT: &str = "client timed out (110: Connection timed out)";
