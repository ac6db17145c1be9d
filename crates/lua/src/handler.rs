//! Lua code as a handler of a phase.

use crate::{
    code::Code,
    filter,
    host::{Host, LuaPhase},
    scheduler::{self, Ending, Outcome, Stop},
    sending,
    settings::Loc,
    vm::{self, WorkerVm},
};
use moonrest_http::{
    phase::LocalBoxFuture,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use std::rc::Rc;

/// `*_by_lua*` of one location and phase.
pub(crate) struct LuaHandler {
    code: Arc<Code>,
    phase: LuaPhase,
    cached: bool,
    need_body: bool,
}

impl LuaHandler {
    pub(crate) fn new(code: Arc<Code>, phase: LuaPhase, loc: &Loc) -> Self {
        Self { code, phase, cached: loc.code_cache(), need_body: loc.need_request_body() }
    }

    fn run(&self, r: &RequestRef) -> Result<Step, RequestError> {
        run(&self.code, self.phase, self.cached, r)
    }
}

impl PhaseHandler for LuaHandler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        // nginx: what runs at the end of the rewrite phase does not run where a rule leads elsewhere.
        if self.phase == LuaPhase::Rewrite && r.uri_changed.get() {
            return Step::next();
        }
        if !self.need_body {
            return self.run(r);
        }
        // Code may ask for the name of its file.
        r.body.borrow_mut().keep_name = true;
        if moonrest_http::body::read_at_once(r) {
            return self.run(r);
        }
        let (r, code, phase, cached) = (r.clone(), self.code.clone(), self.phase, self.cached);
        Step::wait(async move {
            moonrest_http::body::read(&r).await?;
            run(&code, phase, cached, &r)?.settled().await
        })
    }
}

fn run(code: &Code, phase: LuaPhase, cached: bool, r: &RequestRef) -> Result<Step, RequestError> {
    let vm = vm::of(r, cached).map_err(|error| RequestError::internal(error.to_string()))?;
    let function = match vm.function(code, Some(r)) {
        Ok(function) => function,
        Err(error) => {
            r.log_lines_at(Level::Error, format_args!("{}", error.message()));
            return Step::finish(error.status);
        }
    };
    let host = Host::of(r, phase);
    match scheduler::start(&vm, &host, &function) {
        Ok(outcome) => finish(r, &host, outcome),
        Err(stop) => go_on(r, &vm, Rc::new(host), stop),
    }
}

/// The code has stopped before its end: it waits, mostly.
fn go_on(r: &RequestRef, vm: &Rc<WorkerVm>, host: Rc<Host>, stop: Stop) -> Result<Step, RequestError> {
    match stop.go_on(vm, &host) {
        Outcome::Waits(running) => {
            let r = r.clone();
            Step::wait(async move {
                match finish(&r, &host, running.await)? {
                    Step::Now(flow) => Ok(flow),
                    Step::Wait(wait) => wait.await,
                }
            })
        }
        settled => finish(r, &host, settled),
    }
}

/// Lua code that runs before the rewrite script of its location: `server_rewrite_by_lua*`, and `rewrite_by_lua*` that
/// is not postponed.
pub(crate) struct BeforeScript(pub LuaHandler);

impl ScriptOp for BeforeScript {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        Ok(match self.0.handle(r)? {
            Step::Now(flow) => ScriptStep::Now(in_script(flow)),
            Step::Wait(wait) => ScriptStep::Wait(Box::pin(async move { wait.await.map(in_script) })),
        })
    }
}

fn in_script(flow: Flow) -> ScriptFlow {
    match flow {
        Flow::Next | Flow::PhaseDone => ScriptFlow::Next,
        Flow::Finish(status) => ScriptFlow::Finish(status),
        Flow::Responded => ScriptFlow::Responded,
        Flow::Redirected => ScriptFlow::Redirected,
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
    if let Some(status) = filter::refused(r) {
        return Step::finish(status);
    }
    let ending = match outcome {
        Outcome::Finished => None,
        Outcome::Ended(ending) => Some(ending),
        Outcome::Failed(error) => return Err(scheduler::failure(r, &error)),
        Outcome::Waits(..) => return Err(RequestError::internal("a handler that waits has not ended")),
    };
    match ending {
        Some(Ending::Redirected) => Ok(Step::Now(Flow::Redirected)),
        Some(Ending::ClientGone) => Err(RequestError::client_gone()),
        Some(Ending::Error) => Step::finish(444),
        // These end the request even in the middle of a response.
        Some(Ending::Status(status @ (408 | 444 | 499))) => Step::finish(status),
        Some(Ending::Status(status))
            if !r.header_sent.get() && needs_page(status) && !sending::keeps_back(r) =>
        {
            Step::finish(status)
        }
        Some(Ending::Status(_)) => complete(r, host),
        // nginx: a content handler that declines leaves the client without an answer.
        Some(Ending::Declined) if !r.header_sent.get() && host.phase == LuaPhase::Content => {
            Step::finish(444)
        }
        Some(Ending::Declined) if !r.header_sent.get() => Step::next(),
        _ if host.responding.get() || r.header_sent.get() => complete(r, host),
        _ if host.phase == LuaPhase::Content => complete(r, host),
        Some(Ending::Ok) | None if host.phase == LuaPhase::Access => Step::done(),
        _ => Step::next(),
    }
}

/// Whether the server answers for itself with this status.
fn needs_page(status: u16) -> bool {
    status == 204 || !(200..300).contains(&status)
}

/// Ends the response; an empty one if nothing was sent.
fn complete(r: &RequestRef, host: &Host) -> Result<Step, RequestError> {
    let step = match sending::end(r, host.state()) {
        Ok(FilterStep::Now(())) => Step::responded(),
        Ok(FilterStep::Wait(wait)) => Step::wait(async move {
            wait.await?;
            Ok(Flow::Responded)
        }),
        Err(error) => Err(error),
    };
    // A header filter may have refused this answer.
    match filter::refused(r) {
        Some(status) => Step::finish(status),
        None => step,
    }
}

/// `log_by_lua*`.
pub(crate) struct LuaLog {
    pub code: Arc<Code>,
    pub cached: bool,
}

impl LogHandler for LuaLog {
    fn log(&self, r: &RequestRef) -> Option<LocalBoxFuture<()>> {
        let vm = match vm::of(r, self.cached) {
            Ok(vm) => vm,
            Err(error) => {
                moonrest_http::error!(r, "{error}");
                return None;
            }
        };
        let function = match vm.function(&self.code, Some(r)) {
            Ok(function) => function,
            Err(error) => {
                r.log_lines_at(Level::Error, format_args!("{}", error.message()));
                return None;
            }
        };
        let host = Host::of(r, LuaPhase::Log);
        let outcome =
            scheduler::start(&vm, &host, &function).unwrap_or_else(|stop| stop.go_on(&vm, &Rc::new(host)));
        match outcome {
            Outcome::Waits(running) => {
                let r = r.clone();
                Some(Box::pin(async move { note(&r, LuaPhase::Log, &running.await) }))
            }
            settled => {
                note(r, LuaPhase::Log, &settled);
                None
            }
        }
    }
}

/// In phases that answer nothing, an error is only logged.
pub(crate) fn note(r: &RequestRef, phase: LuaPhase, outcome: &Outcome) {
    if let Outcome::Failed(error) = outcome {
        let error = scheduler::describe_call(error);
        r.log_lines_at(Level::Error, format_args!("failed to run {}: {error}", phase.directive()));
    }
}
