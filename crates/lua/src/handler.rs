//! Lua code as a handler of a phase.

use crate::{
    code::Code,
    host::{Host, LuaPhase},
    scheduler::{self, Ending, Outcome},
    sending, vm,
};
use moonrest_http::{phase::LocalBoxFuture, prelude::*};

/// `*_by_lua*` of one location and phase.
pub(crate) struct LuaHandler {
    code: Arc<Code>,
    phase: LuaPhase,
}

impl LuaHandler {
    pub(crate) fn new(code: Arc<Code>, phase: LuaPhase) -> Self {
        Self { code, phase }
    }
}

impl PhaseHandler for LuaHandler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let Some(vm) = vm::present() else {
            return Err(RequestError::internal("the Lua VM is missing"));
        };
        let (host, outcome) = scheduler::start(&vm, &self.code, r, self.phase);
        match outcome {
            Outcome::Waits(running) => {
                let r = r.clone();
                Step::wait(async move {
                    let settled = running.await;
                    finish(&r, &host, settled)?.settled().await
                })
            }
            settled => finish(r, &host, settled),
        }
    }
}

/// Awaits a step.
trait Settled {
    fn settled(self) -> LocalBoxFuture<Result<Flow, RequestError>>;
}

impl Settled for Step {
    fn settled(self) -> LocalBoxFuture<Result<Flow, RequestError>> {
        match self {
            Self::Now(flow) => Box::pin(std::future::ready(Ok(flow))),
            Self::Wait(wait) => wait,
        }
    }
}

/// What the phase does when the code has ended.
fn finish(r: &RequestRef, host: &Host, outcome: Outcome) -> Result<Step, RequestError> {
    let ending = match outcome {
        Outcome::Finished => None,
        Outcome::Ended(ending) => Some(ending),
        Outcome::Failed(error) => return Err(scheduler::failure(r, &error)),
        Outcome::Waits(..) => return Err(RequestError::internal("a handler that waits has not ended")),
    };
    match ending {
        Some(Ending::Redirected) => Ok(Step::Now(Flow::Redirected)),
        Some(Ending::Error) => Step::finish(444),
        Some(Ending::Status(status)) if !r.header_sent.get() && !(200..300).contains(&status) => {
            Step::finish(status)
        }
        Some(Ending::Status(_)) => complete(r),
        _ if host.responding.get() || r.header_sent.get() => complete(r),
        _ if host.phase == LuaPhase::Content => complete(r),
        Some(Ending::Ok) if host.phase == LuaPhase::Access => Step::done(),
        _ => Step::next(),
    }
}

/// Ends the response; an empty one if nothing was sent.
fn complete(r: &RequestRef) -> Result<Step, RequestError> {
    match sending::end(r)? {
        FilterStep::Now(()) => Step::responded(),
        FilterStep::Wait(wait) => Step::wait(async move {
            wait.await?;
            Ok(Flow::Responded)
        }),
    }
}

/// `log_by_lua*`.
pub(crate) struct LuaLog(pub Arc<Code>);

impl LogHandler for LuaLog {
    fn log(&self, r: &RequestRef) -> Option<LocalBoxFuture<()>> {
        let vm = vm::present()?;
        let (_, outcome) = scheduler::start(&vm, &self.0, r, LuaPhase::Log);
        match outcome {
            Outcome::Waits(running) => {
                let r = r.clone();
                Some(Box::pin(async move { note(&r, &running.await) }))
            }
            settled => {
                note(r, &settled);
                None
            }
        }
    }
}

/// In phases that answer nothing, an error is only logged.
pub(crate) fn note(r: &RequestRef, outcome: &Outcome) {
    if let Outcome::Failed(error) = outcome {
        moonrest_http::error!(r, "failed to run log_by_lua*: {}", scheduler::describe(error));
    }
}
