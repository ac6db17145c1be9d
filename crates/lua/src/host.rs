//! What Lua code runs for: lent to the VM for the length of one resume.

use moonrest_http::{Request, RequestRef};
use std::cell::{Cell, RefCell};

/// The phases as Lua names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LuaPhase {
    Init,
    InitWorker,
    ExitWorker,
    Set,
    ServerRewrite,
    Rewrite,
    Access,
    Precontent,
    Content,
    HeaderFilter,
    BodyFilter,
    Log,
}

impl LuaPhase {
    /// What `ngx.get_phase` answers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::InitWorker => "init_worker",
            Self::ExitWorker => "exit_worker",
            Self::Set => "set",
            Self::ServerRewrite => "server_rewrite",
            Self::Rewrite => "rewrite",
            Self::Access => "access",
            Self::Precontent => "precontent",
            Self::Content => "content",
            Self::HeaderFilter => "header_filter",
            Self::BodyFilter => "body_filter",
            Self::Log => "log",
        }
    }

    /// How error messages call it.
    pub(crate) const fn directive(self) -> &'static str {
        match self {
            Self::Init => "init_by_lua*",
            Self::InitWorker => "init_worker_by_lua*",
            Self::ExitWorker => "exit_worker_by_lua*",
            Self::Set => "set_by_lua*",
            Self::ServerRewrite => "server_rewrite_by_lua*",
            Self::Rewrite => "rewrite_by_lua*",
            Self::Access => "access_by_lua*",
            Self::Precontent => "precontent_by_lua*",
            Self::Content => "content_by_lua*",
            Self::HeaderFilter => "header_filter_by_lua*",
            Self::BodyFilter => "body_filter_by_lua*",
            Self::Log => "log_by_lua*",
        }
    }

    /// Whether it is one of the phases that make a response, where the request's course may still be changed.
    pub(crate) const fn makes_response(self) -> bool {
        matches!(self, Self::ServerRewrite | Self::Rewrite | Self::Access | Self::Precontent | Self::Content)
    }
}

/// The request (none in `init*`) and the phase.
pub(crate) struct Host {
    pub request: Option<RequestRef>,
    pub phase: LuaPhase,
    /// For log lines where there is no request.
    pub log: std::sync::Arc<moonrest_core::Log>,
    /// Lua has sent something, or means to: the response must be ended.
    pub responding: Cell<bool>,
    pub io: RefCell<PhaseIo>,
}

/// What a phase hands to its code and gets back, besides the request.
#[derive(Default)]
pub(crate) enum PhaseIo {
    #[default]
    None,
    /// `set_by_lua*`: the arguments, and what the code returned.
    Set { args: Vec<Vec<u8>>, answer: Option<Vec<u8>> },
    /// `body_filter_by_lua*`: `ngx.arg`.
    Body(BodyArg),
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

impl Host {
    pub(crate) fn of(request: &RequestRef, phase: LuaPhase) -> Self {
        Self {
            request: Some(request.clone()),
            phase,
            log: request.log().clone(),
            responding: Cell::new(false),
            io: RefCell::default(),
        }
    }

    /// The same with what the phase hands over.
    pub(crate) fn with(request: &RequestRef, phase: LuaPhase, io: PhaseIo) -> Self {
        Self { io: RefCell::new(io), ..Self::of(request, phase) }
    }

    /// The log in force.
    pub(crate) fn log(&self) -> &std::sync::Arc<moonrest_core::Log> {
        match &self.request {
            Some(r) => r.log(),
            None => &self.log,
        }
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }
}
