//! Shared zones: named memory common to all workers, found again after a reload by name, size and type.

mod arena;
pub mod dict;
mod lru;
mod shard;

pub use lru::{Full, Locked, Lru, MAX_KEY, Put, Record};

use crate::{ConfResult, Fault};
use parking_lot::Mutex;
use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

type AnyZone = Arc<dyn Any + Send + Sync>;

struct Kept {
    size: u64,
    kind: TypeId,
    zone: AnyZone,
}

/// What the running generation declared. A new one takes over the zones that are declared alike.
static RUNNING: LazyLock<Mutex<HashMap<String, Kept>>> = LazyLock::new(Mutex::default);

/// The zones that one compilation declares.
#[derive(Default)]
pub struct Zones {
    declared: RefCell<HashMap<String, Kept>>,
}

impl Zones {
    /// Declares zone `name`, or takes over the running one of the same name, size and type.
    ///
    /// # Errors
    /// nginx's `the shared memory zone "x" is already declared for a different use` and
    /// `the size N of shared memory zone "x" conflicts with already declared size M`.
    pub fn declare<T: Any + Send + Sync>(
        &self,
        name: &str,
        size: u64,
        create: impl FnOnce() -> T,
    ) -> ConfResult<Arc<T>> {
        let kind = TypeId::of::<T>();
        let mut declared = self.declared.borrow_mut();
        if let Some(known) = declared.get(name) {
            if known.kind != kind {
                return Err(Fault::message(format!(
                    "the shared memory zone \"{name}\" is already declared for a different use"
                )));
            }
            if known.size != size {
                return Err(Fault::message(format!(
                    "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {}",
                    known.size
                )));
            }
            return known.zone.clone().downcast::<T>().map_err(|_| Fault::message("zone of another type"));
        }
        let running = RUNNING
            .lock()
            .get(name)
            .filter(|kept| kept.kind == kind && kept.size == size)
            .and_then(|kept| kept.zone.clone().downcast::<T>().ok());
        let zone = running.unwrap_or_else(|| Arc::new(create()));
        declared.insert(name.to_owned(), Kept { size, kind, zone: zone.clone() });
        Ok(zone)
    }

    /// Whether a zone of that name was declared, whatever its type.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.borrow().contains_key(name)
    }

    /// The zone of that name and type declared so far.
    pub fn get<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.declared.borrow().get(name)?.zone.clone().downcast().ok()
    }

    /// Makes the declared zones the running ones; called when the generation takes over.
    pub fn commit(self) {
        *RUNNING.lock() = self.declared.into_inner();
    }
}
