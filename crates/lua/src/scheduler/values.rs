//! What a waiting function of the API gives back to Lua when its wait is over.

use super::Ending;
use moonrest_luajit::{LuaResult, Ref, Stack};
use std::task::{Context, Poll};

/// Values for Lua that outlive the place where they were made.
#[derive(Default)]
pub(crate) struct Values(pub Vec<Item>);

/// A wait that is polled where it is and knows itself what to give to Lua: it costs one allocation.
pub(crate) trait Wait {
    /// Ready when Lua can go on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Pushes what the waiting function returns, after `poll` was ready.
    fn push(self: Box<Self>, stack: &Stack<'_>) -> LuaResult<()>;
}

/// What a thread goes on with.
pub(super) enum Given {
    /// It starts.
    Start,
    /// Its wait has come to nothing that Lua is told.
    Nothing,
    Values(Values),
    Waited(Box<dyn Wait>),
}

impl Given {
    /// How the handler ends, if it does.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self {
            Self::Values(values) => values.ending(),
            Self::Start | Self::Nothing | Self::Waited(_) => None,
        }
    }

    pub(super) fn push(self, stack: &Stack<'_>) -> LuaResult<()> {
        match self {
            Self::Start | Self::Nothing => Ok(()),
            Self::Values(values) => values.push(stack),
            Self::Waited(wait) => wait.push(stack),
        }
    }
}

/// Pushes values.
pub(crate) type Maker = Box<dyn FnOnce(&Stack<'_>) -> LuaResult<()>>;

/// One of them.
pub(crate) enum Item {
    Nil,
    Bool(bool),
    Number(f64),
    Integer(i64),
    Text(Vec<u8>),
    /// A Lua value that was kept.
    Kept(Ref),
    /// For tables and the like: all that the closure leaves on the stack, none or many values. It runs when Lua is about
    /// to go on.
    Made(Maker),
    /// Lua does not go on: the handler ends. See [`Values::end`].
    End(Ending),
}

impl Values {
    /// `true`, or `1` where upstream says so.
    pub(crate) fn one(item: Item) -> Self {
        Self(vec![item])
    }

    /// `nil, message`.
    pub(crate) fn error(message: &str) -> Self {
        Self(vec![Item::Nil, Item::Text(message.as_bytes().to_vec())])
    }

    /// Whatever the closure pushes.
    pub(crate) fn made(make: impl FnOnce(&Stack<'_>) -> LuaResult<()> + 'static) -> Self {
        Self(vec![Item::Made(Box::new(make))])
    }

    /// The code does not go on: its handler ends, as after `ngx.exit`.
    pub(crate) fn end(ending: Ending) -> Self {
        Self(vec![Item::End(ending)])
    }

    /// How the handler ends, if it does.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self.0.as_slice() {
            [Item::End(ending)] => Some(*ending),
            _ => None,
        }
    }

    pub(super) fn push(self, stack: &Stack<'_>) -> LuaResult<()> {
        self.0.into_iter().try_for_each(|item| match item {
            Item::Nil => stack.push(moonrest_luajit::Nil),
            Item::Bool(flag) => stack.push(flag),
            Item::Number(number) => stack.push(number),
            Item::Integer(number) => stack.push(number),
            Item::Text(text) => stack.push(text),
            Item::Kept(value) => stack.push(value),
            Item::Made(make) => make(stack),
            Item::End(_) => Ok(()),
        })
    }
}
