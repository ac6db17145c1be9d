//! Rules that edit a text of the upstream's: redirects, and the domain and path of cookies.

use moonrest_http::prelude::*;

/// What is replaced, and by what.
#[derive(Clone)]
pub(super) struct Rewrite {
    pub pattern: Pattern,
    pub replacement: Template,
}

#[derive(Clone)]
pub(super) enum Pattern {
    /// A text that the value begins with.
    Prefix(Template),
    /// A domain: all of the value, in any case, with or without a dot in front.
    Domain(Template),
    /// The whole value is replaced when it matches.
    Regex(Arc<CapturingRegex>),
}

impl Rewrite {
    /// A rule from two arguments of a directive; `~` and `~*` begin a regular expression.
    pub(super) fn parse(args: &Args<'_>) -> ConfResult<Self> {
        let pattern = match args.bytes(0)? {
            [b'~', b'*', pattern @ ..] => regex(args, pattern, true)?,
            [b'~', pattern @ ..] => regex(args, pattern, false)?,
            _ => Pattern::Prefix(args.template(0)?),
        };
        Ok(Self { pattern, replacement: args.template(1)? })
    }

    /// What the first rule that fits makes of a value.
    pub(super) fn first(rules: &[Self], r: &Request, value: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        for rule in rules {
            if let Some(edited) = rule.apply(r, value)? {
                return Ok(Some(edited));
            }
        }
        Ok(None)
    }

    fn apply(&self, r: &Request, value: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        Ok(match &self.pattern {
            Pattern::Prefix(prefix) => value.strip_prefix(&*prefix.eval(r)).map(|rest| {
                let mut edited = self.replacement.eval(r).into_owned();
                edited.extend_from_slice(rest);
                edited
            }),
            Pattern::Domain(domain) => {
                let (dot, name) = match value {
                    [b'.', name @ ..] => (&b"."[..], name),
                    name => (&b""[..], name),
                };
                name.eq_ignore_ascii_case(&domain.eval(r)).then(|| [dot, &self.replacement.eval(r)].concat())
            }
            Pattern::Regex(regex) => regex.matches(r, value)?.then(|| self.replacement.eval(r).into_owned()),
        })
    }
}

pub(super) fn regex(args: &Args<'_>, pattern: &[u8], caseless: bool) -> ConfResult<Pattern> {
    Ok(Pattern::Regex(Arc::new(CapturingRegex::compile(args, pattern, caseless)?)))
}
