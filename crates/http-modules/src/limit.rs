//! What `limit_req` and `limit_conn` share: zones with a key, and how they are declared and found.

use moonrest_core::zone::Lru;
use moonrest_http::prelude::*;
use std::{collections::HashMap, marker::PhantomData};

/// The records of one zone, which outlive a reload. `M` tells the zones of one module from those of another.
struct Records<M> {
    lru: Lru,
    /// As written: another key would make the records meaningless.
    key: Box<[u8]>,
    module: PhantomData<fn() -> M>,
}

/// A zone as the present generation declares it.
pub(crate) struct Zone<M> {
    pub(crate) name: Box<str>,
    pub(crate) key: Template,
    /// Requests per second in thousandths, for `limit_req`.
    pub(crate) rate: u64,
    records: Arc<Records<M>>,
}

impl<M> Zone<M> {
    pub(crate) fn records(&self) -> &Lru {
        &self.records.lru
    }

    /// The key as written.
    pub(crate) fn key_text(&self) -> String {
        String::from_utf8_lossy(&self.records.key).into_owned()
    }
}

/// The zones of one module.
pub struct Zones<M>(HashMap<Box<str>, Arc<Zone<M>>>);

impl<M> Default for Zones<M> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<M: 'static> Zones<M> {
    /// Declares a zone: the key is the directive's first argument.
    ///
    /// # Errors
    /// nginx's complaints about zones that are declared twice, or with another key than before the reload.
    pub(crate) fn declare(&mut self, args: &Args<'_>, name: &str, size: u64, rate: u64) -> ConfResult {
        let key = args.template(0)?;
        let text = args.bytes(0)?;
        let create = || Records { lru: Lru::with_bytes(size), key: text.into(), module: PhantomData };
        let records = args.env.zones.declare::<Records<M>>(name, size, create)?;
        let directive = args.name();
        if self.0.contains_key(name) {
            let bound = String::from_utf8_lossy(&records.key);
            return Err(Fault::message(format!(
                "{directive} \"{name}\" is already bound to key \"{bound}\""
            )));
        }
        if *records.key != *text {
            let (now, before) = (args.lossy(0), String::from_utf8_lossy(&records.key));
            let shown = if directive == "limit_req_zone" { "limit_req" } else { directive };
            return Err(Fault::message(format!(
                "{shown} \"{name}\" uses the \"{now}\" key while previously it used the \"{before}\" key"
            )));
        }
        self.0.insert(name.into(), Arc::new(Zone { name: name.into(), key, rate, records }));
        Ok(())
    }

    /// The zone of that name, once all are declared.
    ///
    /// # Errors
    /// nginx's texts for a zone that is not there.
    pub(crate) fn find(&self, name: &str, to: &LocationBuilder<'_>) -> ConfResult<Arc<Zone<M>>> {
        self.0.get(name).cloned().ok_or_else(|| {
            Fault::message(if to.compiler.env.zones.is_declared(name) {
                format!("the shared memory zone \"{name}\" is already declared for a different use")
            } else {
                format!("zero size shared memory zone \"{name}\"")
            })
        })
    }
}

/// `zone=NAME:SIZE`, argument `n`; `None` when that is another parameter.
///
/// # Errors
/// nginx's `invalid zone size` and `is too small`.
pub(crate) fn zone_parameter(args: &Args<'_>, n: usize) -> ConfResult<Option<(String, u64)>> {
    let Some(text) = args.bytes(n)?.strip_prefix(b"zone=") else { return Ok(None) };
    let zone = args.zone_value(text)?;
    match zone.size {
        Some(size) => Ok(Some((zone.name, size))),
        None => Err(Fault::message(format!("invalid zone size \"{}\"", args.lossy(n)))),
    }
}

/// `"name" must have "zone" parameter`.
pub(crate) fn zone_missing(args: &Args<'_>) -> Fault {
    Fault::message(format!("\"{}\" must have \"zone\" parameter", args.name()))
}

/// The words of `limit_*_log_level`.
pub(crate) const LEVELS: &[&str] = &["info", "notice", "warn", "error"];

/// The level that one of [`LEVELS`] names; the last by default.
pub(crate) fn level(word: Option<usize>) -> Level {
    word.and_then(|word| LEVELS.get(word)).and_then(|name| Level::from_name(name)).unwrap_or(Level::Error)
}
