//! `moonrest demo`: the site of examples/demo, served in the foreground.

use moonrest_server::{Mode, Options};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The files, below the prefix.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo.rs"));

const CONF: &str = "conf/nginx.conf";
const GREETING: &str = "The demo site is on http://127.0.0.1:8080/ (Ctrl-C ends it).";

/// The site in a checkout that the program was started in.
pub(crate) fn checkout() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let site =
        here.ancestors().map(|place| place.join("examples/demo")).find(|site| site.join(CONF).is_file())?;
    here.ancestors().any(|place| place.join("Cargo.toml").is_file()).then_some(site)
}

/// Where the site lies.
pub(crate) struct Site {
    prefix: PathBuf,
    /// Made for this run.
    temporary: bool,
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed lies in the directory for temporary files.
            let _ = fs::remove_dir_all(&self.prefix);
        }
    }
}

/// The site of the checkout, or a copy in a temporary directory.
///
/// # Errors
/// When the files cannot be written.
pub(crate) fn site() -> io::Result<Site> {
    match checkout() {
        Some(prefix) => Ok(Site { prefix, temporary: false }),
        None => unpack(),
    }
}

/// Options that serve the site.
pub(crate) fn options(site: &Site) -> Options {
    let prefix = site.prefix.join("");
    Options {
        conf_file: prefix.join(CONF),
        error_log: PathBuf::from("stderr"),
        // One process with the rights of who started it, which Ctrl-C ends.
        params: Some(b"daemon off; master_process off;".to_vec()),
        quiet: false,
        mode: Mode::Serve,
        greeting: Some(GREETING.to_owned()),
        prefix,
    }
}

/// Writes the site to a new temporary directory.
fn unpack() -> io::Result<Site> {
    let root = std::env::temp_dir().join(format!("moonrest-demo-{}", std::process::id()));
    // Somebody else's directory of that name is not used.
    fs::DirBuilder::new().mode(0o755).create(&root)?;
    let site = Site { prefix: root.clone(), temporary: true };
    fs::create_dir(root.join("logs"))?;
    for (name, content) in FILES {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_is_in_the_program() {
        assert!(FILES.iter().any(|(name, _)| *name == CONF));
        assert!(FILES.iter().any(|(name, _)| *name == "html/index.html"));
        assert!(FILES.iter().all(|(name, _)| !name.starts_with("logs")));
    }
}
