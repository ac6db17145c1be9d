//! Code that balances: it is asked before each attempt, may wait, and may name a peer of its own.
//! <https://github.com/openresty/lua-nginx-module#balancer_by_lua_block>
//!
//! ```text
//! attempt ─► begin ─► code ─┬─ says nothing ─► the upstream's own method chooses
//!                           ├─ names a peer ─► that one, perhaps over a connection that it had kept
//!                           └─ refuses ──────► the request ends, or another attempt follows
//! ```

use crate::{phase::LocalBoxFuture, request::RequestRef};
use moonrest_net::addr::Addr;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};

/// What an `upstream` block's balancer of its own is.
pub trait Balancer: Send + Sync {
    /// Looks at the request and writes down what it wants in `choosing`.
    fn choose(&self, r: &RequestRef, choosing: &Rc<Choosing>) -> Asked;
}

/// A balancer answers at once, or has to wait.
pub enum Asked {
    Now(Verdict),
    Wait(LocalBoxFuture<Verdict>),
}

/// What follows when it has been asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The attempt goes on with what was chosen.
    Go,
    /// It failed; the log says why.
    Failed,
    /// There is no server (`NGX_BUSY`).
    Busy,
    /// This attempt counts as failed (`NGX_DECLINED`).
    Declined,
    /// This is the answer.
    Finish(u16),
}

/// What a balancer knows of one request, and what it says.
pub struct Choosing {
    /// Attempts that are left, the present one included.
    tries: Cell<usize>,
    /// Attempts that have begun.
    begun: Cell<usize>,
    /// The most that the location allows; 0 for any number.
    limit: usize,
    failure: Cell<LastFailure>,
    /// For the present attempt.
    pub choice: RefCell<Choice>,
    /// From now on.
    pub lasting: RefCell<Lasting>,
}

/// How the last attempt at a peer that the balancer named has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LastFailure {
    #[default]
    None,
    /// Its answer asked for another server.
    Next,
    Failed,
}

/// What holds for one attempt.
#[derive(Clone, Default)]
pub struct Choice {
    pub peer: Option<Addr>,
    /// What the server is asked for (SNI); connections are kept apart by it.
    pub host: Box<[u8]>,
    /// Attempts more.
    pub more_tries: i64,
    /// The connection is kept so long, in milliseconds, and for so many requests; 0 for any number.
    pub keepalive: Option<(u64, u64)>,
}

/// What holds for the rest of the request. Times in milliseconds.
#[derive(Clone, Default)]
pub struct Lasting {
    pub local: Option<SocketAddr>,
    pub connect_timeout: Option<u64>,
    pub send_timeout: Option<u64>,
    pub read_timeout: Option<u64>,
    /// Whether the connection is encrypted.
    pub tls: Option<bool>,
    /// The request is made anew before it is sent.
    pub recreate: bool,
}

impl Choosing {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            tries: Cell::new(0),
            begun: Cell::new(0),
            limit,
            failure: Cell::default(),
            choice: RefCell::default(),
            lasting: RefCell::default(),
        }
    }

    /// An attempt begins, with so many left.
    pub(super) fn begin(&self, tries: usize) {
        self.tries.set(tries);
        self.begun.set(self.begun.get() + 1);
        self.choice.take();
    }

    /// The last attempt at a peer of its own has ended.
    pub(super) fn ended(&self, failure: LastFailure) {
        self.failure.set(failure);
    }

    /// How the last attempt at a peer of its own has ended.
    pub fn last_failure(&self) -> LastFailure {
        self.failure.get()
    }

    /// Asks for more attempts behind this one. `true` when the limit allows fewer.
    pub fn add_tries(&self, count: i64) -> bool {
        let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let total = signed(self.begun.get()).saturating_add(signed(self.tries.get())).saturating_sub(1);
        let reduced = self.limit != 0 && total.saturating_add(count) > signed(self.limit);
        let more = if reduced { signed(self.limit).saturating_sub(total) } else { count };
        self.choice.borrow_mut().more_tries = more;
        reduced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_added_up_to_the_limit() {
        let check = |limit, tries, count, expect| {
            let choosing = Choosing::new(limit);
            choosing.begin(tries);
            let reduced = choosing.add_tries(count);
            assert_eq!((choosing.choice.borrow().more_tries, reduced), expect);
        };
        check(0, 1, 9, (9, false));
        check(5, 1, 4, (4, false));
        check(5, 1, 5, (4, true));
        check(2, 3, 1, (-1, true));
    }
}
