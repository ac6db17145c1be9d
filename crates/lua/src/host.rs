//! What Lua code runs for: lent to the VM for the length of one resume.

use crate::{ffi::ctx, scheduler::Operation};
use moonrest_core::Log;
use moonrest_http::{Request, RequestRef};
use std::{
    cell::{Cell, OnceCell, RefCell},
    ffi::c_int,
    rc::Rc,
    sync::Arc,
};

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
    pub log: Arc<Log>,
    /// Lua has sent something, or means to: the response must be ended.
    pub responding: Cell<bool>,
    state: OnceCell<Rc<State>>,
    /// What the next `coroutine._yield` waits for: an FFI entry, which cannot wait itself, has left it.
    pub pending: RefCell<Option<Operation>>,
}

/// What Lua code knows of a request from phase to phase. An internal redirect forgets it.
pub(crate) struct State {
    /// The number of `ngx.ctx`.
    pub ctx_ref: Cell<c_int>,
    /// Lua has set `Content-Type`, to nothing maybe.
    pub type_set: Cell<bool>,
}

impl Default for State {
    fn default() -> Self {
        Self { ctx_ref: Cell::new(ctx::NONE), type_set: Cell::new(false) }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.ctx_ref.get() >= 0 {
            ctx::release(self.ctx_ref.get());
        }
    }
}

impl Host {
    pub(crate) fn of(request: &RequestRef, phase: LuaPhase) -> Self {
        Self {
            request: Some(request.clone()),
            phase,
            log: request.log().clone(),
            responding: Cell::new(false),
            state: OnceCell::new(),
            pending: RefCell::new(None),
        }
    }

    /// For code that runs for no request.
    pub(crate) fn without_request(phase: LuaPhase, log: Arc<Log>) -> Self {
        Self {
            request: None,
            phase,
            log,
            responding: Cell::new(false),
            state: OnceCell::new(),
            pending: RefCell::new(None),
        }
    }

    /// What `thread.exdata()` shows: the request's address, the same until it ends. Where there is none, something else
    /// that is not NULL; NULL in `init_by_lua*`.
    pub(crate) fn token(&self) -> usize {
        match &self.request {
            Some(r) => Rc::as_ptr(r) as usize,
            None if self.phase == LuaPhase::Init => 0,
            None => std::ptr::from_ref(self) as usize,
        }
    }

    /// Whether `_` stands for `-` in the names of `ngx.header`.
    pub(crate) fn dashes_in_response_fields(&self) -> bool {
        true
    }

    /// What Lua code knows of the request from phase to phase.
    pub(crate) fn state(&self) -> &State {
        self.state.get_or_init(|| match &self.request {
            Some(r) => r.ctx::<State>(),
            None => Rc::default(),
        })
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }
}
