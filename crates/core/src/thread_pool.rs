//! Names of thread pools: used by modules, declared at the main level, which may come later.
//! <https://nginx.org/en/docs/ngx_core_module.html#thread_pool>

use crate::{Env, Span};
use parking_lot::Mutex;
use std::sync::Arc;

/// The pool that exists without being declared.
pub const DEFAULT: &str = "default";

/// Pools that a configuration uses, and where. One per compilation, see [`Env::shared`].
#[derive(Default)]
pub struct UsedPools(Mutex<Vec<(Box<str>, Span)>>);

/// Pools that a configuration declares, which is complete when everything is read. One per compilation.
#[derive(Default)]
pub struct DeclaredPools(Mutex<Vec<Box<str>>>);

impl DeclaredPools {
    /// Whether there is a pool of this name.
    pub fn has(&self, name: &str) -> bool {
        name == DEFAULT || self.0.lock().iter().any(|known| **known == *name)
    }
}

/// Notes that a pool is declared.
pub fn declare(env: &Env<'_>, name: &str) {
    declared(env).0.lock().push(name.into());
}

/// The pools that this configuration declares.
pub fn declared(env: &Env<'_>) -> Arc<DeclaredPools> {
    env.shared()
}

/// Notes that a directive at `span` uses a pool. Whether it exists is checked when everything is read.
pub fn uses(env: &Env<'_>, name: &str, span: Span) {
    env.shared::<UsedPools>().0.lock().push((name.into(), span));
}

/// The pools in use that are neither declared nor the default one.
pub fn unknown(env: &Env<'_>, declared: impl Fn(&str) -> bool) -> Vec<(Box<str>, Span)> {
    let used = std::mem::take(&mut *env.shared::<UsedPools>().0.lock());
    // A name with variables is known only when a request comes.
    used.into_iter()
        .filter(|(name, _)| &**name != DEFAULT && !name.contains('$') && !declared(name))
        .collect()
}
