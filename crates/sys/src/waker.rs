//! Wakers that are a number: no memory, nothing counted, nothing to be freed.
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Who is woken by number.
pub trait Wake: 'static {
    /// The table of these wakers, a `static`: two wakers are alike only if they have the same.
    fn table() -> &'static Wakers;

    /// Wakes number `word`. May be called on any thread, at any time, and for numbers that mean nothing any more.
    fn wake(word: usize);
}

/// How the wakers of one kind work.
#[derive(Debug)]
pub struct Wakers(RawWakerVTable);

impl Wakers {
    /// The table for `W`.
    pub const fn of<W: Wake>() -> Self {
        Self(RawWakerVTable::new(clone::<W>, wake::<W>, wake::<W>, forget))
    }

    /// The waker of number `word`.
    #[inline]
    pub fn waker(&'static self, word: usize) -> Waker {
        // SAFETY: the pointer is a number that is never followed; the functions of the table accept every number, on
        // every thread, and own nothing.
        unsafe { Waker::from_raw(self.raw(word)) }
    }

    #[inline]
    fn raw(&'static self, word: usize) -> RawWaker {
        RawWaker::new(std::ptr::without_provenance(word), &self.0)
    }
}

unsafe fn clone<W: Wake>(data: *const ()) -> RawWaker {
    W::table().raw(data.addr())
}

unsafe fn wake<W: Wake>(data: *const ()) {
    W::wake(data.addr());
}

unsafe fn forget(_: *const ()) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    static TABLE: Wakers = Wakers::of::<Sum>();
    static SUM: AtomicUsize = AtomicUsize::new(0);

    struct Sum;

    impl Wake for Sum {
        fn table() -> &'static Wakers {
            &TABLE
        }
        fn wake(word: usize) {
            SUM.fetch_add(word, SeqCst);
        }
    }

    #[test]
    fn a_number_is_woken_from_anywhere() {
        let waker = TABLE.waker(40);
        let other = waker.clone();
        assert!(waker.will_wake(&other) && !waker.will_wake(&TABLE.waker(2)));
        std::thread::spawn(move || other.wake()).join().unwrap();
        TABLE.waker(2).wake_by_ref();
        drop(waker);
        assert_eq!(SUM.load(SeqCst), 42);
    }
}
