//! Watched descriptors: what is known of their readiness, and who waits for it.

use crate::{budget, local::LOCAL};
use moonrest_sys::epoll::{Epoll, Happened, Interest};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    os::fd::BorrowedFd,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Readiness: a read would give something.
const READ: u8 = 1;
/// A write would take something.
const WRITE: u8 = 2;
/// Nothing comes behind what is there: a read that empties the socket does not make it unready.
const ENDED: u8 = 4;

/// One watched descriptor.
pub(crate) struct Source {
    ready: Cell<u8>,
    interest: Cell<Interest>,
    /// `UNWATCHED` until somebody waits.
    token: Cell<u64>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

/// The token of a descriptor that the kernel has not been told of.
const UNWATCHED: u64 = u64::MAX;

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Source {
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.ready.get() & (READ | ENDED) != 0
    }

    /// Whether the kernel was told to watch it.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.token.get() != UNWATCHED
    }

    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.ready.get() & WRITE != 0
    }

    /// There is nothing to be read: the kernel has said so.
    #[inline]
    pub(crate) fn clear_read(&self) {
        self.ready.set(self.ready.get() & !(READ | ENDED));
    }

    /// There is nothing more to be read but perhaps the end, as a read did not fill its room.
    #[inline]
    pub(crate) fn drained(&self) {
        self.ready.set(self.ready.get() & !READ);
    }

    /// There is no room: the kernel has said so.
    #[inline]
    pub(crate) fn clear_write(&self) {
        self.ready.set(self.ready.get() & !WRITE);
    }

    /// A descriptor that will be watched as soon as somebody waits: until then it is taken for ready.
    pub(crate) fn unwatched() -> Rc<Self> {
        Rc::new(Self {
            ready: Cell::new(READ | WRITE),
            interest: Cell::new(Interest::NONE),
            token: Cell::new(UNWATCHED),
            reader: Cell::new(None),
            writer: Cell::new(None),
        })
    }

    #[inline]
    pub(crate) fn poll_readable(
        self: &Rc<Self>,
        fd: BorrowedFd<'_>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_readable() {
            return budget::spend(cx).map(Ok);
        }
        wait(&self.reader, cx);
        if !self.is_watched()
            && let Err(error) = self.tell(fd, Interest::READ)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    #[inline]
    pub(crate) fn poll_writable(
        self: &Rc<Self>,
        fd: BorrowedFd<'_>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_writable() {
            return budget::spend(cx).map(Ok);
        }
        wait(&self.writer, cx);
        if !self.interest.get().tells_room()
            && let Err(error) = self.tell(fd, Interest::BOTH)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Changes what the kernel tells. What is so already is told at once.
    #[cold]
    pub(crate) fn tell(self: &Rc<Self>, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        LOCAL.with(|local| {
            if !self.is_watched() {
                return local.sources.add(self, fd, interest);
            }
            local.sources.with_epoll(|epoll| epoll.modify(fd, self.token.get(), interest))
        })?;
        self.interest.set(interest);
        Ok(())
    }

    /// Something has happened.
    fn happened(&self, what: Happened) {
        let mut ready = self.ready.get();
        if what.ended() {
            ready |= ENDED;
        }
        if what.readable() {
            self.ready.set(ready | READ);
            ready |= READ;
            if let Some(waker) = self.reader.take() {
                waker.wake();
            }
        }
        if what.writable() {
            self.ready.set(ready | WRITE);
            if let Some(waker) = self.writer.take() {
                waker.wake();
            }
        }
    }
}

#[inline]
fn wait(place: &Cell<Option<Waker>>, cx: &Context<'_>) {
    let known = place.take();
    match known {
        Some(known) if known.will_wake(cx.waker()) => place.set(Some(known)),
        _ => place.set(Some(cx.waker().clone())),
    }
}

/// All watched descriptors of a loop.
pub(crate) struct Sources(RefCell<Inner>);

struct Inner {
    epoll: Option<Rc<Epoll>>,
    slots: Vec<Slot>,
    /// The first free slot; `NONE` without one.
    free: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Slot {
    source: Option<Rc<Source>>,
    /// Grows when a descriptor is watched no longer: what the kernel still has to say about it is not believed.
    generation: u32,
    next: u32,
}

fn token(number: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(number)
}

fn no_loop() -> io::Error {
    io::Error::other("nothing can be watched where no event loop is")
}

impl Sources {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Inner { epoll: None, slots: Vec::new(), free: NONE }))
    }

    /// A loop begins or ends; descriptors that outlive theirs are never ready again.
    pub(crate) fn set_epoll(&self, epoll: Option<Rc<Epoll>>) {
        self.0.borrow_mut().epoll = epoll;
    }

    fn with_epoll<R>(&self, f: impl FnOnce(&Epoll) -> io::Result<R>) -> io::Result<R> {
        self.0.borrow().epoll.as_ref().map_or_else(|| Err(no_loop()), |epoll| f(epoll))
    }

    /// Watches a descriptor.
    fn add(&self, source: &Rc<Source>, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let epoll = inner.epoll.as_ref().ok_or_else(no_loop)?;
        let known = inner.slots.get(inner.free as usize);
        let number =
            if known.is_some() { inner.free } else { u32::try_from(inner.slots.len()).unwrap_or(NONE) };
        let generation = known.map_or(0, |slot| slot.generation);
        // The last two are the bell's and the alarm's.
        if number >= NONE - 1 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let token = token(number, generation);
        epoll.add(fd, token, interest)?;
        source.token.set(token);
        match inner.slots.get_mut(number as usize) {
            Some(slot) => {
                inner.free = slot.next;
                slot.source = Some(source.clone());
            }
            None => inner.slots.push(Slot { source: Some(source.clone()), generation, next: NONE }),
        }
        Ok(())
    }

    /// Watches it no longer. `fd`, if the kernel has to be told.
    pub(crate) fn remove(&self, source: &Source, fd: Option<BorrowedFd<'_>>) {
        if !source.is_watched() {
            return;
        }
        let known = {
            let inner = &mut *self.0.borrow_mut();
            let token = source.token.get();
            let number = token as u32;
            if let (Some(fd), Some(epoll)) = (fd, &inner.epoll) {
                // One that is not known any more need not be forgotten.
                let _ = epoll.remove(fd);
            }
            match inner.slots.get_mut(number as usize) {
                Some(slot) if u64::from(slot.generation) == token >> 32 => {
                    slot.generation = slot.generation.wrapping_add(1);
                    slot.next = std::mem::replace(&mut inner.free, number);
                    slot.source.take()
                }
                _ => None,
            }
        };
        // Its wakers are dropped where nothing is borrowed.
        drop(known);
    }

    /// Passes on what the kernel tells.
    #[inline]
    pub(crate) fn happened(&self, token: u64, what: Happened) {
        let source = {
            let inner = self.0.borrow();
            match inner.slots.get(token as u32 as usize) {
                Some(slot) if u64::from(slot.generation) == token >> 32 => slot.source.clone(),
                _ => None,
            }
        };
        if let Some(source) = source {
            source.happened(what);
        }
    }
}
