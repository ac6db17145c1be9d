//! Real servers for specifications: Redis, memcached, MariaDB, PostgreSQL and PHP-FPM, started when a file needs
//! them; and a login of MySQL 8, which Debian does not have.
//!
//! One of each serves all files of a run. They live in a temporary directory on free ports, and end with the runner,
//! however it ends: `setpriv` asks the kernel to signal them when the thread that started them is gone.
mod launch;
mod mysql8;
mod servers;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::port::Port;
use crate::process;
use launch::Place;
pub use launch::program;

/// Database, user and password of all servers that know such a thing.
pub const NAME: &str = "ngx_test";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Redis,
    Memcached,
    Mysql,
    Mysql8,
    Postgres,
    PhpFpm,
}

/// Variables that say where a server is, without their prefix `TEST_NGINX_`.
pub type Variables = BTreeMap<&'static str, String>;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Redis, Self::Memcached, Self::Mysql, Self::Mysql8, Self::Postgres, Self::PhpFpm];

    /// What the names of its variables begin with, `TEST_NGINX_` left out.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "REDIS",
            Self::Memcached => "MEMCACHED",
            Self::Mysql => "MYSQL",
            Self::Mysql8 => "MYSQL8",
            Self::Postgres => "POSTGRES",
            Self::PhpFpm => "PHP_FPM",
        }
    }

    /// Whether a specification speaks of this kind of server.
    pub fn is_wanted(self, text: &str) -> bool {
        let (prefix, name) = ("TEST_NGINX_", self.name());
        text.match_indices(prefix).any(|(at, _)| {
            let rest = text[at + prefix.len()..].strip_prefix(name);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    }
}

/// A server that runs.
#[derive(Debug)]
struct Service {
    variables: Variables,
    children: Vec<(Child, Signal)>,
    /// Held so that nobody else is given them.
    _ports: Vec<Port>,
}

impl Drop for Service {
    fn drop(&mut self) {
        for (child, signal) in &mut self.children {
            if let Ok(pid) = i32::try_from(child.id()) {
                process::stop(pid, *signal);
            }
            let _ = child.wait();
        }
    }
}

type Answer = Result<Variables, String>;
type Request = (Kind, Sender<Answer>);

/// The servers of a run. Dropping it ends them.
#[derive(Debug)]
pub struct Services {
    /// The thread that starts them: they end with it.
    thread: Option<JoinHandle<()>>,
    requests: Option<Mutex<Sender<Request>>>,
    root: PathBuf,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        let root = launch::directory();
        let (requests, incoming) = channel::<Request>();
        let place = root.clone();
        let thread = std::thread::spawn(move || {
            let mut started: BTreeMap<Kind, Result<Service, String>> = BTreeMap::new();
            for (kind, answer) in incoming {
                let service = started.entry(kind).or_insert_with(|| {
                    start(kind, &place).map_err(|error| format!("{}: {error}", kind.name()))
                });
                let variables = service.as_ref().map(|service| service.variables.clone());
                let _ = answer.send(variables.map_err(Clone::clone));
            }
        });
        Self { thread: Some(thread), requests: Some(Mutex::new(requests)), root }
    }

    /// Where a server of this kind is; starts it if need be.
    pub fn get(&self, kind: Kind) -> Result<Variables, String> {
        let (answer, answers) = channel();
        let requests = self.requests.as_ref().and_then(|requests| requests.lock().ok());
        let sent = requests.map(|requests| requests.send((kind, answer)));
        match (sent, answers.recv()) {
            (Some(Ok(())), Ok(answer)) => answer,
            _ => Err(format!("{}: the thread that starts servers is gone", kind.name())),
        }
    }

    /// The variables of all servers that a specification speaks of, unless they are known already.
    pub fn variables(
        &self,
        text: &str,
        known: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_wanted(text)) {
            let given = format!("TEST_NGINX_{}", kind.name());
            if known.contains_key(&format!("{given}_PORT")) || known.contains_key(&given) {
                continue;
            }
            let variables = self.get(kind)?;
            found.extend(variables.into_iter().map(|(name, value)| (format!("TEST_NGINX_{name}"), value)));
        }
        Ok(found)
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn start(kind: Kind, root: &Path) -> io::Result<Service> {
    let place = Place::new(root, kind)?;
    match kind {
        Kind::Redis => servers::redis(&place),
        Kind::Memcached => servers::memcached(&place),
        Kind::Mysql => servers::mysql(&place),
        Kind::Mysql8 => mysql8::mysql8(&place),
        Kind::Postgres => servers::postgres(&place),
        Kind::PhpFpm => servers::php_fpm(&place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_wanted_where_its_variables_are_named() {
        let wanted =
            |text: &str| Kind::ALL.into_iter().filter(|kind| kind.is_wanted(text)).collect::<Vec<_>>();
        assert_eq!(wanted("connect(\"127.0.0.1\", $TEST_NGINX_REDIS_PORT)"), [Kind::Redis]);
        assert_eq!(
            wanted("$ENV{TEST_NGINX_MYSQL_SOCKET} ${TEST_NGINX_PHP_FPM}"),
            [Kind::Mysql, Kind::PhpFpm]
        );
        assert_eq!(wanted("$TEST_NGINX_REDIS2_PORT $TEST_NGINX_PORT REDIS_PORT"), []);
    }
}
