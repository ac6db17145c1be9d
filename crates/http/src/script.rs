//! The rewrite script of a block: `set`, `rewrite`, `if`, `return`, `break` and what other modules add, in the order
//! they are written.

use crate::{
    location::LocId,
    phase::{LocalBoxFuture, RequestError},
    request::RequestRef,
};

/// Where a script goes on after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptFlow {
    /// With the next step.
    Next,
    /// With the script of this block (a matching `if`), then with the next step unless that one stopped. Inside a
    /// location the block's settings are in force from here on.
    Enter(LocId),
    /// Nowhere: the script ends (`break`, `last`, a redirect to be found anew).
    Stop,
    /// Answer with this status.
    Finish(u16),
    /// The response is complete.
    Responded,
    /// The request was redirected internally: start over there.
    Redirected,
}

/// What a step answers: at once, or after waiting (Lua).
pub enum ScriptStep {
    Now(ScriptFlow),
    Wait(LocalBoxFuture<Result<ScriptFlow, RequestError>>),
}

/// One step of a script, with its settings.
pub trait ScriptOp: Send + Sync {
    /// Runs the step.
    ///
    /// # Errors
    /// Anything that ends the request.
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError>;

    /// Called once all blocks are numbered: a step that refers to a block it made learns its location.
    fn resolve(&mut self, _location_of: &dyn Fn(crate::compile::BlockId) -> LocId) {}
}
