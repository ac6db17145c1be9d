//! Certificates and keys out of files, out of `data:`, and what is said when that fails.

use super::File;
use moonrest_core::Env;
use moonrest_net::tls::{
    certificate::{self, CertifiedKey, Unusable},
    pem,
    x509::Certificate,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Certificates that this compilation has loaded: many servers have the same.
#[derive(Default)]
pub(super) struct Loaded(Mutex<HashMap<Names, Arc<CertifiedKey>>>);

/// Of a certificate and its key.
type Names = (Box<[u8]>, Box<[u8]>);

/// What was warned about: servers that inherit a setting need not repeat it.
#[derive(Default)]
struct Warned(Mutex<HashSet<String>>);

/// Warns, once for all servers.
pub(super) fn warn(env: &Env<'_>, message: String) {
    if env.shared::<Warned>().0.lock().insert(message.clone()) {
        env.warn(message, None);
    }
}

/// Where bytes come from.
pub(super) trait Source {
    /// Below the configuration's directory.
    fn path(&self, name: &[u8]) -> PathBuf;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

impl Source for Env<'_> {
    fn path(&self, name: &[u8]) -> PathBuf {
        self.conf_path(name).unwrap_or_default()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.resources.read(path)
    }
}

/// The text that a name stands for, and how the name is shown.
pub(super) fn text(name: &[u8], source: &dyn Source) -> Result<(Vec<u8>, String), (String, Unusable)> {
    if let Some(data) = name.strip_prefix(b"data:") {
        return Ok((data.to_vec(), String::from_utf8_lossy(name).into_owned()));
    }
    let path = source.path(name);
    let shown = path.display().to_string();
    match source.read(&path) {
        Ok(text) => Ok((text, shown)),
        Err(error) => {
            let reason = not_opened(&path, &error);
            Err((shown, Unusable { call: "BIO_new_file() failed", reason }))
        }
    }
}

/// OpenSSL's words for a file that cannot be opened.
pub(super) fn not_opened(path: &Path, error: &io::Error) -> String {
    let code = error.raw_os_error().unwrap_or(5);
    let described = moonrest_core::env::os_error(error);
    let text = described.split_once(": ").map_or(&*described, |(_, text)| text);
    let last = if error.kind() == io::ErrorKind::NotFound {
        "error:10000080:BIO routines::no such file"
    } else {
        "error:10080002:BIO routines::system lib"
    };
    format!("error:8{code:07X}:system library::{text}:calling fopen({}, r) {last}", path.display())
}

/// `cannot load certificate "x": CALL (SSL: REASON)`.
fn cannot_load(what: &str, shown: &str, unusable: &Unusable) -> String {
    let Unusable { call, reason } = unusable;
    if reason.is_empty() {
        return format!("cannot load {what} \"{shown}\": {call}");
    }
    format!("cannot load {what} \"{shown}\": {call} (SSL: {reason})")
}

/// Loads a certificate and its key.
pub(super) fn pair(
    certificate: &[u8],
    key: &[u8],
    passwords: &[Vec<u8>],
    source: &dyn Source,
) -> Result<CertifiedKey, String> {
    let (chain_text, shown) =
        text(certificate, source).map_err(|(shown, why)| cannot_load("certificate", &shown, &why))?;
    let chain = certificate::chain(&chain_text).map_err(|why| cannot_load("certificate", &shown, &why))?;
    for (prefix, shown) in [(&b"engine:"[..], "engine:..."), (b"store:", "store:...")] {
        if key.starts_with(prefix) {
            let name = String::from_utf8_lossy(key);
            return Err(format!(
                "cannot load certificate key \"{name}\": loading \"{shown}\" certificate keys is not supported"
            ));
        }
    }
    let (key_text, shown) =
        text(key, source).map_err(|(shown, why)| cannot_load("certificate key", &shown, &why))?;
    let key = certificate::private_key(&key_text, passwords)
        .map_err(|why| cannot_load("certificate key", &shown, &why))?;
    certificate::join(chain, key)
        .map_err(|why| format!("{}(\"{shown}\") failed (SSL: {})", why.call, why.reason))
}

/// Whether a key is of no use without a password.
pub(super) fn is_protected(key: &[u8], source: &dyn Source) -> bool {
    let Ok((text, _)) = text(key, source) else { return false };
    pem::blocks(&text).iter().any(|block| {
        block.label == "ENCRYPTED PRIVATE KEY"
            || block.field("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED"))
    })
}

impl Loaded {
    /// Loads a pair of files, unless that was done before.
    pub(super) fn pair(
        &self,
        certificate: &File,
        key: &File,
        passwords: &[Vec<u8>],
        env: &Env<'_>,
    ) -> Result<Arc<CertifiedKey>, String> {
        let name = (certificate.text.clone(), key.text.clone());
        if let Some(known) = self.0.lock().get(&name) {
            return Ok(known.clone());
        }
        let loaded = Arc::new(pair(&certificate.text, &key.text, passwords, env)?);
        let own = loaded.cert.first().and_then(|der| Certificate::from_der(der));
        if own.is_some_and(|own| own.is_expired(moonrest_sys::time::wall_coarse().secs)) {
            let shown = env.path(&certificate.text).display().to_string();
            env.warn(format!("certificate \"{shown}\" has expired"), None);
        }
        self.0.lock().insert(name, loaded.clone());
        Ok(loaded)
    }
}
