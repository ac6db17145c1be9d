//! TLS on rustls, driven by hand over buffers of our own: servers' side and clients' side, certificates as OpenSSL
//! judges them, and OpenSSL's names for everything.

mod asn1;
pub mod certificate;
pub mod ciphers;
pub mod client;
pub mod failure;
pub mod info;
mod key;
pub mod names;
pub mod ocsp;
pub mod pem;
mod revocation;
pub mod secrets;
pub mod server;
pub mod session;
pub mod stream;
pub mod ticket;
pub mod verify;
pub mod x509;

pub use info::Info;
pub use rustls;
pub use stream::Stream;
