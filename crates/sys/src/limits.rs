//! What the kernel allows a process: descriptors, core files, priority, and what happens when its parent dies.
use std::io;

use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};

/// A pair of limits; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The limit on open descriptors.
pub fn open_files() -> Limit {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Limit { soft: limit.current, hard: limit.maximum }
}

/// Sets both limits on open descriptors: `worker_rlimit_nofile`.
///
/// # Errors
/// `PermissionDenied` above the hard limit, unless root.
pub fn set_open_files(count: u64) -> io::Result<()> {
    set(Resource::Nofile, count)
}

/// Raises the soft limit on open descriptors to the hard one, for programs that have no configuration to ask.
///
/// # Errors
/// Those of `setrlimit`.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// Sets both limits on the size of core files: `worker_rlimit_core`.
///
/// # Errors
/// As [`set_open_files`].
pub fn set_core_size(bytes: u64) -> io::Result<()> {
    set(Resource::Core, bytes)
}

fn set(resource: Resource, value: u64) -> io::Result<()> {
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}

/// Sets the calling thread's (before others start: the process') nice value: `worker_priority`.
///
/// # Errors
/// `PermissionDenied` below what is allowed.
pub fn set_priority(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// The calling thread's nice value.
///
/// # Errors
/// Those of `getpriority`.
pub fn priority() -> io::Result<i32> {
    Ok(rustix::process::getpriority_process(None)?)
}

/// Allows core files again, which a change of user forbids.
///
/// # Errors
/// Those of `prctl(PR_SET_DUMPABLE)`.
pub fn set_dumpable(on: bool) -> io::Result<()> {
    let behavior = if on { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    Ok(rustix::process::set_dumpable_behavior(behavior)?)
}

/// Bars this process and its children from gaining rights through setuid programs.
///
/// # Errors
/// Those of `prctl(PR_SET_NO_NEW_PRIVS)`.
pub fn set_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Has the kernel send this signal when the parent ends; `None`: nothing. A parent that has ended already is
/// seen by asking [`parent_is`] afterwards. A change of user clears it.
///
/// # Errors
/// Those of `prctl(PR_SET_PDEATHSIG)`; `InvalidInput` for a number that is no signal.
pub fn set_parent_death_signal(signal: Option<i32>) -> io::Result<()> {
    let signal = match signal {
        None => None,
        Some(number) => Some(Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?),
    };
    Ok(rustix::process::set_parent_process_death_signal(signal)?)
}

/// Whether this process still is the parent: asked after [`set_parent_death_signal`], which misses an earlier death.
pub fn parent_is(pid: i32) -> bool {
    rustix::process::getppid() == Pid::from_raw(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limit = open_files();
        assert!(limit.soft.is_none_or(|soft| soft > 0));
        assert!(limit.hard.unwrap_or(u64::MAX) >= limit.soft.unwrap_or(u64::MAX));
    }

    #[test]
    fn a_number_that_is_no_signal_is_refused() {
        assert_eq!(set_parent_death_signal(Some(500)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_parent_is_recognised() {
        assert!(parent_is(crate::process::parent_pid()));
        assert!(!parent_is(crate::process::pid()));
    }

    #[test]
    fn a_thread_may_become_nicer() {
        let nice = priority().unwrap();
        set_priority((nice + 1).min(19)).unwrap();
        assert_eq!(priority().unwrap(), (nice + 1).min(19));
    }
}
