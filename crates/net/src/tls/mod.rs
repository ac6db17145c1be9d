//! TLS on rustls, driven by hand over buffers of our own: servers' side and clients' side, certificates as OpenSSL
//! judges them, and OpenSSL's names for everything.

pub mod info;
pub mod names;
pub mod session;
pub mod stream;

pub use info::Info;
pub use rustls;
pub use stream::Stream;
