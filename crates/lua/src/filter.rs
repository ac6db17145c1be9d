//! `header_filter_by_lua*` and `body_filter_by_lua*`. Code that waits is waited for.
//! <https://github.com/openresty/lua-nginx-module#header_filter_by_lua_block>

use crate::{
    code::Code,
    handler::note,
    host::{Host, LuaPhase},
    phase_io::{BodyArg, PhaseIo},
    scheduler::{self, Ending, Outcome, Stop},
    settings::Loc,
    vm::{self, WorkerVm},
};
use moonrest_http::prelude::*;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Lua code that edits responses of one location.
pub(crate) struct LuaFilters {
    header: Option<Arc<Code>>,
    body: Option<Arc<Code>>,
    cached: bool,
}

impl LuaFilters {
    pub(crate) fn new(loc: &Loc) -> Self {
        Self { header: loc.header_filter.clone(), body: loc.body_filter.clone(), cached: loc.code_cache() }
    }

    /// The body filter of one response.
    fn needed(&self) -> Needed {
        let code = self.body.clone()?;
        let filter = LuaBodyFilter { code, cached: self.cached, ended: false, late: None };
        Some((BodyOrder::Lua, Box::new(filter)))
    }
}

impl HeaderFilter for LuaFilters {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let needed = self.needed();
        let Some(code) = &self.header else { return Ok(FilterStep::Now(needed)) };
        let host = Host::with(r, LuaPhase::HeaderFilter, PhaseIo::Head { exit: None });
        let (vm, stop) = match start(code, self.cached, r, &host)? {
            (_, Ok(outcome)) => {
                return header_ended(r, &host, &outcome).map(|()| FilterStep::Now(needed));
            }
            (vm, Err(stop)) => (vm, stop),
        };
        let host = Rc::new(host);
        match stop.go_on(&vm, &host) {
            Outcome::Waits(running) => {
                let r = r.clone();
                Ok(FilterStep::Wait(Box::pin(async move {
                    header_ended(&r, &host, &running.await)?;
                    Ok(needed)
                })))
            }
            settled => header_ended(r, &host, &settled).map(|()| FilterStep::Now(needed)),
        }
    }
}

type Started = (Rc<WorkerVm>, Result<Outcome, Stop>);

fn start(code: &Code, cached: bool, r: &RequestRef, host: &Host) -> Result<Started, RequestError> {
    let vm = vm::of(r, cached).map_err(|error| RequestError::internal(error.to_string()))?;
    match vm.function(code, Some(r)) {
        Ok(function) => {
            let started = scheduler::start(&vm, host, &function);
            Ok((vm, started))
        }
        Err(error) => {
            r.log_lines_at(Level::Error, format_args!("{}", error.message()));
            Err(refuse(r, 444))
        }
    }
}

/// A header filter's own answer in place of the response it was shown.
#[derive(Default)]
struct Refusal {
    status: Cell<Option<u16>>,
    /// The answer is under way: the filters see it, and the same verdict counts no more.
    taken: Cell<bool>,
}

/// The answer that a header filter gave in place of the response, if it was not given yet.
pub(crate) fn refused(r: &Request) -> Option<u16> {
    if r.header_sent.get() {
        return None;
    }
    let refusal = r.find_ctx::<Refusal>()?;
    let status = refusal.status.get()?;
    (!refusal.taken.replace(true)).then_some(status)
}

fn refuse(r: &Request, status: u16) -> RequestError {
    let refusal = r.lasting_ctx::<Refusal>();
    refusal.status.set(Some(status));
    RequestError::Internal { status, level: Level::Error, message: "".into() }
}

/// What becomes of a response whose header filter has ended: `ngx.exit` answers something else.
fn header_ended(r: &RequestRef, host: &Host, outcome: &Outcome) -> Result<(), RequestError> {
    note(r, LuaPhase::HeaderFilter, outcome);
    let exit = match &*host.io.borrow() {
        PhaseIo::Head { exit } => *exit,
        _ => None,
    };
    let status = match (outcome, exit) {
        (Outcome::Failed(_), _) | (_, Some(Ending::Error)) => 444,
        (_, Some(Ending::Status(444))) => {
            // nginx: here the client does get this status, alone.
            let mut out = r.out_mut();
            (out.status, out.status_line, out.content_length) = (444, None, Some(0));
            r.header_only.set(true);
            return Ok(());
        }
        (_, Some(Ending::Status(status))) => status,
        _ => return Ok(()),
    };
    let known = r.find_ctx::<Refusal>().and_then(|refusal| refusal.status.get());
    if known == Some(status) {
        return Ok(());
    }
    Err(refuse(r, status))
}

/// Lua code that edits one response's body.
struct LuaBodyFilter {
    code: Arc<Code>,
    cached: bool,
    /// The code has ended the body early: what follows is dropped.
    ended: bool,
    /// What code that waited has put out, if code has waited.
    late: Option<Rc<RefCell<Late>>>,
}

#[derive(Default)]
struct Late {
    waiting: bool,
    arg: BodyArg,
}

impl BodyFilter for LuaBodyFilter {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        let arg = match piece {
            _ if self.ended => return Ok(FilterStep::Now(())),
            Piece::Data(data) => BodyArg { data, ..BodyArg::default() },
            Piece::Flush => BodyArg { flush: true, ..BodyArg::default() },
            Piece::Last => BodyArg { eof: true, ..BodyArg::default() },
            other => {
                out.push(other);
                return Ok(FilterStep::Now(()));
            }
        };
        let host = Host::with(r, LuaPhase::BodyFilter, PhaseIo::Body(arg));
        let (vm, stop) = match start(&self.code, self.cached, r, &host)? {
            (_, Ok(outcome)) => {
                self.put(body_ended(r, &host, &outcome)?, out);
                return Ok(FilterStep::Now(()));
            }
            (vm, Err(stop)) => (vm, stop),
        };
        let host = Rc::new(host);
        match stop.go_on(&vm, &host) {
            Outcome::Waits(running) => {
                let (r, late) = (r.clone(), self.late.get_or_insert_default().clone());
                late.borrow_mut().waiting = true;
                Ok(FilterStep::Wait(Box::pin(async move {
                    let outcome = running.await;
                    late.borrow_mut().arg = body_ended(&r, &host, &outcome)?;
                    Ok(())
                })))
            }
            settled => {
                self.put(body_ended(r, &host, &settled)?, out);
                Ok(FilterStep::Now(()))
            }
        }
    }

    fn pending(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.borrow().waiting)
    }

    fn more(&mut self, _r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        if let Some(late) = &self.late {
            let late = std::mem::take(&mut *late.borrow_mut());
            self.put(late.arg, out);
        }
        Ok(())
    }
}

impl LuaBodyFilter {
    fn put(&mut self, arg: BodyArg, out: &mut Pieces) {
        if !arg.data.is_empty() {
            out.push(Piece::Data(arg.data));
        }
        if arg.flush {
            out.push(Piece::Flush);
        }
        if arg.eof {
            self.ended = true;
            out.push(Piece::Last);
        }
    }
}

/// What `ngx.arg` holds when the code has ended. A failure, or a result that says so, cuts the response.
fn body_ended(r: &RequestRef, host: &Host, outcome: &Outcome) -> Result<BodyArg, RequestError> {
    note(r, LuaPhase::BodyFilter, outcome);
    match (&mut *host.io.borrow_mut(), outcome) {
        (_, Outcome::Failed(_) | Outcome::Ended(_)) => Err(RequestError::Cut("".into())),
        (PhaseIo::Body(arg), _) if arg.fails() => Err(RequestError::Cut("".into())),
        (PhaseIo::Body(arg), _) => Ok(std::mem::take(arg)),
        _ => Ok(BodyArg::default()),
    }
}
