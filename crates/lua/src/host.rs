//! What Lua code runs for: lent to the VM for the length of one resume.

use moonrest_http::{Request, RequestRef};
use std::{cell::Cell, rc::Rc};

/// The phases as Lua names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LuaPhase {
    Init,
    InitWorker,
    ServerRewrite,
    Rewrite,
    Access,
    Precontent,
    Content,
    HeaderFilter,
    Log,
}

impl LuaPhase {
    /// What `ngx.get_phase` answers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::InitWorker => "init_worker",
            Self::ServerRewrite => "server_rewrite",
            Self::Rewrite => "rewrite",
            Self::Access => "access",
            Self::Precontent => "precontent",
            Self::Content => "content",
            Self::HeaderFilter => "header_filter",
            Self::Log => "log",
        }
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
    /// Sockets that are closed with it, where there is no request that they belong to.
    pub sockets: Rc<crate::api::socket::Owned>,
}

impl Host {
    pub(crate) fn of(request: &RequestRef, phase: LuaPhase) -> Self {
        Self {
            request: Some(request.clone()),
            phase,
            log: request.log().clone(),
            responding: Cell::new(false),
            sockets: Rc::default(),
        }
    }

    /// What `thread.exdata()` shows: the request's address, the same until it ends. Where there is none, something else
    /// that is not NULL; NULL in `init_by_lua*`.
    pub(crate) fn token(&self) -> usize {
        match &self.request {
            Some(r) => std::rc::Rc::as_ptr(r) as usize,
            None if self.phase == LuaPhase::Init => 0,
            None => std::ptr::from_ref(self) as usize,
        }
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }
}
