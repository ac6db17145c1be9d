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
            Outcome::Waits(running, wait) => {
                let r = r.clone();
                Ok(FilterStep::Wait(Box::pin(async move {
                    let (mut running, mut wait) = (running, wait);
                    loop {
                        let values = wait.await;
                        match running.resume(&values) {
                            Outcome::Waits(next, again) => (running, wait) = (next, again),
                            Outcome::Failed(error) => return Err(scheduler::failure(&r, &error)),
                            Outcome::Finished | Outcome::Ended(_) => return Ok(None),
                        }
                    }
                })))
            }
            Outcome::Failed(error) => Err(scheduler::failure(r, &error)),
            Outcome::Finished | Outcome::Ended(_) => Ok(FilterStep::Now(None)),
        }
    }
}
