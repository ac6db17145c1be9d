//! Protocol drivers: what turns bytes of a connection into requests and back.

pub mod accept;
mod carry;
pub mod h1;
mod h2;
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
pub(crate) use head::{OK, SERVER, reason};
pub(crate) use queue::Queue;

/// Whether HTTP/2 is among the protocols that a TLS connection may choose from.
fn offers_http2(h1: &h1::H1) -> bool {
    h2::is_enabled(h1)
}

/// nginx's words when a client took too long.
const TIMED_OUT: &str = "client timed out (110: Connection timed out)";
