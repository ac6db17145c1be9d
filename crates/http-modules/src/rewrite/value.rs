//! Texts with variables and captures as the rewrite script evaluates them.

use moonrest_core::Subject;
use moonrest_http::prelude::*;
use moonrest_proto::escape::{self, Kind};
use std::borrow::Cow;

/// A text whose captures are escaped if the request's path was.
pub(super) struct Value(Template);

impl Value {
    pub(super) fn compile(args: &Args<'_>, n: usize) -> ConfResult<Self> {
        args.template(n).map(Self)
    }

    pub(super) fn of(template: Template) -> Self {
        Self(template)
    }

    pub(super) fn eval(&self, r: &Request) -> Cow<'_, [u8]> {
        if let Some(text) = self.0.as_static() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(64);
        append(&self.0, r, r.escape_captures.get(), &mut out);
        Cow::Owned(out)
    }
}

/// Appends `template`; `escape` asks for captures to be escaped as arguments, which is done if the path had escapes
/// or pluses when the client sent it.
pub(super) fn append(template: &Template, r: &Request, escape: bool, out: &mut Vec<u8>) {
    if !(escape && template.has_captures() && was_quoted(r)) {
        template.append(r, out);
        return;
    }
    let mut raw = Vec::new();
    template.append_capturing(r, out, |n, out| {
        raw.clear();
        r.capture(n, &mut raw);
        escape::escape(Kind::Args, &raw, out);
    });
}

fn was_quoted(r: &Request) -> bool {
    // nginx: subrequests are made from decoded paths and never count as quoted.
    let head = r.head.borrow();
    !r.is_subrequest() && (head.quoted || head.plus)
}
