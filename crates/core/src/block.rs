//! Blocks whose contents are not directives but rows of a table: `map`, `geo`, `split_clients`.

use crate::{ConfResult, Fault, Subject, args::Args};
use moonrest_conf::{ConfigError, Directive, Word};

/// One row: its words, the first of which the parser took for a directive's name.
pub struct Row<'a> {
    directive: &'a Directive,
}

impl<'a> Row<'a> {
    /// The first word.
    pub fn key(&self) -> &'a Word {
        &self.directive.name
    }

    /// The second word, if there are two of them and no more.
    pub fn value(&self) -> Option<&'a Word> {
        match &*self.directive.args {
            [value] => Some(value),
            _ => None,
        }
    }

    /// All words behind the first.
    pub fn values(&self) -> &'a [Word] {
        &self.directive.args
    }

    /// Whether the row is this one word.
    pub fn is_word(&self, word: &str) -> bool {
        self.directive.args.is_empty() && self.directive.name == *word
    }

    /// `message` with the place of this row.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        self.locate(Fault::message(message))
    }

    /// A fault that occurred while this row was set.
    pub fn locate(&self, fault: Fault) -> Fault {
        let mut error = fault.at(self.directive.name.as_str().unwrap_or_default(), self.directive.span);
        if error.order == 0 {
            error.order = self.directive.order;
        }
        error.into()
    }
}

/// Calls `set` with each row of a block directive.
///
/// # Errors
/// The first that `set` gives, or nginx's `unexpected "{"` for a block inside.
pub fn rows<S: Subject>(args: &Args<'_, S>, mut set: impl FnMut(&Row<'_>) -> ConfResult) -> ConfResult {
    for directive in args.block() {
        let row = Row { directive };
        if directive.has_block() {
            return Err(row.fault("unexpected \"{\""));
        }
        set(&row).map_err(|fault| row.locate(fault))?;
    }
    Ok(())
}

/// `message` with the place of the brace that ends the block: where nginx finds out.
pub fn fault_at_end<S: Subject>(args: &Args<'_, S>, message: impl Into<String>) -> Fault {
    ConfigError::emerg(message.into()).at_close(args.directive).into()
}
