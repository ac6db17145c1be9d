//! A worker's timers: functions that run later, for no request.
//! <https://github.com/openresty/lua-nginx-module#ngxtimerat>
//!
//! ```text
//! ngx.timer.at ──▶ pending ── time is up ──▶ running ──▶ gone
//!                     └── the worker quits ──▶ running, premature
//! ```
//!
//! A draining worker waits for timers as it waits for connections.

use crate::{
    host::{Host, LuaPhase, Origin},
    scheduler::{self, Outcome},
    settings::Main,
    vm::WorkerVm,
};
use moonrest_core::Level;
use moonrest_http::worker::{Task, Worker};
use moonrest_luajit::{LuaResult, Origin as Definition, Ref, Stack};
use moonrest_net::sleep::sleep;
use moonrest_sys::time::monotonic_ms;
use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
};

/// Counts them.
pub(crate) struct Timers {
    worker: Rc<Worker>,
    pending: Cell<u64>,
    running: Cell<u64>,
    max_pending: u64,
    max_running: u64,
}

/// What runs when the time is up.
pub(crate) struct Timer {
    pub vm: Rc<WorkerVm>,
    pub delay_ms: u64,
    /// Again and again.
    pub every: bool,
    pub function: Ref,
    pub args: Vec<Ref>,
    /// Where the function was defined.
    pub definition: Definition,
    pub origin: Origin,
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<Timers>>> = const { RefCell::new(None) };
}

/// The timers of this worker.
pub(crate) fn present() -> Option<Rc<Timers>> {
    PRESENT.with_borrow(Clone::clone)
}

/// Lets this worker have timers.
pub(crate) fn start(main: &Main, worker: &Rc<Worker>) {
    let timers = Timers {
        worker: worker.clone(),
        pending: Cell::new(0),
        running: Cell::new(0),
        max_pending: main.max_pending_timers(),
        max_running: main.max_running_timers(),
    };
    PRESENT.set(Some(Rc::new(timers)));
}

/// No more timers can be made.
pub(crate) fn stop() {
    PRESENT.set(None);
}

/// A number that is one higher while this lives.
struct Counted<'a>(&'a Cell<u64>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<u64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Timers {
    pub(crate) fn pending(&self) -> u64 {
        self.pending.get()
    }

    pub(crate) fn running(&self) -> u64 {
        self.running.get()
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Starts a timer.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) fn add(self: &Rc<Self>, timer: Timer) -> Result<(), &'static str> {
        let quits = self.worker.is_quitting();
        if quits && timer.delay_ms > 0 {
            return Err("process exiting");
        }
        if self.pending.get() >= self.max_pending {
            return Err("too many pending timers");
        }
        let timers = self.clone();
        // Counted from now on, not from when the task first runs.
        self.pending.set(self.pending.get() + 1);
        let task = Task::new(&self.worker);
        moonrest_rt::spawn(async move {
            timers.run(timer, quits).await;
            drop(task);
        });
        Ok(())
    }

    async fn run(self: Rc<Self>, timer: Timer, quits: bool) {
        let timer = Rc::new(timer);
        // `add` counted the first time.
        self.pending.set(self.pending.get().saturating_sub(1));
        let mut due = monotonic_ms().saturating_add(timer.delay_ms);
        loop {
            let premature = {
                let _pending = Counted::new(&self.pending);
                !quits && self.wait(due, timer.delay_ms == 0).await
            };
            // Repeated timers keep their beat; what came too late by a whole beat is left out.
            due = due.saturating_add(timer.delay_ms).max(monotonic_ms());
            if !timer.every || self.worker.is_quitting() {
                return self.fire(&timer, premature).await;
            }
            let (timers, timer, task) = (self.clone(), timer.clone(), Task::new(&self.worker));
            moonrest_rt::spawn(async move {
                timers.fire(&timer, premature).await;
                drop(task);
            });
        }
    }

    /// Waits until the time is up, or until the worker quits, which is what the answer says.
    async fn wait(&self, due: u64, at_once: bool) -> bool {
        let mut quits = pin!(self.worker.stopping());
        quits.as_mut().enable();
        if self.worker.is_quitting() {
            return true;
        }
        if at_once {
            return false;
        }
        tokio::select! {
            () = sleep(due.saturating_sub(monotonic_ms())) => false,
            () = quits => true,
        }
    }

    async fn fire(&self, timer: &Timer, premature: bool) {
        if self.running.get() >= self.max_running {
            let Definition { source, line, .. } = &timer.definition;
            let most = self.max_running;
            self.worker.log.write(
                Level::Alert,
                None,
                format_args!(
                    "lua failed to run timer with function defined at {source}:{line}: \
                     {most} lua_max_running_timers are not enough"
                ),
            );
            return;
        }
        let _running = Counted::new(&self.running);
        let host = Rc::new(Host::detached(LuaPhase::Timer, &self.worker, timer.origin.clone()));
        let args = |stack: &Stack<'_>| -> LuaResult<()> {
            stack.push(premature)?;
            timer.args.iter().try_for_each(|arg| stack.push(arg))
        };
        let outcome = match scheduler::run_with(&timer.vm, &host, &timer.function, args) {
            Outcome::Waits(running) => running.await,
            settled => settled,
        };
        if let Outcome::Failed(error) = outcome {
            let text = scheduler::describe(&error);
            host.log(Level::Error, format_args!("lua entry thread aborted: runtime error: {text}"));
        }
    }
}
