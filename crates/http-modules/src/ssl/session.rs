//! Sessions that the server keeps: in the memory of one configuration, or in a zone that all workers share.

use super::Loc;
use moonrest_core::{conf::value, zone::Lru};
use moonrest_http::prelude::*;
use moonrest_net::tls::rustls::server::StoresServerSessions;
use moonrest_sys::time::wall_coarse;

/// `ssl_session_cache`.
#[derive(Clone, Default)]
pub(super) enum SessionCache {
    #[default]
    None,
    /// So many sessions.
    Builtin(usize),
    Shared(Arc<Sessions>),
}

/// The sessions of one zone.
pub(super) struct Sessions(Lru);

/// OpenSSL's default.
const BUILTIN: usize = 20_480;
/// What a session of a usual size takes in memory.
const USUAL: u64 = 512;

pub(super) fn set_cache(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let mut builtin = None;
    let mut shared = None;
    for n in 0..args.len() {
        let word = args.lossy(n);
        let invalid = || Fault::message(format!("invalid session cache \"{word}\""));
        match &*word {
            "off" | "none" => builtin = None,
            "builtin" => builtin = Some(BUILTIN),
            _ => {
                if let Some(count) = word.strip_prefix("builtin:") {
                    let count = value::parse_uint(count.as_bytes()).ok_or_else(invalid)?;
                    builtin = Some(usize::try_from(count).unwrap_or(usize::MAX));
                } else if let Some(zone) = word.strip_prefix("shared:") {
                    let (name, size) = zone.split_once(':').ok_or_else(invalid)?;
                    let size = value::parse_size(size.as_bytes()).ok_or_else(invalid)?;
                    if name.is_empty() {
                        return Err(invalid());
                    }
                    if size < 8 * 4096 {
                        return Err(Fault::message(format!("session cache \"{word}\" is too small")));
                    }
                    let make = || Sessions(Lru::with_bytes(size));
                    shared = Some(args.env.zones.declare::<Sessions>(name, size, make)?);
                } else {
                    return Err(invalid());
                }
            }
        }
    }
    loc.session_cache = Some(match (shared, builtin) {
        (Some(zone), _) => SessionCache::Shared(zone),
        (None, Some(count)) => SessionCache::Builtin(count),
        (None, None) => SessionCache::None,
    });
    Ok(())
}

impl SessionCache {
    /// Itself, or memory of its own where there is none.
    pub(super) fn or_builtin(self) -> Self {
        match self {
            Self::None => Self::Builtin(BUILTIN / 4),
            other => other,
        }
    }

    /// The store of a server whose sessions have this context; `timeout` in seconds.
    pub(super) fn store(&self, context: &[u8], timeout: u64) -> Option<Arc<dyn StoresServerSessions>> {
        let zone = match self {
            Self::None => return None,
            Self::Shared(zone) => zone.clone(),
            Self::Builtin(count) => {
                let bytes = u64::try_from(*count).unwrap_or(u64::MAX).saturating_mul(USUAL);
                Arc::new(Sessions(Lru::with_bytes(bytes.clamp(32 * 1024, 64 * 1024 * 1024))))
            }
        };
        Some(Arc::new(Store { zone, context: context.to_vec(), timeout }))
    }
}

/// The sessions of one kind of server in a zone.
struct Store {
    zone: Arc<Sessions>,
    /// What the server asks of its clients: sessions made under other terms are not found.
    context: Vec<u8>,
    /// Seconds.
    timeout: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn now() -> u64 {
    u64::try_from(wall_coarse().secs).unwrap_or(0)
}

impl Store {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.context, key].concat()
    }

    fn find(&self, key: &[u8], once: bool) -> Option<Vec<u8>> {
        let key = self.key(key);
        let mut slot = self.zone.0.lock(&key);
        let record = slot.get()?;
        let found = (now() <= record.expires()).then(|| record.value().to_vec());
        if once || found.is_none() {
            slot.remove();
        }
        found
    }
}

impl StoresServerSessions for Store {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let key = self.key(&key);
        let mut slot = self.zone.0.lock(&key);
        match slot.put(value.len(), usize::MAX) {
            Ok(mut put) => {
                put.record.value_mut().copy_from_slice(&value);
                put.record.set_expires(now().saturating_add(self.timeout));
                true
            }
            Err(_) => false,
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key, false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_under_their_own_terms_and_taken_once() {
        let cache = SessionCache::Shared(Arc::new(Sessions(Lru::with_bytes(1 << 16))));
        let (one, other) = (cache.store(b"one", 60).unwrap(), cache.store(b"other", 60).unwrap());
        assert!(one.put(b"id".to_vec(), b"session".to_vec()));
        assert_eq!(other.get(b"id"), None);
        assert_eq!(one.get(b"id").as_deref(), Some(&b"session"[..]));
        assert_eq!(one.take(b"id").as_deref(), Some(&b"session"[..]));
        assert_eq!(one.take(b"id"), None);
        assert!(!one.put(b"id".to_vec(), vec![0; 1 << 17]));
    }
}
