//! Runs Lua code for a request: a coroutine from the pool, resumed at once; what it waits for is awaited and its results
//! given back to it.

mod values;

pub(crate) use values::{Item, Values};

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
use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// What a waiting function of the API leaves for the scheduler: `call.suspend(Operation::Wait(future), ())`.
///
/// The future runs outside Lua, with nothing lent. It is dropped in the middle when its light thread is killed, when
/// another one ends the handler (`ngx.exit`), or when the client has left: whatever it holds must be fine with that.
pub(crate) enum Operation {
    /// Wait for this; its values are what the function returns in Lua. See [`Item`] for what values there are.
    Wait(LocalBoxFuture<Values>),
    /// As `Wait`, for subrequests: their thread cannot be killed meanwhile, nor may `ngx.exit` and the like end the handler.
    Subrequests(LocalBoxFuture<Values>),
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

/// How a run ended.
pub(crate) enum Outcome {
    /// The code returned.
    Finished,
    Ended(Ending),
    /// It waits: await it, and it comes to one of the other ends.
    Waits(Running),
    Failed(LuaError),
}

/// A handler's code while it waits. As a future it runs on to its end, however often it waits again.
pub(crate) struct Running {
    vm: Rc<WorkerVm>,
    host: Rc<Host>,
    coroutine: Coroutine,
    wait: LocalBoxFuture<Values>,
}

/// Starts a handler's code for a request.
pub(crate) fn start(vm: &Rc<WorkerVm>, code: &Code, r: &RequestRef, phase: LuaPhase) -> (Rc<Host>, Outcome) {
    let host = Rc::new(Host::of(r, phase));
    let started = begin(vm, code, &host);
    let outcome = match started {
        Ok((coroutine, resumed)) => match Settled::of(resumed) {
            Settled::Waits(wait) => {
                Outcome::Waits(Running { vm: vm.clone(), host: host.clone(), coroutine, wait })
            }
            settled => settled.outcome(),
        },
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

impl Future for Running {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let values = std::task::ready!(self.wait.as_mut().poll(cx));
            let Self { vm, host, coroutine, .. } = &*self;
            let resumed = vm.vm.lend(&**host, host.token(), || {
                coroutine.resume(With(|stack: &Stack<'_>| values.push(stack)))
            });
            match resumed.map_or_else(Settled::Failed, Settled::of) {
                Settled::Waits(wait) => self.wait = wait,
                settled => return Poll::Ready(settled.outcome()),
            }
        }
    }
}

/// What became of a resume.
enum Settled {
    Finished,
    Ended(Ending),
    Waits(LocalBoxFuture<Values>),
    Failed(LuaError),
}

impl Settled {
    fn of(resumed: Resumed) -> Self {
        match resumed {
            Resumed::Finished => Self::Finished,
            Resumed::Failed(error) => Self::Failed(error),
            Resumed::Parked => Self::Failed(LuaError::exactly("nothing would ever resume it")),
            Resumed::Yielded(None) => {
                Self::Failed(LuaError::exactly("attempt to yield from the handler itself"))
            }
            Resumed::Yielded(Some(operation)) => match operation.downcast::<Operation>() {
                Ok(operation) => match *operation {
                    Operation::Wait(wait) | Operation::Subrequests(wait) => Self::Waits(wait),
                    Operation::End(ending) => Self::Ended(ending),
                },
                Err(_) => Self::Failed(LuaError::exactly("an operation that nobody knows")),
            },
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Finished => Outcome::Finished,
            Self::Ended(ending) => Outcome::Ended(ending),
            Self::Failed(error) => Outcome::Failed(error),
            Self::Waits(_) => Outcome::Failed(LuaError::exactly("a wait that nobody awaits")),
        }
    }
}

/// Runs code to its end; what would have to wait is an error.
pub(crate) fn run_at_once(vm: &WorkerVm, code: &Code, host: &Host) -> LuaResult<()> {
    let function = vm.function(code, None)?;
    let coroutine = vm.vm.coroutine()?;
    match vm.vm.lend(host, host.token(), || coroutine.start(&function, ()))? {
        Resumed::Finished => Ok(()),
        Resumed::Failed(error) => Err(error),
        Resumed::Yielded(_) | Resumed::Parked => {
            Err(LuaError::exactly("waiting is not possible before the worker serves"))
        }
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
