//! Protocol drivers: what turns bytes of a connection into requests and back.

pub mod accept;
pub mod h1;
mod head;
mod proxy_protocol;
mod queue;
mod write;
