//! `open_log_file_cache`: descriptors of logs whose names hold variables, kept open between lines.

use moonrest_core::{ConfResult, Fault, conf::value};
use moonrest_http::args::Args;
use moonrest_sys::{file, symlinks::OpenError, time};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::Arc,
};

/// One `open_log_file_cache`, shared by the locations that inherit it.
#[derive(Debug)]
pub(super) struct Cache {
    limits: Limits,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    max: usize,
    /// Milliseconds without use after which a file is closed.
    inactive: u64,
    /// Milliseconds after which it is looked at whether the name still means the same file.
    valid: u64,
    /// Lines within the time of `inactive` that a file must get to be kept open.
    min_uses: u64,
}

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Arc<[u8]>, Entry>,
    /// Names by their last use, the oldest first.
    order: BTreeMap<u64, Arc<[u8]>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` while the file is not used often enough.
    fd: Option<Arc<OwnedFd>>,
    uses: u64,
    /// Its place in the order.
    used: u64,
    /// Monotonic milliseconds of the last use and of the last look at the name.
    accessed: u64,
    checked: u64,
    identity: Option<(u64, u64)>,
}

/// The setter's result: `None` for `off`.
pub(super) fn parse(args: &Args<'_>) -> ConfResult<Option<Arc<Cache>>> {
    let mut limits = Limits { max: 0, inactive: 10_000, valid: 60_000, min_uses: 1 };
    let mut off = false;
    for n in 0..args.len() {
        let text = args.bytes(n)?;
        let number = |text: &[u8]| value::parse_uint(text).ok_or(());
        let seconds = |text: &[u8]| value::parse_sec(text).map(|secs| secs.saturating_mul(1000)).ok_or(());
        let parsed = if let Some(text) = text.strip_prefix(b"max=") {
            number(text).map(|max| limits.max = usize::try_from(max).unwrap_or(usize::MAX))
        } else if let Some(text) = text.strip_prefix(b"inactive=") {
            seconds(text).map(|ms| limits.inactive = ms)
        } else if let Some(text) = text.strip_prefix(b"min_uses=") {
            number(text).map(|uses| limits.min_uses = uses)
        } else if let Some(text) = text.strip_prefix(b"valid=") {
            seconds(text).map(|ms| limits.valid = ms)
        } else if text == b"off" {
            off = true;
            Ok(())
        } else {
            Err(())
        };
        parsed.map_err(|()| {
            Fault::message(format!("invalid \"open_log_file_cache\" parameter \"{}\"", args.lossy(n)))
        })?;
    }
    if off {
        return Ok(None);
    }
    if limits.max == 0 {
        return Err(Fault::message("\"open_log_file_cache\" must have \"max\" parameter"));
    }
    Ok(Some(Arc::new(Cache { limits, known: Mutex::default() })))
}

impl Cache {
    /// The file of that name: kept open, or opened by `open`.
    ///
    /// # Errors
    /// What `open` gives.
    pub(super) fn open(
        &self,
        name: &[u8],
        open: impl FnOnce() -> Result<OwnedFd, OpenError>,
    ) -> Result<Arc<OwnedFd>, OpenError> {
        let now = time::monotonic_ms();
        let mut known = self.known.lock();
        known.close_unused(&self.limits, now);
        if let Some(fd) = known.still_valid(name, &self.limits, now) {
            known.touch(name, now);
            return Ok(fd);
        }
        // Opening may take its time; other names need not wait for it.
        drop(known);
        let fd = Arc::new(open()?);
        let identity = file::fstat(&*fd).ok().map(|stat| (stat.device, stat.inode));
        let mut known = self.known.lock();
        known.keep(name, &fd, identity, &self.limits, now);
        Ok(fd)
    }
}

impl Known {
    /// The open file, if it is there and its name, as far as that was looked at lately, still means it.
    fn still_valid(&mut self, name: &[u8], limits: &Limits, now: u64) -> Option<Arc<OwnedFd>> {
        let entry = self.files.get_mut(name)?;
        let fd = entry.fd.as_ref()?;
        if now - entry.checked < limits.valid {
            return Some(fd.clone());
        }
        let present = file::stat(name).ok().map(|stat| (stat.device, stat.inode));
        if present.is_none() || present != entry.identity {
            entry.fd = None;
            return None;
        }
        entry.checked = now;
        Some(fd.clone())
    }

    fn touch(&mut self, name: &[u8], now: u64) {
        self.uses += 1;
        let uses = self.uses;
        let Some((name, _)) = self.files.get_key_value(name) else { return };
        let name = name.clone();
        if let Some(entry) = self.files.get_mut(&name) {
            self.order.remove(&entry.used);
            entry.used = uses;
            entry.uses += 1;
            entry.accessed = now;
            self.order.insert(uses, name);
        }
    }

    fn keep(
        &mut self,
        name: &[u8],
        fd: &Arc<OwnedFd>,
        identity: Option<(u64, u64)>,
        limits: &Limits,
        now: u64,
    ) {
        if !self.files.contains_key(name) {
            while self.files.len() >= limits.max {
                let Some((_, oldest)) = self.order.pop_first() else { break };
                self.files.remove(&oldest);
            }
            let entry = Entry { fd: None, uses: 0, used: 0, accessed: now, checked: now, identity };
            self.files.insert(name.into(), entry);
        }
        self.touch(name, now);
        if let Some(entry) = self.files.get_mut(name) {
            entry.checked = now;
            entry.identity = identity;
            entry.fd = (entry.uses >= limits.min_uses).then(|| fd.clone());
        }
    }

    /// Closes a few files that nobody wrote to lately.
    fn close_unused(&mut self, limits: &Limits, now: u64) {
        for _ in 0..2 {
            let Some((&used, name)) = self.order.first_key_value() else { return };
            let idle = self.files.get(name).is_none_or(|entry| now - entry.accessed > limits.inactive);
            if !idle {
                return;
            }
            self.files.remove(name);
            self.order.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_sys::{
        file::WriteMode,
        symlinks::{self, Symlinks},
    };
    use std::cell::Cell;

    #[test]
    fn files_used_often_enough_stay_open_and_the_oldest_goes_first() {
        let dir = std::env::temp_dir().join(format!("moonrest-log-cache-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let limits = Limits { max: 2, inactive: 60_000, valid: 60_000, min_uses: 2 };
        let cache = Cache { limits, known: Mutex::default() };
        let opened = Cell::new(0);
        let write = |name: &str| {
            let before = opened.get();
            let path = dir.join(name).into_os_string().into_encoded_bytes();
            let file = cache.open(&path, || {
                opened.set(opened.get() + 1);
                symlinks::open_write(&path, Symlinks::Follow, 0, WriteMode::Append, 0o600)
            });
            assert!(file.is_ok());
            opened.get() > before
        };
        assert!(write("a"));
        assert!(write("a"), "used once: not kept open");
        assert!(!write("a"), "used twice: kept");
        assert!(write("b"));
        assert!(write("c"), "a is closed to make room");
        assert!(write("b"));
        assert!(!write("b"));
        assert!(write("a"), "it starts anew");
        std::fs::remove_file(dir.join("b")).expect("the file is there");
        assert!(!write("b"), "the name is not looked at before its time");
        let _ = std::fs::remove_dir_all(&dir);
    }
}
