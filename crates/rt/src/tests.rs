//! The loop as its users see it.

use super::*;
use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// A place for one waker.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<Waker>>>);

impl Place {
    /// Waits until `done`, looked at whenever somebody wakes.
    async fn until(&self, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            *self.0.lock().unwrap() = Some(cx.waker().clone());
            if done() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn waker(&self) -> Waker {
        self.0.lock().unwrap().clone().unwrap()
    }
}

fn pair() -> (Watched<UnixStream>, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    (Watched::new(a, Interest::READ).unwrap(), b)
}

#[test]
fn tasks_run_in_the_order_they_were_spawned() {
    let order = Rc::new(RefCell::new(Vec::new()));
    block_on(async {
        let handles: Vec<_> = (0..5_000)
            .map(|n| {
                let order = order.clone();
                spawn_joined(async move {
                    order.borrow_mut().push(n);
                    yield_now().await;
                    n
                })
            })
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.await, Ok(n));
        }
    });
    assert!(order.borrow().iter().copied().eq(0..5_000));
}

#[test]
fn another_thread_wakes_a_task_and_the_root() {
    block_on(async {
        for of_root in [true, false] {
            let (place, flag) = (Place::default(), Arc::new(AtomicU64::new(0)));
            let (other, waiting) = (place.clone(), flag.clone());
            let thread = thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                waiting.store(1, Relaxed);
                other.waker().wake();
            });
            let wait = async move { place.until(|| flag.load(Relaxed) == 1).await };
            if of_root {
                wait.await;
            } else {
                spawn_joined(wait).await.unwrap();
            }
            thread.join().unwrap();
        }
    });
}

#[test]
fn many_threads_wake_many_tasks() {
    let done = Arc::new(AtomicU64::new(0));
    block_on(async {
        let places: Vec<_> = (0..64).map(|_| (Place::default(), Arc::new(AtomicU64::new(0)))).collect();
        let handles: Vec<_> = places
            .iter()
            .cloned()
            .map(|(place, count)| {
                spawn_joined(async move { place.until(|| count.load(Relaxed) == 100).await })
            })
            .collect();
        yield_now().await;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (places, done) = (places.clone(), done.clone());
                thread::spawn(move || {
                    for _ in 0..25 {
                        for (place, count) in &places {
                            count.fetch_add(1, Relaxed);
                            place.waker().wake();
                            done.fetch_add(1, Relaxed);
                        }
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.await.unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(done.load(Relaxed), 6_400);
}

#[test]
fn wakers_of_the_past_wake_nobody() {
    let place = Place::default();
    let old = block_on(async {
        let of_task = place.clone();
        spawn_joined(async move { of_task.until(|| true).await }).await.unwrap();
        let old = place.waker();
        // The same slot, another task: it is not polled but once.
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let waits = spawn_joined(poll_fn(move |_| {
            counted.set(counted.get() + 1);
            Poll::<()>::Pending
        }));
        for _ in 0..10 {
            old.wake_by_ref();
            yield_now().await;
        }
        assert_eq!(polls.get(), 1);
        waits.abort();
        assert_eq!(waits.await, Err(Lost));
        old
    });
    // Nor is there a loop any more.
    old.wake_by_ref();
    thread::spawn(move || old.wake()).join().unwrap();
    block_on(async { yield_now().await });
}

#[test]
fn an_aborted_task_drops_what_it_has() {
    struct Told(Rc<Cell<u32>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let told = || Told(drops.clone());
    block_on(async {
        let (a, b) = (told(), told());
        let idle = spawn_joined(async move {
            let _a = a;
            pending::<()>().await;
        });
        yield_now().await;
        idle.abort();
        assert_eq!((drops.get(), idle.is_finished()), (1, true));
        assert_eq!(idle.await, Err(Lost));
        // One that aborts itself runs on to where it waits.
        let own = Rc::new(RefCell::new(None::<JoinHandle<()>>));
        let handle = own.clone();
        *own.borrow_mut() = Some(spawn_joined(async move {
            let b = b;
            handle.borrow().as_ref().unwrap().abort();
            assert_eq!(b.0.get(), 1);
            pending::<()>().await;
        }));
        yield_now().await;
        yield_now().await;
        assert_eq!(drops.get(), 2);
        let c = told();
        spawn(async move {
            let _c = c;
            pending::<()>().await;
        });
    });
    // What was left went with the loop.
    assert_eq!(drops.get(), 3);
}

#[test]
fn a_panic_costs_its_task_alone() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (broken, bad_end, whole) = block_on(async {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let bad = Bad;
        let broken = spawn_joined(async { panic!("in a task") });
        let bad_end = spawn_joined(async move {
            let _bad = bad;
            pending::<()>().await;
        });
        yield_now().await;
        bad_end.abort();
        let whole = spawn_joined(async { 7 });
        let broken: Result<(), Lost> = broken.await;
        (broken, bad_end.await, whole.await)
    });
    std::panic::set_hook(hook);
    assert_eq!((broken, bad_end, whole), (Err(Lost), Err(Lost), Ok(7)));
}

#[test]
fn nobody_starves_beside_a_task_that_never_waits() {
    block_on(async {
        let stop = Rc::new(Cell::new(false));
        // One gives way, one wakes itself, one always has something to read.
        let flag = stop.clone();
        let yields = spawn_joined(async move {
            while !flag.get() {
                yield_now().await;
            }
        });
        let flag = stop.clone();
        let wakes = spawn_joined(poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if flag.get() { Poll::Ready(()) } else { Poll::Pending }
        }));
        let (full, mut peer) = pair();
        peer.write_all(b"never read").unwrap();
        let flag = stop.clone();
        let reads = spawn_joined(async move {
            while !flag.get() {
                full.readable().await.unwrap();
            }
        });
        let (watched, mut other) = pair();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            other.write_all(b"x").unwrap();
            other
        });
        watched.readable().await.unwrap();
        let started = Instant::now();
        sleep::sleep(20).await;
        assert!(timer::within(40, pending::<()>()).await.is_none());
        assert!(started.elapsed() < Duration::from_secs(10));
        stop.set(true);
        for task in [yields, wakes, reads] {
            task.await.unwrap();
        }
        writer.join().unwrap();
    });
}

#[test]
fn readiness_is_told_and_taken_back() {
    block_on(async {
        let (watched, mut peer) = pair();
        let read = |room: usize| {
            let mut buffer = vec![0; room];
            watched.try_read(|mut fd| fd.read(&mut buffer))
        };
        assert_eq!(read(4).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        peer.write_all(b"hello").unwrap();
        watched.readable().await.unwrap();
        assert_eq!((read(4).unwrap(), read(4).unwrap()), (4, 1));
        watched.drained();
        assert!(!watched.is_readable());
        peer.write_all(b"bye").unwrap();
        drop(peer);
        watched.readable().await.unwrap();
        assert_eq!(read(8).unwrap(), 3);
        // The end comes behind what was there.
        watched.drained();
        assert!(watched.is_readable());
        assert_eq!(read(8).unwrap(), 0);
    });
}

#[test]
fn what_a_loop_knows_to_be_empty_is_empty_once_it_has_looked() {
    // More descriptors than events are taken at once: one look does not tell all.
    let runtime = Runtime::new(&Options { events: 2, ..Options::default() }).unwrap();
    runtime.block_on(async {
        let pairs: Vec<_> = (0..8).map(|_| pair()).collect();
        let before = looks();
        pairs.iter().for_each(|(a, _)| assert!(a.is_known_empty()));
        pairs.iter().for_each(|(_, b)| (&mut &*b).write_all(b"x").unwrap());
        assert!(pairs.iter().all(|(a, _)| a.is_known_empty()), "nobody has looked yet");
        while looks() == before {
            yield_now().await;
        }
        assert!(pairs.iter().all(|(a, _)| !a.is_known_empty()));
        for (a, _) in &pairs {
            assert_eq!(a.try_read(|mut fd| fd.read(&mut [0; 4])).unwrap(), 1);
        }
        pairs.iter().for_each(|(a, _)| a.drained());
        let before = looks();
        while looks() == before {
            yield_now().await;
        }
        assert!(pairs.iter().all(|(a, _)| a.is_known_empty()));
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        assert!(!Watched::lazy(a).is_known_empty(), "it is not watched");
        drop(b);
    });
}

#[test]
fn room_for_writing_is_told_when_there_was_none() {
    block_on(async {
        let (watched, mut peer) = pair();
        let data = vec![7; 1 << 20];
        let mut sent = 0;
        while let Ok(n) = watched.try_write(|mut fd| fd.write(&data)) {
            sent += n;
        }
        assert!(!watched.is_writable());
        let reader = thread::spawn(move || {
            let mut all = vec![0; sent];
            peer.read_exact(&mut all).unwrap();
            peer
        });
        watched.writable().await.unwrap();
        let mut peer = reader.join().unwrap();
        assert!(watched.try_write(|mut fd| fd.write(b"more")).unwrap() == 4);
        peer.read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn a_descriptor_that_is_likely_to_be_ready_is_watched_when_it_is_not() {
    let events = |fd: &Watched<UnixStream>| fd.try_read(|mut fd| fd.read(&mut [0; 4]));
    block_on(async {
        let (a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.write_all(b"x").unwrap();
        let lazy = Watched::lazy(a);
        lazy.readable().await.unwrap();
        assert_eq!(events(&lazy).unwrap(), 1);
        assert_eq!(events(&lazy).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        b.write_all(b"w").unwrap();
        assert!(!lazy.is_readable());
        assert_eq!(events(&lazy).unwrap(), 1);
        lazy.drained();
        // What came before it is watched is told, too.
        b.write_all(b"yz").unwrap();
        lazy.readable().await.unwrap();
        assert_eq!(events(&lazy).unwrap(), 2);
        lazy.drained();
        drop(b);
        lazy.readable().await.unwrap();
        assert_eq!(events(&lazy).unwrap(), 0);
        lazy.writable().await.unwrap();
    });
}

#[test]
fn events_of_a_descriptor_that_is_gone_reach_nobody() {
    block_on(async {
        for _ in 0..100 {
            let (first, mut one) = pair();
            let (second, mut two) = pair();
            let (first, second) = (Rc::new(RefCell::new(Some(first))), Rc::new(RefCell::new(Some(second))));
            let third = Rc::new(RefCell::new(None));
            // Both become ready in one batch; who runs first closes the other's, and its number is used again.
            let run = |own: &Rc<RefCell<Option<Watched<UnixStream>>>>, other: &Rc<RefCell<Option<_>>>| {
                let (own, other, third) = (own.clone(), other.clone(), third.clone());
                poll_fn(move |cx| {
                    let Some(ready) = own.borrow().as_ref().map(|own| own.poll_readable(cx)) else {
                        return Poll::Ready(());
                    };
                    if ready.is_pending() {
                        return Poll::Pending;
                    }
                    drop(other.borrow_mut().take());
                    *third.borrow_mut() = Some(pair());
                    Poll::Ready(())
                })
            };
            let tasks = [spawn_joined(run(&first, &second)), spawn_joined(run(&second, &first))];
            yield_now().await;
            one.write_all(b"x").unwrap();
            two.write_all(b"x").unwrap();
            while third.borrow().is_none() {
                yield_now().await;
            }
            yield_now().await;
            assert!(!third.borrow().as_ref().unwrap().0.is_readable());
            for task in &tasks {
                task.abort();
            }
        }
    });
}

#[test]
fn a_shared_descriptor_is_watched_no_longer_when_it_is_dropped() {
    let turns = Arc::new(AtomicU64::new(0));
    let options = Options { turns: Some(turns.clone()), ..Options::default() };
    Runtime::new(&options).unwrap().block_on(async {
        let (a, mut b) = UnixStream::pair().unwrap();
        let watched = Watched::shared(OwnedFd::from(a.try_clone().unwrap()), Interest::READ_LEVEL).unwrap();
        b.write_all(b"x").unwrap();
        watched.readable().await.unwrap();
        // Nobody wants to know: a level that is told all the same would keep the loop busy.
        watched.tell(Interest::NONE).unwrap();
        watched.clear_read();
        sleep::sleep(5).await;
        assert!(!watched.is_readable());
        watched.tell(Interest::READ_LEVEL).unwrap();
        watched.readable().await.unwrap();
        drop(watched);
        let before = turns.load(Relaxed);
        sleep::sleep(20).await;
        let taken = (turns.load(Relaxed) - before) / 2;
        assert!(taken < 10, "{taken} turns");
        drop(a);
    });
}

#[test]
fn blocking_work_is_done_elsewhere() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options { blocking_threads: 3, ..Options::default() };
    let runtime = Runtime::new(&options).unwrap();
    let here = thread::current().id();
    runtime.block_on(async {
        let most = Arc::new(AtomicU64::new(0));
        let now = Arc::new(AtomicU64::new(0));
        let work: Vec<_> = (0..20)
            .map(|n| {
                let (most, now) = (most.clone(), now.clone());
                spawn_blocking(move || {
                    most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                    thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Relaxed);
                    assert_ne!(thread::current().id(), here);
                    n
                })
            })
            .collect();
        for (n, work) in work.into_iter().enumerate() {
            assert_eq!(work.await, Ok(n));
        }
        assert!((1..=3).contains(&most.load(Relaxed)));
        assert_eq!(spawn_blocking(|| -> () { panic!("at work") }).await, Err(Lost));
        assert_eq!(spawn_blocking(|| 1).await, Ok(1));
    });
    // What has begun ends before the loop does.
    let (tell, told) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    runtime.block_on(async {
        drop(spawn_blocking(move || {
            begun.send(()).unwrap();
            thread::sleep(Duration::from_millis(30));
            tell.send(()).unwrap();
        }));
        begins.recv().unwrap();
    });
    drop(runtime);
    std::panic::set_hook(hook);
    assert_eq!(told.try_recv(), Ok(()));
}

#[test]
fn a_loop_counts_whether_it_is_awake() {
    let turns = Arc::new(AtomicU64::new(0));
    let options = Options { turns: Some(turns.clone()), ..Options::default() };
    let seen = turns.clone();
    let runtime = Runtime::new(&options).unwrap();
    let asleep = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        seen.load(Relaxed)
    });
    runtime.block_on(async {
        sleep::sleep(150).await;
        assert!(turns.load(Relaxed) % 2 == 1);
    });
    let asleep = asleep.join().unwrap();
    assert!(asleep > 0 && asleep % 2 == 0, "{asleep}");
}

#[test]
fn nothing_is_spawned_or_watched_without_a_loop() {
    assert!(!is_running());
    assert!(std::panic::catch_unwind(|| spawn(async {})).is_err());
    let (a, _b) = UnixStream::pair().unwrap();
    assert!(Watched::new(a, Interest::READ).is_err());
    block_on(async {
        assert!(is_running());
    });
    assert!(!is_running());
}
