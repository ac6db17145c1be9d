//! `rewrite regex replacement [flag]`.

use super::{LogSwitch, Main, value};
use moonrest_http::{
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use moonrest_proto::escape::{Unescape, unescape};

/// A `rewrite`, compiled.
struct Rule {
    regex: CapturingRegex,
    path: Template,
    /// What follows the first `?` of the replacement.
    new_args: Option<Template>,
    keep_args: bool,
    then: Then,
    log: LogSwitch,
}

/// What happens after a match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next step of the script.
    Continue,
    /// A new search for a location (`last`).
    Search,
    /// The rest of this location's phases (`break`).
    Stay,
    /// The client is sent there.
    Redirect { status: u16, has_args: bool },
}

/// Sets `rewrite`.
pub(super) fn rewrite(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let text = args.bytes(1)?;
    let (replacement, keep_args) = match text {
        [] => return Err(Fault::message("empty replacement")),
        // nginx: a question mark at the end drops the original arguments.
        [text @ .., b'?'] => (text, false),
        text => (text, true),
    };
    let regex = CapturingRegex::compile(args, args.bytes(0)?, false)?;
    let redirect = |status| Then::Redirect { status, has_args: question_mark(replacement).is_some() };
    let mut then = if is_url(text) { redirect(302) } else { Then::Continue };
    if args.len() == 3 {
        then = match (args.bytes(2)?, then) {
            (b"redirect", _) => redirect(302),
            (b"permanent", _) => redirect(301),
            (b"last" | b"break", Then::Redirect { .. }) => then,
            (b"last", _) => Then::Search,
            (b"break", _) => Then::Stay,
            _ => return Err(args.invalid_parameter(2)),
        };
    }
    let span = args.word(1)?.span;
    let compile = |text: &[u8]| Template::parse(text, |name| args.vars.reference(name, Some(span)));
    let (path, new_args) = match (then, question_mark(replacement)) {
        (Then::Redirect { .. }, _) | (_, None) => (compile(replacement)?, None),
        (_, Some(at)) => {
            let (path, rest) = replacement.split_at(at);
            (compile(path)?, Some(compile(rest.get(1..).unwrap_or_default())?))
        }
    };
    let log = main.log_of(args.block);
    args.push_script(Rule { regex, path, new_args, keep_args, then, log });
    Ok(())
}

/// Whether a replacement is sent to the client rather than looked up here.
pub(super) fn is_url(text: &[u8]) -> bool {
    [&b"http://"[..], b"https://", b"$scheme"].iter().any(|start| text.starts_with(start))
}

fn question_mark(text: &[u8]) -> Option<usize> {
    memchr::memchr(b'?', text)
}

impl ScriptOp for Rule {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        if !self.matches(r)? {
            return super::GO_ON;
        }
        r.internal.set(true);
        r.valid_unparsed_uri.set(false);
        let flow = match self.then {
            Then::Redirect { status, has_args } => {
                self.redirect(r, has_args);
                ScriptFlow::Finish(status)
            }
            Then::Stay => {
                r.valid_location.set(false);
                r.uri_changed.set(false);
                self.replace(r)?;
                ScriptFlow::Stop
            }
            Then::Continue | Then::Search => {
                r.uri_changed.set(true);
                self.replace(r)?;
                if self.then == Then::Search { ScriptFlow::Stop } else { ScriptFlow::Next }
            }
        };
        r.escape_captures.set(false);
        Ok(ScriptStep::Now(flow))
    }
}

impl Rule {
    fn matches(&self, r: &Request) -> Result<bool, RequestError> {
        let uri = r.uri.borrow();
        let matched = self.regex.matches(r, &uri)?;
        if !matched {
            r.captures.borrow_mut().groups.clear();
        }
        if self.log.is_on(r) {
            let verb = if matched { "matches" } else { "does not match" };
            let (pattern, uri) = (self.regex.pattern(), String::from_utf8_lossy(&uri));
            moonrest_http::notice!(r, "\"{pattern}\" {verb} \"{uri}\"");
        }
        Ok(matched)
    }

    /// Puts the new path and arguments in place of the old.
    fn replace(&self, r: &Request) -> Result<(), RequestError> {
        let mut path = Vec::with_capacity(64);
        value::append(&self.path, r, false, &mut path);
        match &self.new_args {
            Some(template) => {
                let mut new_args = Vec::new();
                value::append(template, r, true, &mut new_args);
                let mut args = r.args.borrow_mut();
                if self.keep_args && !args.is_empty() {
                    new_args.push(b'&');
                    new_args.extend_from_slice(&args);
                }
                *args = new_args;
            }
            None if !self.keep_args => r.args.borrow_mut().clear(),
            None => {}
        }
        if self.log.is_on(r) {
            let args = r.args.borrow();
            let (path, args) = (String::from_utf8_lossy(&path), String::from_utf8_lossy(&args));
            moonrest_http::notice!(r, "rewritten data: \"{path}\", args: \"{args}\"");
        }
        if path.is_empty() {
            r.uri.borrow_mut().clear();
            return Err(RequestError::internal("the rewritten URI has a zero length"));
        }
        *r.uri.borrow_mut() = path;
        Ok(())
    }

    /// Makes the result the target of a redirect.
    fn redirect(&self, r: &Request, has_args: bool) {
        let mut text = Vec::with_capacity(64);
        value::append(&self.path, r, true, &mut text);
        let mut target = Vec::with_capacity(text.len());
        let used = unescape(Unescape::Redirect, &text, &mut target);
        target.extend_from_slice(text.get(used..).unwrap_or_default());
        let args = r.args.borrow();
        if self.keep_args && !args.is_empty() {
            target.push(if has_args { b'&' } else { b'?' });
            target.extend_from_slice(&args);
        }
        if self.log.is_on(r) {
            moonrest_http::notice!(r, "rewritten redirect: \"{}\"", String::from_utf8_lossy(&target));
        }
        r.out_mut().location = Some(target.into());
    }
}
