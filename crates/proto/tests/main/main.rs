//! Tables of messages with the rule behind each, and properties that hold for every input.

mod framing;
mod head;
mod host;
