//! `resolver`: names to addresses at run time, without blocking, with one cache per worker.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#resolver>
//!
//! ```text
//! resolve(name) → cached? ────────────────────────────────→ addresses
//!                 asked already? → waits with the others ─┐
//!                 otherwise a task asks (exchange) ───────┴→ answer → CNAME? → again with its target
//! ```

mod exchange;
mod message;
mod system;

pub use system::{System, servers as system_servers};

use message::{Found, Kind};
use moonrest_sys::time::monotonic_ms;
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// How often one name may lead to another.
const MAX_ALIASES: usize = 50;
/// How many names a worker remembers per resolver.
const MAX_NAMES: usize = 8192;
/// How long a name is known not to exist.
const ABSENT_MS: u64 = 1_000;

/// A `resolver` directive.
#[derive(Debug)]
pub struct Settings {
    id: u64,
    pub servers: Vec<SocketAddr>,
    /// Seconds that answers are valid, whatever they say themselves.
    pub valid: Option<u64>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// What the machine itself knows, for `resolver system`.
    pub system: Option<System>,
}

impl Settings {
    /// Settings that ask these servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, servers, valid: None, ipv4: true, ipv6: true, system: None }
    }

    /// This worker's resolver with these settings, and its cache.
    pub fn here(self: &Arc<Self>) -> Rc<Resolver> {
        thread_local! {
            static PRESENT: RefCell<HashMap<u64, Rc<Resolver>>> = RefCell::default();
        }
        PRESENT.with_borrow_mut(|present| {
            present.entry(self.id).or_insert_with(|| Rc::new(Resolver::new(self.clone()))).clone()
        })
    }
}

/// Why a name has no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {}", self.code(), self.reason())]
pub enum ResolveError {
    FormatError,
    ServerFailure,
    HostNotFound,
    Unimplemented,
    Refused,
    TimedOut,
    /// Another code of the protocol.
    Other(u16),
}

impl ResolveError {
    /// The number in messages: the protocol's, or 110 for a timeout.
    pub fn code(self) -> u16 {
        match self {
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::HostNotFound => 3,
            Self::Unimplemented => 4,
            Self::Refused => 5,
            Self::TimedOut => 110,
            Self::Other(code) => code,
        }
    }

    /// The words that go with it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::FormatError => "Format error",
            Self::ServerFailure => "Server failure",
            Self::HostNotFound => "Host not found",
            Self::Unimplemented => "Unimplemented",
            Self::Refused => "Operation refused",
            Self::TimedOut => "Operation timed out",
            Self::Other(_) => "Unknown error",
        }
    }

    /// nginx's line: `NAME could not be resolved (3: Host not found)`.
    pub fn line(self, name: &[u8]) -> String {
        format!("{} could not be resolved ({self})", String::from_utf8_lossy(name))
    }

    fn of(code: u16) -> Self {
        match code {
            1 => Self::FormatError,
            2 => Self::ServerFailure,
            3 => Self::HostNotFound,
            4 => Self::Unimplemented,
            5 => Self::Refused,
            other => Self::Other(other),
        }
    }
}

/// nginx's line where a name needs a resolver and there is none.
pub fn no_resolver(name: &[u8]) -> String {
    format!("no resolver defined to resolve {}", String::from_utf8_lossy(name))
}

/// The addresses of a name.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// As given by the servers; never empty.
    pub ips: Rc<[IpAddr]>,
    /// Milliseconds for which they are valid from now on.
    pub valid: u64,
}

/// One place of a service, with the addresses of its host.
#[derive(Clone, Debug)]
pub struct Place {
    pub addr: SocketAddr,
    pub priority: u16,
    pub weight: u16,
    /// The host's name.
    pub host: Rc<str>,
}

/// What is known of a name, or that it does not exist.
type Answer = Result<Known, ResolveError>;

#[derive(Clone, Debug)]
struct Known {
    found: Rc<Found>,
    /// Monotonic milliseconds.
    until: u64,
}

/// A question that is being asked, and those who wait for its answer.
#[derive(Default)]
struct Flight {
    waiting: Cell<usize>,
    answer: RefCell<Option<Answer>>,
    landed: Notify,
}

enum Entrance {
    Known(Answer, u64),
    Asked(Rc<Flight>),
}

type Key = (Kind, Rc<str>);

/// A resolver of one worker.
pub struct Resolver {
    settings: Arc<Settings>,
    known: RefCell<HashMap<Key, Entrance>>,
    /// The server that the next question goes to first.
    next: Cell<usize>,
    /// Picks the address that an answer begins with.
    turn: Cell<usize>,
}

impl Resolver {
    fn new(settings: Arc<Settings>) -> Self {
        let turn = moonrest_sys::random::number().unwrap_or(0) as usize;
        Self { settings, known: RefCell::default(), next: Cell::new(0), turn: Cell::new(turn) }
    }

    /// Addresses of `name` with `port`, beginning with another one each time. Addresses stand for themselves.
    ///
    /// # Errors
    /// Why there is none; `TimedOut` after `timeout` milliseconds.
    pub async fn resolve(
        self: &Rc<Self>,
        name: &[u8],
        port: u16,
        timeout: u64,
    ) -> Result<Rc<[SocketAddr]>, ResolveError> {
        if let Some(addrs) = self.at_hand(name, port) {
            return addrs;
        }
        let found = self.lookup(name, timeout).await?;
        Ok(self.turned(&found.ips, port))
    }

    /// As [`Self::resolve`] where the answer needs no question: an address, or a name that is cached.
    pub fn at_hand(&self, name: &[u8], port: u16) -> Option<Result<Rc<[SocketAddr]>, ResolveError>> {
        if let Some(ip) = literal(name) {
            return Some(Ok([SocketAddr::new(ip, port)].into()));
        }
        let mut name = match host_name(name) {
            Ok(name) => name,
            Err(error) => return Some(Err(error)),
        };
        if let Some(system) = &self.settings.system {
            if let Some(ips) = system.host(&name, &self.settings) {
                return Some(Ok(self.turned(&ips, port)));
            }
            name = system.candidates(&name).into_iter().next()?;
        }
        for _ in 0..MAX_ALIASES {
            let known = match self.cached(&(Kind::Address, name))? {
                Ok(known) => known,
                // The system's other domains are tried by those who wait.
                Err(_) if self.settings.system.is_some() => return None,
                Err(error) => return Some(Err(error)),
            };
            match &*known.found {
                Found::Addresses(ips) => return Some(Ok(self.turned(ips, port))),
                Found::Alias(target) => name = target.clone(),
                _ => return None,
            }
        }
        None
    }

    /// The addresses of `name` and for how long they are valid.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn lookup(self: &Rc<Self>, name: &[u8], timeout: u64) -> Result<Addresses, ResolveError> {
        if let Some(ip) = literal(name) {
            return Ok(Addresses { ips: [ip].into(), valid: u64::MAX });
        }
        let name = host_name(name)?;
        within(timeout, self.addresses(name)).await
    }

    /// The places of a service: `http` means `_http._tcp`, a name with a dot is taken as it is.
    ///
    /// # Errors
    /// As [`Self::resolve`]. Hosts without addresses are left out unless all are.
    pub async fn services(
        self: &Rc<Self>,
        service: &str,
        name: &[u8],
        timeout: u64,
    ) -> Result<(Vec<Place>, u64), ResolveError> {
        let name = host_name(name)?;
        let full = if service.contains('.') {
            format!("{service}.{name}")
        } else {
            format!("_{service}._tcp.{name}")
        };
        let full = host_name(full.as_bytes())?;
        within(timeout, self.places(full)).await
    }

    /// The name of an address.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn reverse(self: &Rc<Self>, ip: IpAddr, timeout: u64) -> Result<Rc<str>, ResolveError> {
        let name = message::arpa(ip);
        let (known, _) = within(timeout, self.follow(Kind::Name, name)).await?;
        match &*known.found {
            Found::Name(name) => Ok(name.clone()),
            _ => Err(ResolveError::HostNotFound),
        }
    }

    async fn addresses(self: &Rc<Self>, name: Rc<str>) -> Result<Addresses, ResolveError> {
        let Some(system) = &self.settings.system else { return self.addresses_of(name).await };
        if let Some(ips) = system.host(&name, &self.settings) {
            return Ok(Addresses { ips, valid: u64::MAX });
        }
        let mut failure = ResolveError::HostNotFound;
        for candidate in system.candidates(&name) {
            match self.addresses_of(candidate).await {
                Err(error @ ResolveError::HostNotFound) => failure = error,
                other => return other,
            }
        }
        Err(failure)
    }

    async fn addresses_of(self: &Rc<Self>, name: Rc<str>) -> Result<Addresses, ResolveError> {
        let (known, valid) = self.follow(Kind::Address, name).await?;
        match &*known.found {
            Found::Addresses(ips) => Ok(Addresses { ips: ips.clone(), valid }),
            _ => Err(ResolveError::HostNotFound),
        }
    }

    async fn places(self: &Rc<Self>, name: Rc<str>) -> Result<(Vec<Place>, u64), ResolveError> {
        let (known, mut valid) = self.follow(Kind::Service, name).await?;
        let Found::Services(services) = &*known.found else { return Err(ResolveError::HostNotFound) };
        let (mut places, mut failure) = (Vec::new(), ResolveError::HostNotFound);
        for service in services {
            match self.addresses_of(service.host.clone()).await {
                Ok(addresses) => {
                    valid = valid.min(addresses.valid);
                    places.extend(addresses.ips.iter().map(|ip| Place {
                        addr: SocketAddr::new(*ip, service.port),
                        priority: service.priority,
                        weight: service.weight,
                        host: service.host.clone(),
                    }));
                }
                Err(error) => failure = error,
            }
        }
        if places.is_empty() { Err(failure) } else { Ok((places, valid)) }
    }

    /// What is at the end of the chain of aliases that `name` begins, and for how long the chain is valid.
    async fn follow(self: &Rc<Self>, kind: Kind, mut name: Rc<str>) -> Result<(Known, u64), ResolveError> {
        let mut until = u64::MAX;
        for _ in 0..=MAX_ALIASES {
            let known = self.ask((kind, name)).await?;
            until = until.min(known.until);
            match &*known.found {
                Found::Alias(target) => name = target.clone(),
                _ => return Ok((known, until.saturating_sub(monotonic_ms()))),
            }
        }
        Err(ResolveError::HostNotFound)
    }

    fn cached(&self, key: &Key) -> Option<Answer> {
        match self.known.borrow().get(key)? {
            Entrance::Known(answer, until) if *until > monotonic_ms() => Some(answer.clone()),
            _ => None,
        }
    }

    /// One link of the chain: from the cache, from a question under way, or from a new one.
    async fn ask(self: &Rc<Self>, key: Key) -> Answer {
        if let Some(answer) = self.cached(&key) {
            return answer;
        }
        let flight = {
            let mut known = self.known.borrow_mut();
            match known.entry(key.clone()) {
                Entry::Occupied(entry) if matches!(entry.get(), Entrance::Asked(_)) => match entry.get() {
                    Entrance::Asked(flight) => flight.clone(),
                    Entrance::Known(answer, _) => return answer.clone(),
                },
                entry => {
                    let flight = Rc::new(Flight::default());
                    entry.insert_entry(Entrance::Asked(flight.clone()));
                    moonrest_rt::spawn(self.clone().fly(key, flight.clone()));
                    flight
                }
            }
        };
        let waiter = Waiter::of(&flight);
        let landed = flight.landed.notified();
        if flight.answer.borrow().is_none() {
            landed.await;
        }
        drop(waiter);
        let answer = flight.answer.borrow().clone();
        // Its task was dropped: the worker is leaving.
        answer.unwrap_or(Err(ResolveError::TimedOut))
    }

    async fn fly(self: Rc<Self>, key: Key, flight: Rc<Flight>) {
        let first = self.next.get();
        self.next.set((first + 1) % self.settings.servers.len().max(1));
        let asked = exchange::ask(&self.settings, first, key.0, &key.1, || flight.waiting.get() > 0).await;
        let now = monotonic_ms();
        let (answer, until) = match asked {
            Some(Ok((found, ttl))) => {
                // nginx: whole seconds, so that an answer of no validity still serves those who ask meanwhile.
                let seconds = self.settings.valid.unwrap_or_else(|| u64::from(ttl));
                let until = now.saturating_add(seconds.saturating_mul(1000).max(1));
                (Ok(Known { found: Rc::new(found), until }), until)
            }
            Some(Err(error @ ResolveError::HostNotFound)) => {
                let valid = self.settings.valid.map_or(ABSENT_MS, |seconds| seconds.saturating_mul(1000));
                (Err(error), now + valid.min(ABSENT_MS))
            }
            Some(Err(error)) => (Err(error), 0),
            None => (Err(ResolveError::TimedOut), 0),
        };
        self.remember(key, answer.clone(), until, now);
        *flight.answer.borrow_mut() = Some(answer);
        flight.landed.notify_waiters();
    }

    fn remember(&self, key: Key, answer: Answer, until: u64, now: u64) {
        let mut known = self.known.borrow_mut();
        if until <= now {
            known.remove(&key);
            return;
        }
        known.insert(key, Entrance::Known(answer, until));
        if known.len() > MAX_NAMES {
            known.retain(|_, entry| matches!(entry, Entrance::Asked(_)) || entry.is_fresh(now));
            // Still too many: half of them, whichever the table names first.
            let mut surplus = if known.len() > MAX_NAMES { MAX_NAMES / 2 } else { 0 };
            known.retain(|_, entry| {
                let stays = surplus == 0 || matches!(entry, Entrance::Asked(_));
                surplus = surplus.saturating_sub(usize::from(!stays));
                stays
            });
        }
    }

    fn turned(&self, ips: &Rc<[IpAddr]>, port: u16) -> Rc<[SocketAddr]> {
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let count = ips.len().max(1);
        ips.iter().cycle().skip(first % count).take(ips.len()).map(|ip| SocketAddr::new(*ip, port)).collect()
    }
}

impl Entrance {
    fn is_fresh(&self, now: u64) -> bool {
        matches!(self, Self::Known(_, until) if *until > now)
    }
}

/// Counts one who waits, for as long as it does.
struct Waiter(Rc<Flight>);

impl Waiter {
    fn of(flight: &Rc<Flight>) -> Self {
        flight.waiting.set(flight.waiting.get() + 1);
        Self(flight.clone())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

async fn within<T>(
    timeout: u64,
    work: impl Future<Output = Result<T, ResolveError>>,
) -> Result<T, ResolveError> {
    crate::timer::within(timeout, work).await.unwrap_or(Err(ResolveError::TimedOut))
}

/// An address written as such, in brackets or not.
pub fn literal(name: &[u8]) -> Option<IpAddr> {
    let bare = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let text = std::str::from_utf8(bare.unwrap_or(name)).ok()?;
    match (text.parse().ok()?, bare) {
        (IpAddr::V4(_), Some(_)) => None,
        (ip, _) => Some(ip),
    }
}

/// The name in lower case without its final dot; what cannot be asked for is not found.
fn host_name(name: &[u8]) -> Result<Rc<str>, ResolveError> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    if !name.split(|byte| *byte == b'.').all(|label| (1..=63).contains(&label.len())) || name.len() > 253 {
        return Err(ResolveError::HostNotFound);
    }
    let name = std::str::from_utf8(name).map_err(|_| ResolveError::HostNotFound)?;
    Ok(name.to_ascii_lowercase().into())
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
