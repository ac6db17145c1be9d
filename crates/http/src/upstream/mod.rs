//! Answers from other servers: one engine for every module that asks one (`proxy`, `fastcgi`, `uwsgi`, `scgi`, `grpc`,
//! `memcached`).
//!
//! ```text
//! request body ─► peer ─► connection ─► request ─► head ─┬─► body to the client ─► connection kept or closed
//!                  ▲                                     │
//!                  └──────── next upstream ◄─── failure, or a status that says so
//! ```
//!
//! A module makes a [`Job`]: its settings ([`Conf`]), where to ask ([`Destination`]) and how to talk there
//! ([`Protocol`]). [`start`] does the rest.

mod attempt;
mod balancer;
mod bind;
mod body;
mod cached;
mod choose;
mod conf;
mod connect;
mod define;
mod exchange;
mod find;
mod head;
mod hop;
mod http2;
mod keep;
mod pipe;
mod pool;
mod probe;
mod protocol;
mod recorder;
mod release;
mod resolve;
mod run;
mod source;
mod state;
mod sticky;
mod tls;
mod tunnel;
mod unbuffered;
pub mod variables;
mod verdict;
mod worker;

pub use balancer::{Asked, Balancer, Choice, Choosing, LastFailure, Lasting, Verdict};
pub use bind::Bind;
pub use cached::start;
pub use conf::{Conf, Hidden, Loc, Store, directive, mask};
pub use connect::dial;
pub use define::{
    Balancers, Definition, Finished, Group, GroupId, HashKey, Keepalive, Main, StateZone, block,
};
pub(crate) use probe::append_context as append_probe;
pub use probe::{Probe, Question};
pub use protocol::{BodyStep, Framing, HeadStep, Protocol, RequestLength};
pub(crate) use recorder::Recorder;
pub use resolve::start as start_resolving;
pub use run::{Destination, Job};
pub(crate) use state::append_context;
pub use state::{Answer, CacheStatus, States};
pub use sticky::{Cookie, Expires, Kind as StickyKind, Learn, Sticky, new_peer};
pub use tls::{CertificateFiles, FileNames, HandshakeHook, Shown, Tls};
pub(crate) use worker::Local;
pub use worker::{Known, of_worker};
