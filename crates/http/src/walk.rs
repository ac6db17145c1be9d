//! A request's walk through the phases: a plain loop that remembers where it is, so that nothing is a future until a
//! handler has something to wait for.
//!
//! ```text
//! post-read → server rewrite → find location → rewrite ─┬→ preaccess → access → precontent → content
//!                                     ↑   path changed  │
//!                                     └─────────────────┘
//! ```

use crate::{
    core::Satisfy,
    engine::{Entry, count_cycle, find_location},
    location::{LocId, LocationKind},
    phase::{Flow, LocalBoxFuture, Phase, RequestError, Step},
    request::RequestRef,
    script::{ScriptFlow, ScriptStep},
};
use moonrest_proto::http1::Method;

/// Where a walk stands.
pub(crate) struct Walk {
    at: At,
    /// The next handler of the present phase.
    next: usize,
    /// The script's block and step, and where to go on when the block of an `if` ends.
    block: LocId,
    step: usize,
    outer: Vec<(LocId, usize)>,
    /// The worst refusal so far, under `satisfy any`.
    refused: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// `client_body_early_read`.
    EarlyBody,
    PostRead,
    ServerScript,
    ServerRewrite,
    Find,
    Script,
    Rewrite,
    Preaccess,
    Access,
    /// `auth_delay` before an answer of 401.
    Delayed,
    Precontent,
    Content,
    /// The location's own handler has been asked.
    Answered,
}

impl At {
    /// In the order of the declaration.
    const ALL: [Self; 13] = [
        Self::EarlyBody,
        Self::PostRead,
        Self::ServerScript,
        Self::ServerRewrite,
        Self::Find,
        Self::Script,
        Self::Rewrite,
        Self::Preaccess,
        Self::Access,
        Self::Delayed,
        Self::Precontent,
        Self::Content,
        Self::Answered,
    ];

    /// This place, or the first behind it where a location has something to do.
    fn or_later(self, phases: Phases) -> Self {
        let distance = (phases.0 >> self as u16).trailing_zeros() as usize;
        Self::ALL.get(self as usize + distance).copied().unwrap_or(Self::Content)
    }
}

/// Where on the way something is to be done in a location: a bit for each place. Most are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases(u16);

impl Phases {
    /// Of a location with or without a script, that has handlers in these phases.
    pub(crate) fn new(script: bool, handled: impl Fn(Phase) -> bool) -> Self {
        let mut phases = 0;
        let mut add = |at: At| phases |= 1 << at as u16;
        add(At::Find);
        add(At::Content);
        if script {
            // The one or the other: until a location is found, the server's own stands for it.
            add(At::ServerScript);
            add(At::Script);
        }
        let places = [
            (At::PostRead, Phase::PostRead),
            (At::ServerRewrite, Phase::ServerRewrite),
            (At::Rewrite, Phase::Rewrite),
            (At::Preaccess, Phase::Preaccess),
            (At::Access, Phase::Access),
            (At::Precontent, Phase::Precontent),
        ];
        for (at, _) in places.into_iter().filter(|(_, phase)| handled(*phase)) {
            add(at);
        }
        Self(phases)
    }
}

/// What a walk came to.
pub(crate) enum Turn {
    Done(Flow),
    /// Wait for a handler, then go on with its answer.
    Wait(LocalBoxFuture<Result<Flow, RequestError>>),
    /// Wait for a step of the script, then go on with its answer.
    WaitScript(LocalBoxFuture<Result<ScriptFlow, RequestError>>),
}

/// The answer that was waited for.
pub(crate) enum Resumed {
    Nothing,
    Flow(Flow),
    Script(ScriptFlow),
}

impl Walk {
    pub(crate) fn new(entry: Entry) -> Self {
        let at = match entry {
            Entry::Start => At::EarlyBody,
            Entry::ServerRewrite => At::ServerScript,
            Entry::Location => At::Script,
            Entry::Content => At::Content,
        };
        Self { at, next: 0, block: LocId(u32::MAX), step: 0, outer: Vec::new(), refused: 0 }
    }

    /// The walk of a client's request from its first phase on.
    #[inline]
    pub(crate) fn start(r: &RequestRef) -> Self {
        let mut walk = Self::new(Entry::Start);
        if r.srv().settings.early_body.is_empty() {
            walk.at = At::PostRead.or_later(r.loc().phases);
        }
        walk
    }

    fn go(&mut self, at: At) {
        self.at = at;
        self.next = 0;
        self.block = LocId(u32::MAX);
        self.step = 0;
    }

    /// Walks on until the request is answered or something must be waited for.
    pub(crate) fn advance(&mut self, r: &RequestRef, resumed: Resumed) -> Result<Turn, RequestError> {
        let (mut flow, mut script) = match resumed {
            Resumed::Nothing => (None, None),
            Resumed::Flow(flow) => (Some(flow), None),
            Resumed::Script(flow) => (None, Some(flow)),
        };
        loop {
            let turn = match self.at {
                At::EarlyBody => early_body(r, flow.take()),
                At::PostRead => self.generic(r, Phase::PostRead, flow.take())?,
                At::ServerScript | At::Script => {
                    if self.at == At::ServerScript && self.block.0 == u32::MAX {
                        r.location.set(r.srv().location);
                    }
                    self.script(r, script.take())?
                }
                At::ServerRewrite => self.generic(r, Phase::ServerRewrite, flow.take())?,
                At::Find => {
                    r.uri_changed.set(false);
                    find_location(r).map(|status| Turn::Done(Flow::Finish(status)))
                }
                At::Rewrite => self.generic(r, Phase::Rewrite, flow.take())?,
                At::Preaccess => self.generic(r, Phase::Preaccess, flow.take())?,
                At::Access if r.is_subrequest() => None,
                At::Access => self.access(r, flow.take())?,
                At::Delayed => Some(Turn::Done(Flow::Finish(self.refused))),
                At::Precontent => self.generic(r, Phase::Precontent, flow.take())?,
                At::Content | At::Answered => Some(self.content(r, flow.take())?),
            };
            if r.rule_failed.replace(false) {
                return Err(RequestError::internal(""));
            }
            if let Some(turn) = turn {
                return Ok(turn);
            }
            self.next_phase(r)?;
        }
    }

    fn next_phase(&mut self, r: &RequestRef) -> Result<(), RequestError> {
        let after = match self.at {
            At::EarlyBody => At::PostRead,
            At::PostRead => At::ServerScript,
            At::ServerScript => At::ServerRewrite,
            At::ServerRewrite => At::Find,
            At::Find => At::Script,
            At::Script => At::Rewrite,
            At::Rewrite if r.uri_changed.replace(false) => {
                count_cycle(r, |r| ("processing", r.uri().clone()))?;
                At::Find
            }
            At::Rewrite => At::Preaccess,
            At::Preaccess => At::Access,
            At::Access | At::Delayed => At::Precontent,
            At::Precontent | At::Content | At::Answered => At::Content,
        };
        // A path that was changed is noticed at the end of the rewrite phase, even of an empty one.
        let stays = after == At::Rewrite && r.uri_changed.get();
        self.go(if stays { after } else { after.or_later(r.loc().phases) });
        Ok(())
    }

    /// Asks the handlers of a phase. `None` means that the next phase follows.
    fn generic(
        &mut self,
        r: &RequestRef,
        phase: Phase,
        resumed: Option<Flow>,
    ) -> Result<Option<Turn>, RequestError> {
        let handlers = r.loc().handlers(phase);
        let mut resumed = resumed;
        loop {
            let flow = match resumed.take() {
                Some(flow) => flow,
                None => {
                    let Some(handler) = handlers.get(self.next) else { return Ok(None) };
                    self.next += 1;
                    match handler.handle(r)? {
                        Step::Now(flow) => flow,
                        Step::Wait(wait) => return Ok(Some(Turn::Wait(wait))),
                    }
                }
            };
            match flow {
                Flow::Next => {}
                Flow::PhaseDone => return Ok(None),
                other => return Ok(Some(Turn::Done(other))),
            }
            if phase == Phase::Rewrite && r.uri_changed.get() {
                return Ok(None);
            }
        }
    }

    /// Runs the rewrite script of the present location. `None` means that the next phase follows.
    #[inline(always)]
    fn script(&mut self, r: &RequestRef, resumed: Option<ScriptFlow>) -> Result<Option<Turn>, RequestError> {
        let location = r.loc();
        if self.block.0 == u32::MAX {
            if location.script.is_empty() {
                return Ok(None);
            }
            self.block = r.location.get();
            r.escape_captures.set(true);
        }
        // An `if` of a server has a script of its own, but no settings that would be in force.
        let adopt = location.kind != LocationKind::Server;
        let mut resumed = resumed;
        loop {
            let flow = match resumed.take() {
                Some(flow) => flow,
                None => {
                    let Some(op) = r.http().location(self.block).script.get(self.step) else {
                        match self.outer.pop() {
                            Some(outer) => (self.block, self.step) = outer,
                            None => return Ok(None),
                        }
                        continue;
                    };
                    self.step += 1;
                    match op.run(r)? {
                        ScriptStep::Now(flow) => flow,
                        ScriptStep::Wait(wait) => return Ok(Some(Turn::WaitScript(wait))),
                    }
                }
            };
            match flow {
                ScriptFlow::Next => {}
                ScriptFlow::Enter(inner) => {
                    self.outer.push((self.block, self.step));
                    (self.block, self.step) = (inner, 0);
                    if adopt {
                        r.location.set(inner);
                    }
                }
                ScriptFlow::Stop => {
                    self.outer.clear();
                    return Ok(None);
                }
                ScriptFlow::Finish(status) => return Ok(Some(Turn::Done(Flow::Finish(status)))),
                ScriptFlow::Responded => return Ok(Some(Turn::Done(Flow::Responded))),
                ScriptFlow::Redirected => return Ok(Some(Turn::Done(Flow::Redirected))),
            }
        }
    }

    fn access(&mut self, r: &RequestRef, resumed: Option<Flow>) -> Result<Option<Turn>, RequestError> {
        let location = r.loc();
        let handlers = location.handlers(Phase::Access);
        let mut resumed = resumed;
        loop {
            let flow = match resumed.take() {
                Some(flow) => flow,
                None => {
                    let Some(handler) = handlers.get(self.next) else { break };
                    self.next += 1;
                    match handler.handle(r)? {
                        Step::Now(flow) => flow,
                        Step::Wait(wait) => return Ok(Some(Turn::Wait(wait))),
                    }
                }
            };
            match (location.core.satisfy, flow) {
                (_, Flow::Next) | (Satisfy::All, Flow::PhaseDone) => {}
                (Satisfy::Any, Flow::PhaseDone) => {
                    // The refusals of earlier handlers no longer count, nor does the challenge they set.
                    let connects = r.method.get() == Method::Connect;
                    let challenge: &[u8] = if connects { b"Proxy-Authenticate" } else { b"WWW-Authenticate" };
                    r.out.borrow_mut().remove(challenge);
                    return Ok(None);
                }
                (Satisfy::Any, Flow::Finish(status @ (401 | 403 | 407))) => {
                    if !matches!(self.refused, 401 | 407) {
                        self.refused = status;
                    }
                }
                (_, Flow::Finish(status @ (401 | 407))) => return Ok(Some(self.unauthorized(r, status))),
                (_, other) => return Ok(Some(Turn::Done(other))),
            }
        }
        match self.refused {
            0 => Ok(None),
            status @ (401 | 407) => Ok(Some(self.unauthorized(r, status))),
            status => {
                crate::error!(r, "access forbidden by rule");
                Ok(Some(Turn::Done(Flow::Finish(status))))
            }
        }
    }

    /// `auth_delay`: an answer of 401 or 407 waits, so that guessing takes time.
    fn unauthorized(&mut self, r: &RequestRef, status: u16) -> Turn {
        let ms = r.loc().core.auth_delay;
        if ms == 0 {
            return Turn::Done(Flow::Finish(status));
        }
        self.refused = status;
        crate::info!(r, "delaying unauthorized request");
        self.at = At::Delayed;
        Turn::Wait(Box::pin(r.sleep(ms)))
    }

    fn content(&mut self, r: &RequestRef, resumed: Option<Flow>) -> Result<Turn, RequestError> {
        let location = r.loc();
        if let Some(handler) = &location.content {
            if let Some(flow) = resumed {
                return Ok(Turn::Done(flow));
            }
            self.at = At::Answered;
            return Ok(match handler.handle(r)? {
                Step::Now(flow) => Turn::Done(flow),
                Step::Wait(wait) => Turn::Wait(wait),
            });
        }
        if let Some(turn) = self.generic(r, Phase::Content, resumed)? {
            return Ok(turn);
        }
        if r.uri.borrow().ends_with(b"/") {
            if let Some(path) = crate::core::map_path(r) {
                crate::error!(r, "directory index of \"{}\" is forbidden", String::from_utf8_lossy(&path));
            }
            return Ok(Turn::Done(Flow::Finish(403)));
        }
        crate::error!(r, "no handler found");
        Ok(Turn::Done(Flow::Finish(404)))
    }
}

/// Reads the body before a location is known, under the server's settings, if one of the conditions holds.
fn early_body(r: &RequestRef, resumed: Option<Flow>) -> Option<Turn> {
    let conditions = &r.srv().settings.early_body;
    if conditions.is_empty() || resumed.is_some() {
        return None;
    }
    if conditions.iter().all(|condition| matches!(&*condition.eval(&**r), b"" | b"0")) {
        return None;
    }
    if let Err(status) = crate::engine::check_announced_body(r) {
        return Some(Turn::Done(Flow::Finish(status)));
    }
    let r = r.clone();
    Some(Turn::Wait(Box::pin(async move {
        crate::body::read(&r).await?;
        Ok(Flow::Next)
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_phases_are_passed_over() {
        for (at, expect) in At::ALL.into_iter().zip(0..) {
            assert_eq!(at as usize, expect);
        }
        let empty = Phases::new(false, |_| false);
        assert!(At::PostRead.or_later(empty) == At::Find);
        assert!(At::Script.or_later(empty) == At::Content);
        let full = Phases::new(true, |_| true);
        for at in At::ALL.into_iter().filter(|at| !matches!(at, At::EarlyBody | At::Delayed | At::Answered)) {
            assert!(at.or_later(full) == at);
        }
        let some = Phases::new(true, |phase| phase == Phase::Access);
        assert!(At::PostRead.or_later(some) == At::ServerScript);
        assert!(At::Rewrite.or_later(some) == At::Access);
        assert!(At::Precontent.or_later(some) == At::Content);
    }
}
