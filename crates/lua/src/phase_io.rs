//! What a phase hands to its code and gets back, besides the request.

use crate::{api::number_text, scheduler::Ending};
use moonrest_http::{RequestRef, tls::hook::Handshake, upstream::Choosing};
use moonrest_luajit::{Coroutine, LuaResult, Stack, Value};
use std::rc::Rc;

/// What goes in and out.
#[derive(Default)]
pub(crate) enum PhaseIo {
    #[default]
    None,
    /// `set_by_lua*`: the arguments, and what the code returned.
    Set { args: Vec<Vec<u8>>, answer: Option<Vec<u8>> },
    /// `header_filter_by_lua*`: what `ngx.exit` asked for last.
    Head { exit: Option<Ending> },
    /// `body_filter_by_lua*`: `ngx.arg`.
    Body(BodyArg),
    /// `balancer_by_lua*`: what is chosen, and what `ngx.exit` said.
    Balancer { choosing: Rc<Choosing>, exit: Option<i64> },
    /// `ssl_*_by_lua*`: the handshake, what stands for a request, and what `ngx.exit` said.
    Handshake { r: RequestRef, handshake: Rc<Handshake>, exit: Option<i64> },
}

/// A part of a response body as `ngx.arg` shows it.
#[derive(Default)]
pub(crate) struct BodyArg {
    pub data: bytes::Bytes,
    pub eof: bool,
    /// A flush goes with it.
    pub flush: bool,
    /// What the code returned, if that was a number.
    pub answer: Option<f64>,
}

impl BodyArg {
    /// Whether the code's result says that the response cannot go on.
    pub(crate) fn fails(&self) -> bool {
        self.answer.is_some_and(|answer| answer == -1.0 || answer >= 300.0)
    }
}

impl PhaseIo {
    /// Keeps what `ngx.exit` said, in phases that end with a code.
    pub(crate) fn exit_with(&mut self, code: i64) {
        if let Self::Balancer { exit, .. } | Self::Handshake { exit, .. } = self {
            *exit = Some(code);
        }
    }

    /// Pushes what the code is called with.
    pub(crate) fn push_args(&self, stack: &Stack<'_>) -> LuaResult<()> {
        match self {
            Self::Set { args, .. } => args.iter().try_for_each(|arg| stack.push(arg.as_slice())),
            _ => Ok(()),
        }
    }

    /// Keeps what the code returned where that counts: for `set_by_lua*` a string or a number, anything else is
    /// nothing; for `body_filter_by_lua*` a number.
    pub(crate) fn keep_answer(&mut self, coroutine: &Coroutine) -> LuaResult<()> {
        match self {
            Self::None | Self::Head { .. } | Self::Balancer { .. } | Self::Handshake { .. } => {}
            Self::Set { answer, .. } => {
                *answer = coroutine.stack(|stack| match stack.value(1) {
                    Value::String(text) => Some(text.to_vec()),
                    Value::Number(number) => Some(number_text(number).into_bytes()),
                    _ => None,
                })?;
            }
            Self::Body(arg) => {
                arg.answer = coroutine.stack(|stack| match stack.value(1) {
                    Value::Number(number) => Some(number),
                    _ => None,
                })?;
            }
        }
        Ok(())
    }
}
