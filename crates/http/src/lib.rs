//! The HTTP engine: configuration blocks, phases, filters, requests, and the HTTP/1 driver.

pub mod args;
pub mod basic_auth;
pub mod body;
pub mod browser;
mod children;
pub mod compile;
pub mod context;
pub mod core;
pub mod decimal;
pub mod engine;
pub mod entity;
pub mod exchange;
pub mod filter;
pub mod gzip;
pub mod listen;
pub mod location;
pub mod module;
pub mod open_file;
pub mod output;
pub mod phase;
mod pipeline;
pub mod prelude;
pub mod regex;
pub mod request;
pub mod response;
pub mod script;
pub mod server;
pub mod special;
pub mod subrequest;
pub mod types;
pub mod variables;
mod walk;
pub mod worker;

pub use moonrest_core::Level;
pub use phase::{Flow, RequestError, Step};
pub use request::{Request, RequestRef};
