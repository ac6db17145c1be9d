//! What the main level and the `events` block of a configuration say.
//! <https://nginx.org/en/docs/ngx_core_module.html>

use moonrest_core::log::Target;
use moonrest_sys::user::Identity;
use std::{path::PathBuf, time::Duration};

/// Settings of the process; what was not set is `None` until asked for.
#[derive(Default)]
pub struct MainSettings {
    pub daemon: Option<bool>,
    pub master_process: Option<bool>,
    pub worker_processes: Option<usize>,
    /// Whom the serving process becomes; `None` unless started by root.
    pub user: Option<Identity>,
    pub pid: Option<PathBuf>,
    pub error_log: Vec<Target>,
    pub env: Vec<EnvEntry>,
    pub rlimit_nofile: Option<u64>,
    pub rlimit_core: Option<u64>,
    pub priority: Option<i32>,
    pub affinity: Option<Affinity>,
    pub shutdown_timeout: Option<u64>,
    pub working_directory: Option<PathBuf>,
    pub timer_resolution: Option<u64>,
    pub lock_file: Option<PathBuf>,
    pub debug_points: Option<usize>,
    pub pcre_jit: Option<bool>,
    pub ssl_object_cache_inheritable: Option<bool>,
    pub thread_pools: Vec<ThreadPool>,
    pub events: Option<Events>,
}

/// One `env`: a variable that is kept, or set to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvEntry {
    pub name: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// `worker_cpu_affinity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// A list of processors per worker; the last one is for the rest.
    Masks(Vec<Vec<usize>>),
    /// Workers take these in turn.
    Auto(Vec<usize>),
}

/// `thread_pool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPool {
    pub name: String,
    pub threads: usize,
    pub max_queue: u64,
}

/// The `events` block.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub worker_connections: Option<usize>,
    pub method: Option<()>,
    pub multi_accept: Option<bool>,
    pub accept_mutex: Option<bool>,
    pub accept_mutex_delay: Option<u64>,
    pub worker_aio_requests: Option<u64>,
    pub epoll_events: Option<usize>,
}

/// Threads that a pool has when nothing is said, as nginx's pool named `default`.
const DEFAULT_POOL_THREADS: usize = 32;

impl MainSettings {
    pub fn daemon(&self) -> bool {
        self.daemon.unwrap_or(true)
    }

    pub fn master_process(&self) -> bool {
        self.master_process.unwrap_or(true)
    }

    /// How many workers there are; never 0.
    pub fn workers(&self) -> usize {
        self.worker_processes.unwrap_or(1).max(1)
    }

    /// Connections that one worker may have.
    pub fn worker_connections(&self) -> usize {
        self.events.as_ref().and_then(|events| events.worker_connections).unwrap_or(512)
    }

    /// Events taken from the kernel at once.
    pub fn epoll_events(&self) -> usize {
        self.events.as_ref().and_then(|events| events.epoll_events).unwrap_or(512).max(1)
    }

    /// Whether all connections that wait are accepted at once.
    pub fn multi_accept(&self) -> bool {
        self.events.as_ref().and_then(|events| events.multi_accept).unwrap_or(false)
    }

    /// `worker_shutdown_timeout`; `None` waits for ever.
    pub fn shutdown_timeout(&self) -> Option<Duration> {
        self.shutdown_timeout.filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// Threads for blocking work, per worker.
    pub fn blocking_threads(&self) -> usize {
        self.thread_pools.iter().map(|pool| pool.threads).max().unwrap_or(DEFAULT_POOL_THREADS).max(1)
    }

    /// The processors that worker `n` is bound to.
    pub fn cpus_of(&self, n: usize) -> Option<&[usize]> {
        match self.affinity.as_ref()? {
            Affinity::Masks(masks) => masks.get(n).or(masks.last()).map(Vec::as_slice),
            Affinity::Auto(cpus) if cpus.is_empty() => None,
            Affinity::Auto(cpus) => {
                let at = n % cpus.len();
                cpus.get(at..=at)
            }
        }
    }

    /// The environment that `env` directives leave: `TZ` and what they name.
    pub fn environment(&self, inherited: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of =
            |name: &[u8]| inherited.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut keep = |name: &[u8], value: Option<Vec<u8>>| {
            if let Some(value) = value {
                kept.retain(|(known, _)| known != name);
                kept.push((name.to_vec(), value));
            }
        };
        keep(b"TZ", of(b"TZ"));
        for entry in &self.env {
            keep(&entry.name, entry.value.clone().or_else(|| of(&entry.name)));
        }
        kept
    }

    /// Whether a running process would have to become what it cannot: the serving process is then replaced.
    pub fn needs_new_process(&self, other: &Self) -> bool {
        self.user != other.user
            || self.env != other.env
            || self.rlimit_nofile != other.rlimit_nofile
            || self.rlimit_core != other.rlimit_core
            || self.priority != other.priority
            || self.working_directory != other.working_directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_go_to_workers_in_order_and_the_last_to_the_rest() {
        let masks = Affinity::Masks(vec![vec![0], vec![1, 2]]);
        let settings = MainSettings { affinity: Some(masks), ..MainSettings::default() };
        assert_eq!(settings.cpus_of(0), Some(&[0][..]));
        assert_eq!(settings.cpus_of(1), Some(&[1, 2][..]));
        assert_eq!(settings.cpus_of(9), Some(&[1, 2][..]));
    }

    #[test]
    fn automatic_binding_takes_processors_in_turn() {
        let settings = MainSettings { affinity: Some(Affinity::Auto(vec![1, 3])), ..MainSettings::default() };
        let taken: Vec<_> = (0..3).map(|n| settings.cpus_of(n).unwrap().to_vec()).collect();
        assert_eq!(taken, [[1], [3], [1]]);
        assert_eq!(MainSettings::default().cpus_of(0), None);
    }

    #[test]
    fn the_environment_is_what_env_names() {
        let var = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let entry = |name: &str, value: Option<&str>| EnvEntry {
            name: name.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        let inherited = [var("TZ", "UTC"), var("A", "1"), var("B", "2")];
        let mut settings = MainSettings::default();
        assert_eq!(settings.environment(&inherited), [var("TZ", "UTC")]);
        settings.env =
            vec![entry("B", None), entry("NONE", None), entry("C", Some("3")), entry("TZ", Some("X"))];
        assert_eq!(settings.environment(&inherited), [var("B", "2"), var("C", "3"), var("TZ", "X")]);
    }
}
