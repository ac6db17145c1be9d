//! The light threads of one handler: what each is doing, and which go on next.

use super::{
    ENTRY, Key, Values,
    values::{Given, Wait},
};
use moonrest_http::phase::LocalBoxFuture;
use moonrest_luajit::Coroutine;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

/// All threads of a handler.
pub(crate) struct Threads {
    entry: Thread,
    /// Light threads, by the number of their coroutine. Ended ones stay until somebody has waited for them.
    light: HashMap<Key, Thread>,
    /// How many will run again.
    alive: usize,
    /// Those that go on as soon as the present one waits.
    pub posted: VecDeque<(Key, Values)>,
    /// Made with the first light thread.
    wakers: Option<Arc<Wakers>>,
}

/// A light thread, or the entry thread.
pub(crate) struct Thread {
    /// Lent to the run loop while it runs.
    pub coroutine: Option<Coroutine>,
    pub doing: Doing,
    pub parent: Option<Parent>,
    waker: Option<Arc<ThreadWaker>>,
}

/// Who spawned a light thread.
pub(crate) struct Parent {
    /// The number of the coroutine that called `spawn`.
    pub coroutine: usize,
    /// That coroutine, if it is not a thread's own but one that a thread resumed.
    pub user: Option<Coroutine>,
    /// The thread that ran it.
    pub thread: Key,
}

/// What a thread is doing.
pub(crate) enum Doing {
    /// It runs, or is posted.
    Runs,
    Waits {
        future: LocalBoxFuture<Values>,
        subrequests: bool,
    },
    Polls(Box<dyn Wait>),
    /// It lets everything else that is ready run first; whether it has.
    GivesWay(bool),
    /// In `ngx.thread.wait` for any of these.
    Joins(Vec<Key>),
    /// It has ended; nobody has asked for its results yet.
    Zombie,
    /// The entry thread, when it has ended.
    Over,
}

impl Thread {
    pub(crate) fn new(coroutine: Coroutine, parent: Option<Parent>) -> Self {
        Self { coroutine: Some(coroutine), doing: Doing::Runs, parent, waker: None }
    }

    /// Whether it will run again.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.doing, Doing::Zombie | Doing::Over)
    }

    /// Whether it is to be polled.
    fn waits(&self) -> bool {
        matches!(self.doing, Doing::Waits { .. } | Doing::Polls(_) | Doing::GivesWay(_))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Given> {
        match &mut self.doing {
            Doing::Waits { future, .. } => future.as_mut().poll(cx).map(Given::Values),
            Doing::Polls(wait) => match wait.poll(cx) {
                Poll::Ready(()) => match std::mem::replace(&mut self.doing, Doing::Runs) {
                    Doing::Polls(wait) => Poll::Ready(Given::Waited(wait)),
                    _ => Poll::Pending,
                },
                Poll::Pending => Poll::Pending,
            },
            Doing::GivesWay(given) => {
                if std::mem::replace(given, true) {
                    return Poll::Ready(Given::Nothing);
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Doing::Runs | Doing::Joins(_) | Doing::Zombie | Doing::Over => Poll::Pending,
        }
    }
}

impl Threads {
    pub(crate) fn new(entry: Thread) -> Self {
        Self { entry, light: HashMap::new(), alive: 1, posted: VecDeque::new(), wakers: None }
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Thread> {
        if key == ENTRY { Some(&mut self.entry) } else { self.light.get_mut(&key) }
    }

    /// The light thread of a coroutine.
    pub(crate) fn light(&mut self, coroutine: usize) -> Option<&mut Thread> {
        self.light.get_mut(&coroutine)
    }

    pub(crate) fn add(&mut self, key: Key, thread: Thread) {
        self.alive += 1;
        if self.light.insert(key, thread).is_none() && self.entry.waits() {
            // It may have been alone until now.
            self.arm(ENTRY);
        }
    }

    /// Has a thread that waits polled, and woken on its own from then on.
    fn arm(&mut self, key: Key) {
        let wakers = self.wakers.get_or_insert_default().clone();
        if let Some(thread) = self.get(key) {
            let waker = thread
                .waker
                .get_or_insert_with(|| Arc::new(ThreadWaker { key, queued: AtomicBool::new(false), wakers }));
            waker.queue();
        }
    }

    /// Forgets a light thread.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Thread> {
        let thread = self.light.remove(&key)?;
        if thread.is_alive() {
            self.alive = self.alive.saturating_sub(1);
            self.posted.retain(|(posted, _)| *posted != key);
        }
        Some(thread)
    }

    /// Notes that a thread has ended.
    pub(crate) fn end(&mut self, key: Key) -> Option<&mut Thread> {
        let thread = if key == ENTRY { &mut self.entry } else { self.light.get_mut(&key)? };
        if thread.is_alive() {
            self.alive = self.alive.saturating_sub(1);
        }
        thread.doing = if key == ENTRY { Doing::Over } else { Doing::Zombie };
        Some(thread)
    }

    /// Whether the coroutine that spawned this light thread may still wait for it.
    pub(crate) fn has_parent(&mut self, key: Key) -> bool {
        let Some(Parent { user, thread, .. }) =
            self.light.get(&key).and_then(|thread| thread.parent.as_ref())
        else {
            return false;
        };
        if let Some(user) = user {
            return user.is_suspended() || user.is_active();
        }
        let thread = *thread;
        self.get(thread).is_some_and(|parent| parent.is_alive())
    }

    /// Whether there is none but the entry thread.
    pub(crate) fn is_one(&self) -> bool {
        self.light.is_empty()
    }

    /// Whether any thread will run again.
    pub(crate) fn any_alive(&self) -> bool {
        self.alive > 0
    }

    /// Whether subrequests are under way.
    pub(crate) fn has_subrequests(&self) -> bool {
        let has = |thread: &Thread| matches!(thread.doing, Doing::Waits { subrequests: true, .. });
        has(&self.entry) || self.light.values().any(has)
    }

    /// Lets a thread wait.
    pub(crate) fn wait(&mut self, key: Key, doing: Doing) {
        if let Some(thread) = self.get(key) {
            thread.doing = doing;
        }
        if !self.light.is_empty() {
            self.arm(key);
        }
    }

    /// The next thread whose wait is over. A thread on its own is woken with the handler, several are told apart.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<(Key, Given)> {
        if self.light.is_empty() {
            return match self.entry.poll(cx) {
                Poll::Ready(given) => Poll::Ready(self.ready(ENTRY, given)),
                Poll::Pending => Poll::Pending,
            };
        }
        let wakers = self.wakers.get_or_insert_default().clone();
        wakers.listen(cx.waker());
        while let Some(key) = wakers.next() {
            let Some(thread) = self.get(key) else { continue };
            let Some(signal) = &thread.waker else { continue };
            signal.queued.store(false, std::sync::atomic::Ordering::Release);
            let waker = Waker::from(signal.clone());
            if let Poll::Ready(given) = thread.poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(self.ready(key, given));
            }
        }
        Poll::Pending
    }

    fn ready(&mut self, key: Key, given: Given) -> (Key, Given) {
        if let Some(thread) = self.get(key) {
            thread.doing = Doing::Runs;
        }
        (key, given)
    }

    /// The thread that waits for the end of this one.
    pub(crate) fn joiner(&mut self, key: Key) -> Option<Key> {
        let parent = self.light.get(&key)?.parent.as_ref()?.thread;
        match &self.get(parent)?.doing {
            Doing::Joins(children) if children.contains(&key) => Some(parent),
            _ => None,
        }
    }
}

/// Which threads have been woken.
#[derive(Default)]
struct Wakers {
    woken: Mutex<VecDeque<Key>>,
    /// The handler's own.
    handler: Mutex<Option<Waker>>,
}

impl Wakers {
    fn listen(&self, waker: &Waker) {
        let mut handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *handler {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn next(&self) -> Option<Key> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Wakes the handler and says for which thread.
struct ThreadWaker {
    key: Key,
    queued: AtomicBool,
    wakers: Arc<Wakers>,
}

impl ThreadWaker {
    fn queue(&self) {
        if !self.queued.swap(true, AcqRel) {
            self.wakers.woken.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.key);
        }
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
        let handler = self.wakers.handler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(handler) = handler {
            handler.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Item;
    use moonrest_luajit::{Options, Vm};
    use std::{cell::Cell, rc::Rc};

    /// A wait that is over once the flag is set, and counts how often it was asked.
    fn wait(over: &Rc<Cell<bool>>, polls: &Rc<Cell<u32>>, wakers: &Rc<Cell<Option<Waker>>>) -> Doing {
        let (over, polls, wakers) = (over.clone(), polls.clone(), wakers.clone());
        let future = Box::pin(std::future::poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            wakers.set(Some(cx.waker().clone()));
            if over.get() { Poll::Ready(Values::one(Item::Bool(true))) } else { Poll::Pending }
        }));
        Doing::Waits { future, subrequests: false }
    }

    fn thread(vm: &Vm, parent: Option<Key>) -> Thread {
        let coroutine = vm.with(|stack| stack.new_coroutine()).unwrap();
        Thread::new(coroutine, parent.map(|thread| Parent { coroutine: 0, user: None, thread }))
    }

    fn poll(threads: &mut Threads) -> Option<Key> {
        match threads.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((key, _)) => Some(key),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_threads_that_were_woken_are_asked() {
        let vm = Vm::new(&Options::default()).unwrap();
        let mut threads = Threads::new(thread(&vm, None));
        let flags: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(false))).collect();
        let polls: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(0))).collect();
        let wakers: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(None))).collect();
        // The entry thread waits alone at first.
        threads.wait(ENTRY, wait(&flags[0], &polls[0], &wakers[0]));
        assert_eq!(poll(&mut threads), None);
        for key in 1..3 {
            threads.add(key, thread(&vm, Some(ENTRY)));
            threads.wait(key, wait(&flags[key], &polls[key], &wakers[key]));
        }
        assert_eq!(poll(&mut threads), None);
        flags[2].set(true);
        wakers[2].take().unwrap().wake();
        assert_eq!(poll(&mut threads), Some(2));
        flags[0].set(true);
        wakers[0].take().unwrap().wake();
        assert_eq!(poll(&mut threads), Some(ENTRY));
        assert_eq!(polls.iter().map(|polls| polls.get()).collect::<Vec<_>>(), [3, 1, 2]);
    }

    #[test]
    fn a_handler_lives_as_long_as_one_of_its_threads() {
        let vm = Vm::new(&Options::default()).unwrap();
        let mut threads = Threads::new(thread(&vm, None));
        threads.add(1, thread(&vm, Some(ENTRY)));
        threads.add(2, thread(&vm, Some(1)));
        assert!(threads.has_parent(1) && threads.has_parent(2));
        threads.end(ENTRY);
        threads.end(1);
        assert!(!threads.has_parent(1) && !threads.has_parent(2) && threads.any_alive());
        // A thread that has ended counts no more when it is taken away.
        threads.remove(1);
        assert!(threads.any_alive());
        threads.remove(2);
        assert!(!threads.any_alive());
    }

    #[test]
    fn subrequests_are_noted_and_joins_found() {
        let vm = Vm::new(&Options::default()).unwrap();
        let mut threads = Threads::new(thread(&vm, None));
        threads.add(1, thread(&vm, Some(ENTRY)));
        assert_eq!(threads.joiner(1), None);
        threads.get(ENTRY).unwrap().doing = Doing::Joins(vec![1]);
        assert_eq!(threads.joiner(1), Some(ENTRY));
        threads.wait(1, Doing::Waits { future: Box::pin(std::future::pending()), subrequests: true });
        assert!(threads.has_subrequests());
        threads.remove(1);
        assert!(!threads.has_subrequests());
    }
}
