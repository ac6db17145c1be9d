//! What http and stream share: directive tables and merging, variables, templates, shared zones, the error log.

pub mod args;
pub mod block;
pub mod build;
pub mod cidr;
pub mod context;
pub mod env;
pub mod error_log;
pub mod fault;
pub mod geo;
pub mod hostnames;
pub mod inherit;
pub mod log;
pub mod log_capture;
pub mod map;
pub mod regex;
pub mod resolver;
pub mod split_clients;
pub mod syslog;
pub mod template;
pub mod thread_pool;
pub mod upstream;
pub mod var;
pub mod zone;

pub use args::Args;
pub use cidr::Cidr;
pub use context::{Arity, Contexts};
pub use env::Env;
pub use fault::{ConfResult, Fault, set_once};
pub use inherit::Inherit;
pub use log::{Level, Log};
pub use moonrest_conf as conf;
pub use moonrest_conf::{ConfigError, Span, Word};
pub use regex::Regex;
pub use template::Template;
pub use var::{Subject, Value, VarId, VarTable, Variables};
