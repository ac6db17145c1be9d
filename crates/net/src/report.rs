//! Where this crate's lines for the error log go: this layer has no log of its own, the worker says where.

use std::{cell::RefCell, fmt, rc::Rc};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Alert,
    Error,
}

type Sink = Rc<dyn Fn(Severity, fmt::Arguments<'_>)>;

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

/// From now on `sink` writes what this thread's resolvers complain about.
pub fn set(sink: impl Fn(Severity, fmt::Arguments<'_>) + 'static) {
    SINK.set(Some(Rc::new(sink)));
}

/// Writes a line of the level `error`.
pub(crate) fn error(line: fmt::Arguments<'_>) {
    write(Severity::Error, line);
}

/// Writes a line.
pub(crate) fn write(severity: Severity, line: fmt::Arguments<'_>) {
    let sink = SINK.try_with(|sink| sink.borrow().clone()).ok().flatten();
    if let Some(sink) = sink {
        sink(severity, line);
    }
}
