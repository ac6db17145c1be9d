//! Processors: how many, and which thread runs where.
use std::io;

use rustix::thread::CpuSet;

/// The highest processor number that can be named, plus one.
pub const MAX_CPUS: usize = CpuSet::MAX_CPU;

/// Processors this process may use, at least 1: `worker_processes auto`. Unlike nginx's, the number respects the
/// affinity that the process was started with (`taskset`, container CPU sets).
pub fn count() -> usize {
    allowed().map_or_else(|_| online(), |cpus| cpus.len()).max(1)
}

/// Processors that are switched on, at least 1.
pub fn online() -> usize {
    // SAFETY: no memory is involved.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// The processors that the calling thread may run on.
///
/// # Errors
/// Those of `sched_getaffinity`: a machine with more than [`MAX_CPUS`].
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..MAX_CPUS).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds the calling thread to processors: `worker_cpu_affinity`.
///
/// # Errors
/// `InvalidInput` for a number of [`MAX_CPUS`] or more, or when none of them may be used.
pub fn bind_thread(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= MAX_CPUS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let all = allowed().unwrap();
        assert_eq!(count(), all.len());
        assert!(online() >= 1);
        bind_thread(&all[..1]).unwrap();
        assert_eq!(allowed().unwrap(), all[..1]);
        assert_eq!(count(), 1);
    }

    #[test]
    fn impossible_sets_are_refused() {
        assert_eq!(bind_thread(&[MAX_CPUS]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(bind_thread(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
