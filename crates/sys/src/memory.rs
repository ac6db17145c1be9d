//! How much memory the process has, and giving some back.
use std::io;

/// Memory in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In physical memory.
    pub resident: u64,
    /// Of these, what is the process' own: not the executable, not mapped files, not shared memory.
    pub anonymous: u64,
}

/// Reads the process' memory use; costs a few microseconds.
///
/// # Errors
/// Those of reading `/proc/self/statm`; `InvalidData` if it holds no numbers.
pub fn usage() -> io::Result<Memory> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    match (pages.next(), pages.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => {
            let page = page_size();
            Ok(Memory { resident: resident * page, anonymous: resident.saturating_sub(shared) * page })
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Bytes of a page.
pub fn page_size() -> u64 {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Has the C library's allocator return free memory to the system. What Rust code allocates belongs to the global
/// allocator, which has its own way. False when there was nothing to return or the C library cannot.
pub fn trim() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: callable at any time from any thread.
        unsafe { libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(target_env = "gnu"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_make_sense() {
        let usage = usage().unwrap();
        assert!(usage.resident >= usage.anonymous && usage.anonymous > 100_000, "{usage:?}");
        assert!(page_size().is_power_of_two());
        trim();
    }
}
