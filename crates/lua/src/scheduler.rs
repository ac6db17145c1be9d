//! Runs Lua code for a request: a coroutine from the pool, resumed at once; what it waits for is awaited and its results
//! given back to it.

use crate::{
    code::Code,
    host::{Host, LuaPhase},
    vm::WorkerVm,
};
use moonrest_http::{
    RequestRef,
    phase::{LocalBoxFuture, RequestError},
};
use moonrest_luajit::{Coroutine, LuaError, LuaResult, Resumed, Stack, With};
use std::rc::Rc;

/// What a waiting function of the API leaves for the scheduler.
pub(crate) enum Operation {
    /// Wait for this; its values are what the function returns in Lua.
    Wait(LocalBoxFuture<Values>),
    /// The handler ends (`ngx.exit`, `ngx.redirect`, `ngx.exec`): nothing of it runs any more.
    End(Ending),
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
}

/// Values for Lua that outlive the place where they were made.
#[derive(Default)]
pub(crate) struct Values(pub Vec<Item>);

/// One of them.
pub(crate) enum Item {
    Nil,
    Number(f64),
    Text(Vec<u8>),
}

impl Values {
    /// `true`, or `1` where upstream says so.
    pub(crate) fn one(item: Item) -> Self {
        Self(vec![item])
    }

    /// `nil, message`.
    pub(crate) fn error(message: &str) -> Self {
        Self(vec![Item::Nil, Item::Text(message.as_bytes().to_vec())])
    }

    fn push(&self, stack: &Stack<'_>) -> LuaResult<()> {
        self.0.iter().try_for_each(|item| match item {
            Item::Nil => stack.push(moonrest_luajit::Nil),
            Item::Number(number) => stack.push(*number),
            Item::Text(text) => stack.push(text.as_slice()),
        })
    }
}

/// How a run ended.
pub(crate) enum Outcome {
    /// The code returned.
    Finished,
    Ended(Ending),
    /// It waits; go on with [`Running::resume`].
    Waits(Running, LocalBoxFuture<Values>),
    Failed(LuaError),
}

/// A handler's code while it waits.
pub(crate) struct Running {
    vm: Rc<WorkerVm>,
    host: Rc<Host>,
    coroutine: Coroutine,
}

/// Starts a handler's code for a request.
pub(crate) fn start(vm: &Rc<WorkerVm>, code: &Code, r: &RequestRef, phase: LuaPhase) -> (Rc<Host>, Outcome) {
    let host = Rc::new(Host::of(r, phase));
    let started = begin(vm, code, &host);
    let outcome = match started {
        Ok((coroutine, resumed)) => settle(vm.clone(), host.clone(), coroutine, resumed),
        Err(error) => Outcome::Failed(error),
    };
    (host, outcome)
}

fn begin(vm: &WorkerVm, code: &Code, host: &Rc<Host>) -> LuaResult<(Coroutine, Resumed)> {
    let function = vm.function(code, host.request())?;
    let coroutine = vm.vm.coroutine()?;
    let resumed = vm.vm.lend(&**host, host.token(), || coroutine.start(&function, ()))?;
    Ok((coroutine, resumed))
}

impl Running {
    /// Gives the code what it waited for.
    pub(crate) fn resume(self, values: &Values) -> Outcome {
        let Self { vm, host, coroutine } = self;
        let resumed = vm
            .vm
            .lend(&*host, host.token(), || coroutine.resume(With(|stack: &Stack<'_>| values.push(stack))));
        match resumed {
            Ok(resumed) => settle(vm, host, coroutine, resumed),
            Err(error) => Outcome::Failed(error),
        }
    }
}

/// Goes on with code that waits until it has ended, however often it waits again.
pub(crate) async fn run_on(running: Running, wait: LocalBoxFuture<Values>) -> Outcome {
    let (mut running, mut wait) = (running, wait);
    loop {
        let values = wait.await;
        match running.resume(&values) {
            Outcome::Waits(next, again) => (running, wait) = (next, again),
            settled => return settled,
        }
    }
}

fn settle(vm: Rc<WorkerVm>, host: Rc<Host>, coroutine: Coroutine, resumed: Resumed) -> Outcome {
    match resumed {
        Resumed::Finished => Outcome::Finished,
        Resumed::Failed(error) => Outcome::Failed(error),
        Resumed::Yielded(None) => {
            Outcome::Failed(LuaError::exactly("attempt to yield from the handler itself"))
        }
        Resumed::Yielded(Some(operation)) => match operation.downcast::<Operation>() {
            Ok(operation) => match *operation {
                Operation::Wait(wait) => Outcome::Waits(Running { vm, host, coroutine }, wait),
                Operation::End(ending) => Outcome::Ended(ending),
            },
            Err(_) => Outcome::Failed(LuaError::exactly("an operation that nobody knows")),
        },
    }
}

/// Runs code to its end; what would have to wait is an error.
pub(crate) fn run_at_once(vm: &WorkerVm, code: &Code, host: &Host) -> LuaResult<()> {
    let function = vm.function(code, None)?;
    let coroutine = vm.vm.coroutine()?;
    match vm.vm.lend(host, host.token(), || coroutine.start(&function, ()))? {
        Resumed::Finished => Ok(()),
        Resumed::Failed(error) => Err(error),
        Resumed::Yielded(_) => Err(LuaError::exactly("waiting is not possible before the worker serves")),
    }
}

/// The text of an error as upstream logs it: message and traceback.
pub(crate) fn describe(error: &LuaError) -> String {
    let message = String::from_utf8_lossy(error.message());
    match error.traceback() {
        Some(trace) => format!("{message}\nstack traceback:\ncoroutine 0:{trace}"),
        None => message.into_owned(),
    }
}

/// What a failed handler answers.
pub(crate) fn failure(r: &RequestRef, error: &LuaError) -> RequestError {
    moonrest_http::error!(r, "lua entry thread aborted: runtime error: {}", describe(error));
    RequestError::Internal { status: 500, level: moonrest_core::Level::Error, message: "".into() }
}
