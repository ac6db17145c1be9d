//! What the program lends to Lua for the length of one run: "the current request".
//!
//! One slot per thread, because FFI entries get no `lua_State`. Reading it is a thread-local load and a comparison of
//! types. The slot also holds a token, the number that `thread.exdata()` shows to Lua as a pointer.
use std::cell::Cell;

use crate::userdata::{Identity, NO_IDENTITY, identity};

/// The value lent, without its type and lifetime.
#[derive(Clone, Copy)]
struct Lent {
    pointer: *const (),
    kind: Identity,
    token: usize,
}

thread_local! {
    static LENT: Cell<Lent> = const { Cell::new(Lent { pointer: std::ptr::null(), kind: NO_IDENTITY, token: 0 }) };
}

/// The cells that `thread.exdata` and `exdata2` read through the FFI; their addresses are compiled into traces.
#[derive(Default)]
pub(crate) struct Cells {
    pub(crate) exdata: Cell<usize>,
    pub(crate) exdata2: Cell<usize>,
}

/// Puts back what was lent before, also when the run panics.
struct Restore<'a> {
    lent: Lent,
    cells: &'a Cells,
    old: (usize, usize),
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        LENT.set(self.lent);
        self.cells.exdata.set(self.old.0);
        self.cells.exdata2.set(self.old.1);
    }
}

/// Lends `value` while `run` runs.
#[inline]
pub(crate) fn lend<T: 'static, R>(cells: &Cells, value: &T, token: usize, run: impl FnOnce() -> R) -> R {
    let lent = LENT.replace(Lent { pointer: (&raw const *value).cast(), kind: identity::<T>(), token });
    let _restore = Restore { lent, cells, old: (cells.exdata.replace(token), cells.exdata2.replace(0)) };
    run()
}

/// Reads the value lent on this thread, if it is a `T`.
#[inline]
pub(crate) fn borrowed<T: 'static, R>(read: impl FnOnce(&T) -> R) -> Option<R> {
    let lent = LENT.get();
    if lent.kind != identity::<T>() {
        return None;
    }
    // SAFETY: the type is the one lent. The value outlives this call: `lend` holds a reference to it until its `run`
    // returns, and we are called from within that; nobody can keep the reference beyond `read`.
    Some(read(unsafe { &*lent.pointer.cast::<T>() }))
}

/// The token lent with the value; 0 when nothing is.
#[inline]
pub(crate) fn token() -> usize {
    LENT.get().token
}
