//! Servers and locations as compiled, and how a request finds its own.

use crate::{
    compile::{BlockId, BlockKind, Compiler},
    core::Core,
    filter::{HeaderFilter, HeaderOrder},
    module::SharedConfs,
    phase::{LogHandler, Phase, PhaseHandler, RequestError},
    regex::CapturingRegex,
    request::Request,
    script::ScriptOp,
    tls::{ServerTls, hook::Hook},
    upstream::{GroupId, HandshakeHook},
    walk::Phases,
};
use moonrest_sys::temp::TempDir;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A location's number in its generation.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LocId(pub u32);

/// A server's number in its generation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Hash)]
pub struct ServerId(pub u32);

/// What kind of block a location was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocationKind {
    /// The implicit location of a `server` block.
    Server,
    Exact,
    Prefix,
    /// `^~`: regular expressions are not asked.
    PrefixFinal,
    Regex,
    Named,
    /// `if` and `limit_except`.
    Unnamed,
}

/// A block compiled: settings and handlers.
pub struct Location {
    pub kind: LocationKind,
    /// As written, without modifiers.
    pub name: Box<[u8]>,
    /// Settings of the core module.
    pub core: Arc<Core>,
    pub script: Box<[Box<dyn ScriptOp>]>,
    handlers: [Box<[Arc<dyn PhaseHandler>]>; Phase::COUNT],
    /// Where these and the script give a request something to do.
    pub(crate) phases: Phases,
    /// The one handler that answers here, if the location says so (`empty_gif`, `proxy_pass`, …).
    pub content: Option<Arc<dyn PhaseHandler>>,
    /// In execution order.
    pub header_filters: Box<[Arc<dyn HeaderFilter>]>,
    /// How many of them see the head of an answer that a program captures.
    pub(crate) captured_filters: usize,
    /// All of them are [rare](HeaderOrder::is_rare).
    pub(crate) rare_filters: bool,
    pub log: Box<[Arc<dyn LogHandler>]>,
    pub children: Matcher,
    /// Methods that `limit_except` lets pass (bits of `Method::bit`), and the location for all others.
    pub limit_except: Option<(u32, LocId)>,
    /// A request for the name without its final slash is redirected to the name.
    pub auto_redirect: bool,
    /// How TLS is spoken for the server, if this is its implicit location.
    pub tls: Option<Arc<ServerTls>>,
    /// Code that takes part in handshakes, of a server's location.
    pub handshake: Option<Arc<dyn Hook>>,
    /// A program's say in handshakes with upstreams.
    pub handshake_hook: Option<Arc<dyn HandshakeHook>>,
    /// Merged settings of every module, in the registry's order.
    pub confs: SharedConfs,
}

impl Location {
    /// The handlers of `phase`, in order.
    pub fn handlers(&self, phase: Phase) -> &[Arc<dyn PhaseHandler>] {
        &self.handlers[phase as usize]
    }

    /// The merged settings of the module whose `Loc` is `T`.
    pub fn conf<T: 'static>(&self) -> Option<&T> {
        self.confs.iter().find_map(|conf| conf.downcast_ref::<T>())
    }

    /// The same for those who ask often: `place` remembers where they stand, which is alike everywhere.
    pub fn conf_at<T: 'static>(&self, place: &AtomicUsize) -> Option<&T> {
        let conf = self.confs.get(place.load(Relaxed)).and_then(|conf| conf.downcast_ref::<T>());
        conf.or_else(|| {
            let found = self.confs.iter().position(|conf| conf.is::<T>())?;
            place.store(found, Relaxed);
            self.confs.get(found)?.downcast_ref()
        })
    }
}

/// Locations by their names, `@` included.
pub type NamedLocations = HashMap<Box<[u8]>, LocId>;

/// A `server` block compiled.
pub struct Server {
    /// The first name, for redirects and `$server_name`.
    pub name: Box<[u8]>,
    /// Its implicit location.
    pub location: LocId,
    pub named: NamedLocations,
    pub settings: Arc<crate::core::ServerSettings>,
}

/// What the search found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    Exact(LocId),
    /// The longest prefix; regular expressions may overrule it.
    Prefix(LocId),
    /// Redirect to the name with a slash at the end.
    AutoRedirect(LocId),
    None,
}

/// The locations of one level: names by prefix, then regular expressions in order.
#[derive(Default)]
pub struct Matcher {
    /// Sorted.
    names: Vec<NameEntry>,
    /// The [`key`]s of the names.
    keys: Vec<u64>,
    /// Some name redirects requests that lack its final slash.
    redirects: bool,
    regexes: Vec<(CapturingRegex, LocId)>,
}

struct NameEntry {
    name: Box<[u8]>,
    exact: Option<LocId>,
    prefix: Option<LocId>,
    auto_redirect: bool,
    /// The longest other name that is a prefix of this one.
    parent: Option<usize>,
}

/// The first eight bytes of a text, the first one highest, with zeros behind the end: keys stand in the order of texts.
#[inline]
fn key(text: &[u8]) -> u64 {
    if let Some(bytes) = text.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    match (text.first_chunk(), text.last_chunk(), text) {
        // These overlap.
        (Some(first), Some(last), _) => {
            let last = u64::from(u32::from_be_bytes(*last)) << (64 - 8 * text.len());
            u64::from(u32::from_be_bytes(*first)) << 32 | last
        }
        (_, _, &[a, b, c, ..]) => u64::from_be_bytes([a, b, c, 0, 0, 0, 0, 0]),
        (_, _, &[a, b]) => u64::from_be_bytes([a, b, 0, 0, 0, 0, 0, 0]),
        (_, _, &[a]) => u64::from_be_bytes([a, 0, 0, 0, 0, 0, 0, 0]),
        (_, _, []) => 0,
    }
}

/// Whether a text begins with another; both with their keys.
#[inline]
fn begins(text: &[u8], text_key: u64, with: &[u8], with_key: u64) -> bool {
    let len = with.len();
    let alike = (text_key ^ with_key).leading_zeros() as usize / 8;
    len <= text.len() && alike >= len.min(8) && (len <= 8 || text.starts_with(with))
}

impl Matcher {
    /// Builds a level from its exact and prefix locations and its regular expressions, in the order written.
    pub fn new(names: Vec<(Box<[u8]>, bool, bool, LocId)>, regexes: Vec<(CapturingRegex, LocId)>) -> Self {
        let mut entries: Vec<NameEntry> = Vec::new();
        let mut sorted = names;
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, exact, auto_redirect, id) in sorted {
            if entries.last().is_none_or(|entry| entry.name != name) {
                entries.push(NameEntry {
                    name,
                    exact: None,
                    prefix: None,
                    auto_redirect: false,
                    parent: None,
                });
            }
            if let Some(entry) = entries.last_mut() {
                *(if exact { &mut entry.exact } else { &mut entry.prefix }) = Some(id);
                entry.auto_redirect |= auto_redirect;
            }
        }
        // In sorted order every prefix of a name stands before it, so a stack of open prefixes suffices.
        let mut open: Vec<usize> = Vec::new();
        for index in 0..entries.len() {
            while open.last().is_some_and(|&top| !entries[index].name.starts_with(&entries[top].name)) {
                open.pop();
            }
            entries[index].parent = open.last().copied();
            open.push(index);
        }
        let redirects = entries.iter().any(|entry| entry.auto_redirect);
        let keys = entries.iter().map(|entry| key(&entry.name)).collect();
        Self { names: entries, keys, redirects, regexes }
    }

    /// Whether the level has no locations.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.regexes.is_empty()
    }

    /// Whether the level has regular expressions.
    pub fn has_regexes(&self) -> bool {
        !self.regexes.is_empty()
    }

    /// The exact or longest prefix location for a path.
    pub fn find_name(&self, path: &[u8]) -> Found {
        let key = key(path);
        let after = self.count_up_to(path, key);
        let slashed = if self.redirects { self.find_slashed(path, after) } else { None };
        let mut index = after.checked_sub(1);
        let mut prefix = None;
        while let Some(at) = index {
            let (Some(entry), Some(name_key)) = (self.names.get(at), self.keys.get(at)) else { break };
            if begins(path, key, &entry.name, *name_key) {
                if entry.name.len() == path.len() && entry.exact.is_some() {
                    return entry.exact.map_or(Found::None, Found::Exact);
                }
                if entry.prefix.is_some() {
                    if entry.name.len() == path.len() {
                        return entry.prefix.map_or(Found::None, Found::Prefix);
                    }
                    prefix = entry.prefix;
                    break;
                }
            }
            index = entry.parent;
        }
        if let Some(id) = slashed {
            return Found::AutoRedirect(id);
        }
        prefix.map_or(Found::None, Found::Prefix)
    }

    /// How many names stand before the path or are the same.
    #[inline]
    fn count_up_to(&self, path: &[u8], key: u64) -> usize {
        let before = self.keys.partition_point(|known| *known < key);
        let rest = self.keys.get(before..).unwrap_or_default();
        if rest.first() != Some(&key) {
            return before;
        }
        if path.len() < 8 {
            // The key is all of the name.
            return before + 1;
        }
        let several = rest.get(1) == Some(&key);
        let alike = if several { rest.partition_point(|known| *known == key) } else { 1 };
        let alike = self.names.get(before..before + alike).unwrap_or_default();
        before + alike.partition_point(|entry| &*entry.name <= path)
    }

    /// The location named like the path with a slash behind it, if requests for the path are redirected there. It
    /// stands behind all names up to the path, but others may lie between ("/a" "/a+" "/a/").
    fn find_slashed(&self, path: &[u8], after: usize) -> Option<LocId> {
        let behind = self.names.get(after..)?;
        let at = behind.partition_point(|entry| entry.name.iter().lt(path.iter().chain(b"/")));
        let entry = behind.get(at).filter(|entry| {
            entry.auto_redirect && entry.name.strip_prefix(path).is_some_and(|rest| rest == b"/")
        })?;
        entry.exact.or(entry.prefix)
    }

    /// The location of the first regular expression that matches; its groups become the request's captures.
    ///
    /// # Errors
    /// When an expression fails.
    pub fn find_regex(&self, r: &Request, path: &[u8]) -> Result<Option<LocId>, RequestError> {
        Ok(CapturingRegex::first(&self.regexes, r, path)?.copied())
    }
}

/// What a location speaks to its upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    Grpc,
    /// Something else.
    Other,
}

/// Collects what the modules attach to one location.
pub struct LocationBuilder<'a> {
    pub compiler: &'a Compiler<'a>,
    pub block: BlockId,
    pub kind: LocationKind,
    pub name: &'a [u8],
    pub core: Arc<Core>,
    pub(crate) handlers: [Vec<Arc<dyn PhaseHandler>>; Phase::COUNT],
    pub(crate) content: Option<Arc<dyn PhaseHandler>>,
    pub(crate) header_filters: Vec<(HeaderOrder, Arc<dyn HeaderFilter>)>,
    pub(crate) log: Vec<Arc<dyn LogHandler>>,
    before_script: Vec<Box<dyn ScriptOp>>,
    pub(crate) auto_redirect: bool,
    tls: Option<Arc<ServerTls>>,
    handshake: Option<Arc<dyn Hook>>,
    handshake_hook: Option<Arc<dyn HandshakeHook>>,
    secure_upstream: Option<bool>,
    asks: Option<(GroupId, Speaks)>,
}

impl<'a> LocationBuilder<'a> {
    pub(crate) fn new(
        compiler: &'a Compiler<'a>,
        block: BlockId,
        kind: LocationKind,
        name: &'a [u8],
        core: Arc<Core>,
    ) -> Self {
        Self {
            compiler,
            block,
            kind,
            name,
            core,
            handlers: Default::default(),
            content: None,
            header_filters: Vec::new(),
            log: Vec::new(),
            before_script: Vec::new(),
            auto_redirect: false,
            tls: None,
            handshake: None,
            handshake_hook: None,
            secure_upstream: None,
            asks: None,
        }
    }

    /// Says how TLS is spoken here, if this is a server's location.
    pub fn tls(&mut self, tls: ServerTls) {
        self.tls = Some(Arc::new(tls));
    }

    /// Whether TLS is spoken here; known to modules behind `ssl`.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Code that takes part in the handshakes of this server.
    pub fn handshake(&mut self, hook: impl Hook + 'static) {
        self.handshake = Some(Arc::new(hook));
    }

    /// Says whether connections to this location's upstream may be encrypted.
    pub fn proxies(&mut self, secure: bool) {
        self.secure_upstream = Some(secure);
    }

    /// Whether they may, if there is an upstream; known to modules behind those that proxy.
    pub fn secure_upstream(&self) -> Option<bool> {
        self.secure_upstream
    }

    /// Names the upstream that answers here, if that is always the same, and what is spoken there.
    pub fn asks(&mut self, group: Option<GroupId>, speaks: Speaks) {
        self.asks = group.map(|group| (group, speaks));
    }

    /// The upstream that answers here; known to modules behind those that proxy.
    pub fn asked_group(&self) -> Option<(GroupId, Speaks)> {
        self.asks
    }

    /// This location's number, and its server's.
    pub fn place(&self) -> (LocId, ServerId) {
        let blocks = self.compiler.blocks.borrow();
        let server = self.compiler.server_of(self.block).map_or(0, |server| server.0 as usize);
        let before = blocks.iter().take(server).filter(|block| matches!(block.kind, BlockKind::Server));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (LocId(self.block.0.saturating_sub(1)), ServerId(number(before.count())))
    }

    /// Gives a program a say in handshakes with upstreams.
    pub fn handshake_hook(&mut self, hook: impl HandshakeHook + 'static) {
        self.handshake_hook = Some(Arc::new(hook));
    }

    /// Adds a handler; modules attach in the registry's order, which is the order of execution.
    pub fn on(&mut self, phase: Phase, handler: impl PhaseHandler + 'static) {
        self.handlers[phase as usize].push(Arc::new(handler));
    }

    /// Adds a handler before those that are there.
    pub fn first(&mut self, phase: Phase, handler: impl PhaseHandler + 'static) {
        self.handlers[phase as usize].insert(0, Arc::new(handler));
    }

    /// Adds a step before the rewrite script of this location.
    pub fn before_script(&mut self, op: impl ScriptOp + 'static) {
        self.before_script.push(Box::new(op));
    }

    /// Whether a setting written in `block` is this block's own. An `if` or `limit_except` has what the block around
    /// it says; a nested location does not: so it is with what nginx does not inherit.
    pub fn belongs(&self, block: BlockId) -> bool {
        let blocks = self.compiler.blocks.borrow();
        let mut at = self.block;
        loop {
            if at == block {
                return true;
            }
            match blocks.get(at.0 as usize) {
                Some(inner) if matches!(inner.kind, BlockKind::Unnamed) => match inner.parent {
                    Some(parent) => at = parent,
                    None => return false,
                },
                _ => return false,
            }
        }
    }

    /// Whether these settings of a module were asked about before: locations share what is set around them.
    pub fn is_known<T>(&self, settings: &T) -> bool {
        // All settings live as long as locations are built: an address stands for one of them.
        !self.compiler.known.borrow_mut().insert(std::ptr::from_ref(settings).addr())
    }

    /// A directory for temporary files: the one given, or `default` below the prefix. It is made when the server
    /// starts.
    pub fn temp_dir(&self, given: Option<&TempDir>, default: &str) -> TempDir {
        let dir = given.cloned().unwrap_or_else(|| TempDir {
            path: self.compiler.env.prefix.join(default).as_os_str().as_encoded_bytes().to_vec(),
            levels: [0; 3],
        });
        let mut dirs = self.compiler.temp_dirs.borrow_mut();
        if !dirs.contains(&dir.path) {
            dirs.push(dir.path.clone());
        }
        dir
    }

    /// Makes `handler` the one that answers here.
    pub fn content(&mut self, handler: impl PhaseHandler + 'static) {
        self.content = Some(Arc::new(handler));
    }

    /// Adds a header filter at its place.
    pub fn header_filter(&mut self, order: HeaderOrder, filter: impl HeaderFilter + 'static) {
        self.header_filters.push((order, Arc::new(filter)));
    }

    /// Adds a handler of the log phase.
    pub fn log(&mut self, handler: impl LogHandler + 'static) {
        self.log.push(Arc::new(handler));
    }

    /// Adds a handler of the log phase before those that are there.
    pub fn log_first(&mut self, handler: impl LogHandler + 'static) {
        self.log.insert(0, Arc::new(handler));
    }

    /// Redirects requests for this location's name without its final slash.
    pub fn auto_redirect(&mut self) {
        self.auto_redirect = self.name.ends_with(b"/");
    }

    pub(crate) fn finish(
        mut self,
        script: Vec<Box<dyn ScriptOp>>,
        children: Matcher,
        limit_except: Option<(u32, LocId)>,
        confs: SharedConfs,
    ) -> Location {
        self.header_filters.sort_by_key(|(order, _)| *order);
        let mut before = std::mem::take(&mut self.before_script);
        before.extend(script);
        let script = before;
        let phases = Phases::new(!script.is_empty(), |phase| !self.handlers[phase as usize].is_empty());
        let captured_filters = self.header_filters.partition_point(|(order, _)| *order <= HeaderOrder::Lua);
        Location {
            phases,
            captured_filters,
            rare_filters: self.header_filters.iter().all(|(order, _)| order.is_rare()),
            kind: self.kind,
            name: self.name.into(),
            core: self.core,
            script: script.into(),
            handlers: self.handlers.map(Vec::into_boxed_slice),
            content: self.content,
            header_filters: self.header_filters.into_iter().map(|(_, filter)| filter).collect(),
            log: self.log.into(),
            children,
            limit_except,
            auto_redirect: self.auto_redirect,
            tls: self.tls,
            handshake: self.handshake,
            handshake_hook: self.handshake_hook,
            confs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[(&str, bool)], path: &str, expect: Found) {
        let names = names
            .iter()
            .enumerate()
            .map(|(n, (name, exact))| {
                (name.as_bytes().into(), *exact, name.len() > 1 && name.ends_with('/'), LocId(n as u32))
            })
            .collect();
        assert_eq!(Matcher::new(names, Vec::new()).find_name(path.as_bytes()), expect, "{path}");
    }

    #[test]
    fn keys_stand_in_the_order_of_texts() {
        let mut texts: Vec<Vec<u8>> = (0..12).map(|len| (b'a'..).take(len).collect()).collect();
        texts.extend((0..12).map(|len| vec![0xff; len]));
        texts.extend((0..12).map(|len| vec![0; len]));
        for a in &texts {
            let mut eight = a.clone();
            eight.resize(8.max(a.len()), 0);
            assert_eq!(key(a).to_be_bytes(), eight[..8], "{a:?}");
            for b in &texts {
                assert!(a > b || key(a) <= key(b), "{a:?} {b:?}");
                assert_eq!(begins(a, key(a), b, key(b)), a.starts_with(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn names_that_are_alike_at_first_are_told_apart() {
        let names =
            [("/directory", false), ("/directory/a", true), ("/directory/b", false), ("/directo", true)];
        check(&names, "/directory/a", Found::Exact(LocId(1)));
        check(&names, "/directory/ab", Found::Prefix(LocId(0)));
        check(&names, "/directory/bc", Found::Prefix(LocId(2)));
        check(&names, "/directo", Found::Exact(LocId(3)));
        check(&names, "/direct", Found::None);
        check(&names, "/directors", Found::None);
    }

    #[test]
    fn the_longest_prefix_wins_and_exact_beats_it() {
        let names =
            [("/", false), ("/a", false), ("/a/b", false), ("/a", true), ("/a/b/c/", false), ("/x+", false)];
        check(&names, "/", Found::Prefix(LocId(0)));
        check(&names, "/a", Found::Exact(LocId(3)));
        check(&names, "/ab", Found::Prefix(LocId(1)));
        check(&names, "/a/bz", Found::Prefix(LocId(2)));
        check(&names, "/a/b/c", Found::AutoRedirect(LocId(4)));
        check(&names, "/a/b/c/d", Found::Prefix(LocId(4)));
        check(&names, "/zzz", Found::Prefix(LocId(0)));
        check(&names, "", Found::None);
        check(&[("/a", false), ("/a/", false)], "/a", Found::Prefix(LocId(0)));
        check(&[("/", false), ("/a/", true)], "/a", Found::AutoRedirect(LocId(1)));
    }
}
