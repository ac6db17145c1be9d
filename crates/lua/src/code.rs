//! A piece of Lua code as the configuration names it.

use moonrest_core::Template;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Lua code and where it comes from.
#[derive(Debug)]
pub(crate) struct Code {
    /// Tells pieces apart in a VM's cache.
    pub id: usize,
    pub source: Source,
}

/// Where the text is.
#[derive(Debug)]
pub(crate) enum Source {
    /// In the configuration; `name` is what tracebacks show, `content_by_lua(nginx.conf:12)`.
    Inline { name: String, text: Box<[u8]> },
    /// In a file, whose name may have variables.
    File(Template),
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Code {
    pub(crate) fn new(source: Source) -> Self {
        Self { id: NEXT.fetch_add(1, Relaxed), source }
    }
}
