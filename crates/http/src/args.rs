//! A directive of the `http` block being set: its arguments, and what the compiler lets a setter do.

use crate::{
    compile::{BlockId, Compiler},
    request::Request,
    script::ScriptOp,
};
use moonrest_core::{ConfResult, Contexts, Fault, conf};
use moonrest_sys::temp::TempDir;
use std::ops::Deref;

/// Arguments with nginx's conversions ([`moonrest_core::Args`]) and the block the directive stands in.
pub struct Args<'a> {
    pub base: moonrest_core::Args<'a, Request>,
    pub compiler: &'a Compiler<'a>,
    /// The block the directive stands in.
    pub block: BlockId,
    /// The context of that block.
    pub context: Contexts,
}

impl<'a> Deref for Args<'a> {
    type Target = moonrest_core::Args<'a, Request>;
    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl<'a> Args<'a> {
    /// A status between 400 and 599.
    ///
    /// # Errors
    /// nginx's `value must be between 400 and 599`.
    pub fn status(&self, n: usize) -> ConfResult<u16> {
        match self.uint(n)? {
            status @ 400..=599 => Ok(u16::try_from(status).unwrap_or(500)),
            0..400 => Err(Fault::message("value must be equal to or greater than 400")),
            _ => Err(Fault::message("value must be equal to or less than 599")),
        }
    }

    /// The position of argument `n` in `words`, in any case.
    ///
    /// # Errors
    /// nginx's `invalid value "x"`.
    pub fn choice(&self, n: usize, words: &[&str]) -> ConfResult<usize> {
        let text = self.bytes(n)?;
        words
            .iter()
            .position(|word| word.as_bytes().eq_ignore_ascii_case(text))
            .ok_or_else(|| self.invalid_value(n))
    }

    /// A directory for temporary files, and the lengths of the levels of directories in it.
    ///
    /// # Errors
    /// nginx's `directive invalid value`.
    pub fn temp_dir(&self) -> ConfResult<TempDir> {
        let mut levels = [0; 3];
        for (n, level) in (1..self.len()).zip(&mut levels) {
            // A file's number has ten digits to take names of directories from.
            *level = match self.uint(n) {
                Ok(width @ 1..=10) => width as u8,
                _ => return Err(Fault::directive("invalid value")),
            };
        }
        Ok(TempDir { path: self.path(0)?.into_os_string().into_encoded_bytes(), levels })
    }

    /// Adds a step to the rewrite script of this block, in the order of the directives (`set`, `rewrite`, `if`, and
    /// every directive of other modules that belongs in that order).
    pub fn push_script(&self, op: impl ScriptOp + 'static) {
        self.compiler.push_script(self.block, Box::new(op));
    }

    /// Compiles the directives of this block directive as an unnamed location inside the present block (`if`,
    /// `limit_except`).
    pub fn sub_block(&self, context: Contexts) -> BlockId {
        self.compiler.sub_block(self.block, context, self.base.directive)
    }

    /// Compiles `directives` (a file included, generated text) as if they stood here.
    pub fn compile_here(&self, directives: &[conf::Directive]) {
        self.compiler.directives(self.block, self.context, directives);
    }
}
