//! Tables of messages with the rule behind each, and properties that hold for every input.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers too")]

mod chunked;
mod framing;
mod head;
mod host;
mod proxy_protocol;
mod response;
