//! Regular expressions that are matched for a request: their groups become `$1` … `$9`, named ones variables.

use crate::{args::Args, phase::RequestError, request::Request};
use moonrest_core::{
    ConfResult, Level, Regex, Subject, VarId,
    regex::{Groups, MatchFailure},
};

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
    ///
    /// # Errors
    /// When the engine gives up: then it is unknown which rule applies.
    pub fn matches(&self, r: &Request, text: &[u8]) -> Result<bool, RequestError> {
        let mut groups = Groups::new();
        let matched =
            self.regex.try_captures(text, &mut groups).map_err(|failure| self.failed(failure, text))?;
        if matched {
            r.keep_captures(text, groups, &self.names);
        }
        Ok(matched)
    }

    #[cold]
    fn failed(&self, failure: MatchFailure, text: &[u8]) -> RequestError {
        let message = failure.describe(&self.regex, text).into();
        RequestError::Internal { status: 500, level: Level::Alert, message }
    }

    /// The position of the first expression of a list that matches.
    ///
    /// # Errors
    /// As [`CapturingRegex::matches`].
    pub fn first<'l, T>(
        list: &'l [(Self, T)],
        r: &Request,
        text: &[u8],
    ) -> Result<Option<&'l T>, RequestError> {
        for (regex, value) in list {
            if regex.matches(r, text)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
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
