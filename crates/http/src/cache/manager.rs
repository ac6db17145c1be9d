//! The two threads of a cache: one keeps it within its limits, the other reads its directory once after the start.

use super::{
    file,
    index::Key,
    settings::Limits,
    zone::{BLOCK, Running, Zone},
};
use moonrest_core::{Level, Log, env::os_error};
use moonrest_sys::{
    file::{self as files, FileKind},
    time::{monotonic_coarse_ms, wall_coarse},
    tree,
};
use std::{
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// Temporary files that nobody has written to for so many seconds belong to nobody.
const ABANDONED: i64 = 3600;
/// Directories lie no deeper than this.
const DEEPEST: usize = 4;

/// A generation that has this cache begins to serve.
pub(super) fn start(zone: &Arc<Zone>, limits: &Arc<Limits>, log: &Arc<Log>) -> Result<(), String> {
    if !zone.begin(limits, log) {
        return Ok(());
    }
    let spawn = |name: &str, run: fn(&Weak<Zone>)| {
        let zone = Arc::downgrade(zone);
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || run(&zone));
        started.map(drop).map_err(|error| format!("the {name} cannot start ({})", os_error(&error)))
    };
    spawn("cache manager", manage)?;
    spawn("cache loader", load)
}

/// Runs as long as some generation has the cache.
fn manage(zone: &Weak<Zone>) {
    loop {
        let Some(zone) = zone.upgrade() else { return };
        let pause = turn(&zone, &zone.running().limits);
        drop(zone);
        thread::sleep(Duration::from_millis(pause.max(1)));
    }
}

/// What may be done before the next pause.
struct Budget {
    files: u64,
    until: u64,
}

impl Budget {
    fn new(files: u64, threshold: u64) -> Self {
        Self { files, until: monotonic_coarse_ms().saturating_add(threshold) }
    }

    /// Takes one file; `true` when it was the last.
    fn take(&mut self) -> bool {
        self.files = self.files.saturating_sub(1);
        self.files == 0 || monotonic_coarse_ms() >= self.until
    }
}

/// Removes what was not used for too long, then what is too much. Gives the milliseconds to pause.
fn turn(zone: &Zone, limits: &Limits) -> u64 {
    let mut budget = Budget::new(limits.manager_files, limits.manager_threshold);
    let mut pause = loop {
        match zone.expire(limits.inactive, false) {
            Ok(()) if budget.take() => return limits.manager_sleep,
            Ok(()) => {}
            Err(seconds) => break seconds.saturating_mul(1000),
        }
    };
    while is_too_full(zone, limits) {
        match zone.expire(limits.inactive, true) {
            Ok(()) if budget.take() => return limits.manager_sleep,
            Ok(()) => {}
            Err(seconds) => {
                pause = seconds.saturating_mul(1000);
                break;
            }
        }
    }
    pause
}

fn is_too_full(zone: &Zone, limits: &Limits) -> bool {
    let usage = zone.usage();
    if usage.entries == 0 {
        return false;
    }
    usage.bytes >= limits.max_size && limits.max_size < i64::MAX.cast_unsigned()
        || usage.entries >= usage.watermark
        || limits.min_free > 0 && files::free_space(&zone.dir.path).is_ok_and(|free| free <= limits.min_free)
}

/// Reads the directory.
fn load(zone: &Weak<Zone>) {
    let Some(zone) = zone.upgrade() else { return };
    let running = zone.running();
    let limits = running.limits.clone();
    let mut loader =
        Loader { zone: &zone, running, budget: Budget::new(limits.loader_files, limits.loader_threshold) };
    if loader.directory(&zone.dir.path, 0) {
        zone.warmed_up();
        let usage = zone.usage();
        let text = format_args!(
            "http file cache: {} {:.3}M, bsize: {BLOCK}",
            String::from_utf8_lossy(&zone.dir.path),
            usage.bytes as f64 / 1_048_576.0,
        );
        if let Some(log) = &loader.running.log {
            log.write(Level::Notice, None, text);
        }
    }
}

struct Loader<'a> {
    zone: &'a Arc<Zone>,
    running: Running,
    budget: Budget,
}

impl Loader<'_> {
    /// Goes through one directory. `false` when the cache is not in use any more.
    fn directory(&mut self, path: &[u8], depth: usize) -> bool {
        let entries = match tree::list(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.log(Level::Crit, "open()", path, &error);
                return true;
            }
        };
        for entry in entries {
            let name = [path, b"/", &entry.name].concat();
            let kind = entry.kind.or_else(|| files::lstat(&name).ok().map(|stat| stat.kind));
            match kind {
                Some(FileKind::Directory) if depth < DEEPEST && entry.name != b"temp" => {
                    if !self.directory(&name, depth + 1) {
                        return false;
                    }
                }
                Some(FileKind::File) => {
                    self.file(&name, &entry.name);
                    if self.budget.take() && !self.rest() {
                        return false;
                    }
                }
                _ => {}
            }
        }
        true
    }

    fn rest(&mut self) -> bool {
        let limits = self.running.limits.clone();
        thread::sleep(Duration::from_millis(limits.loader_sleep));
        self.budget = Budget::new(limits.loader_files, limits.loader_threshold);
        // Nobody but this thread has it: the server has been configured anew.
        Arc::strong_count(self.zone) > 1
    }

    fn file(&self, path: &[u8], name: &[u8]) {
        let Some(stat) = files::lstat(path).ok().filter(|stat| stat.is_file()) else { return };
        if is_temporary(name) {
            if stat.mtime.saturating_add(ABANDONED) < wall_coarse().secs {
                self.remove(path);
            }
            return;
        }
        // What has another name is not ours.
        let Some(key) = key_of(name).filter(|key| self.zone.path(key) == path) else { return };
        if !file::is_plausible(stat.size) {
            if let Some(log) = &self.running.log {
                let path = String::from_utf8_lossy(path);
                log.write(Level::Crit, None, format_args!("cache file \"{path}\" is too small"));
            }
            self.remove(path);
        } else if !self.zone.load(&key, stat.size, self.running.limits.inactive) {
            self.remove(path);
        }
    }

    fn remove(&self, path: &[u8]) {
        if let Err(error) = files::remove(path) {
            self.log(Level::Crit, "unlink()", path, &error);
        }
    }

    fn log(&self, level: Level, call: &str, path: &[u8], error: &std::io::Error) {
        if let Some(log) = &self.running.log {
            let path = String::from_utf8_lossy(path);
            log.write(level, None, format_args!("{call} \"{path}\" failed ({})", os_error(error)));
        }
    }
}

/// Whether a name is an entry's with a dot and ten digits behind it.
fn is_temporary(name: &[u8]) -> bool {
    name.split_at_checked(32).is_some_and(|(key, rest)| {
        key_of(key).is_some()
            && rest
                .strip_prefix(b".")
                .is_some_and(|rest| rest.len() == 10 && rest.iter().all(u8::is_ascii_digit))
    })
}

/// The key that a file is named after.
fn key_of(name: &[u8]) -> Option<Key> {
    let (pairs, rest) = name.as_chunks::<2>();
    if pairs.len() != 16 || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut key = Key::default();
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_and_of_temporary_files() {
        let name = "0123456789abcdef".repeat(2);
        assert_eq!(key_of(name.as_bytes()).map(|key| key[1]), Some(0x23));
        for bad in ["", "0", &name[1..], &name.to_uppercase(), &format!("{name}00")] {
            assert_eq!(key_of(bad.as_bytes()), None, "{bad}");
        }
        assert!(is_temporary(format!("{name}.0000000012").as_bytes()));
        assert!(!is_temporary(format!("{name}.000000001").as_bytes()) && !is_temporary(name.as_bytes()));
    }
}
