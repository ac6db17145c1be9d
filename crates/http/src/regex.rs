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
        r.keep_captures(text, groups, &self.names);
        true
    }

    /// The expression alone.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// The source text.
    pub fn pattern(&self) -> &str {
        self.regex.pattern()
    }
}
