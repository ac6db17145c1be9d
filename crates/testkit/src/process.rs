//! Processes known by their id: is one alive, stop it, wait until it is gone.
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How long a server may take to leave before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks at something that changes by itself.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Whether a process with this id runs; one that only waits to be collected does not.
pub fn is_running(pid: i32) -> bool {
    // The state is the first field behind the name, which stands in parentheses and may contain any character.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_owned()))
        .is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}

/// Sends a signal; a process that is already gone is no error.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal and waits until the process is gone; kills it if it does not leave. Returns whether it left by itself.
pub fn stop(pid: i32, with: Signal) -> bool {
    signal(pid, with);
    let left = wait_until_gone(pid, PATIENCE);
    if !left {
        signal(pid, Signal::KILL);
        wait_until_gone(pid, PATIENCE);
    }
    left
}

/// Waits until no process has this id any more.
pub fn wait_until_gone(pid: i32, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        // Collects the process where it is our child (or was handed to us when its parent left).
        let _ = Pid::from_raw(pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
        if !is_running(pid) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(TICK);
    }
}

/// The process id in a pid file, when there is a complete one.
pub fn read_pid_file(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Makes this process the parent of daemons whose own parent left, so that they can be waited for.
pub fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Calls `probe` until it gives a value or the time is over.
pub fn poll<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(TICK);
    }
}
