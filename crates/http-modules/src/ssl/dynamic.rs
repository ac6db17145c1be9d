//! Certificates whose names have variables: found when a connection begins, and kept for a while if that is wanted.

use super::{CertificateCache, File, load};
use moonrest_http::{
    prelude::*,
    tls::{CertificateSource, Certificates},
};
use moonrest_net::tls::certificate::CertifiedKey;
use moonrest_sys::time::monotonic_coarse_ms;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Pairs of names, and what is known of them.
pub(super) struct Dynamic {
    pub(super) pairs: Vec<(File, File)>,
    pub(super) passwords: Arc<Vec<Vec<u8>>>,
    pub(super) cache: Option<Cache>,
    pub(super) conf_prefix: PathBuf,
}

/// Of a certificate and its key.
type Names = (Vec<u8>, Vec<u8>);

/// `ssl_certificate_cache`: common to the workers.
pub(super) struct Cache {
    limits: CertificateCache,
    entries: Mutex<HashMap<Names, Entry>>,
}

struct Entry {
    key: Arc<CertifiedKey>,
    /// Of both files, when they were loaded.
    modified: [Option<SystemTime>; 2],
    /// Monotonic milliseconds.
    checked: u64,
    used: u64,
}

impl Cache {
    pub(super) fn new(limits: CertificateCache) -> Self {
        Self { limits, entries: Mutex::default() }
    }
}

impl load::Source for Dynamic {
    fn path(&self, name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.conf_prefix.join(std::ffi::OsStr::from_bytes(name))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

impl CertificateSource for Dynamic {
    fn certificates(&self, r: &RequestRef) -> Certificates {
        let all = self
            .pairs
            .iter()
            .map(|(certificate, key)| self.pair(&certificate.template.eval(&**r), &key.template.eval(&**r)));
        let found: Result<Vec<_>, _> = all.collect();
        let found = found.map_err(|message| RequestError::Internal {
            status: 500,
            level: Level::Error,
            message: message.into(),
        });
        Box::pin(std::future::ready(found))
    }
}

impl Dynamic {
    pub(super) fn pair(&self, certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
        let Some(cache) = &self.cache else {
            return load::pair(certificate, key, &self.passwords, self).map(Arc::new);
        };
        let name = (certificate.to_vec(), key.to_vec());
        let now = monotonic_coarse_ms();
        let seconds = |ms: u64| ms / 1000;
        if let Some(entry) = cache.entries.lock().get_mut(&name) {
            entry.used = now;
            if seconds(now - entry.checked.min(now)) < cache.limits.valid {
                return Ok(entry.key.clone());
            }
            if self.modified(&name) == entry.modified {
                entry.checked = now;
                return Ok(entry.key.clone());
            }
        }
        let modified = self.modified(&name);
        let loaded = Arc::new(load::pair(certificate, key, &self.passwords, self)?);
        if load::is_protected(key, self) {
            // Whoever has no password for it must not get it.
            return Ok(loaded);
        }
        let mut entries = cache.entries.lock();
        entries.retain(|_, entry| seconds(now - entry.used.min(now)) < cache.limits.inactive);
        // A certificate and its key count as two.
        if entries.len() as u64 * 2 >= cache.limits.max
            && let Some(oldest) =
                entries.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(name, Entry { key: loaded.clone(), modified, checked: now, used: now });
        Ok(loaded)
    }

    /// When the files were last changed; `data:` has no such time.
    fn modified(&self, name: &Names) -> [Option<SystemTime>; 2] {
        [&name.0, &name.1].map(|name| {
            if name.starts_with(b"data:") {
                return None;
            }
            let path = load::Source::path(self, name);
            std::fs::metadata(path).and_then(|known| known.modified()).ok()
        })
    }
}
