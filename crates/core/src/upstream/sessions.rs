//! Sessions that `sticky learn` remembers: which server each belongs to, in bounded memory.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// A digest of what a session is called.
pub type Id = [u8; 16];

/// Bytes that one session counts for: nginx has 8000 in a megabyte.
const EACH: u64 = 131;

/// The sessions of one upstream, common to all workers.
#[derive(Debug)]
pub struct Sessions {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<Id, Session>,
    /// By last use, then by number.
    by_age: BTreeMap<(u64, u64), Id>,
    count: u64,
}

#[derive(Debug)]
struct Session {
    sid: Box<[u8]>,
    age: (u64, u64),
}

impl Sessions {
    /// Room for as many sessions as `bytes` hold.
    pub fn with_bytes(bytes: u64) -> Self {
        let max = usize::try_from(bytes / EACH).unwrap_or(usize::MAX).max(1);
        Self { max, table: Mutex::default() }
    }

    /// The server that a session belongs to, unless it was last used before `oldest` (milliseconds).
    pub fn find(&self, id: &Id, oldest: u64) -> Option<Box<[u8]>> {
        let table = self.table.lock();
        let session = table.by_id.get(id)?;
        (session.age.0 >= oldest).then(|| session.sid.clone())
    }

    /// Notes that a session uses a server; one that is not known is added only if `create`. `true` when an older one
    /// had to give way to it.
    pub fn note(&self, id: &Id, sid: &[u8], create: bool, now: u64, oldest: u64) -> bool {
        let mut guard = self.table.lock();
        let table = &mut *guard;
        table.expire(oldest);
        if let Some(session) = table.by_id.get_mut(id) {
            if *session.sid != *sid {
                session.sid = sid.into();
            }
            let Some(key) = table.by_age.remove(&session.age) else { return false };
            session.age.0 = now;
            table.by_age.insert(session.age, key);
            return false;
        }
        if !create {
            return false;
        }
        let full = table.by_id.len() >= self.max;
        if full && let Some((_, oldest)) = table.by_age.pop_first() {
            table.by_id.remove(&oldest);
        }
        table.count += 1;
        let age = (now, table.count);
        table.by_age.insert(age, *id);
        table.by_id.insert(*id, Session { sid: sid.into(), age });
        full
    }
}

impl Table {
    fn expire(&mut self, oldest: u64) {
        while let Some(entry) = self.by_age.first_entry() {
            if entry.key().0 >= oldest {
                break;
            }
            let id = entry.remove();
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> Id {
        [byte; 16]
    }

    #[test]
    fn sessions_are_found_until_they_expire_or_give_way() {
        let sessions = Sessions::with_bytes(EACH * 2);
        assert!(!sessions.note(&id(b'a'), b"1", true, 10, 0));
        assert!(!sessions.note(&id(b'b'), b"2", true, 20, 0));
        assert!(!sessions.note(&id(b'a'), b"3", false, 30, 0));
        assert_eq!(sessions.find(&id(b'a'), 0).as_deref(), Some(&b"3"[..]));
        assert!(sessions.note(&id(b'c'), b"1", true, 40, 0));
        assert_eq!(sessions.find(&id(b'b'), 0), None);
        assert_eq!(sessions.find(&id(b'a'), 31), None);
        assert!(!sessions.note(&id(b'd'), b"1", false, 50, 0));
        assert_eq!(sessions.find(&id(b'd'), 0), None);
    }
}
