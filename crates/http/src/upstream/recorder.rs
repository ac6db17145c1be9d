//! What keeps an answer while it is passed on: `proxy_store`, and caches.

use super::{Conf, Store, state::Answer};
use crate::{core::map_path, filter::OpenFile, request::Request};
use bytes::Bytes;
use moonrest_core::Level;
use moonrest_proto::http1::Known;
use moonrest_sys::{file, rename, temp::TempFile};
use std::rc::Rc;

/// Takes an answer's body as it comes. Dropped before [`Recorder::complete`] it forgets everything.
pub(crate) trait Recorder {
    /// More of the body.
    fn data(&mut self, r: &Request, data: &Bytes);
    /// The body has ended as it should.
    fn complete(self: Box<Self>, r: &Request, answer: &Answer);
    /// The file that all of the body so far lies in, and where it ends there: what waits for the client need not be
    /// kept in memory. None when there is no file.
    fn spill(&mut self, _r: &Request) -> Option<(Rc<OpenFile>, u64)> {
        None
    }
}

/// What records the answer to this request, if anything does.
pub(super) fn for_request(_r: &Request, conf: &std::sync::Arc<Conf>) -> Option<Box<dyn Recorder>> {
    match conf.store {
        Store::Off => None,
        _ => Some(Box::new(Storing { conf: conf.clone(), file: None, len: 0, failed: false })),
    }
}

/// An answer on its way into a file.
struct Storing {
    conf: std::sync::Arc<Conf>,
    file: Option<TempFile>,
    len: u64,
    failed: bool,
}

impl Storing {
    fn open(&mut self, r: &Request) {
        if self.file.is_some() || self.failed {
            return;
        }
        match self.conf.temp_path.create(true, 0) {
            Ok(file) => self.file = Some(file),
            Err((path, error)) => {
                self.failed = true;
                let path = String::from_utf8_lossy(&path);
                crate::crit!(r, "open() \"{path}\" failed ({})", moonrest_core::env::os_error(&error));
            }
        }
    }
}

impl Recorder for Storing {
    fn data(&mut self, r: &Request, data: &Bytes) {
        self.open(r);
        let Some(temp) = &self.file else { return };
        if let Err(error) = file::pwrite_all(&temp.fd, data, self.len) {
            let path = String::from_utf8_lossy(&temp.path).into_owned();
            crate::crit!(r, "pwrite() \"{path}\" failed ({})", moonrest_core::env::os_error(&error));
            self.failed = true;
        }
        self.len += data.len() as u64;
    }

    fn complete(mut self: Box<Self>, r: &Request, answer: &Answer) {
        let announced = answer.head.fields.value(Known::ContentLength, &answer.block);
        let announced = announced.and_then(moonrest_proto::http1::framing::parse_length);
        // The answer to HEAD has no body to store.
        if answer.head.status != 200 || announced.is_some_and(|length| length != self.len) {
            return;
        }
        self.open(r);
        if self.failed {
            return;
        }
        let path = match &self.conf.store {
            Store::Path(template) => Some(template.eval(r).into_owned()),
            _ => map_path(r),
        };
        let Some(path) = path.filter(|path| !path.is_empty() && !path.contains(&0)) else { return };
        let Some(temp) = self.file.take() else { return };
        let modified = answer.head.fields.value(Known::LastModified, &answer.block);
        let options = rename::Options {
            mode: Some(self.conf.store_access),
            mtime: modified.and_then(moonrest_proto::date::parse_http),
            make_parents: Some(directory_access(self.conf.store_access)),
            remove_on_error: true,
        };
        if let Err(failure) = rename::into_place(&temp.path, &path, &options) {
            let name = String::from_utf8_lossy(&failure.name);
            let reason = moonrest_core::env::os_error(&failure.error);
            r.log_at(Level::Crit, format_args!("{} \"{name}\" failed ({reason})", failure.call));
        }
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        if let Some(temp) = &self.file {
            // Nobody knows its name.
            let _ = file::remove(&temp.path);
        }
    }
}

/// Whoever may read files in a directory may look for them there.
fn directory_access(access: u32) -> u32 {
    access | ((access & 0o444) >> 2)
}

#[cfg(test)]
mod tests {
    #[test]
    fn directories_are_open_to_readers() {
        assert_eq!(super::directory_access(0o600), 0o700);
        assert_eq!(super::directory_access(0o664), 0o775);
    }
}
