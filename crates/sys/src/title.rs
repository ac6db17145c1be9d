//! The process title, as `ps` shows it: `nginx: worker process`.
//!
//! The kernel shows the memory in which the arguments were passed; the environment lies behind it and is moved away
//! to make room.
use std::ffi::{CStr, c_char};
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::process;

/// The memory that holds the title.
struct Area {
    start: usize,
    len: usize,
}

static AREA: Mutex<Option<Area>> = Mutex::new(None);

/// Finds the memory and moves the environment out of it. To be called once, before other threads start and after
/// `std::env::args` has been read: the arguments are overwritten by [`set`].
///
/// # Errors
/// `Unsupported` in a process with several threads, or where `/proc` does not tell; titles are then not shown.
pub fn init() -> io::Result<()> {
    let mut area = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    if area.is_some() {
        return Ok(());
    }
    if process::thread_count() != Some(1) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let bounds = Bounds::read()?;
    let end = if bounds.env_start == bounds.arg_end {
        move_environment(bounds.env_start, bounds.env_end);
        bounds.env_end
    } else {
        bounds.arg_end
    };
    *area = Some(Area { start: bounds.arg_start, len: end - bounds.arg_start });
    Ok(())
}

/// Shows this title, cut to the room there is. False when [`init`] has not succeeded.
pub fn set(title: &[u8]) -> bool {
    let area = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(area) = &*area else { return false };
    // SAFETY: the memory was mapped writable by the kernel when the program began and stays so; nothing refers to it
    // any more but `argv`, whose strings stay terminated because the last byte stays zero. The lock keeps other
    // writers out.
    let memory = unsafe { std::slice::from_raw_parts_mut(area.start as *mut u8, area.len) };
    let title = title.split(|&byte| byte == 0).next().unwrap_or_default();
    let len = title.len().min(memory.len() - 1);
    memory[..len].copy_from_slice(&title[..len]);
    memory[len..].fill(0);
    true
}

struct Bounds {
    arg_start: usize,
    arg_end: usize,
    env_start: usize,
    env_end: usize,
}

impl Bounds {
    fn read() -> io::Result<Self> {
        let stat = std::fs::read("/proc/self/stat")?;
        Self::parse(&stat).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Fields 48 to 51 of `/proc/PID/stat`. The second, the name, may hold anything but ends at the last bracket.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let fields = std::str::from_utf8(&stat[after..]).ok()?;
        let mut fields = fields.split_ascii_whitespace().skip(48 - 3).map(|field| field.parse().ok());
        let mut next = || fields.next().flatten();
        let bounds = Self { arg_start: next()?, arg_end: next()?, env_start: next()?, env_end: next()? };
        let sane = bounds.arg_start > 0
            && bounds.arg_start < bounds.arg_end
            && bounds.arg_end <= bounds.env_start
            && bounds.env_start <= bounds.env_end;
        sane.then_some(bounds)
    }
}

fn move_environment(start: usize, end: usize) {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    // SAFETY: the process has one thread, so nobody reads or changes the environment meanwhile; `environ` is null or
    // a list of C strings that ends with null. The copies are leaked: the environment keeps them.
    unsafe {
        let mut slot = environ;
        while !slot.is_null() && !(*slot).is_null() {
            if (start..end).contains(&((*slot) as usize)) {
                *slot = CStr::from_ptr(*slot).to_owned().into_raw();
            }
            slot = slot.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_found_behind_an_odd_name() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a) b (c)) S {}", numbers.join(" "));
        let bounds = Bounds::parse(stat.as_bytes()).unwrap();
        assert_eq!((bounds.arg_start, bounds.arg_end), (48, 49));
        assert_eq!((bounds.env_start, bounds.env_end), (50, 51));
        assert!(Bounds::parse(b"1 (x) S 1 2 3").is_none());
        assert!(Bounds::parse(b"").is_none());
        assert!(Bounds::parse(format!("1 (x) S {}", "0 ".repeat(49)).as_bytes()).is_none());
        assert!(Bounds::read().is_ok());
    }

    #[test]
    fn a_process_with_threads_keeps_its_title() {
        assert_eq!(init().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert!(!set(b"nginx: worker process"));
    }
}
