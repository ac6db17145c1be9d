//! The nginx.conf language: lexer, parser, include, spans, values and diagnostics. Knows no directive.
//!
//! Two names have a meaning here: `include`, and every name that ends in `_by_lua_block`, whose body is Lua.
//! Everything else (which directives exist, where, with how many arguments) is the reader's of the [`Tree`].
//! <https://nginx.org/en/docs/beginners_guide.html#conf_structure>

mod error;
mod glob;
mod lexer;
mod loader;
mod lua;
mod parser;
mod quote;
mod source;
mod suggest;
mod tree;
pub mod value;

pub use error::{ConfigError, Level};
pub use glob::{expand as expand_glob, is_pattern as is_glob};
pub use loader::{DirectLoader, Loader};
pub use parser::{MAX_BLOCK_DEPTH, MAX_INCLUDE_DEPTH, full_name, parse, parse_param, parse_text};
pub use quote::quote;
pub use source::{FileId, Files, Span};
pub use suggest::did_you_mean;
pub use tree::{Body, Directive, Tree, Word};
