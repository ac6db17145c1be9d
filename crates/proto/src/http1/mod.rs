//! HTTP/1: heads, framing of bodies and the chunked coding. RFC 9112, read as strictly as framing needs and
//! otherwise as nginx reads it.

pub mod chunked;
mod edit;
pub mod field;
pub mod framing;
pub mod head;
pub mod host;
mod known;
mod limits;
mod method;
mod request_line;
pub mod response;
mod scan;

pub use chunked::{Chunk, ChunkError, ChunkHead, ChunkLimits};
pub use field::{Field, FieldRules, Fields, Known};
pub use framing::{Body, Framing, FramingError, framing};
pub use head::{HeadError, Parse, RequestHead};
pub use limits::HeadLimits;
pub use method::{Method, Version};
pub use response::{ResponseBody, ResponseError, ResponseFraming, ResponseHead, response_framing};
