//! Listening sockets of a generation: opened, carried over from the one before, dealt out to workers.

use crate::{report::Report, settings::MainSettings};
use moonrest_core::{env::Resources, log::Level};
use moonrest_http::compile::Http;
use moonrest_sys::{
    listen::{self, ListenAddr, ListenSpec},
    socket,
};
use std::{io, os::fd::OwnedFd, sync::Arc, thread, time::Duration};

/// The sockets for one `listen`: one per worker where the kernel distributes, one for all otherwise.
#[derive(Clone)]
pub(crate) struct Group {
    pub spec: ListenSpec,
    pub shards: Vec<Arc<OwnedFd>>,
}

/// A worker's share: the number of the listener in its generation, and a socket.
pub(crate) type Share = (usize, Arc<OwnedFd>);

/// nginx tries a port that is in use so often.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Opens what `http` listens on, taking over what is open already.
///
/// # Errors
/// When a socket cannot be opened; what was wrong has been reported.
pub(crate) fn open(
    http: Option<&Http>,
    settings: &MainSettings,
    resources: &dyn Resources,
    old: &[Group],
    report: &Report,
) -> Result<Vec<Group>, ()> {
    let specs: Vec<&ListenSpec> =
        http.map(|http| http.listeners.iter().map(|listener| &listener.spec).collect()).unwrap_or_default();
    let mut groups: Vec<Option<Group>> = specs.iter().map(|spec| taken_over(spec, old)).collect();
    for attempt in 0..ATTEMPTS {
        let mut in_use = false;
        for (group, spec) in groups.iter_mut().zip(&specs).filter(|(group, _)| group.is_none()) {
            match resources.listen(spec, 0) {
                Ok(fd) => *group = Some(Group { spec: (*spec).clone(), shards: vec![Arc::new(fd)] }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && resources.testing() => {}
                Err(error) => {
                    report.write(Level::Emerg, format_args!("{error}"));
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(());
                    }
                    in_use = true;
                }
            }
        }
        if !in_use {
            let mut groups: Vec<Group> = groups.into_iter().flatten().collect();
            if !resources.testing() {
                for group in &mut groups {
                    complete(group, settings.workers(), resources, report);
                }
            }
            return Ok(groups);
        }
        if attempt + 1 < ATTEMPTS {
            report.write(Level::Notice, format_args!("try again to bind() after 500ms"));
            thread::sleep(PAUSE);
        }
    }
    report.write(Level::Emerg, format_args!("still could not bind()"));
    Err(())
}

fn taken_over(spec: &ListenSpec, old: &[Group]) -> Option<Group> {
    let known = old.iter().find(|group| same_place(&group.spec, spec))?;
    Some(Group { spec: spec.clone(), shards: known.shards.clone() })
}

/// Whether the two are the same address.
pub(crate) fn same_place(a: &ListenSpec, b: &ListenSpec) -> bool {
    a.addr == b.addr && a.kind == b.kind
}

/// Opens the further sockets of a group and sets options.
fn complete(group: &mut Group, workers: usize, resources: &dyn Resources, report: &Report) {
    for shard in &group.shards {
        for failure in listen::apply_options(&**shard, &group.spec) {
            report.write(Level::Alert, format_args!("{failure}"));
        }
    }
    let wanted = if is_spread(&group.spec) { workers } else { 1 };
    if group.shards.len() >= wanted {
        return;
    }
    // The first one is bound without SO_REUSEPORT, to meet strangers on the port as an error; the others need it.
    for shard in &group.shards {
        if socket::set_reuseport(&**shard, true).is_err() {
            return;
        }
    }
    let spec = ListenSpec { reuseport: true, ..group.spec.clone() };
    while group.shards.len() < wanted {
        match resources.listen(&spec, group.shards.len()) {
            Ok(fd) => {
                for failure in listen::apply_options(&fd, &group.spec) {
                    report.write(Level::Alert, format_args!("{failure}"));
                }
                group.shards.push(Arc::new(fd));
            }
            // Workers share what there is.
            Err(error) => return report.write(Level::Warn, format_args!("{error}, sockets are shared")),
        }
    }
}

/// Whether each worker has a socket of its own, said `reuseport` or not. With one socket for all, each new connection
/// wakes every worker: measured on two processors, that cost a third of the connections per second and three times
/// the latency (99th percentile) at two workers, and up to twice the processor time at eight.
fn is_spread(spec: &ListenSpec) -> bool {
    matches!(spec.addr, ListenAddr::Inet(_))
}

/// What worker `n` of `workers` accepts from. Every socket has a worker: connections that wait in it belong to it
/// alone, and it cannot leave its group while they do.
pub(crate) fn share(groups: &[Group], n: usize, workers: usize) -> Vec<Share> {
    let mut shares = Vec::new();
    for (listener, group) in groups.iter().enumerate() {
        let count = group.shards.len();
        for (number, shard) in group.shards.iter().enumerate() {
            let mine = if count >= workers { number % workers == n } else { n % count == number };
            if mine {
                shares.push((listener, shard.clone()));
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(shards: usize) -> Group {
        let fd = || Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let addr = ListenAddr::Inet("127.0.0.1:80".parse().unwrap());
        Group { spec: ListenSpec::new(addr), shards: (0..shards).map(|_| fd()).collect() }
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for shards in 1..6 {
            for workers in 1..6 {
                let groups = [group(shards)];
                let mut served = 0;
                for n in 0..workers {
                    let shares = share(&groups, n, workers);
                    assert!(!shares.is_empty(), "{shards} {workers}");
                    served += shares.len();
                }
                assert!(served >= shards, "{shards} {workers}");
                let all = (0..workers).flat_map(|n| share(&groups, n, workers));
                let all: Vec<_> = all.map(|(_, fd)| Arc::as_ptr(&fd)).collect();
                assert!(groups[0].shards.iter().all(|fd| all.contains(&Arc::as_ptr(fd))));
            }
        }
    }
}
