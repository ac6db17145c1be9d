//! Tables of messages with the rule behind each, and properties that hold for every input.

mod chunked;
mod framing;
mod head;
mod host;
mod proxy_protocol;
mod response;
