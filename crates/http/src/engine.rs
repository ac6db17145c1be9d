//! The phase engine: finds the location, runs its handlers, follows redirects and error pages, logs.

use crate::{
    body,
    filter::{FilterStep, Piece},
    location::{Found, LocId, Location, LocationKind},
    phase::{Flow, LocalBoxFuture, RequestError},
    request::{Redirect, Request, RequestRef},
    script::ScriptFlow,
    special, subrequest,
    walk::{Resumed, Turn, Walk},
};
use moonrest_proto::http1::Body;

/// Where a request enters the phases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// A new request of a client.
    Start,
    /// A subrequest, or after an internal redirect.
    ServerRewrite,
    /// In a named location: its own rewrite phase is next.
    Location,
    /// In a location that another request has been led to: its content handler is next.
    Content,
}

/// Internal redirects and rewrites a request may make, and subrequests that may be nested.
pub(crate) const MAX_CYCLES: u8 = 10;
pub(crate) const MAX_DEPTH: u16 = 50;

/// What is left to do for a request that could not be finished at once.
pub(crate) enum Later {
    /// Its walk through the phases waits for this.
    Walk(Walk, Wait),
    /// It cannot be answered any more.
    Failed(RequestError),
    /// It is answered; its output must drain, or something follows it.
    Complete,
    /// Log handler number `.0` waits.
    Log(usize, LocalBoxFuture<()>),
}

/// What the answer of a request waits for.
pub(crate) enum Wait {
    Handler(LocalBoxFuture<Result<Flow, RequestError>>),
    Script(LocalBoxFuture<Result<ScriptFlow, RequestError>>),
    /// The page of an error is on its way: it ends with this.
    Page(LocalBoxFuture<Result<Flow, RequestError>>),
    /// The status stands for an answer that is captured.
    Captured(u16),
}

/// Handles a client's request from its first phase to its log lines, as far as that goes without waiting. `None` when
/// it is finished; otherwise [`handle_later`] does the rest. Most requests never become a future.
pub(crate) fn handle_now(r: &RequestRef) -> Option<Later> {
    r.action.set("");
    let mut walk = Walk::start(r);
    let turn = walk.advance(r, Resumed::Nothing);
    conclude(r, walk, turn)
}

/// The same for a request whose walk waited for a handler, which has now come to this.
#[inline(never)]
pub(crate) fn go_on(r: &RequestRef, walk: Walk, handled: Result<Flow, RequestError>) -> Option<Later> {
    let mut walk = walk;
    let turn = handled.and_then(|flow| walk.advance(r, Resumed::Flow(flow)));
    conclude(r, walk, turn)
}

#[inline(always)]
fn conclude(r: &RequestRef, walk: Walk, turn: Result<Turn, RequestError>) -> Option<Later> {
    if matches!(turn, Ok(Turn::Done(Flow::Responded))) {
        // There is nothing in it, but to drop it would be to look.
        std::mem::forget(turn);
    } else {
        let mut walk = walk;
        match walk_to_end(r, &mut walk, turn) {
            Ok(None) => {}
            Ok(Some(wait)) => return Some(Later::Walk(walk, wait)),
            Err(error) => return Some(Later::Failed(error)),
        }
    }
    let location = r.loc();
    let unfinished = !r.done.get() || !r.exchange.leaves_at_once(SMALL as u64);
    if unfinished || location.core.post_action.is_some() || !r.companions.borrow().is_empty() {
        return Some(Later::Complete);
    }
    r.completed.set(true);
    r.action.set("logging request");
    for (number, handler) in location.log.iter().enumerate() {
        if let Some(wait) = handler.log(r) {
            return Some(Later::Log(number, wait));
        }
    }
    None
}

/// Finishes what [`handle_now`] began. The protocol driver then decides about the connection.
///
/// # Errors
/// When the response could not be completed and the connection must be closed.
pub(crate) async fn handle_later(r: &RequestRef, later: Later) -> Result<(), RequestError> {
    let result = match later {
        Later::Walk(walk, wait) => process_on(r, walk, wait).await,
        Later::Failed(error) => Err(error),
        Later::Complete => Ok(()),
        Later::Log(number, wait) => {
            wait.await;
            for handler in r.loc().log.iter().skip(number + 1) {
                if let Some(wait) = handler.log(r) {
                    wait.await;
                }
            }
            return Ok(());
        }
    };
    finish(r, result).await
}

/// Handles a client's request from its first phase to its log lines.
///
/// # Errors
/// When the response could not be completed and the connection must be closed.
pub async fn handle(r: &RequestRef) -> Result<(), RequestError> {
    match handle_now(r) {
        None => Ok(()),
        Some(later) => handle_later(r, later).await,
    }
}

/// Answers an early error (a bad head) with `status`, and logs.
///
/// # Errors
/// As [`handle`].
pub async fn handle_error(r: &RequestRef, status: u16) -> Result<(), RequestError> {
    let result = match special::respond(r, status) {
        Ok(special::Answer::Done) => Ok(()),
        Ok(special::Answer::Wait(wait)) => wait.await.map(drop),
        Ok(special::Answer::Redirected(entry)) => process(r, entry).await,
        Err(error) => Err(error),
    };
    finish(r, result).await
}

async fn finish(r: &RequestRef, result: Result<(), RequestError>) -> Result<(), RequestError> {
    let result = match result {
        Ok(()) => complete(r).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        report(r, error);
        if let RequestError::Gone { status, .. } = error {
            let mut out = r.out.borrow_mut();
            if out.status == 0 || r.exchange.bytes_sent() == 0 {
                out.status = *status;
            }
        }
        r.keepalive.set(false);
    } else {
        r.completed.set(true);
    }
    if r.loc().core.post_action.is_some() {
        post_action(r).await;
    }
    if !r.companions.borrow().is_empty() {
        join_companions(r, result.is_ok()).await;
    }
    r.action.set("logging request");
    log(r).await;
    result
}

/// Waits for the subrequests that run beside the request; a request that failed takes them with it.
async fn join_companions(r: &RequestRef, wait: bool) {
    while let Some(companion) = { r.companions.borrow_mut().pop() } {
        if !wait {
            companion.abort();
        }
        // An error is one of an aborted task.
        let _ = companion.await;
    }
}

/// Everything is queued: the last piece if a handler forgot it, then the queue down to what one write takes.
async fn complete(r: &RequestRef) -> Result<(), RequestError> {
    if r.header_sent.get()
        && !r.done.get()
        && !r.header_only.get()
        && let FilterStep::Wait(wait) = r.output(Piece::Last)?
    {
        wait.await?;
    }
    r.drained(SMALL).await
}

/// A response that is queued with no more than this is logged before it is written, in one write with its neighbours.
const SMALL: usize = 64 * 1024;

pub(crate) async fn log(r: &RequestRef) {
    for handler in &r.loc().log {
        if let Some(wait) = handler.log(r) {
            wait.await;
        }
    }
}

async fn post_action(r: &RequestRef) {
    let Some(target) = r.loc().core.post_action.clone() else { return };
    let target = target.eval(&**r).into_owned();
    if target == b"off" {
        return;
    }
    // The client has its answer; what the action answers goes nowhere.
    let named = target.starts_with(b"@");
    let uri = if named { r.uri().clone() } else { target.clone() };
    let Ok(child) = crate::subrequest::detached(r, &uri) else { return };
    if named {
        child.redirect_to_named(&target);
    }
    // The variables of the response are those of the client's.
    child.out.borrow_mut().status = r.status();
    child.header_size.set(r.header_size.get());
    let _ = crate::subrequest::run(child.clone()).await;
    // nginx: what is logged is the request as the action left it, by the rules of the action's location.
    r.location.set(child.location.get());
    r.uri.swap(&child.uri);
    r.args.swap(&child.args);
}

/// Writes an error to the log.
pub(crate) fn report(r: &Request, error: &RequestError) {
    let (level, message) = error.describe();
    if !message.is_empty() && r.log().enabled(level) {
        r.log_at(level, format_args!("{message}"));
    }
}

/// Runs a subrequest; its output goes where its exchange puts it.
pub(crate) async fn run_subrequest(r: &RequestRef) -> Result<(), RequestError> {
    let entry = match r.pending_redirect.borrow().is_some() {
        true => redirect(r)?,
        false if r.again.get() => Entry::Content,
        false => Entry::ServerRewrite,
    };
    let result = match process(r, entry).await {
        Ok(()) => stub(r).await,
        error => error,
    };
    let result = match result {
        Ok(()) if r.header_sent.get() && !r.done.get() && !r.header_only.get() => match r.output(Piece::Last)
        {
            Ok(FilterStep::Now(())) => Ok(()),
            Ok(FilterStep::Wait(wait)) => wait.await,
            Err(error) => Err(error),
        },
        other => other,
    };
    if let Err(error) = &result {
        // That the client has gone is told once, by its own request.
        if !matches!(error, RequestError::Gone { .. }) {
            report(r, error);
        }
    }
    if r.loc().core.log_subrequest {
        log(r).await;
    }
    result
}

/// Puts out what stands for a subrequest without output.
async fn stub(r: &RequestRef) -> Result<(), RequestError> {
    let Some(text) = crate::subrequest::take_stub(r) else { return Ok(()) };
    if !r.header_sent.get() {
        if let Some(parent) = &r.parent {
            let media_type = parent.out().media_type().to_vec();
            let mut out = r.out_mut();
            out.status = 200;
            out.content_length = None;
            out.set_content_type(media_type);
        }
        r.send_head().await?;
    }
    match r.output(Piece::Data(text))? {
        FilterStep::Now(()) => Ok(()),
        FilterStep::Wait(wait) => wait.await,
    }
}

/// Runs phases until the request is answered, following redirects and error pages.
pub(crate) async fn process(r: &RequestRef, entry: Entry) -> Result<(), RequestError> {
    r.main().action.set("");
    let mut walk = Walk::new(entry);
    let turn = walk.advance(r, Resumed::Nothing);
    match walk_to_end(r, &mut walk, turn)? {
        None => Ok(()),
        Some(wait) => process_on(r, walk, wait).await,
    }
}

/// The same for a walk that waits.
async fn process_on(r: &RequestRef, walk: Walk, wait: Wait) -> Result<(), RequestError> {
    let (mut walk, mut wait) = (walk, wait);
    loop {
        let resumed = match wait {
            Wait::Handler(wait) => wait.await.map(Resumed::Flow),
            Wait::Script(wait) => wait.await.map(Resumed::Script),
            Wait::Page(wait) => return wait.await.map(drop),
            Wait::Captured(status) => return subrequest::settle(r, status).await,
        };
        let turn = resumed.and_then(|resumed| walk.advance(r, resumed));
        match walk_to_end(r, &mut walk, turn)? {
            None => return Ok(()),
            Some(next) => wait = next,
        }
    }
}

/// Follows a walk that has come to `turn` through redirects and error pages, until the request is answered or something
/// must be waited for.
#[inline(never)]
fn walk_to_end(
    r: &RequestRef,
    walk: &mut Walk,
    turn: Result<Turn, RequestError>,
) -> Result<Option<Wait>, RequestError> {
    let mut turn = turn;
    loop {
        let flow = match turn {
            Ok(Turn::Done(flow)) => flow,
            Ok(Turn::Wait(wait)) => return Ok(Some(Wait::Handler(wait))),
            Ok(Turn::WaitScript(wait)) => return Ok(Some(Wait::Script(wait))),
            Err(error)
                if r.header_sent.get()
                    || matches!(error, RequestError::Gone { .. } | RequestError::Cut(_)) =>
            {
                return Err(error);
            }
            Err(error) => {
                report(r, &error);
                Flow::Finish(error.status())
            }
        };
        let answer = match flow {
            Flow::Redirected => match redirect(r) {
                Ok(entry) => special::Answer::Redirected(entry),
                Err(error) => {
                    report(r, &error);
                    special::respond(r, error.status())?
                }
            },
            // Something else stands for this answer.
            Flow::Finish(_) if !r.header_sent.get() && crate::subrequest::has_stub(r) => return Ok(None),
            Flow::Finish(status) if !matches!(status, 408 | 499) && subrequest::is_captured(r) => {
                return Ok(Some(Wait::Captured(status)));
            }
            Flow::Finish(status) => special::respond(r, status)?,
            Flow::Next | Flow::PhaseDone | Flow::Responded => return Ok(None),
        };
        let entry = match answer {
            special::Answer::Done => return Ok(None),
            special::Answer::Wait(wait) => return Ok(Some(Wait::Page(wait))),
            special::Answer::Redirected(entry) => entry,
        };
        *walk = Walk::new(entry);
        turn = walk.advance(r, Resumed::Nothing);
    }
}

/// Puts the request where a handler redirected it.
pub(crate) fn redirect(r: &Request) -> Result<Entry, RequestError> {
    let Some(redirect) = r.pending_redirect.borrow_mut().take() else {
        return Err(RequestError::internal("redirected to nowhere"));
    };
    count_cycle(r, |_| match &*redirect {
        Redirect::Uri { uri, .. } => ("internally redirecting to", uri.clone()),
        Redirect::Named(name) => ("redirect to named location", name.to_vec()),
    })?;
    r.clear_ctx();
    r.internal.set(true);
    match *redirect {
        Redirect::Uri { uri, args } => {
            *r.uri.borrow_mut() = uri;
            *r.args.borrow_mut() = args;
            r.valid_unparsed_uri.set(false);
            r.valid_location.set(true);
            r.add_uri_to_alias.set(false);
            r.location.set(r.srv().location);
            Ok(Entry::ServerRewrite)
        }
        Redirect::Named(name) => {
            if r.uri.borrow().is_empty() {
                return Err(RequestError::internal(format!(
                    "empty URI in redirect to named location \"{}\"",
                    String::from_utf8_lossy(&name)
                )));
            }
            let Some(&location) = r.srv().named.get(&name) else {
                return Err(RequestError::internal(format!(
                    "could not find named location \"{}\"",
                    String::from_utf8_lossy(&name)
                )));
            };
            r.location.set(location);
            except_methods(r, r.loc());
            Ok(Entry::Location)
        }
    }
}

/// Counts one change of the path; `action` words what is being done, and with what.
pub(crate) fn count_cycle(
    r: &Request,
    action: impl FnOnce(&Request) -> (&'static str, Vec<u8>),
) -> Result<(), RequestError> {
    let cycles = r.cycles.get().saturating_add(1);
    r.cycles.set(cycles);
    if !has_cycled(r) {
        return Ok(());
    }
    let (action, target) = action(r);
    let target = String::from_utf8_lossy(&target);
    Err(RequestError::internal(format!("rewrite or internal redirection cycle while {action} \"{target}\"")))
}

/// Whether the path was changed once too often: only built-in pages can answer now.
pub(crate) fn has_cycled(r: &Request) -> bool {
    r.cycles.get() > MAX_CYCLES
}

/// Finds the location for the present path; a status when the search answers by itself.
pub(crate) fn find_location(r: &Request) -> Option<u16> {
    let top = r.srv().location;
    r.location.set(top);
    r.valid_location.set(true);
    let search = {
        let uri = r.uri.borrow();
        match search(r, top, &uri) {
            Ok(search) => search,
            Err(error) => {
                report(r, &error);
                return Some(error.status());
            }
        }
    };
    let name = r.location.get();
    let status = check_location(r);
    if status.is_none() && search == Search::Redirect {
        redirect_to_slash(r, &r.http().location(name).name);
        return Some(301);
    }
    status
}

/// How one level's search ended; the best location so far is set in the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Nothing outside may overrule it.
    Settled,
    /// Redirect to the location's name.
    Redirect,
    /// Regular expressions of outer levels are asked.
    Open,
}

fn search(r: &Request, at: LocId, uri: &[u8]) -> Result<Search, RequestError> {
    let level = &r.http().location(at).children;
    if level.is_empty() {
        return Ok(Search::Open);
    }
    let mut ask_regexes = level.has_regexes();
    match level.find_name(uri) {
        Found::Exact(id) => {
            r.location.set(id);
            return Ok(Search::Settled);
        }
        Found::AutoRedirect(id) => {
            r.location.set(id);
            return Ok(Search::Redirect);
        }
        Found::Prefix(id) => {
            r.location.set(id);
            let location = r.http().location(id);
            ask_regexes &= location.kind != LocationKind::PrefixFinal;
            if !location.children.is_empty() {
                let inner = search(r, id, uri)?;
                if inner != Search::Open {
                    return Ok(inner);
                }
            }
        }
        Found::None => {}
    }
    if !ask_regexes {
        return Ok(Search::Open);
    }
    let Some(id) = level.find_regex(r, uri)? else { return Ok(Search::Open) };
    r.location.set(id);
    // nginx: a location inside a regular expression's never redirects to its slash.
    search(r, id, uri)?;
    Ok(Search::Settled)
}

/// The path lacks the final slash of the location's name: the answer is a redirect to it.
fn redirect_to_slash(r: &Request, name: &[u8]) {
    let mut target = Vec::with_capacity(name.len() + 16);
    moonrest_proto::escape::escape(moonrest_proto::escape::Kind::Uri, name, &mut target);
    let args = r.args.borrow();
    if !args.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&args);
    }
    r.out.borrow_mut().location = Some(target.into());
}

fn check_location(r: &Request) -> Option<u16> {
    let location = r.loc();
    if location.core.internal && !r.internal.get() {
        return Some(404);
    }
    except_methods(r, location);
    check_announced_body(r).err()
}

/// `client_max_body_size`, for a body whose length is known. The status to answer when it is too large.
pub(crate) fn check_announced_body(r: &Request) -> Result<(), u16> {
    let Body::Length(length) = r.framing.get().body else { return Ok(()) };
    let limit = r.loc().core.client_max_body_size;
    let wanted = !r.is_subrequest() && r.body.borrow().state != body::BodyState::Discarded;
    if limit == 0 || length <= limit || !wanted {
        return Ok(());
    }
    crate::error!(r, "client intended to send too large body: {length} bytes");
    // Whatever location answers that: the body is not for it.
    r.body.borrow_mut().state = body::BodyState::Discarded;
    Err(413)
}

/// `limit_except`: other methods are handled by its own settings.
fn except_methods(r: &Request, location: &Location) {
    if let Some((methods, except)) = location.limit_except
        && r.method.get().bit() & methods == 0
    {
        r.location.set(except);
    }
}
