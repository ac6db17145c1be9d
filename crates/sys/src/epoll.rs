//! Waiting for many descriptors at once, and being called from another thread meanwhile.
//!
//! <https://man7.org/linux/man-pages/man7/epoll.7.html>
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::errno::retry;

/// What is to be told of a descriptor, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(EventFlags);

impl Interest {
    /// That something can be read, the end included: once each time more has come.
    pub const READ: Self = Self(EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET));
    /// That there is room for writing again.
    pub const WRITE: Self = Self(EventFlags::OUT.union(EventFlags::ET));
    /// Both.
    pub const BOTH: Self = Self(Self::READ.0.union(Self::WRITE.0));
    /// That something can be read: again and again as long as that is so.
    pub const READ_LEVEL: Self = Self(EventFlags::IN);
    /// Nothing for now.
    pub const NONE: Self = Self(EventFlags::empty());

    /// Whether room for writing is told.
    pub fn tells_room(self) -> bool {
        self.0.contains(EventFlags::OUT)
    }
}

/// What has happened to a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened(EventFlags);

impl Happened {
    /// A read would give something, be it the end or an error.
    #[inline]
    pub fn readable(self) -> bool {
        self.0.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// A write would not have to wait.
    #[inline]
    pub fn writable(self) -> bool {
        self.0.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// Nothing will come behind what is there to be read.
    #[inline]
    pub fn ended(self) -> bool {
        self.0.intersects(EventFlags::RDHUP | EventFlags::HUP)
    }
}

/// An `epoll` instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// # Errors
    /// Those of `epoll_create1`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor; its events carry `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), interest.0)?)
    }

    /// Changes what is told of a descriptor. What is so already is told, too.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), interest.0)?)
    }

    /// Watches it no longer. Closing does that by itself, unless another descriptor is the same file.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits no longer than so many milliseconds (`None`: for ever). A signal ends the wait without events.
    ///
    /// # Errors
    /// Those of `epoll_wait`.
    pub fn wait(&self, events: &mut Events, timeout_ms: Option<u64>) -> io::Result<()> {
        events.0.clear();
        let timeout = timeout_ms.map(timespec);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events.0), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

/// Room for what [`Epoll::wait`] tells.
pub struct Events(Vec<Event>);

impl Events {
    /// Room for so many at once, at least one.
    pub fn new(most: usize) -> Self {
        Self(Vec::with_capacity(most.max(1)))
    }

    /// Whether the last wait filled the room, so that there may be more to tell.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.len() >= self.0.capacity()
    }

    /// What the last wait told: tokens, and what happened.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u64, Happened)> + '_ {
        // Copies: the kernel's structure is packed.
        self.0.iter().map(|&Event { flags, data }| (data.u64(), Happened(flags)))
    }
}

/// A descriptor that another thread makes readable.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// # Errors
    /// Those of `eventfd`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable; who watches it with [`Interest::READ`] is told each time, and need not read.
    pub fn ring(&self) {
        // It fails when the counter is full: after 2^64 calls.
        let _ = retry(|| rustix::io::write(&self.0, &1_u64.to_ne_bytes()));
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that becomes readable at a time that is set.
///
/// <https://man7.org/linux/man-pages/man2/timerfd_create.2.html>
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    /// # Errors
    /// Those of `timerfd_create`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Sets it to so many milliseconds of the monotonic clock ([`crate::time::monotonic_ms`]), instead of any earlier
    /// time; one that has passed is told at once. Who watches it with [`Interest::READ`] need not read.
    ///
    /// # Errors
    /// Those of `timerfd_settime`.
    pub fn set(&self, ms: u64) -> io::Result<()> {
        // Zero would switch it off.
        let time = Itimerspec { it_interval: timespec(0), it_value: timespec(ms.max(1)) };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &time)?;
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn told(epoll: &Epoll, timeout: u64) -> Vec<(u64, bool, bool, bool)> {
        let mut events = Events::new(8);
        epoll.wait(&mut events, Some(timeout)).unwrap();
        events.iter().map(|(token, what)| (token, what.readable(), what.writable(), what.ended())).collect()
    }

    #[test]
    fn edges_are_told_once_and_levels_again() {
        let epoll = Epoll::new().unwrap();
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let (c, mut d) = UnixStream::pair().unwrap();
        epoll.add(a.as_fd(), 7, Interest::READ).unwrap();
        epoll.add(c.as_fd(), 8, Interest::READ_LEVEL).unwrap();
        assert!(told(&epoll, 0).is_empty());
        b.write_all(b"x").unwrap();
        d.write_all(b"x").unwrap();
        assert_eq!(told(&epoll, 1000), [(7, true, false, false), (8, true, false, false)]);
        assert_eq!(told(&epoll, 0), [(8, true, false, false)]);
        epoll.modify(c.as_fd(), 8, Interest::NONE).unwrap();
        assert!(told(&epoll, 0).is_empty());
        b.write_all(b"y").unwrap();
        assert_eq!(told(&epoll, 1000), [(7, true, false, false)]);
        a.read_exact(&mut [0; 2]).unwrap();
        epoll.modify(a.as_fd(), 9, Interest::BOTH).unwrap();
        assert_eq!(told(&epoll, 1000), [(9, false, true, false)]);
        drop(b);
        assert_eq!(told(&epoll, 1000), [(9, true, true, true)]);
        epoll.remove(a.as_fd()).unwrap();
        assert!(told(&epoll, 0).is_empty());
    }

    #[test]
    fn a_bell_is_heard_each_time_it_rings() {
        let epoll = Epoll::new().unwrap();
        let bell = Bell::new().unwrap();
        epoll.add(bell.as_fd(), 1, Interest::READ).unwrap();
        for _ in 0..3 {
            assert!(told(&epoll, 0).is_empty());
            std::thread::scope(|scope| {
                scope.spawn(|| bell.ring());
            });
            assert_eq!(told(&epoll, 1000), [(1, true, false, false)]);
        }
    }

    #[test]
    fn an_alarm_is_heard_each_time_it_goes_off() {
        let epoll = Epoll::new().unwrap();
        let alarm = Alarm::new().unwrap();
        epoll.add(alarm.as_fd(), 1, Interest::READ).unwrap();
        for ms in [0, 5, 10] {
            assert!(told(&epoll, 0).is_empty());
            let due = crate::time::monotonic_ms() + ms;
            alarm.set(due).unwrap();
            assert_eq!(told(&epoll, 1000), [(1, true, false, false)]);
            assert!(crate::time::monotonic_ms() >= due);
        }
        alarm.set(crate::time::monotonic_ms() + 3_600_000).unwrap();
        assert!(told(&epoll, 10).is_empty());
    }
}
