//! The cache of upstreams' answers: one implementation for every module that asks upstreams.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache>
//!
//! ```text
//! request ─► key ─► index (zone) ─► file ─┬─► fresh: answered
//!                                         ├─► stale: answered meanwhile, confirmed, or fetched anew
//!                                         └─► none: one request fetches it, others may wait
//! answer ─► policy: for how long? ─► temporary file ─► renamed into place ─► index
//! ```
//!
//! [`Zone`] is what workers share, `file` the form of files, `policy` what an answer's fields mean, `store` an answer on
//! its way into a file, `hot` what a worker has in memory, `manager` the threads that keep a cache within its limits. Requests
//! meet it in `upstream::cached`, answers in `upstream::keep`.

mod file;
mod hot;
mod index;
mod key;
mod manager;
mod policy;
mod purge;
mod settings;
mod store;
mod zone;

pub(crate) use file::{Entry, MOST_ETAG, Meta, Read, has_room, read, renew};
pub(crate) use hot::read as read_hot;
pub(crate) use index::Key;
pub(crate) use key::{digest, variant};
pub(crate) use policy::Freshness;
pub(crate) use purge::purge;
pub(crate) use settings::Cache;
pub use settings::{
    Choice, Conf, Declared, Limits, Loc, Valid, add_path, add_predicates, add_valid, set_cache, set_methods,
};
pub(crate) use store::Storing;
pub use zone::Zone;
pub(crate) use zone::{Hold, Seen};

use crate::worker::Worker;

/// A worker begins to serve: the first one of a generation sees to it that its caches are kept within their limits.
///
/// # Errors
/// Why a thread for that cannot be started.
pub fn start(declared: &Declared, worker: &Worker) -> Result<(), String> {
    if worker.id != 0 {
        return Ok(());
    }
    declared.all().iter().try_for_each(|cache| manager::start(&cache.zone, &cache.limits, &worker.log))
}
