//! An answer on its way into a cache: written to a temporary file, which gets its name when it is complete.

use super::{
    file::{self, Meta},
    settings::Cache,
    zone::Hold,
};
use crate::{
    filter::OpenFile,
    request::Request,
    upstream::{Answer, Recorder},
};
use bytes::Bytes;
use moonrest_core::{Level, env::os_error};
use moonrest_proto::http1::{Known, Method};
use moonrest_sys::{
    file as files, rename,
    temp::{self, TempDir, TempFile},
    tree,
};
use std::{fs::File, io, rc::Rc, sync::Arc};

/// Bytes that are written together.
const STEP: usize = 64 * 1024;

/// One answer.
pub(crate) struct Storing {
    pub cache: Cache,
    /// The key, and its entry.
    pub key: Box<[u8]>,
    /// None when it cannot be stored any more.
    hold: Option<Hold>,
    meta: Meta,
    block: Bytes,
    temp_dir: TempDir,
    file: Option<Temp>,
    /// Where the body begins.
    start: u64,
    /// Bytes of the body that are in the file, and those that are not yet.
    written: u64,
    buffer: Vec<u8>,
}

/// The temporary file. It is removed unless it was moved.
struct Temp {
    file: Arc<File>,
    path: Vec<u8>,
    moved: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.moved {
            // Nobody knows its name.
            let _ = files::remove(&self.path);
        }
    }
}

impl Storing {
    pub(crate) fn new(
        cache: Cache,
        key: Box<[u8]>,
        hold: Hold,
        meta: Meta,
        block: Bytes,
        temp_dir: TempDir,
    ) -> Self {
        let start = file::head_len(&meta, &key, &block) as u64;
        Self {
            cache,
            key,
            hold: Some(hold),
            meta,
            block,
            temp_dir,
            file: None,
            start,
            written: 0,
            buffer: Vec::new(),
        }
    }

    /// Where it will be.
    fn path(&self, hold: &Hold) -> Vec<u8> {
        self.cache.zone.path(hold.key())
    }

    /// It cannot be stored: others may try.
    fn give_up(&mut self, r: &Request, call: &str, path: &[u8], error: &io::Error) {
        let path = String::from_utf8_lossy(path);
        r.log_at(Level::Crit, format_args!("{call} \"{path}\" failed ({})", os_error(error)));
        self.hold = None;
        self.file = None;
        self.buffer = Vec::new();
    }

    fn create(&self) -> Result<TempFile, (Vec<u8>, io::Error)> {
        let Some(hold) = &self.hold else { return Err((Vec::new(), io::ErrorKind::NotFound.into())) };
        if self.cache.limits.use_temp_path {
            return self.temp_dir.create(true, 0);
        }
        let path = self.path(hold);
        match temp::create_beside(&path, 0o600) {
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {
                tree::make_parents(&path, 0o700).map_err(|error| (path.clone(), error))?;
                temp::create_beside(&path, 0o600)
            }
            other => other,
        }
    }

    /// Writes what is not in the file yet. `None` when that fails.
    fn flush(&mut self, r: &Request) -> Option<&Temp> {
        self.hold.as_ref()?;
        if self.file.is_none() {
            match self.create() {
                Ok(TempFile { fd, path }) => {
                    self.file = Some(Temp { file: Arc::new(File::from(fd)), path, moved: false });
                }
                Err((path, error)) => {
                    self.give_up(r, "open()", &path, &error);
                    return None;
                }
            }
        }
        let temp = self.file.as_ref()?;
        if let Err(error) = files::pwrite_all(&*temp.file, &self.buffer, self.start + self.written) {
            let path = temp.path.clone();
            self.give_up(r, "pwrite()", &path, &error);
            return None;
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.file.as_ref()
    }

    /// Writes the head, and all of a short body with it.
    fn finish(&mut self, r: &Request) -> Option<()> {
        let len = self.written + self.buffer.len() as u64;
        let mut head = file::head(&self.meta, &self.key, &self.block, len);
        if self.file.is_none() {
            // One write for all of it.
            head.append(&mut self.buffer);
            (self.buffer, self.start) = (head, 0);
            self.flush(r)?;
            return Some(());
        }
        self.flush(r)?;
        let temp = self.file.as_ref()?;
        if let Err(error) = files::pwrite_all(&*temp.file, &head, 0) {
            let path = temp.path.clone();
            self.give_up(r, "pwrite()", &path, &error);
            return None;
        }
        self.written += self.start;
        Some(())
    }

    fn move_in(mut self, r: &Request) {
        let (Some(hold), Some(mut temp)) = (self.hold.take(), self.file.take()) else { return };
        let path = self.path(&hold);
        let mut moved = rename::over(&temp.path, &path);
        if matches!(&moved, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            moved = tree::make_parents(&path, 0o700).and_then(|()| rename::over(&temp.path, &path));
        }
        let len = self.written;
        match moved {
            Ok(()) => {
                temp.moved = true;
                hold.stored(len);
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let log = r.log().clone();
                // Copying takes its time.
                let _copying = moonrest_rt::spawn_blocking(move || {
                    let mut temp = temp;
                    let options = rename::Options { make_parents: Some(0o700), ..rename::Options::default() };
                    match rename::into_place(&temp.path, &path, &options) {
                        Ok(()) => {
                            temp.moved = true;
                            hold.stored(len);
                        }
                        Err(failure) => {
                            let name = String::from_utf8_lossy(&failure.name);
                            let reason = os_error(&failure.error);
                            let text = format_args!("{} \"{name}\" failed ({reason})", failure.call);
                            log.write(Level::Crit, None, text);
                        }
                    }
                });
            }
            Err(error) => {
                let (from, to) = (String::from_utf8_lossy(&temp.path), String::from_utf8_lossy(&path));
                let text = format_args!("rename() \"{from}\" to \"{to}\" failed ({})", os_error(&error));
                r.log_at(Level::Crit, text);
            }
        }
    }
}

impl Recorder for Storing {
    fn data(&mut self, r: &Request, data: &Bytes) {
        if self.hold.is_none() {
            return;
        }
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= STEP {
            self.flush(r);
        }
    }

    fn complete(mut self: Box<Self>, r: &Request, answer: &Answer) {
        let len = self.written + self.buffer.len() as u64;
        let announced = answer.head.fields.value(Known::ContentLength, &answer.block);
        let announced = announced.and_then(moonrest_proto::http1::framing::parse_length);
        // The answer to HEAD announces a body that it does not have.
        let bodiless =
            len == 0 && (r.method.get() == Method::Head || matches!(answer.head.status, 204 | 304));
        if announced.is_some_and(|length| length != len) && !bodiless {
            return;
        }
        if self.finish(r).is_some() {
            self.move_in(r);
        }
    }

    fn spill(&mut self, r: &Request) -> Option<(Rc<OpenFile>, u64)> {
        let sendfile = r.loc().core.sendfile;
        let (file, name) = {
            let temp = self.flush(r)?;
            (temp.file.clone(), temp.path.clone())
        };
        let file = OpenFile { file, name, direct: false, threads: false, sendfile };
        Some((Rc::new(file), self.start + self.written))
    }
}
