//! Regular expressions that are matched for a request: their groups become `$1` … `$9`, named ones variables.

use crate::{args::Args, request::Request};
use moonrest_core::{ConfResult, Regex, Subject, VarId, regex::Groups};

/// An expression and the variables of its named groups.
#[derive(Clone, Debug)]
pub struct CapturingRegex {
    regex: Regex,
    names: Box<[(VarId, usize)]>,
}

impl CapturingRegex {
    /// Compiles `pattern` and declares the variables that it names; `caseless` is `~*`.
    ///
    /// # Errors
    /// nginx's `pcre2_compile() failed: …`, and `the duplicate "x" variable` for a name that cannot be assigned.
    pub fn compile(args: &Args<'_>, pattern: &[u8], caseless: bool) -> ConfResult<Self> {
        let regex = Regex::new(pattern, caseless)?;
        let names = regex
            .names()
            .iter()
            .map(|(name, group)| Ok((args.vars.define_slot(name)?, *group)))
            .collect::<ConfResult<_>>()?;
        Ok(Self { regex, names })
    }

    /// Matches `text`. The groups of a match replace those of the match before; without a match these are kept.
    pub fn matches(&self, r: &Request, text: &[u8]) -> bool {
        let mut groups = Groups::new();
        if !self.regex.captures(text, &mut groups) {
            return false;
        }
        keep(r, text, groups, &self.names);
        true
    }

    /// The source text.
    pub fn pattern(&self) -> &str {
        self.regex.pattern()
    }
}

/// Makes the groups of a match in `text` the request's captures.
pub(crate) fn keep(r: &Request, text: &[u8], groups: Groups, names: &[(VarId, usize)]) {
    let mut slots = r.slots().borrow_mut();
    for (id, group) in names {
        let value = groups.get(*group).and_then(|&(start, end)| text.get(start..end));
        slots.set(*id, value.map(Into::into));
    }
    let mut captures = r.captures.borrow_mut();
    captures.text.clear();
    captures.text.extend_from_slice(text);
    captures.groups = groups;
}
