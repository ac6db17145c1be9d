//! HTTP/2 towards servers (RFC 9113), without the socket: frames of a connection that carries one request at a time.

mod client;
pub mod hpack;
mod huffman;

pub use client::{Client, Event, MAX_DATA};
