//! Descriptors that the loop watches.

use crate::{
    local::LOCAL,
    source::{Source, Sources},
};
use moonrest_sys::epoll::Interest;
use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    task::{Context, Poll},
};

/// A descriptor of this thread's loop. It must not wait in reads and writes.
///
/// Readiness is what the kernel has told, and what reading and writing found out since: who finds a descriptor empty or
/// full says so ([`Self::clear_read`], [`Self::clear_write`]; [`Self::try_read`] does that by itself).
#[derive(Debug)]
pub struct Watched<T: AsFd> {
    source: Rc<Source>,
    /// Whether another descriptor may be the same file, so that closing this one does not end the watch.
    shared: bool,
    inner: T,
}

impl<T: AsFd> Watched<T> {
    /// A descriptor that nobody else has, and that is likely to be ready: it is watched as soon as somebody waits.
    pub fn lazy(inner: T) -> Self {
        Self { source: Source::unwatched(), shared: false, inner }
    }

    /// Watches a descriptor that nobody else has.
    ///
    /// # Errors
    /// Those of `epoll_ctl`; where no loop is.
    pub fn new(inner: T, interest: Interest) -> io::Result<Self> {
        let watched = Self::lazy(inner);
        watched.tell(interest)?;
        watched.clear_read();
        if interest.tells_room() {
            // Where it is not told from the beginning, there is room until a write finds none.
            watched.clear_write();
        }
        Ok(watched)
    }

    /// Watches a descriptor of a file that others may have, too.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn shared(inner: T, interest: Interest) -> io::Result<Self> {
        let mut watched = Self::new(inner, interest)?;
        watched.shared = true;
        Ok(watched)
    }

    /// What is watched.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Whether a read may give something, the end included.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.source.is_readable()
    }

    /// Whether nothing was there to be read, not even the end, when the loop last looked ([`crate::looks`]).
    #[inline]
    pub fn is_known_empty(&self) -> bool {
        self.source.is_watched() && !self.source.is_readable()
    }

    /// Whether a write may take something.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.source.is_writable()
    }

    /// Ready when a read may give something, the end included.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_readable(self.inner.as_fd(), cx)
    }

    /// Ready when a write may take something.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    #[inline]
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_writable(self.inner.as_fd(), cx)
    }

    /// Waits until a read may give something.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits until a write may take something.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// A read has found nothing.
    #[inline]
    pub fn clear_read(&self) {
        self.source.clear_read();
    }

    /// A read did not fill its room: nothing more is there, except perhaps the end.
    #[inline]
    pub fn drained(&self) {
        self.source.drained();
    }

    /// A write has found no room.
    #[inline]
    pub fn clear_write(&self) {
        self.source.clear_write();
    }

    /// Reads with `f`, unless it is known that nothing is there: of a descriptor that is not watched yet, the loop knows
    /// nothing.
    ///
    /// # Errors
    /// `WouldBlock`, or those of `f`.
    #[inline]
    pub fn try_read<R>(&self, f: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        if !self.is_readable() && self.source.is_watched() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        f(&self.inner).inspect_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                self.clear_read();
            }
        })
    }

    /// Writes with `f`, unless it is known that there is no room.
    ///
    /// # Errors
    /// `WouldBlock`, or those of `f`.
    #[inline]
    pub fn try_write<R>(&self, f: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        if !self.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        f(&self.inner).inspect_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                self.clear_write();
            }
        })
    }

    /// Has the kernel tell something else from now on: [`Interest::NONE`] while nobody wants to know.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn tell(&self, interest: Interest) -> io::Result<()> {
        self.source.tell(self.inner.as_fd(), interest)
    }
}

impl<T: AsFd> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        let fd = self.shared.then(|| self.inner.as_fd());
        // A thread that ends has no loop any more.
        let _ = LOCAL.try_with(|local| Sources::remove(&local.sources, &self.source, fd));
    }
}
