//! Waiting for a few descriptors, where there is no event loop: the master.
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    Both,
}

/// Waits until one of the descriptors is ready, or closed by its peer, or the time is over (`None`: for ever). Gives
/// for each whether it is.
///
/// # Errors
/// Those of `poll`. A signal does not end the wait.
pub fn wait(fds: &[(BorrowedFd<'_>, Interest)], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|&(fd, interest)| PollFd::from_borrowed_fd(fd, flags(interest))).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        }
    }
}

fn flags(interest: Interest) -> PollFlags {
    match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
        Interest::Both => PollFlags::IN | PollFlags::OUT,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_ready_ones_are_told_apart() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let (c, d) = UnixStream::pair().unwrap();
        let both = [(a.as_fd(), Interest::Read), (c.as_fd(), Interest::Read)];
        let start = Instant::now();
        assert_eq!(wait(&both, Some(Duration::from_millis(20))).unwrap(), [false, false]);
        assert!(start.elapsed() >= Duration::from_millis(20));
        b.write_all(b"x").unwrap();
        assert_eq!(wait(&both, None).unwrap(), [true, false]);
        drop(d);
        assert_eq!(wait(&both, None).unwrap(), [true, true]);
        assert_eq!(wait(&[(a.as_fd(), Interest::Write)], None).unwrap(), [true]);
        assert_eq!(wait(&[(a.as_fd(), Interest::Both)], None).unwrap(), [true]);
        assert!(wait(&[], Some(Duration::ZERO)).unwrap().is_empty());
    }
}
