//! Where this crate's lines for the error log go: this layer has no log of its own, the worker says where.

use std::{cell::RefCell, fmt, rc::Rc};

type Sink = Rc<dyn Fn(fmt::Arguments<'_>)>;

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

/// From now on `sink` writes what this thread's resolvers complain about, at the level `error`.
pub fn set(sink: impl Fn(fmt::Arguments<'_>) + 'static) {
    SINK.set(Some(Rc::new(sink)));
}

/// Writes a line of the level `error`.
pub(crate) fn error(line: fmt::Arguments<'_>) {
    let sink = SINK.try_with(|sink| sink.borrow().clone()).ok().flatten();
    if let Some(sink) = sink {
        sink(line);
    }
}
