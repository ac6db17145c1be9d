//! A piece of Lua code as the configuration names it.

use moonrest_core::{Subject, Template};
use std::{
    borrow::Cow,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

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
    File(FileName),
}

/// The name of a file with code, relative to the server's prefix.
#[derive(Debug)]
pub(crate) struct FileName {
    pub name: Template,
    pub prefix: PathBuf,
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Code {
    pub(crate) fn new(source: Source) -> Self {
        Self { id: NEXT.fetch_add(1, Relaxed), source }
    }
}

impl FileName {
    /// The whole path, if it has no variables.
    pub(crate) fn fixed(&self) -> Option<Cow<'_, [u8]>> {
        self.name.as_static().map(|name| self.rebase(Cow::Borrowed(name)))
    }

    /// The whole path for a request.
    pub(crate) fn eval<'a, S: Subject>(&'a self, subject: &'a S) -> Cow<'a, [u8]> {
        self.rebase(self.name.eval(subject))
    }

    fn rebase<'a>(&self, name: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        use std::os::unix::ffi::OsStrExt;
        if name.starts_with(b"/") {
            return name;
        }
        let mut path = self.prefix.as_os_str().as_bytes().to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_is_below_the_prefix() {
        let name = FileName { name: Template::default(), prefix: "/srv/x/".into() };
        assert_eq!(&*name.rebase(b"lua/a.lua".into()), b"/srv/x/lua/a.lua");
        assert_eq!(&*name.rebase(b"/b.lua".into()), b"/b.lua");
    }
}
