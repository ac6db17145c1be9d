//! `return code [text]`, `return code URL`, `return URL`.

use super::{Main, rule};
use moonrest_http::{
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};

/// A `return`, compiled.
struct Answer {
    status: u16,
    text: Template,
    /// The whole text, when it has no variables: shared by all answers.
    fixed: Option<Bytes>,
}

/// Sets `return`.
pub(super) fn answer(_: &mut Main, args: &Args<'_>) -> ConfResult {
    let invalid = || Fault::message(format!("invalid return code \"{}\"", args.lossy(0)));
    let first = args.bytes(0)?;
    let (status, text) = match moonrest_conf::value::parse_uint(first) {
        Some(status) => {
            let status = u16::try_from(status).ok().filter(|status| *status <= 999).ok_or_else(invalid)?;
            (status, if args.len() > 1 { args.template(1)? } else { Template::default() })
        }
        None if args.len() == 1 && rule::is_url(first) => (302, args.template(0)?),
        None => return Err(invalid()),
    };
    let fixed = text.as_static().map(Bytes::copy_from_slice);
    args.push_script(Answer { status, text, fixed });
    Ok(())
}

impl ScriptOp for Answer {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        if self.status >= 400 && self.fixed.as_ref().is_some_and(Bytes::is_empty) {
            return Ok(ScriptStep::Now(ScriptFlow::Finish(self.status)));
        }
        r.ignore_body()?;
        r.out_mut().status = self.status;
        if matches!(self.status, 301..=303 | 307 | 308) {
            r.out_mut().location = Some(self.text.eval(&**r).into_owned().into());
            return Ok(ScriptStep::Now(ScriptFlow::Finish(self.status)));
        }
        let made: Bytes;
        let body = match &self.fixed {
            Some(text) => text,
            None => {
                made = self.text.eval(&**r).into_owned().into();
                &made
            }
        };
        r.out_mut().content_length = Some(body.len() as u64);
        r.set_content_type();
        Ok(match r.respond_text(body)? {
            Step::Now(_) => ScriptStep::Now(ScriptFlow::Responded),
            Step::Wait(wait) => ScriptStep::Wait(Box::pin(async move {
                wait.await?;
                Ok(ScriptFlow::Responded)
            })),
        })
    }
}
