//! One cache: its directory, the index of its entries, and who is filling which. All workers share it; it outlives
//! reloads.

use super::{
    index::{Index, Key},
    purge::Purges,
    settings::Limits,
};
use moonrest_core::Log;
use moonrest_sys::{
    file,
    temp::TempDir,
    time::{monotonic_coarse_ms, wall_coarse},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

/// What sizes are counted in.
pub(crate) const BLOCK: u64 = 4096;
/// Entries in use that are passed over when room is needed.
const TRIES: usize = 20;

/// One cache.
pub struct Zone {
    pub name: Box<str>,
    /// `proxy`, `fastcgi` …: caches of one module are not another's.
    pub module: &'static str,
    pub dir: TempDir,
    state: Mutex<State>,
    /// What lies in the directory is not all known yet.
    cold: AtomicBool,
    running: Mutex<Running>,
    managed: AtomicBool,
    purges: Purges,
}

struct State {
    index: Index,
    waiting: HashMap<Key, Vec<Waker>>,
    tickets: u64,
    /// More entries than this are too many.
    watermark: usize,
}

/// What the running generation says.
#[derive(Clone)]
pub(crate) struct Running {
    pub limits: Arc<Limits>,
    pub log: Option<Arc<Log>>,
}

/// What the index says of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// There may be a file.
    File,
    /// There is none, and it may be made.
    Nothing,
    /// It was not asked for often enough to be kept.
    Scarce,
    /// This status is answered without asking.
    Error(u16),
}

/// How full a cache is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub bytes: u64,
    pub entries: usize,
    pub watermark: usize,
}

impl Zone {
    pub(crate) fn new(
        name: &str,
        module: &'static str,
        dir: TempDir,
        bytes: u64,
        limits: Arc<Limits>,
    ) -> Self {
        let state = State {
            index: Index::with_bytes(bytes),
            waiting: HashMap::new(),
            tickets: 0,
            watermark: usize::MAX,
        };
        Self {
            name: name.into(),
            module,
            dir,
            state: Mutex::new(state),
            cold: AtomicBool::new(true),
            running: Mutex::new(Running { limits, log: None }),
            managed: AtomicBool::new(false),
            purges: Purges::default(),
        }
    }

    /// Where an entry's file lies.
    pub(crate) fn path(&self, key: &Key) -> Vec<u8> {
        self.dir.file_path(&hex(key))
    }

    /// Notes that an entry is asked for, and says what is known of it. `first` counts a use.
    pub(crate) fn touch(&self, key: &Key, min_uses: u32, inactive: u64, first: bool) -> Seen {
        let mut state = self.state.lock();
        let expires = monotonic_coarse_ms() / 1000 + inactive;
        let cold = self.cold.load(Acquire);
        if let Some(node) = state.index.touch(key) {
            node.expires = expires;
            if first {
                node.count_use();
            }
            if node.error != 0 {
                if node.error_until >= wall_coarse().secs {
                    return Seen::Error(node.error);
                }
                node.renew();
            }
            return match node.uses >= min_uses {
                _ if node.exists => Seen::File,
                _ if cold => Seen::File,
                true => Seen::Nothing,
                false => Seen::Scarce,
            };
        }
        let removed = state.add(key);
        if let Some(node) = state.index.get(key) {
            node.expires = expires;
            node.count_use();
        }
        drop(state);
        self.unlink(removed);
        match min_uses > 1 {
            _ if cold => Seen::File,
            true => Seen::Scarce,
            false => Seen::Nothing,
        }
    }

    /// Whether an entry whose file turned out not to be there may be made now.
    pub(crate) fn is_wanted(&self, key: &Key, min_uses: u32) -> bool {
        self.state.lock().index.get(key).is_some_and(|node| node.uses >= min_uses)
    }

    /// Takes part in filling an entry.
    pub(crate) fn hold(self: &Arc<Self>, key: &Key, min_uses: u32, inactive: u64) -> Hold {
        let mut state = self.state.lock();
        let removed = match state.index.get(key) {
            Some(_) => None,
            None => state.add(key),
        };
        if let Some(node) = state.index.get(key) {
            node.holders += 1;
            node.expires = monotonic_coarse_ms() / 1000 + inactive;
        }
        drop(state);
        self.unlink(removed);
        Hold { zone: self.clone(), key: *key, ticket: 0, min_uses, settled: false }
    }

    /// Ready when nobody is known to fill an entry, or takes too long.
    pub(crate) fn poll_free(&self, key: &Key, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let now = monotonic_coarse_ms();
        let busy = state.index.get(key).is_some_and(|node| node.ticket != 0 && node.locked_until > now);
        if !busy {
            return Poll::Ready(());
        }
        let waiting = state.waiting.entry(*key).or_default();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Monotonic milliseconds until which whoever fills an entry may take.
    pub(crate) fn locked_until(&self, key: &Key) -> u64 {
        self.state.lock().index.get(key).map_or(0, |node| node.locked_until)
    }

    /// An entry's file is not there any more, or worth nothing.
    pub(crate) fn lost(&self, key: &Key) {
        self.state.lock().index.resize(key, 0);
    }

    /// An entry's file was found that the index may not know yet.
    pub(crate) fn found(&self, key: &Key, len: u64) {
        if !self.cold.load(Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if state.index.get(key).is_some_and(|node| !node.exists) {
            state.index.resize(key, blocks(len));
        }
    }

    /// Adds a file of the directory; `false` when there is no room for it.
    pub(crate) fn load(&self, key: &Key, len: u64, inactive: u64) -> bool {
        let mut state = self.state.lock();
        if state.index.get(key).is_none() {
            let Some(node) = state.index.insert(key) else {
                state.lower_watermark();
                return false;
            };
            node.uses = 1;
            node.expires = monotonic_coarse_ms() / 1000 + inactive;
            state.index.resize(key, blocks(len));
        }
        true
    }

    /// Removes the entry that was not used for the longest time, if it was not for as long as the cache keeps entries,
    /// or `anyway`. Otherwise gives the seconds until there may be one.
    pub(crate) fn expire(&self, inactive: u64, anyway: bool) -> Result<(), u64> {
        let now = monotonic_coarse_ms() / 1000;
        let mut state = self.state.lock();
        for _ in 0..TRIES {
            let Some(node) = state.index.oldest() else { return Err(10) };
            if !anyway && node.expires > now {
                return Err((node.expires - now).min(10));
            }
            let (key, exists, held) = (node.key, node.exists, node.holders > 0);
            if !held {
                state.index.remove(&key);
                drop(state);
                self.unlink(exists.then_some(key));
                return Ok(());
            }
            if let Some(node) = state.index.touch(&key) {
                node.expires = now + inactive;
            }
        }
        Err(1)
    }

    /// Removes an entry at once. `false` when there was none.
    pub(crate) fn purge(&self, key: &Key) -> bool {
        let mut state = self.state.lock();
        let known = state.index.get(key).is_some_and(|node| node.exists);
        if known {
            state.index.resize(key, 0);
        }
        if state.index.get(key).is_some_and(|node| node.holders == 0) {
            state.index.remove(key);
        }
        drop(state);
        (known || self.cold.load(Acquire)) && file::remove(&self.path(key)).is_ok()
    }

    /// What was purged by the beginning of its key.
    pub(crate) fn purges(&self) -> &Purges {
        &self.purges
    }

    /// The names of all entries.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.state.lock().index.keys()
    }

    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            bytes: state.index.blocks.saturating_mul(BLOCK),
            entries: state.index.len(),
            watermark: state.watermark,
        }
    }

    pub(crate) fn warmed_up(&self) {
        self.cold.store(false, Release);
    }

    /// A generation begins to run; `true` when it is the first.
    pub(crate) fn begin(&self, limits: &Arc<Limits>, log: &Arc<Log>) -> bool {
        *self.running.lock() = Running { limits: limits.clone(), log: Some(log.clone()) };
        !self.managed.swap(true, AcqRel)
    }

    pub(crate) fn running(&self) -> Running {
        self.running.lock().clone()
    }

    fn unlink(&self, key: Option<Key>) {
        let Some(key) = key else { return };
        let path = self.path(&key);
        if let Err(error) = file::remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
            && let Some(log) = &self.running().log
        {
            let (path, error) = (String::from_utf8_lossy(&path), moonrest_core::env::os_error(&error));
            log.write(moonrest_core::Level::Crit, None, format_args!("unlink() \"{path}\" failed ({error})"));
        }
    }
}

impl State {
    /// Makes an entry; if another one must give way, and has a file, gives its name.
    fn add(&mut self, key: &Key) -> Option<Key> {
        if self.index.insert(key).is_some() {
            return None;
        }
        self.lower_watermark();
        for _ in 0..TRIES {
            let node = self.index.oldest()?;
            let (oldest, exists, held) = (node.key, node.exists, node.holders > 0);
            if held {
                self.index.touch(&oldest);
                continue;
            }
            self.index.remove(&oldest);
            self.index.insert(key);
            return exists.then_some(oldest);
        }
        None
    }

    fn lower_watermark(&mut self) {
        let count = self.index.len();
        self.watermark = count - count / 8;
    }

    fn wake(&mut self, key: &Key) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting.remove(key).into_iter().flatten().for_each(Waker::wake);
    }
}

/// A request's part in filling an entry, until it is dropped.
pub(crate) struct Hold {
    zone: Arc<Zone>,
    key: Key,
    /// Ours, while we fill it.
    ticket: u64,
    min_uses: u32,
    settled: bool,
}

impl Hold {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Begins to fill the entry unless somebody does; others wait for us for `age` milliseconds at most.
    pub(crate) fn fill(&mut self, age: u64) -> bool {
        let mut state = self.zone.state.lock();
        let now = monotonic_coarse_ms();
        state.tickets += 1;
        let ticket = state.tickets;
        let Some(node) = state.index.get(&self.key) else { return true };
        if node.ticket != 0 && node.locked_until > now {
            return false;
        }
        node.ticket = ticket;
        node.locked_until = now.saturating_add(age);
        self.ticket = ticket;
        true
    }

    /// Begins to fill an entry that is stale, unless somebody does.
    pub(crate) fn renew(&mut self) -> bool {
        let mut state = self.zone.state.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        let Some(node) = state.index.get(&self.key) else { return true };
        if node.ticket != 0 {
            return false;
        }
        node.ticket = ticket;
        self.ticket = ticket;
        true
    }

    /// The entry's file, of this length, is in its place.
    pub(crate) fn stored(mut self, len: u64) {
        let mut state = self.zone.state.lock();
        if let Some(node) = state.index.get(&self.key) {
            node.error = 0;
            node.ticket = 0;
        }
        state.index.resize(&self.key, blocks(len));
        self.ticket = 0;
        state.wake(&self.key);
        release(&mut state, &self.key, 0, self.min_uses);
        drop(state);
        self.settled = true;
    }

    /// There is an error in the entry's place until then.
    pub(crate) fn failed(self, status: u16, until: i64) {
        let mut state = self.zone.state.lock();
        if let Some(node) = state.index.get(&self.key) {
            node.error = status;
            node.error_until = until;
        }
    }
}

fn release(state: &mut State, key: &Key, ticket: u64, min_uses: u32) {
    let Some(node) = state.index.get(key) else { return };
    node.holders = node.holders.saturating_sub(1);
    let ours = ticket != 0 && node.ticket == ticket;
    if ours {
        node.ticket = 0;
    }
    let unused = node.holders == 0 && !node.exists && node.error == 0 && min_uses <= 1;
    if ours {
        state.wake(key);
    }
    if unused {
        state.index.remove(key);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.settled {
            release(&mut self.zone.state.lock(), &self.key, self.ticket, self.min_uses);
        }
    }
}

/// The blocks that a file of this length takes.
fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK)
}

fn hex(key: &Key) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
    let mut text = [0; 32];
    for (byte, pair) in key.iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Arc<Zone> {
        let dir = TempDir { path: b"/nonexistent".to_vec(), levels: [1, 2, 0] };
        let zone = Zone::new("z", "proxy", dir, 0, Arc::default());
        zone.warmed_up();
        Arc::new(zone)
    }

    const KEY: Key = [0xab; 16];

    #[test]
    fn names_of_files() {
        let expect = format!("/nonexistent/b/ba/{}", "ab".repeat(16));
        assert_eq!(zone().path(&KEY), expect.as_bytes());
    }

    #[test]
    fn an_entry_is_kept_when_it_is_asked_for_often_enough() {
        let zone = zone();
        let ask = || zone.touch(&KEY, 3, 10, true);
        assert_eq!([ask(), ask(), ask(), ask()], [Seen::Scarce, Seen::Scarce, Seen::Nothing, Seen::Nothing]);
    }

    #[test]
    fn one_fills_it_and_the_others_wait() {
        let zone = zone();
        let (mut one, mut other) = (zone.hold(&KEY, 1, 10), zone.hold(&KEY, 1, 10));
        assert!(one.fill(60_000) && !other.fill(60_000));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(zone.poll_free(&KEY, &mut cx).is_pending());
        one.stored(5000);
        assert!(zone.poll_free(&KEY, &mut cx).is_ready());
        assert_eq!(zone.touch(&KEY, 1, 10, true), Seen::File);
        assert_eq!(zone.usage().bytes, 8192);
        drop(other);
        zone.lost(&KEY);
        assert_eq!((zone.usage().bytes, zone.touch(&KEY, 1, 10, true)), (0, Seen::Nothing));
    }

    #[test]
    fn who_takes_too_long_is_not_waited_for() {
        let zone = zone();
        let (mut one, mut other) = (zone.hold(&KEY, 1, 10), zone.hold(&KEY, 1, 10));
        assert!(one.fill(0) && other.fill(60_000));
        drop(one);
        // The other one's lock is its own.
        assert!(!zone.hold(&KEY, 1, 10).fill(60_000));
        drop(other);
        assert_eq!(zone.usage().entries, 0);
    }

    #[test]
    fn errors_are_kept_for_their_time() {
        let zone = zone();
        let now = wall_coarse().secs;
        zone.hold(&KEY, 1, 10).failed(502, now + 100);
        assert_eq!(zone.touch(&KEY, 1, 10, true), Seen::Error(502));
        zone.hold(&KEY, 1, 10).failed(502, now - 1);
        assert_eq!(zone.touch(&KEY, 1, 10, true), Seen::Nothing);
    }

    #[test]
    fn a_full_zone_drops_what_is_used_least() {
        let zone = zone();
        for n in 0..40 {
            assert_eq!(zone.touch(&[n; 16], 1, 10, true), Seen::Nothing);
        }
        let usage = zone.usage();
        assert_eq!((usage.entries, usage.watermark), (32, 28));
        assert!(zone.keys().contains(&[39; 16]) && !zone.keys().contains(&[0; 16]));
    }
}
