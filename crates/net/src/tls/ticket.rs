//! Session tickets: what a server gives its clients to keep, sealed with keys that all workers share.
//!
//! ```text
//! name of the key (16) | nonce (12) | sealed | tag (16)
//! sealed: seconds since 1970 when it was made (8) | length of the session (2) | session | zeros
//! ```

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use moonrest_sys::time;
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const NAME: usize = 16;
const STAMP: usize = 8;
/// What is sealed is filled up to a multiple of this.
const PADDED: usize = 128;

/// A key for tickets.
pub struct TicketKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey")
    }
}

impl TicketKey {
    /// Takes what stands in a file of `ssl_session_ticket_key`: 48 or 80 bytes, the name first.
    pub fn from_file(contents: &[u8]) -> Option<Self> {
        if !matches!(contents.len(), 48 | 80) {
            return None;
        }
        let (name, secret) = contents.split_first_chunk::<NAME>()?;
        // The file has keys for another pair of ciphers: one key is made of all of it.
        let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
        Self::new(*name, key.as_ref())
    }

    fn new(name: [u8; NAME], key: &[u8]) -> Option<Self> {
        Some(Self { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?) })
    }

    fn random() -> Option<Self> {
        let mut bytes = [0; NAME + 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let (name, key) = bytes.split_first_chunk::<NAME>()?;
        Self::new(*name, key)
    }
}

/// The keys that the process makes for itself.
#[derive(Default)]
struct Own {
    /// The newest first.
    keys: Vec<Arc<TicketKey>>,
    /// Monotonic milliseconds when the newest was made.
    since: u64,
}

static OWN: Mutex<Own> = Mutex::new(Own { keys: Vec::new(), since: 0 });
/// Seconds for which a key makes tickets: the longest that any of them is good for.
static PERIOD: AtomicU64 = AtomicU64::new(0);

fn own_keys() -> Vec<Arc<TicketKey>> {
    let mut own = OWN.lock();
    let now = time::monotonic_ms();
    let stale = now.saturating_sub(own.since) > PERIOD.load(Relaxed).saturating_mul(1000);
    if (own.keys.is_empty() || stale)
        && let Some(key) = TicketKey::random()
    {
        own.keys.insert(0, Arc::new(key));
        // The key before it still opens what it has sealed.
        own.keys.truncate(2);
        own.since = now;
    }
    own.keys.clone()
}

/// Seals and opens the tickets of one server.
#[derive(Debug)]
pub struct Ticketer {
    /// Those of files: the first seals, all open. Without any, the process' own.
    keys: Vec<Arc<TicketKey>>,
    /// Binds tickets to what the server asks of its clients: a ticket of another kind of server does not open.
    context: Vec<u8>,
    /// Seconds.
    lifetime: u32,
}

impl Ticketer {
    /// A ticketer for servers of that context; `lifetime` in seconds.
    pub fn new(keys: Vec<Arc<TicketKey>>, context: Vec<u8>, lifetime: u32) -> Self {
        PERIOD.fetch_max(u64::from(lifetime), Relaxed);
        Self { keys, context, lifetime }
    }

    fn keys(&self) -> Vec<Arc<TicketKey>> {
        if self.keys.is_empty() { own_keys() } else { self.keys.clone() }
    }

    fn seal(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.keys();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut body = now.to_be_bytes().to_vec();
        body.extend_from_slice(&u16::try_from(session.len()).ok()?.to_be_bytes());
        body.extend_from_slice(session);
        // Its length would tell what is in it: whether a client has shown certificates.
        body.resize(body.len().next_multiple_of(PADDED), 0);
        let aad = Aad::from(&self.context);
        key.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body).ok()?;
        let mut out = Vec::with_capacity(NAME + NONCE_LEN + body.len());
        out.extend_from_slice(&key.name);
        out.extend_from_slice(&nonce);
        out.append(&mut body);
        Some(out)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut body = sealed.to_vec();
        let aad = Aad::from(&self.context);
        let opened = key.key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body).ok()?;
        let (stamp, rest) = opened.split_first_chunk::<STAMP>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let session = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
        let age = now.saturating_sub(u64::from_be_bytes(*stamp));
        (age <= u64::from(self.lifetime)).then(|| session.to_vec())
    }
}

fn now() -> u64 {
    u64::try_from(time::wall_coarse().secs).unwrap_or(0)
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_in_their_own_context_and_time() {
        let ticketer = Ticketer::new(Vec::new(), b"a".to_vec(), 300);
        let ticket = ticketer.seal(b"session", 1000).unwrap();
        assert_eq!(ticketer.open(&ticket, 1300).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer.open(&ticket, 1301), None);
        assert_eq!(Ticketer::new(Vec::new(), b"b".to_vec(), 300).open(&ticket, 1000), None);
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert_eq!(ticketer.open(&broken, 1000), None);
            assert_eq!(ticketer.open(&ticket[..at], 1000), None);
        }
    }

    #[test]
    fn keys_of_files_open_what_the_first_has_sealed() {
        let key = |n: u8| Arc::new(TicketKey::from_file(&[n; 80]).unwrap());
        assert!(TicketKey::from_file(&[0; 47]).is_none());
        let before = Ticketer::new(vec![key(1)], Vec::new(), 300);
        let after = Ticketer::new(vec![key(2), key(1)], Vec::new(), 300);
        let ticket = before.seal(b"x", 0).unwrap();
        assert_eq!(after.open(&ticket, 0).as_deref(), Some(&b"x"[..]));
        assert_eq!(before.open(&after.seal(b"x", 0).unwrap(), 0), None);
    }
}
