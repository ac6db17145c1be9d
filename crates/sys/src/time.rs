//! Clocks: the monotonic one for waits, the wall clock for dates, local time for logs.
use std::mem::MaybeUninit;

use rustix::time::{ClockId, clock_gettime};

/// Wall time since 1970-01-01 00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl WallTime {
    /// Milliseconds within the second, as `$msec` and nginx's `time` have them.
    pub fn millis(self) -> u32 {
        self.nanos / 1_000_000
    }
}

/// Local time broken down, with its distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    /// 0 to 60: a leap second is possible with a `right/` zone.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// Seconds east of Greenwich.
    pub offset: i32,
}

/// Milliseconds on the monotonic clock. Costs no system call.
pub fn monotonic_ms() -> u64 {
    millis(ClockId::Monotonic)
}

/// Nanoseconds on the monotonic clock.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    unsigned(now.tv_sec) * 1_000_000_000 + unsigned(now.tv_nsec)
}

/// Like [`monotonic_ms`], as of the kernel's last tick (1 to 10 ms ago): the cheapest clock there is.
pub fn monotonic_coarse_ms() -> u64 {
    millis(ClockId::MonotonicCoarse)
}

/// The wall clock.
pub fn wall() -> WallTime {
    wall_on(ClockId::Realtime)
}

/// The wall clock as of the kernel's last tick.
pub fn wall_coarse() -> WallTime {
    wall_on(ClockId::RealtimeCoarse)
}

/// CPU time of the calling thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    unsigned(now.tv_sec) * 1_000_000_000 + unsigned(now.tv_nsec)
}

/// CPU time of the process, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    unsigned(now.tv_sec) * 1_000_000_000 + unsigned(now.tv_nsec)
}

/// Local time at `secs`, by `TZ` or `/etc/localtime`. A time that no calendar holds gives UTC's first second.
pub fn local(secs: i64) -> LocalTime {
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; a zeroed `tm` is a valid value, also when the call fails.
    let tm = unsafe {
        libc::localtime_r(&secs, tm.as_mut_ptr());
        tm.assume_init()
    };
    LocalTime {
        year: tm.tm_year + 1900,
        month: small(tm.tm_mon + 1),
        day: small(tm.tm_mday.max(1)),
        hour: small(tm.tm_hour),
        minute: small(tm.tm_min),
        second: small(tm.tm_sec),
        weekday: small(tm.tm_wday),
        offset: i32::try_from(tm.tm_gmtoff).unwrap_or(0),
    }
}

/// Seconds east of Greenwich at `secs`.
pub fn local_offset(secs: i64) -> i32 {
    local(secs).offset
}

/// Reads `TZ` again, for [`local`] to follow.
pub fn refresh_timezone() {
    unsafe extern "C" {
        safe fn tzset();
    }
    tzset();
}

/// Formats a time as `strftime` does, in local time or in UTC. `None` when the result is empty or longer than 2 KiB.
pub fn format(pattern: &[u8], secs: i64, utc: bool) -> Option<Vec<u8>> {
    let pattern = std::ffi::CString::new(pattern).ok()?;
    let mut out = vec![0u8; 2048];
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: all pointers are valid for the calls; a zeroed `tm` is a valid value, also when a call fails; `strftime`
    // writes at most as many bytes as it is told and returns how many it wrote.
    let len = unsafe {
        if utc {
            libc::gmtime_r(&secs, tm.as_mut_ptr());
        } else {
            libc::localtime_r(&secs, tm.as_mut_ptr());
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), pattern.as_ptr(), tm.as_ptr())
    };
    out.truncate(len);
    (len > 0).then_some(out)
}

fn millis(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    unsigned(now.tv_sec) * 1000 + unsigned(now.tv_nsec) / 1_000_000
}

fn wall_on(clock: ClockId) -> WallTime {
    let now = clock_gettime(clock);
    WallTime { secs: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn small(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clocks_agree() {
        let exact = monotonic_ms();
        let coarse = monotonic_coarse_ms();
        assert!(exact.abs_diff(coarse) < 100, "{exact} {coarse}");
        assert!(monotonic_ns() / 1_000_000 >= exact);
        assert!(monotonic_ms() >= exact);
    }

    #[test]
    fn the_wall_clock_is_the_systems() {
        let ours = wall();
        let std = std::time::UNIX_EPOCH.elapsed().unwrap();
        assert!(ours.secs.abs_diff(i64::try_from(std.as_secs()).unwrap()) <= 1);
        assert!(wall_coarse().secs.abs_diff(ours.secs) <= 1);
        assert_eq!(WallTime { secs: 0, nanos: 123_456_789 }.millis(), 123);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = thread_cpu_ns();
        let sum = (0..2_000_000_u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        assert!(thread_cpu_ns() > before, "{sum}");
        assert!(process_cpu_ns() >= thread_cpu_ns() - before);
    }

    #[test]
    fn an_impossible_time_is_no_failure() {
        assert_eq!(local(i64::MAX).day, 1);
    }
}
