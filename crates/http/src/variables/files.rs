//! Variables of the files that a request means.

use super::bytes;
use crate::{core, request::Request};
use moonrest_sys::path;

pub(super) fn document_root(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, &core::root_path(r))
}

/// The root with every link resolved.
pub(super) fn realpath_root(r: &Request, out: &mut Vec<u8>) -> bool {
    let root = core::root_path(r);
    match path::from_bytes(&root).and_then(std::fs::canonicalize) {
        Ok(real) => bytes(out, path::to_bytes(&real)),
        Err(error) => {
            let text = moonrest_core::env::os_error(&error);
            crate::crit!(r, "realpath() \"{}\" failed ({text})", String::from_utf8_lossy(&root));
            false
        }
    }
}

pub(super) fn request_filename(r: &Request, out: &mut Vec<u8>) -> bool {
    core::map_path(r).is_some_and(|path| bytes(out, &path))
}
