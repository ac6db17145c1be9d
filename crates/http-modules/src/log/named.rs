//! Logs whose names hold variables: opened for each line, or kept open by `open_log_file_cache`.

use super::cache::Cache;
use moonrest_core::env::os_error;
use moonrest_http::{
    core::{Core, DisableSymlinks},
    prelude::*,
};
use moonrest_sys::{
    file::WriteMode,
    log_write,
    symlinks::{self, Symlinks},
};
use std::io;

/// Appends `line` to the file of that name; gives the name and what became of the write. `None` when the file is not
/// to be, or cannot be opened.
pub(super) fn write(
    r: &Request,
    name: &Template,
    cache: Option<&Cache>,
    line: &[u8],
) -> Option<(Vec<u8>, io::Result<usize>)> {
    let core = &r.loc().core;
    if !root_exists(r, core) {
        return None;
    }
    let mut path = Vec::with_capacity(64);
    name.append(r, &mut path);
    let (links, from) = links(r, core, &path);
    let open = || symlinks::open_write(&path, links, from, WriteMode::Append, 0o644);
    let opened = match cache {
        Some(cache) => cache.open(&path, open),
        None => open().map(Arc::new),
    };
    match opened {
        Ok(fd) => {
            let result = log_write::write_line(&*fd, line).map(|()| line.len());
            Some((path, result))
        }
        Err(failure) => {
            let (shown, error) = (String::from_utf8_lossy(&path), os_error(&failure.error));
            moonrest_http::crit!(r, "{} \"{shown}\" failed ({error})", failure.call);
            None
        }
    }
}

/// A name made of what the client sent must not fill the disk with files: the request's root must exist, so that a
/// name with `$host` in it is one of a site that is there.
fn root_exists(r: &Request, core: &Core) -> bool {
    let mut root = Vec::with_capacity(64);
    if core.root.relative {
        root.extend_from_slice(r.http().prefix.as_os_str().as_encoded_bytes());
    }
    core.root.path.append(r, &mut root);
    let (links, from) = links(r, core, &root);
    let error = match symlinks::stat(&root, links, from) {
        Ok(stat) if stat.is_dir() => return true,
        Ok(_) => io::ErrorKind::NotADirectory.into(),
        Err(failure) => failure.error,
    };
    // The kind alone has no number to show.
    let error =
        if error.raw_os_error().is_none() { "20: Not a directory".to_owned() } else { os_error(&error) };
    moonrest_http::error!(r, "testing \"{}\" existence failed ({error})", String::from_utf8_lossy(&root));
    false
}

/// `disable_symlinks` for a path: how links are treated, and up to where they are followed anyway.
fn links(r: &Request, core: &Core, path: &[u8]) -> (Symlinks, usize) {
    let (mode, from) = match &core.disable_symlinks {
        DisableSymlinks::Off => return (Symlinks::Follow, 0),
        DisableSymlinks::On { from } => (Symlinks::Refuse, from),
        DisableSymlinks::IfNotOwner { from } => (Symlinks::SameOwner, from),
    };
    let Some(from) = from else { return (mode, 0) };
    let from = from.eval(r);
    let Some(rest) = path.strip_prefix(&*from).filter(|_| !from.is_empty()) else { return (mode, 0) };
    match rest.first() {
        None => (Symlinks::Follow, 0),
        Some(b'/') => (mode, from.len()),
        Some(_) if from.ends_with(b"/") => (mode, from.len() - 1),
        Some(_) => (mode, 0),
    }
}
