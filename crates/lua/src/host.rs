//! What Lua code runs for: lent to the VM for the length of one resume.

use crate::{
    ffi::ctx,
    handshake,
    phase_io::PhaseIo,
    scheduler::{ENTRY, Ending, Key, Operation, Parent, Threads},
    settings::Loc,
    vm::WorkerVm,
};
use moonrest_core::{Level, Log};
use moonrest_http::{
    Request, RequestRef,
    exchange::Connection,
    location::{LocId, Location},
    worker::Worker,
};
use moonrest_luajit::Ref;
use std::{
    cell::{Cell, OnceCell, RefCell},
    ffi::c_int,
    fmt::Write as _,
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering::Relaxed},
};

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
    Timer,
    Balancer,
    SslClientHello,
    SslCertificate,
    SslSessionFetch,
    SslSessionStore,
    ProxySslCertificate,
    ProxySslVerify,
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
            Self::Timer => "timer",
            Self::Balancer => "balancer",
            Self::SslClientHello => "ssl_client_hello",
            Self::SslCertificate => "ssl_cert",
            Self::SslSessionFetch => "ssl_session_fetch",
            Self::SslSessionStore => "ssl_session_store",
            Self::ProxySslCertificate => "proxy_ssl_cert",
            Self::ProxySslVerify => "proxy_ssl_verify",
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
            Self::Timer => "ngx.timer",
            Self::Balancer => "balancer_by_lua*",
            Self::SslClientHello => "ssl_client_hello_by_lua*",
            Self::SslCertificate => "ssl_certificate_by_lua*",
            Self::SslSessionFetch => "ssl_session_fetch_by_lua*",
            Self::SslSessionStore => "ssl_session_store_by_lua*",
            Self::ProxySslCertificate => "proxy_ssl_certificate_by_lua*",
            Self::ProxySslVerify => "proxy_ssl_verify_by_lua*",
        }
    }

    /// Whether there is a request.
    pub(crate) const fn has_request(self) -> bool {
        !matches!(self, Self::Init | Self::InitWorker | Self::ExitWorker | Self::Timer)
            && !self.is_handshake()
    }

    /// Whether it belongs to the handshake with a client, before there is a request; something stands for one.
    pub(crate) const fn is_handshake(self) -> bool {
        matches!(
            self,
            Self::SslClientHello | Self::SslCertificate | Self::SslSessionFetch | Self::SslSessionStore
        )
    }

    /// Whether `ngx.exit` there gives the server a code, and answers nobody.
    pub(crate) const fn exits_with_code(self) -> bool {
        self.is_handshake()
            || matches!(self, Self::Balancer | Self::ProxySslCertificate | Self::ProxySslVerify)
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
    own_log: Option<Arc<Log>>,
    /// Lua has sent something, or means to: the response must be ended.
    pub responding: Cell<bool>,
    /// Some of the body was made.
    pub has_data: Cell<bool>,
    /// Sockets that are closed with it, where there is no request that they belong to.
    pub sockets: OnceCell<Rc<crate::api::socket::Owned>>,
    /// The thread that runs and its coroutine's number.
    pub running: Cell<(Key, usize)>,
    /// All threads, once one of them had to wait.
    pub threads: RefCell<Option<Box<Threads>>>,
    /// What an FFI entry asked for; `coroutine._yield()` then waits for it.
    pub pending: RefCell<Option<Operation>>,
    /// How often in a row threads gave way without waiting.
    pub turns: Cell<u32>,
    /// What the phase hands to its code and gets back.
    pub io: RefCell<PhaseIo>,
    /// What runs when the client leaves early.
    pub on_abort: RefCell<Option<OnAbort>>,
    /// The VM, once code runs in it.
    pub vm: OnceCell<Rc<WorkerVm>>,
    /// What there is instead of a request.
    pub detached: Option<Box<Detached>>,
    state: OnceCell<Rc<State>>,
}

/// What Lua code knows of a request from phase to phase. An internal redirect forgets it.
pub(crate) struct State {
    /// The number of `ngx.ctx`.
    pub ctx_ref: Cell<c_int>,
    /// The VM that has the table.
    pub vm: RefCell<Weak<WorkerVm>>,
    /// Lua has set `Content-Type`, to nothing maybe.
    pub type_set: Cell<bool>,
    /// The head has what it lacked.
    pub prepared: Cell<bool>,
    /// The body so far, where it is gathered until the end of the response.
    pub gathered: RefCell<Option<Vec<u8>>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ctx_ref: Cell::new(ctx::NONE),
            vm: RefCell::default(),
            type_set: Cell::new(false),
            prepared: Cell::new(false),
            gathered: RefCell::new(None),
        }
    }
}

impl State {
    /// Lets the table of `ngx.ctx` go.
    pub(crate) fn forget_ctx(&self) {
        let number = self.ctx_ref.replace(ctx::NONE);
        if number >= 0
            && let Some(vm) = self.vm.take().upgrade()
        {
            ctx::release(&vm, number);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.forget_ctx();
    }
}

/// A handler's `ngx.on_abort`.
pub(crate) enum OnAbort {
    /// The function, and who gave it.
    Waits(Ref, Parent),
    /// It was called.
    Called,
}

/// What code that runs for no request has in common with requests.
pub(crate) struct Detached {
    pub worker: Rc<Worker>,
    /// Its number in the error log, from those of connections.
    pub number: u64,
    pub origin: Origin,
}

/// The request that code comes from which runs for none itself: a timer's.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    pub conn: Option<Rc<Connection>>,
    /// Where its settings are.
    pub location: Option<LocId>,
    pub log: Option<Arc<Log>>,
}

impl Host {
    pub(crate) fn of(request: &RequestRef, phase: LuaPhase) -> Self {
        Self::new(Some(request.clone()), phase, None)
    }

    pub(crate) fn without_request(phase: LuaPhase, log: Arc<Log>) -> Self {
        Self::new(None, phase, Some(log))
    }

    #[inline]
    fn new(request: Option<RequestRef>, phase: LuaPhase, own_log: Option<Arc<Log>>) -> Self {
        Self {
            request,
            phase,
            own_log,
            responding: Cell::new(false),
            has_data: Cell::new(false),
            sockets: OnceCell::new(),
            running: Cell::new((ENTRY, 0)),
            threads: RefCell::new(None),
            pending: RefCell::new(None),
            turns: Cell::new(0),
            io: RefCell::default(),
            on_abort: RefCell::new(None),
            state: OnceCell::new(),
            vm: OnceCell::new(),
            detached: None,
        }
    }

    /// For code that runs for no request.
    pub(crate) fn detached(phase: LuaPhase, worker: &Rc<Worker>, origin: Origin) -> Self {
        let number = worker.process.connections.fetch_add(1, Relaxed) + 1;
        let log = origin.log.clone().unwrap_or_else(|| worker.log.clone());
        let detached = Some(Box::new(Detached { worker: worker.clone(), number, origin }));
        Self { detached, ..Self::without_request(phase, log) }
    }

    /// How the handler ends, if that is what was asked for.
    pub(crate) fn pending_end(&self) -> Option<Ending> {
        match *self.pending.borrow() {
            Some(Operation::End(ending)) => Some(ending),
            _ => None,
        }
    }

    /// The VM that runs the code.
    pub(crate) fn vm(&self) -> Option<Rc<WorkerVm>> {
        self.vm.get().cloned()
    }

    /// The worker that runs the code.
    pub(crate) fn worker(&self) -> Option<&Rc<Worker>> {
        match (&self.request, &self.detached) {
            (Some(r), _) => Some(&r.worker),
            (None, Some(detached)) => Some(&detached.worker),
            (None, None) => None,
        }
    }

    /// The location in force: the request's, or the one that a timer was made in.
    pub(crate) fn location(&self) -> Option<&Location> {
        match (&self.request, &self.detached) {
            (Some(r), _) => Some(r.loc()),
            (None, Some(detached)) => {
                detached.origin.location.map(|location| detached.worker.http.location(location))
            }
            (None, None) => None,
        }
    }

    /// What a timer made now remembers of all this.
    pub(crate) fn origin(&self) -> Origin {
        match (&self.request, &self.detached) {
            (Some(r), _) => Origin {
                conn: Some(r.conn.clone()),
                location: Some(r.location.get()),
                log: Some(r.log().clone()),
            },
            (None, Some(detached)) => detached.origin.clone(),
            (None, None) => Origin::default(),
        }
    }

    /// The same with what the phase hands over.
    pub(crate) fn with(request: &RequestRef, phase: LuaPhase, io: PhaseIo) -> Self {
        Self { io: RefCell::new(io), ..Self::of(request, phase) }
    }

    /// Writes to the error log; a message of several lines keeps them.
    pub(crate) fn log(&self, level: Level, message: std::fmt::Arguments<'_>) {
        match &self.request {
            Some(r) => r.log_lines_at(level, message),
            None => match &self.detached {
                Some(detached) if self.listens(level) => {
                    let context = detached.context(self.phase);
                    self.log_file().write_lines(
                        level,
                        Some(detached.number),
                        format_args!("{message}{context}"),
                    );
                }
                Some(_) => {}
                None => self.log_file().write_lines(level, None, message),
            },
        }
    }

    /// The error log.
    pub(crate) fn log_file(&self) -> &Arc<Log> {
        match (&self.own_log, &self.request) {
            (Some(log), _) => log,
            (None, Some(r)) => r.log(),
            // One of both is always there.
            (None, None) => unreachable!("code runs for a request, or has a log of its own"),
        }
    }

    /// Whether anybody listens to lines of this level.
    pub(crate) fn listens(&self, level: Level) -> bool {
        match &self.request {
            Some(r) => r.log().enabled(level),
            None => self.log_file().enabled(level),
        }
    }

    /// Whether this handler is to know when the client leaves.
    pub(crate) fn watches_client(&self) -> bool {
        self.phase.makes_response()
            && self
                .request
                .as_ref()
                .is_some_and(|r| !r.is_subrequest() && Loc::of(r).is_some_and(Loc::check_client_abort))
    }

    /// Whether subrequests are under way, which keep `ngx.exit` and the like from ending the handler.
    pub(crate) fn has_subrequests(&self) -> bool {
        self.threads.borrow().as_ref().is_some_and(|threads| threads.has_subrequests())
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
        self.request.as_ref().and_then(|r| Loc::of(r)).is_none_or(Loc::transform_underscores)
    }

    /// What Lua code knows of the request from phase to phase.
    #[inline]
    pub(crate) fn state(&self) -> &State {
        self.state.get_or_init(|| match &self.request {
            Some(r) => r.ctx::<State>(),
            None => match &*self.io.borrow() {
                PhaseIo::Handshake { handshake, .. } => {
                    handshake::kept(handshake).map(|kept| kept.state.clone()).unwrap_or_default()
                }
                _ => Rc::default(),
            },
        })
    }

    pub(crate) fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }
}

impl Detached {
    /// What error log lines end with.
    pub(crate) fn context(&self, phase: LuaPhase) -> String {
        // nginx: lines of the end of a worker have none.
        if phase == LuaPhase::ExitWorker {
            return String::new();
        }
        let mut text = format!(", context: {}", phase.directive());
        if let Some(conn) = &self.origin.conn {
            let mut client = Vec::new();
            conn.remote.append_text(&mut client);
            let _ = write!(text, ", client: {}", String::from_utf8_lossy(&client));
            if let Some(listener) = self.worker.http.listeners.get(conn.listener as usize) {
                let _ = write!(text, ", server: {}", listener.spec.addr);
            }
        }
        text
    }
}
