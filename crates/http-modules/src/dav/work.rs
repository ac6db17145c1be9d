//! What WebDAV does to the disk: deleting and copying, whole trees too. Runs on the thread pool; what is to be logged
//! comes back with the status.

use moonrest_core::env::os_error;
use moonrest_http::prelude::*;
use moonrest_sys::{
    errno::{EACCES, EEXIST, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EPERM},
    file::{self, FileKind, FileStat},
    rename, tree,
};
use std::io;

/// A status, and what to write to the error log.
pub(super) struct Outcome {
    status: u16,
    lines: Vec<(Level, String)>,
}

impl Outcome {
    pub(super) fn new(status: u16) -> Self {
        Self { status, lines: Vec::new() }
    }

    pub(super) fn with(mut self, level: Level, line: String) -> Self {
        self.lines.push((level, line));
        self
    }

    /// Writes the lines; gives the status.
    pub(super) fn log(self, r: &Request) -> u16 {
        for (level, line) in &self.lines {
            if r.log().enabled(*level) {
                r.log_at(*level, format_args!("{line}"));
            }
        }
        self.status
    }

    fn is_ok(&self) -> bool {
        self.status < 300
    }

    /// Takes another's lines, whatever its status.
    fn absorb(&mut self, other: Self) {
        self.lines.extend(other.lines);
    }
}

/// Runs what waits for a disk on the thread pool.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RequestError> {
    moonrest_rt::spawn_blocking(f).await.map_err(|_| RequestError::internal("a thread of the pool was lost"))
}

/// A failed call; `missing` is the status when the name does not exist.
pub(super) fn failure(error: &io::Error, missing: u16, call: &str, path: &[u8]) -> Outcome {
    let (level, status) = match error.raw_os_error() {
        Some(ENOENT | ENOTDIR | ENAMETOOLONG) => (Level::Error, missing),
        Some(EACCES | EPERM) => (Level::Error, 403),
        Some(EEXIST) => (Level::Error, 405),
        Some(ENOSPC) => (Level::Crit, 507),
        _ => (Level::Crit, 500),
    };
    let line = format!("{call} \"{}\" failed ({})", String::from_utf8_lossy(path), os_error(error));
    Outcome::new(status).with(level, line)
}

/// Removes a file, or a directory with everything in it.
pub(super) fn delete(path: &[u8], is_dir: bool) -> Outcome {
    if !is_dir {
        return match file::remove(path) {
            Ok(()) => Outcome::new(204),
            Err(error) => failure(&error, 404, "unlink()", path),
        };
    }
    let mut outcome = Outcome::new(204);
    if !empty(path, &mut outcome) {
        outcome.status = 500;
        return outcome;
    }
    if let Err(error) = tree::remove(path) {
        let failed = failure(&error, 404, "rmdir()", path);
        outcome.status = failed.status;
        outcome.absorb(failed);
    }
    outcome
}

/// Removes what is in a directory, as far as possible; `false` when it cannot be read. Links are removed, not followed.
fn empty(path: &[u8], outcome: &mut Outcome) -> bool {
    let entries = match tree::list(path) {
        Ok(entries) => entries,
        Err(error) => {
            outcome.absorb(failure(&error, 0, "opendir()", path));
            return false;
        }
    };
    for entry in entries {
        let name = [path, b"/", &entry.name].concat();
        let kind = entry.kind.or_else(|| file::lstat(&name).ok().map(|stat| stat.kind));
        let removed = if kind == Some(FileKind::Directory) {
            empty(&name, outcome);
            tree::remove(&name).map_err(|error| ("rmdir()", error))
        } else {
            file::remove(&name).map_err(|error| ("unlink()", error))
        };
        if let Err((call, error)) = removed {
            outcome.absorb(failure(&error, 0, call, &name));
        }
    }
    true
}

/// Copies a directory's content into `to`, which exists. Nested directories that are links are not entered.
pub(super) fn copy_tree(from: &[u8], to: &[u8]) -> Outcome {
    let mut outcome = Outcome::new(201);
    if !copy_content(from, to, &mut outcome) {
        outcome.status = 500;
    }
    outcome
}

fn copy_content(from: &[u8], to: &[u8], outcome: &mut Outcome) -> bool {
    let entries = match tree::list(from) {
        Ok(entries) => entries,
        Err(error) => {
            outcome.absorb(failure(&error, 0, "opendir()", from));
            return false;
        }
    };
    for entry in entries {
        let source = [from, b"/", &entry.name].concat();
        let target = [to, b"/", &entry.name].concat();
        let stat = match file::stat(&source) {
            Ok(stat) => stat,
            Err(error) => {
                outcome.absorb(failure(&error, 0, "stat()", &source));
                continue;
            }
        };
        if stat.is_file() {
            outcome.absorb(copy_file(&source, &target, &stat));
        } else if stat.is_dir() && file::lstat(&source).is_ok_and(|stat| stat.is_dir()) {
            copy_directory(&source, &target, &stat, outcome);
        }
    }
    true
}

fn copy_directory(source: &[u8], target: &[u8], stat: &FileStat, outcome: &mut Outcome) {
    let mode = stat.mode | (stat.mode & 0o444) >> 2;
    if let Err(error) = tree::make(target, mode) {
        outcome.absorb(failure(&error, 0, "mkdir()", target));
    }
    copy_content(source, target, outcome);
    let timed = file::open_read(target).and_then(|fd| file::set_mtime(fd, stat.mtime));
    if let Err(error) = timed {
        let name = String::from_utf8_lossy(target);
        outcome.lines.push((Level::Alert, format!("utimes() \"{name}\" failed ({})", os_error(&error))));
    }
}

/// Copies one file with its permissions and time.
pub(super) fn copy_file(from: &[u8], to: &[u8], stat: &FileStat) -> Outcome {
    match rename::copy(from, to, Some(stat.mode)) {
        Ok(()) => Outcome::new(204),
        Err(failed) => {
            let line = super::describe_move(&failed, from);
            Outcome::new(500).with(Level::Crit, line)
        }
    }
}

/// What COPY and MOVE are to do, with the paths on the disk; none ends with a slash.
pub(super) struct Transfer {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
    pub(super) moves: bool,
    pub(super) source: FileStat,
    /// The destination exists and is to be replaced; whether it is a directory.
    pub(super) replaces: Option<bool>,
    /// Permissions of directories on the way to the destination.
    pub(super) dir_mode: u32,
}

impl Transfer {
    pub(super) fn run(&self) -> Outcome {
        if self.source.is_dir() {
            return self.directory();
        }
        if !self.moves {
            return copy_file(&self.from, &self.to, &self.source);
        }
        let options = rename::Options { make_parents: Some(self.dir_mode), ..rename::Options::default() };
        match rename::into_place(&self.from, &self.to, &options) {
            Ok(()) => Outcome::new(204),
            Err(failed) => Outcome::new(500).with(Level::Crit, super::describe_move(&failed, &self.from)),
        }
    }

    fn directory(&self) -> Outcome {
        if let Some(is_dir) = self.replaces {
            let deleted = delete(&self.to, is_dir);
            if !deleted.is_ok() {
                return deleted;
            }
        }
        if self.moves && rename::over(&self.from, &self.to).is_ok() {
            return Outcome::new(201);
        }
        if let Err(error) = tree::make(&self.to, self.source.mode) {
            return failure(&error, 404, "mkdir()", &self.to);
        }
        let mut outcome = copy_tree(&self.from, &self.to);
        if outcome.is_ok() && self.moves {
            let deleted = delete(&self.from, true);
            if !deleted.is_ok() {
                outcome.status = deleted.status;
            }
            outcome.absorb(deleted);
        }
        outcome
    }
}
