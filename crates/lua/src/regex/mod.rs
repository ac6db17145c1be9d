//! What `ngx.re` needs beside PCRE2, which is called in `ffi::regex`.

mod template;

pub(crate) use template::Template;
