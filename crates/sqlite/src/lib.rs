//! The embedded database: SQLite, whose work is done by a few threads, so that nobody who serves requests ever waits for
//! a disk or a lock.
//! <https://www.sqlite.org/>
//!
//! ```text
//! Connection (belongs to a worker) ──job──→ threads ──→ rusqlite::Connection
//!      ↑                                                      │
//!      └───────── the same rusqlite::Connection, an answer ───┘
//! ```
//!
//! While a job runs, the connection is with the thread; nobody else can use it. A database that is locked does not hold
//! up a thread: the job comes back as [`Answer::Busy`], to be tried again later. One whose answer nobody waits for any
//! more is interrupted, and its connection closed.

mod connection;
mod error;
mod script;
mod threads;
mod value;

pub use connection::{Answer, Attempt, Connection, Opening, Options, Work};
pub use error::Error;
pub use value::{Outcome, Params, Rows, Value};
