//! HTTP/1: heads, framing of bodies and the chunked coding. RFC 9112, read as strictly as framing needs and
//! otherwise as nginx reads it.

pub mod field;
pub mod framing;
pub mod head;
pub mod host;
mod limits;
mod method;
mod request_line;
mod scan;

pub use field::{Field, FieldRules, Known};
pub use framing::{Body, Framing, FramingError, framing};
pub use head::{HeadError, Parse, RequestHead};
pub use limits::HeadLimits;
pub use method::{Method, Version};
