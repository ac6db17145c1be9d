//! `Ref`: a Lua value that Rust keeps.
use std::ffi::c_int;
use std::rc::Rc;

use crate::shared::Shared;

/// A Lua value kept alive by Rust, on no stack. Cheap to clone; dropping the last clone releases the value, at the
/// VM's next safe moment if Lua is running. It may outlive its VM, and is useless then.
#[derive(Clone)]
pub struct Ref(pub(crate) Rc<Held>);

pub(crate) struct Held {
    pub(crate) shared: Rc<Shared>,
    pub(crate) id: c_int,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.bury(self.id);
    }
}

impl Ref {
    pub(crate) fn new(shared: Rc<Shared>, id: c_int) -> Self {
        Self(Rc::new(Held { shared, id }))
    }
}

/// A Lua string kept alive by Rust: pushed without looking it up again.
#[derive(Clone)]
pub struct Text(pub(crate) Ref);

impl std::fmt::Debug for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref({})", self.0.id)
    }
}
