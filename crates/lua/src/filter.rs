//! `header_filter_by_lua*`. Code that waits is waited for.

use crate::{
    code::Code,
    host::LuaPhase,
    scheduler::{self, Outcome},
    vm,
};
use moonrest_http::prelude::*;

/// Lua code that edits response heads.
pub(crate) struct LuaHeaderFilter(pub Arc<Code>);

impl HeaderFilter for LuaHeaderFilter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let Some(vm) = vm::present() else {
            return Err(RequestError::internal("the Lua VM is missing"));
        };
        let (_, outcome) = scheduler::start(&vm, &self.0, r, LuaPhase::HeaderFilter);
        match outcome {
            Outcome::Waits(running) => {
                let r = r.clone();
                Ok(FilterStep::Wait(Box::pin(async move { ended(&r, &running.await) })))
            }
            settled => ended(r, &settled).map(FilterStep::Now),
        }
    }
}

/// Lua code needs no body filter of its own; what failed fails the response.
fn ended(r: &RequestRef, outcome: &Outcome) -> Result<Needed, RequestError> {
    match outcome {
        Outcome::Failed(error) => Err(scheduler::failure(r, error)),
        Outcome::Finished | Outcome::Ended(_) | Outcome::Waits(..) => Ok(None),
    }
}
