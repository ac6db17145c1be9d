//! The phases of a request and what handlers answer.

use crate::request::RequestRef;
use moonrest_core::Level;
use std::{borrow::Cow, future::Future, pin::Pin};

/// A future of this worker's thread.
pub type LocalBoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// nginx's phases that have handlers, in order. `FindConfig`, `PostRewrite` and `PostAccess` belong to the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    PostRead,
    ServerRewrite,
    Rewrite,
    Preaccess,
    Access,
    Precontent,
    Content,
}

impl Phase {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// What a handler decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Nothing to say: ask the next handler of this phase (`NGX_DECLINED`).
    Next,
    /// Settled: go on to the next phase (`NGX_OK`).
    PhaseDone,
    /// Answer with this status, through `error_page`. 444 closes, 499 means that the client has left.
    Finish(u16),
    /// The response is complete, or its last piece is queued (`NGX_DONE`).
    Responded,
    /// [`crate::Request::redirect_internally`] or [`crate::Request::redirect_to_named`] was called: start over there.
    Redirected,
}

/// A handler answers at once, or hands back the future to wait for: only then is anything boxed.
pub enum Step {
    Now(Flow),
    Wait(LocalBoxFuture<Result<Flow, RequestError>>),
}

impl Step {
    /// Ask the next handler.
    pub const fn next() -> Result<Self, RequestError> {
        Ok(Self::Now(Flow::Next))
    }

    /// Go on to the next phase.
    pub const fn done() -> Result<Self, RequestError> {
        Ok(Self::Now(Flow::PhaseDone))
    }

    /// Answer with `status`.
    pub const fn finish(status: u16) -> Result<Self, RequestError> {
        Ok(Self::Now(Flow::Finish(status)))
    }

    /// The response is complete.
    pub const fn responded() -> Result<Self, RequestError> {
        Ok(Self::Now(Flow::Responded))
    }

    /// Wait for `future`.
    pub fn wait(
        future: impl Future<Output = Result<Flow, RequestError>> + 'static,
    ) -> Result<Self, RequestError> {
        Ok(Self::Wait(Box::pin(future)))
    }
}

/// A handler of one phase with the settings of one location.
pub trait PhaseHandler: Send + Sync {
    /// Looks at the request and decides.
    ///
    /// # Errors
    /// Anything that ends the request without a decision of the handler.
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError>;
}

/// Runs when the response is complete, for every location a request ended in.
pub trait LogHandler: Send + Sync {
    /// Writes a line, frees a counter. `None` when there is nothing to wait for.
    fn log(&self, r: &RequestRef) -> Option<LocalBoxFuture<()>>;
}

/// Whose fault it was that a request could not be finished.
#[derive(Debug)]
pub enum RequestError {
    /// The client has left or took too long: nothing more is sent, the access log shows this status.
    Gone { status: u16, message: Cow<'static, str> },
    /// The client broke the protocol in the body: answer with this status.
    Client { status: u16, message: Cow<'static, str> },
    /// An upstream's.
    Upstream { status: u16, message: Cow<'static, str> },
    /// Ours or the system's: answer `status` (500) and log at `level`.
    Internal { status: u16, level: Level, message: Cow<'static, str> },
    /// The response head is already sent and cannot be finished: cut the connection so that the client sees it.
    Cut(Cow<'static, str>),
}

impl RequestError {
    /// The client has closed the connection.
    pub const fn client_gone() -> Self {
        Self::Gone { status: 499, message: Cow::Borrowed("client prematurely closed connection") }
    }

    /// A failure of our own, answered with 500 and logged as an error.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Internal { status: 500, level: Level::Error, message: message.into() }
    }

    /// The status to answer with while that is still possible.
    pub fn status(&self) -> u16 {
        match self {
            Self::Gone { status, .. }
            | Self::Client { status, .. }
            | Self::Upstream { status, .. }
            | Self::Internal { status, .. } => *status,
            Self::Cut(_) => 500,
        }
    }

    /// What to write to the error log, and at which level.
    pub fn describe(&self) -> (Level, &str) {
        match self {
            Self::Gone { message, .. } => (Level::Info, message),
            Self::Client { message, .. } | Self::Upstream { message, .. } => (Level::Error, message),
            Self::Internal { level, message, .. } => (*level, message),
            Self::Cut(message) => (Level::Error, message),
        }
    }
}
