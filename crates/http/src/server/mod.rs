//! Protocol drivers: what turns bytes of a connection into requests and back.

pub mod accept;
pub mod h1;
mod head;
mod queue;
mod write;
