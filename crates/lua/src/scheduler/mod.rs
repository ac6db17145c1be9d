//! Runs Lua code for a request: a coroutine from the pool, resumed at once; what it waits for is awaited and its results
//! given back to it.
//!
//! ```text
//! run ── finished ──▶ Outcome; no future ever existed
//!  │ waits
//!  ▼
//! Running, a future over the handler's threads:
//!     poll a waiting thread's operation ──▶ resume it with the values ──▶ run posted threads ──▶ all wait: Pending
//! ```
//!
//! The entry thread and the light threads of a handler are coroutines side by side. Coroutines that Lua code makes and
//! resumes run inside them, natively; what these wait for reaches the thread (see `moonrest_luajit`).

mod threads;
mod values;

pub(crate) use threads::{Doing, Parent, Thread, Threads};
use values::Given;
pub(crate) use values::{Item, Values, Wait};

use crate::{
    clock,
    ffi::ctx,
    host::{Host, OnAbort},
    phase_io::PhaseIo,
    vm::WorkerVm,
};
use moonrest_core::Level;
use moonrest_http::{
    RequestRef,
    phase::{LocalBoxFuture, RequestError},
};
use moonrest_luajit::{
    Call, Coroutine, LuaError, LuaResult, Ran, Ref, Resumed, Return, Stack, With, format_coroutines,
};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// What a waiting function of the API leaves for the scheduler: `call.suspend(Operation::Wait(future), ())`.
///
/// The future runs outside Lua, with nothing lent. It is dropped in the middle when its light thread is killed, when
/// another one ends the handler (`ngx.exit`), or when the client has left: whatever it holds must be fine with that.
pub(crate) enum Operation {
    /// Wait for this; its values are what the function returns in Lua. See [`Item`] for what values there are.
    Wait(LocalBoxFuture<Values>),
    /// The same for what is polled often.
    Poll(Box<dyn Wait>),
    /// Everything else that is ready runs first.
    GiveWay,
    /// As `Wait`, for subrequests: their thread cannot be killed meanwhile, nor may `ngx.exit` and the like end the handler.
    Subrequests(LocalBoxFuture<Values>),
    /// The handler ends (`ngx.exit`, `ngx.redirect`, `ngx.exec`): nothing of it runs any more.
    End(Ending),
    /// `ngx.thread.spawn`: a light thread that is ready to run. Gives the thread.
    Spawn(Box<Spawned>),
    /// `ngx.thread.wait`: one of these has to end. Gives its results.
    Join(Vec<Key>),
}

/// A new light thread: its coroutine, with function and arguments on the stack.
pub(crate) struct Spawned {
    pub coroutine: Coroutine,
    /// The same, for Lua.
    pub value: Ref,
    pub parent: Parent,
}

/// How a handler ends before its code does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// `ngx.exit(ngx.OK)`: this handler is done.
    Ok,
    /// `ngx.exit(ngx.DECLINED)`.
    Declined,
    /// `ngx.exit(ngx.ERROR)`: no answer at all.
    Error,
    Status(u16),
    /// The request was redirected internally (`ngx.exec`).
    Redirected,
    /// The client has left (`lua_check_client_abort`).
    ClientGone,
}

/// How a run ended.
pub(crate) enum Outcome {
    /// The code returned.
    Finished,
    Ended(Ending),
    /// It waits: await it, and it comes to one of the other ends.
    Waits(Running),
    Failed(LuaError),
}

/// Which thread of a handler: `ENTRY`, or the number of a light thread's coroutine.
pub(crate) type Key = usize;
pub(crate) const ENTRY: Key = 0;

/// A handler's code while it waits: all its threads. As a future it runs on to its end, however often it waits again.
pub(crate) struct Running {
    vm: Rc<WorkerVm>,
    host: Rc<Host>,
    /// It ends when the client leaves, or has something to do then.
    watches_client: Cell<bool>,
}

/// Runs a function as the entry thread of a handler, with the arguments its phase has.
pub(crate) fn run(vm: &Rc<WorkerVm>, host: &Rc<Host>, function: &Ref) -> Outcome {
    if matches!(*host.io.borrow(), PhaseIo::Set { .. }) {
        return run_with(vm, host, function, |stack| host.io.borrow().push_args(stack));
    }
    match start(vm, host, function) {
        Ok(outcome) => outcome,
        Err(stop) => stop.go_on(vm, host),
    }
}

/// Runs a function without arguments as the entry thread of a handler, as far as it goes without the scheduler: most code
/// ends here, and its host need not be on the heap for that.
pub(crate) fn start(vm: &Rc<WorkerVm>, host: &Host, function: &Ref) -> Result<Outcome, Stop> {
    // A host serves one run.
    let _ = host.vm.set(vm.clone());
    clock::forget();
    ctx::enter(vm, host);
    let ran = vm.vm.run(function, host, host.token(), |coroutine| host.running.set((ENTRY, coroutine)));
    ctx::leave(vm);
    match ran {
        Ok(Ran::Finished(answer)) => {
            if let PhaseIo::Body(arg) = &mut *host.io.borrow_mut() {
                arg.answer = answer;
            }
            Ok(Outcome::Finished)
        }
        Ok(Ran::Stopped(coroutine, resumed)) => Err(Stop(coroutine, resumed)),
        Err(error) => Ok(Outcome::Failed(error)),
    }
}

/// An entry thread that has stopped for the first time, other than by returning.
pub(crate) struct Stop(Coroutine, Resumed);

impl Stop {
    /// Goes on with the same host.
    pub(crate) fn go_on(self, vm: &Rc<WorkerVm>, host: &Rc<Host>) -> Outcome {
        stopped(vm, host, self.0, self.1)
    }
}

/// Runs a function as the entry thread of a handler, with the arguments that the closure pushes.
pub(crate) fn run_with(
    vm: &Rc<WorkerVm>,
    host: &Rc<Host>,
    function: &Ref,
    args: impl FnOnce(&Stack<'_>) -> LuaResult<()>,
) -> Outcome {
    // A host serves one run.
    let _ = host.vm.set(vm.clone());
    let started = vm.vm.coroutine().and_then(|coroutine| {
        host.running.set((ENTRY, coroutine.id()));
        clock::forget();
        ctx::enter(vm, host);
        let resumed = vm.vm.lend(&**host, host.token(), || coroutine.start(function, With(args)))?;
        Ok((coroutine, resumed))
    });
    ctx::leave(vm);
    match started {
        Ok((coroutine, resumed)) => stopped(vm, host, coroutine, resumed),
        Err(error) => Outcome::Failed(error),
    }
}

/// The entry thread has stopped for the first time.
fn stopped(vm: &Rc<WorkerVm>, host: &Rc<Host>, coroutine: Coroutine, resumed: Resumed) -> Outcome {
    match resumed {
        Resumed::Finished => return finished(host, &coroutine),
        Resumed::Failed(error) => return Outcome::Failed(error),
        Resumed::Parked if let Some(ending) = host.pending_end() => return Outcome::Ended(ending),
        _ => {}
    }
    let watches_client = Cell::new(host.watches_client());
    let running = Running { vm: vm.clone(), host: host.clone(), watches_client };
    *host.threads.borrow_mut() = Some(Box::new(Threads::new(Thread::new(coroutine, None))));
    let next = running.settle(ENTRY, resumed);
    match running.drive(next) {
        Some(outcome) => outcome,
        None => Outcome::Waits(running),
    }
}

/// The entry thread has returned, its results on the stack.
fn finished(host: &Host, coroutine: &Coroutine) -> Outcome {
    match host.io.borrow_mut().keep_answer(coroutine) {
        Ok(()) => Outcome::Finished,
        Err(error) => Outcome::Failed(error),
    }
}

/// How the run loop goes on.
enum Next {
    /// With this thread.
    Run(Key, Given),
    /// With a posted thread, if there is one.
    Posted,
    /// Not at all.
    End(Outcome),
}

impl Future for Running {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            // The client first: its leaving may be what ended a subrequest.
            let next = match self.poll_client(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let ready = self.threads(|threads| threads.poll_ready(cx)).unwrap_or(Poll::Pending);
                    let (key, given) = ready!(ready);
                    match given.ending() {
                        Some(ending) => Next::End(Outcome::Ended(ending)),
                        None => Next::Run(key, given),
                    }
                }
            };
            if let Some(outcome) = self.drive(next) {
                return Poll::Ready(outcome);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let threads = self.host.threads.take();
        drop(threads);
    }
}

/// After so many `coroutine.yield()` in a row with nobody else to run, other handlers get a turn.
const TURNS: u32 = 1000;

impl Running {
    fn threads<R>(&self, work: impl FnOnce(&mut Threads) -> R) -> Option<R> {
        self.host.threads.borrow_mut().as_mut().map(|threads| work(threads))
    }

    /// What follows when the client has left.
    fn poll_client(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(r) = self.host.request.as_ref().filter(|_| self.watches_client.get()) else {
            return Poll::Pending;
        };
        ready!(r.exchange.poll_closed(cx));
        self.watches_client.set(false);
        let callback = self.host.on_abort.replace(Some(OnAbort::Called));
        let Some(OnAbort::Waits(function, parent)) = callback else {
            return Poll::Ready(Next::End(Outcome::Ended(Ending::ClientGone)));
        };
        moonrest_http::info!(r, "client prematurely closed connection");
        let made = self.vm.vm.with(|stack| {
            let coroutine = stack.new_coroutine()?;
            coroutine.stack(|stack| stack.push(function))??;
            Ok(coroutine)
        });
        Poll::Ready(match made {
            Ok(coroutine) => {
                let key = coroutine.id();
                self.threads(|threads| threads.add(key, Thread::new(coroutine, Some(parent))));
                Next::Run(key, Given::Start)
            }
            Err(error) => Next::End(Outcome::Failed(error)),
        })
    }

    /// Runs threads until all wait, or the handler has ended.
    fn drive(&self, first: Next) -> Option<Outcome> {
        let mut next = first;
        loop {
            next = match next {
                Next::Run(key, given) => self.resume(key, given),
                Next::End(outcome) => return Some(outcome),
                Next::Posted => match self.threads(|threads| threads.posted.pop_front())? {
                    Some((key, values)) => Next::Run(key, Given::Values(values)),
                    None if self.threads(|threads| threads.any_alive())? => return None,
                    None => Next::End(Outcome::Finished),
                },
            }
        }
    }

    /// Runs a thread until it waits or ends.
    fn resume(&self, key: Key, given: Given) -> Next {
        let Some(coroutine) = self.threads(|threads| threads.get(key)?.coroutine.take()).flatten() else {
            return Next::Posted;
        };
        self.host.running.set((key, coroutine.id()));
        let Self { vm, host, .. } = self;
        clock::forget();
        ctx::enter(vm, host);
        let resumed = vm.vm.lend(&**host, host.token(), || match given {
            Given::Start => coroutine.run(),
            given => coroutine.resume(With(|stack: &Stack<'_>| given.push(stack))),
        });
        ctx::leave(vm);
        let back = self.threads(|threads| threads.get(key).map(|thread| thread.coroutine = Some(coroutine)));
        match (back.flatten(), resumed) {
            (Some(()), Ok(resumed)) => self.settle(key, resumed),
            (Some(()), Err(error)) => self.settle(key, Resumed::Failed(error)),
            (None, _) => Next::Posted,
        }
    }

    /// What follows when a thread has stopped.
    fn settle(&self, key: Key, resumed: Resumed) -> Next {
        // What was asked for where waiting was not possible must not stand in anybody's way.
        let asked = self.host.pending.take();
        match resumed {
            Resumed::Finished => self.ended(key, None),
            Resumed::Failed(error) => self.ended(key, Some(error)),
            Resumed::Yielded(None) => self.gave_way(key),
            Resumed::Yielded(Some(operation)) => match operation.downcast::<Operation>() {
                Ok(operation) => self.begin(key, *operation),
                Err(_) => self.ended(key, Some(LuaError::exactly("an operation that nobody knows"))),
            },
            Resumed::Parked => match asked {
                Some(operation) => self.begin(key, operation),
                None => self.ended(key, Some(LuaError::exactly("attempt to wait for nothing"))),
            },
        }
    }

    fn begin(&self, key: Key, operation: Operation) -> Next {
        self.host.turns.set(0);
        match operation {
            Operation::Wait(future) => self.wait(key, Doing::Waits { future, subrequests: false }),
            Operation::Poll(wait) => self.wait(key, Doing::Polls(wait)),
            Operation::GiveWay => self.wait(key, Doing::GivesWay(false)),
            Operation::Subrequests(future) => self.wait(key, Doing::Waits { future, subrequests: true }),
            Operation::End(ending) => Next::End(Outcome::Ended(ending)),
            Operation::Spawn(spawned) => {
                let Spawned { coroutine, value, parent } = *spawned;
                let child = coroutine.id();
                self.threads(|threads| {
                    threads.add(child, Thread::new(coroutine, Some(parent)));
                    threads.posted.push_back((key, Values::one(Item::Kept(value))));
                });
                Next::Run(child, Given::Start)
            }
            Operation::Join(children) => {
                self.threads(|threads| threads.get(key).map(|thread| thread.doing = Doing::Joins(children)));
                Next::Posted
            }
        }
    }

    fn wait(&self, key: Key, doing: Doing) -> Next {
        self.threads(|threads| threads.wait(key, doing));
        Next::Posted
    }

    /// `coroutine.yield()` in a thread itself lets the others run.
    fn gave_way(&self, key: Key) -> Next {
        let parked = self.threads(|threads| threads.get(key)?.coroutine.as_ref().map(Coroutine::park));
        if let Some(Some(Err(error))) = parked {
            return self.ended(key, Some(error));
        }
        let turns = self.host.turns.replace(self.host.turns.get() + 1);
        if turns == TURNS {
            self.host.turns.set(0);
            return self.wait(key, Doing::GivesWay(false));
        }
        self.threads(|threads| threads.posted.push_back((key, Values::default())));
        Next::Posted
    }

    /// A thread has returned or failed.
    fn ended(&self, key: Key, error: Option<LuaError>) -> Next {
        if key == ENTRY {
            return match error {
                Some(error) => Next::End(Outcome::Failed(error)),
                None => {
                    let kept = self.threads(|threads| {
                        let entry = threads.end(ENTRY)?;
                        entry.coroutine.as_ref().map(|entry| self.host.io.borrow_mut().keep_answer(entry))
                    });
                    match kept.flatten() {
                        Some(Err(error)) => Next::End(Outcome::Failed(error)),
                        _ => Next::Posted,
                    }
                }
            };
        }
        if let Some(error) = &error {
            let error = self.with_outer_tracebacks(key, error.clone());
            self.host.log(
                Level::Error,
                format_args!("lua user thread aborted: runtime error: {}", describe(&error)),
            );
        }
        let joined = self.threads(|threads| self.retire(threads, key, error.as_ref()));
        let Some((joiner, child)) = joined.flatten() else { return Next::Posted };
        Next::Run(
            joiner,
            Given::Values(Values::made(move |stack| {
                stack.push_results(&child)?;
                child.end()
            })),
        )
    }

    /// Makes an ended light thread a zombie, or takes it away when its parent waits for it or has ended.
    fn retire(&self, threads: &mut Threads, key: Key, error: Option<&LuaError>) -> Option<(Key, Coroutine)> {
        let orphan = !threads.has_parent(key);
        let joiner = threads.joiner(key);
        let coroutine = threads.end(key)?.coroutine.as_ref()?;
        let retired = error.map_or_else(|| coroutine.retire(), |error| coroutine.retire_failed(error));
        if retired.is_err() || orphan || joiner.is_some() {
            let coroutine = threads.remove(key)?.coroutine?;
            match joiner {
                Some(joiner) => {
                    threads.get(joiner)?.doing = Doing::Runs;
                    return Some((joiner, coroutine));
                }
                // It can no longer be waited for, which is what the mark is for.
                None => drop(coroutine.end()),
            }
        }
        None
    }

    /// Adds the call stacks of the coroutines that a failed thread was spawned by.
    fn with_outer_tracebacks(&self, key: Key, mut error: LuaError) -> LuaError {
        self.threads(|threads| {
            let mut key = key;
            while let Some(Parent { user, thread, .. }) =
                threads.get(key).and_then(|thread| thread.parent.as_ref())
            {
                let (user, outer) = (user.as_ref().map(Coroutine::traceback), *thread);
                let own = threads.get(outer).and_then(|thread| Some(thread.coroutine.as_ref()?.traceback()));
                user.into_iter().chain(own).flatten().for_each(|frames| error.add_traceback(frames));
                key = outer;
            }
        });
        error
    }
}

/// Has the function that was called wait for this. It costs less than `Call::suspend`.
pub(crate) fn suspend(call: &Call<'_>, operation: Operation) -> LuaResult<Return> {
    let parked = call.park()?;
    match call.host(|host: &Host| *host.pending.borrow_mut() = Some(operation)) {
        Some(()) => Ok(parked),
        None => Err(LuaError::exactly("no request found")),
    }
}

/// Runs code to its end; what would have to wait is an error.
pub(crate) fn run_at_once(vm: &WorkerVm, function: &Ref, host: &Host) -> LuaResult<()> {
    let coroutine = vm.vm.coroutine()?;
    match vm.vm.lend(host, host.token(), || coroutine.start(function, ()))? {
        Resumed::Finished => Ok(()),
        Resumed::Failed(error) => Err(error),
        Resumed::Yielded(_) | Resumed::Parked => {
            Err(LuaError::exactly("waiting is not possible before the worker serves"))
        }
    }
}

/// The text of an error as upstream logs it: message and tracebacks.
pub(crate) fn describe(error: &LuaError) -> String {
    let message = match error.value() {
        Some(_) => "unknown reason".into(),
        None => String::from_utf8_lossy(error.message()),
    };
    match error.traceback() {
        Some(_) => format!("{message}\n{}", format_coroutines(error.tracebacks())),
        None => message.into_owned(),
    }
}

/// The same for code that upstream runs in a protected call: there is one coroutine.
pub(crate) fn describe_call(error: &LuaError) -> String {
    let message = match error.value() {
        Some(_) => "unknown reason".into(),
        None => String::from_utf8_lossy(error.message()),
    };
    match error.traceback() {
        Some(trace) => format!("{message}\nstack traceback:{trace}"),
        None => message.into_owned(),
    }
}

/// What a failed handler answers.
pub(crate) fn failure(r: &RequestRef, error: &LuaError) -> RequestError {
    r.log_lines_at(
        Level::Error,
        format_args!("lua entry thread aborted: runtime error: {}", describe(error)),
    );
    RequestError::Internal { status: 500, level: moonrest_core::Level::Error, message: "".into() }
}
