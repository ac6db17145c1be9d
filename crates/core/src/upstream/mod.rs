//! Upstreams: servers behind this one, their state, and how one of them is chosen. Shared by all proxying modules.
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>
//!
//! [`Server`] is a line of the configuration; [`Peers`] the addresses that the lines of one upstream stand for, with
//! their state; [`Selection`] the way of one request from peer to peer.

mod balance;
mod hash;
mod health;
mod peer;
mod server;
mod sessions;
mod url;

pub use balance::{Outcome, Selection, View};
pub use health::{Attempted, Check, Checked, Condition, Counted};
pub use peer::{Numbers, Peer, PeerSet, Peers, Tier};
pub use server::{Down, Server, Supports, Target};
pub use sessions::{Id, Sessions};
pub use url::{Url, resolve_host};

/// How a peer is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    #[default]
    RoundRobin,
    LeastConn,
    /// By the client's address.
    IpHash,
    /// By a key.
    Hash,
    /// By a key, so that few keys move when servers come or go.
    ConsistentHash,
    Random,
    /// The better of two chosen at random.
    RandomTwo,
    LeastTime(LeastTime),
}

/// Which time `least_time` compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeastTime {
    /// The time to the head, not to the last byte.
    pub header: bool,
    /// Requests under way count as well.
    pub inflight: bool,
}
