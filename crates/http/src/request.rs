//! A request: what the client sent, where it is being handled, and the response being made.

use crate::{
    body::RequestBody,
    compile::Http,
    exchange::{Connection, Exchange},
    location::{LocId, Location, Server, ServerId},
    phase::RequestError,
    pipeline::Chain,
    response::HeadersOut,
    worker::Worker,
};
use moonrest_core::{Level, Log, Subject, VarId, VarTable, regex::Groups, var::Slots};
use moonrest_net::addr::Addr;
use moonrest_proto::http1::{Framing, Known, Method, RequestHead, Version};
use std::{
    any::{Any, TypeId},
    cell::{Cell, Ref, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
};

/// How handlers hold a request.
pub type RequestRef = Rc<Request>;

/// One request, or one subrequest. Belongs to its worker's thread; its memory is used again for later requests.
pub struct Request {
    pub worker: Rc<Worker>,
    pub conn: Rc<Connection>,
    /// The way out; a subrequest's leads to its parent or to a buffer.
    pub exchange: Rc<dyn Exchange>,
    /// The request this one was made for.
    pub parent: Option<RequestRef>,
    /// The client's request at the root; `None` on that one itself.
    pub main: Option<RequestRef>,
    memory: Rc<Memory>,
}

/// What is done when a request ends, however it ends.
type Cleanup = Box<dyn FnOnce(&Request)>;

/// What a request knows, kept by the worker for the next one, and emptied when it ends. A request derefs to it.
#[derive(Default)]
pub struct Memory {
    /// The bytes of the request head, followed by what was edited.
    pub block: RefCell<Vec<u8>>,
    /// Method, version and fields, as positions in `block`.
    pub head: RefCell<RequestHead>,
    /// The normalised path.
    pub uri: RefCell<Vec<u8>>,
    /// What follows `?`, as sent.
    pub args: RefCell<Vec<u8>>,
    /// Host without port, lower case, validated.
    pub host: RefCell<Vec<u8>>,
    /// Replaces the connection's address (`realip`).
    pub client: RefCell<Option<Addr>>,
    pub body: RefCell<RequestBody>,
    pub out: RefCell<HeadersOut>,
    slots: RefCell<Slots>,
    pub captures: RefCell<Captures>,
    contexts: RefCell<Vec<Context>>,
    /// How often `clear_ctx` was called.
    ctx_rounds: Cell<u32>,
    /// Subrequests that run beside this main request; it ends no sooner than they do.
    pub(crate) companions: RefCell<Vec<moonrest_rt::JoinHandle<()>>>,
    cleanups: RefCell<Vec<Cleanup>>,

    pub(crate) chain: RefCell<Option<Chain>>,
    pub(crate) pending_redirect: RefCell<Option<Box<Redirect>>>,
    state: State,
}

/// The small parts of what a request knows, which are set anew all at once.
pub struct State {
    pub framing: Cell<Framing>,
    pub method: Cell<Method>,
    pub version: Cell<Version>,
    /// The path had escapes, dots or double slashes, so that an upstream must get it escaped anew.
    pub complex_uri: Cell<bool>,
    /// The path is still exactly what the client sent (proxying passes the original on).
    pub valid_unparsed_uri: Cell<bool>,
    pub server: Cell<ServerId>,
    pub location: Cell<LocId>,

    /// Monotonic milliseconds when the first byte of the request was read.
    pub started_ms: Cell<u64>,
    /// Body bytes handed to the exchange, without the framing of chunks.
    pub body_sent: Cell<u64>,
    /// Bytes of the response head as sent (what `$bytes_sent` has more than `$body_bytes_sent`).
    pub header_size: Cell<u64>,
    /// It was in the connection's buffer when the request before it ended (`$pipe`).
    pub pipelined: Cell<bool>,
    /// Bytes of head and body as received (`$request_length`).
    pub request_length: Cell<u64>,
    /// The port that the client named, in the target or `Host`; 0 for none.
    pub port: Cell<u16>,
    /// The response went out as it should (`$request_completion`).
    pub completed: Cell<bool>,
    /// The body goes out in chunks.
    pub chunked: Cell<bool>,
    /// The status that `error_page` or an early error set; 0 when none.
    pub error_status: Cell<u16>,
    /// The `error_page` machinery is answering an error (so `recursive_error_pages` counts).
    pub in_error_page: Cell<bool>,
    /// An internal redirect or subrequest (`internal` locations may be used).
    pub internal: Cell<bool>,
    pub header_sent: Cell<bool>,
    /// Only the head is sent: HEAD, 204, 304.
    pub header_only: Cell<bool>,
    pub done: Cell<bool>,
    /// The connection stays open afterwards.
    pub keepalive: Cell<bool>,
    pub(crate) cycles: Cell<u8>,
    pub(crate) subrequest_depth: Cell<u16>,
    /// A rewrite changed the path: find a location anew.
    pub uri_changed: Cell<bool>,
    /// Captures in values are escaped if the path was: until a rule of this script has matched.
    pub escape_captures: Cell<bool>,
    /// A variable that a rule may depend on could not be computed: the walk through the phases ends with 500.
    pub(crate) rule_failed: Cell<bool>,
    /// The location was found by the path as it is now; a rewrite with `break` ends that.
    pub valid_location: Cell<bool>,
    /// `try_files` chose a file below an alias of a regular expression.
    pub add_uri_to_alias: Cell<bool>,
    /// The answer is made for conditions that were looked at already: `If-Modified-Since` and the like do not count.
    pub disable_not_modified: Cell<bool>,
    /// At most one range may be answered at a time.
    pub single_range: Cell<bool>,
    /// Ranges of a subrequest's own answer (`slice`).
    pub subrequest_ranges: Cell<bool>,
    /// What is being done, for the error log: it follows `while` there. Empty for nothing worth a word.
    pub action: Cell<&'static str>,
    /// Set by `limit_rate` or `$limit_rate`; bytes per second, 0 for no limit.
    pub limit_rate: Cell<Option<u64>>,
    pub limit_rate_after: Cell<Option<u64>>,
    /// This subrequest does not share its parent's variables.
    pub own_variables: Cell<bool>,
    /// This subrequest's output is kept for `auth_request`, mirrors and the like, or thrown away.
    pub background: Cell<bool>,
    /// This subrequest is its parent again: it enters where that one is.
    pub(crate) again: Cell<bool>,
    /// No client has sent it: it asks one peer of an upstream how it is ([`crate::upstream::Probe`]).
    pub(crate) probes: Cell<bool>,
}

impl Default for State {
    #[inline(always)]
    fn default() -> Self {
        Self {
            framing: Cell::new(Framing::default()),
            method: Cell::new(Method::Get),
            version: Cell::new(Version::Http11),
            complex_uri: Cell::new(false),
            valid_unparsed_uri: Cell::new(true),
            server: Cell::new(ServerId(0)),
            location: Cell::new(LocId(0)),
            started_ms: Cell::new(0),
            body_sent: Cell::new(0),
            header_size: Cell::new(0),
            pipelined: Cell::new(false),
            request_length: Cell::new(0),
            port: Cell::new(0),
            completed: Cell::new(false),
            chunked: Cell::new(false),
            error_status: Cell::new(0),
            in_error_page: Cell::new(false),
            internal: Cell::new(false),
            header_sent: Cell::new(false),
            header_only: Cell::new(false),
            done: Cell::new(false),
            keepalive: Cell::new(false),
            cycles: Cell::new(0),
            subrequest_depth: Cell::new(0),
            uri_changed: Cell::new(false),
            escape_captures: Cell::new(false),
            rule_failed: Cell::new(false),
            valid_location: Cell::new(true),
            add_uri_to_alias: Cell::new(false),
            disable_not_modified: Cell::new(false),
            single_range: Cell::new(false),
            subrequest_ranges: Cell::new(false),
            action: Cell::new(""),
            limit_rate: Cell::new(None),
            limit_rate_after: Cell::new(None),
            own_variables: Cell::new(false),
            background: Cell::new(false),
            again: Cell::new(false),
            probes: Cell::new(false),
        }
    }
}

impl Memory {
    /// Empties it, keeping what its parts have allocated.
    fn clear(&mut self) {
        self.state = State::default();
        self.block.get_mut().clear();
        self.head.get_mut().reset();
        self.uri.get_mut().clear();
        self.args.get_mut().clear();
        self.host.get_mut().clear();
        if self.client.get_mut().is_some() {
            *self.client.get_mut() = None;
        }
        self.body.get_mut().clear();
        self.out.get_mut().clear();
        self.slots.get_mut().clear();
        self.captures.get_mut().groups.clear();
        self.captures.get_mut().text.clear();
        self.companions.get_mut().clear();
        self.contexts.get_mut().clear();
        self.cleanups.get_mut().clear();
        if self.chain.get_mut().is_some() {
            *self.chain.get_mut() = None;
        }
        if self.pending_redirect.get_mut().is_some() {
            *self.pending_redirect.get_mut() = None;
        }
    }

    /// Whether it grew so much that the allocator should have it back.
    fn is_large(&self) -> bool {
        self.block.borrow().capacity() > 64 * 1024
    }
}

impl std::ops::Deref for Memory {
    type Target = State;

    #[inline(always)]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::Deref for Request {
    type Target = Memory;

    #[inline(always)]
    fn deref(&self) -> &Memory {
        &self.memory
    }
}

/// A module's state for one request.
struct Context {
    kind: TypeId,
    state: Rc<dyn Any>,
    /// Kept over internal redirects.
    lasting: bool,
}

/// The groups of the last regular expression, with the text they lie in.
#[derive(Default)]
pub struct Captures {
    pub text: Vec<u8>,
    pub groups: Groups,
}

/// Where to start over.
pub(crate) enum Redirect {
    Uri { uri: Vec<u8>, args: Vec<u8> },
    Named(Box<[u8]>),
}

impl Request {
    /// The generation it runs on.
    pub fn http(&self) -> &Http {
        &self.worker.http
    }

    /// The location it is in.
    pub fn loc(&self) -> &Location {
        self.http().location(self.location.get())
    }

    /// The server it was sent to.
    pub fn srv(&self) -> &Server {
        self.http().server(self.server.get())
    }

    /// The client's request this one was made for, or itself.
    pub fn main(&self) -> &Self {
        self.main.as_deref().unwrap_or(self)
    }

    /// Whether it is a subrequest.
    pub fn is_subrequest(&self) -> bool {
        self.main.is_some()
    }

    /// Whether the client's connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.conn.tls.get().is_some()
    }

    /// What is known of the client's TLS session.
    pub fn tls(&self) -> Option<&moonrest_net::tls::Info> {
        self.conn.tls.get().map(|info| &**info)
    }

    /// The normalised path.
    pub fn uri(&self) -> Ref<'_, Vec<u8>> {
        self.uri.borrow()
    }

    /// The client's address: the connection's, or what `realip` put in its place.
    pub fn with_client<R>(&self, f: impl FnOnce(&Addr) -> R) -> R {
        match &*self.main().client.borrow() {
            Some(addr) => f(addr),
            None => f(&self.conn.remote),
        }
    }

    /// The address the connection arrived at.
    pub fn with_local<R>(&self, f: impl FnOnce(&Addr) -> R) -> R {
        f(self.conn.local.get_or_init(|| Box::new(self.exchange.local_addr())))
    }

    /// The first request header field of that name, any case. Common names are found without a search.
    pub fn header(&self, name: &[u8]) -> Option<Vec<u8>> {
        let head = self.head.borrow();
        let block = self.block.borrow();
        head.get(&block, name).map(<[u8]>::to_vec)
    }

    /// Whether `name` is sent, and its value, without copying.
    pub fn with_header<R>(&self, name: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let head = self.head.borrow();
        let block = self.block.borrow();
        f(head.get(&block, name))
    }

    /// The first field of a known name, without a search.
    pub fn with_known<R>(&self, known: Known, f: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let head = self.head.borrow();
        let block = self.block.borrow();
        f(head.value(known, &block))
    }

    /// Whether the client sent a field of a known name.
    pub fn has_known(&self, known: Known) -> bool {
        self.head.borrow().field(known).is_some()
    }

    /// The values of all fields of that name, in order, without copying.
    pub fn with_headers<R>(&self, name: &[u8], f: impl FnOnce(&[&[u8]]) -> R) -> R {
        let head = self.head.borrow();
        let block = self.block.borrow();
        let values: smallvec::SmallVec<[&[u8]; 4]> = head
            .fields
            .iter()
            .filter(|field| field.name.of(&block).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(&block))
            .collect();
        f(&values)
    }

    /// Calls `f` for each field in order, with name and value as sent.
    pub fn for_each_header(&self, mut f: impl FnMut(&[u8], &[u8])) {
        let head = self.head.borrow();
        let block = self.block.borrow();
        for field in &head.fields {
            f(field.name.of(&block), field.value.of(&block));
        }
    }

    /// Replaces all fields of that name by one.
    pub fn set_header(&self, name: &[u8], value: &[u8]) {
        let mut block = self.block.borrow_mut();
        self.head.borrow_mut().set(&mut block, name, value);
    }

    /// Adds a field behind the others.
    pub fn add_header(&self, name: &[u8], value: &[u8]) {
        let mut block = self.block.borrow_mut();
        self.head.borrow_mut().append(&mut block, name, value);
    }

    /// Removes all fields of that name.
    pub fn remove_header(&self, name: &[u8]) {
        let block = self.block.borrow();
        self.head.borrow_mut().remove(&block, name);
    }

    /// The response head, for reading.
    pub fn out(&self) -> Ref<'_, HeadersOut> {
        self.out.borrow()
    }

    /// The response head, for editing. Only before it is sent.
    pub fn out_mut(&self) -> RefMut<'_, HeadersOut> {
        self.out.borrow_mut()
    }

    /// This module's state for this request, made on first use. `T` is private to the module, so no two collide.
    pub fn ctx<T: Default + 'static>(&self) -> Rc<T> {
        if let Some(known) = self.find_ctx::<T>() {
            return known;
        }
        let made = Rc::new(T::default());
        self.keep_ctx(made.clone(), false);
        made
    }

    /// The same, but kept over internal redirects.
    pub fn lasting_ctx<T: Default + 'static>(&self) -> Rc<T> {
        if let Some(known) = self.find_ctx::<T>() {
            return known;
        }
        let made = Rc::new(T::default());
        self.keep_ctx(made.clone(), true);
        made
    }

    pub(crate) fn keep_ctx<T: 'static>(&self, state: Rc<T>, lasting: bool) {
        self.contexts.borrow_mut().push(Context { kind: TypeId::of::<T>(), state, lasting });
    }

    /// This module's state, if it has any yet.
    pub fn find_ctx<T: 'static>(&self) -> Option<Rc<T>> {
        let contexts = self.contexts.borrow();
        let found = contexts.iter().find(|ctx| ctx.kind == TypeId::of::<T>())?;
        found.state.clone().downcast().ok()
    }

    /// Forgets all modules' state, as an internal redirect does.
    pub fn clear_ctx(&self) {
        self.ctx_rounds.set(self.ctx_rounds.get().wrapping_add(1));
        self.contexts.borrow_mut().retain(|ctx| ctx.lasting);
    }

    /// How often modules' state was forgotten.
    #[inline]
    pub fn ctx_rounds(&self) -> u32 {
        self.ctx_rounds.get()
    }

    /// Runs `f` when the request ends, however it ends. Last registered first.
    pub fn at_end(&self, f: impl FnOnce(&Self) + 'static) {
        self.cleanups.borrow_mut().push(Box::new(f));
    }

    pub(crate) fn run_cleanups(&self) {
        while let Some(cleanup) = { self.cleanups.borrow_mut().pop() } {
            cleanup(self);
        }
    }

    /// Starts over at `uri` when the handler answers [`crate::Flow::Redirected`]
    /// (nginx's `ngx_http_internal_redirect`). `args` without `?`.
    pub fn redirect_internally(&self, uri: &[u8], args: &[u8]) {
        *self.pending_redirect.borrow_mut() =
            Some(Box::new(Redirect::Uri { uri: uri.into(), args: args.into() }));
    }

    /// The same for the named location `@name`; `name` includes the `@`.
    pub fn redirect_to_named(&self, name: &[u8]) {
        *self.pending_redirect.borrow_mut() = Some(Box::new(Redirect::Named(name.into())));
    }

    /// The error log in force here.
    pub fn log(&self) -> &Arc<Log> {
        &self.loc().core.error_log
    }

    /// Writes to the error log with the request's context. Use the macros [`crate::error!`], [`crate::warn!`] ….
    #[cold]
    pub fn log_at(&self, level: Level, message: std::fmt::Arguments<'_>) {
        crate::context::log(self, level, message);
    }

    /// The same for a message of several lines, such as a traceback. What a client sent must not be in it as it came.
    #[cold]
    pub fn log_lines_at(&self, level: Level, message: std::fmt::Arguments<'_>) {
        crate::context::log_lines(self, level, message);
    }

    /// The same above all levels, whatever `error_log` says.
    #[cold]
    pub fn log_nameless(&self, message: std::fmt::Arguments<'_>) {
        crate::context::log_nameless(self, message);
    }

    /// Sleeps, failing when the client leaves meanwhile. In a subrequest that is for the main request to notice.
    ///
    /// # Errors
    /// [`RequestError::client_gone`].
    pub fn sleep(
        self: &Rc<Self>,
        ms: u64,
    ) -> impl Future<Output = Result<crate::phase::Flow, RequestError>> + 'static {
        let r = self.clone();
        async move {
            let mut sleep = std::pin::pin!(moonrest_net::sleep::sleep(ms));
            std::future::poll_fn(|cx| {
                if sleep.as_mut().poll(cx).is_ready() {
                    return std::task::Poll::Ready(Ok(crate::phase::Flow::Next));
                }
                if r.is_subrequest() {
                    return std::task::Poll::Pending;
                }
                r.exchange.poll_closed(cx).map(|()| Err(RequestError::client_gone()))
            })
            .await
        }
    }
}

impl Subject for Request {
    fn vars(&self) -> &VarTable<Self> {
        &self.worker.http.vars
    }

    fn slots(&self) -> &RefCell<Slots> {
        // nginx: subrequests share their parent's variables, unless a program wants it otherwise.
        match &self.parent {
            Some(parent) if !self.own_variables.get() => parent.slots(),
            _ => &self.slots,
        }
    }

    fn capture(&self, n: usize, out: &mut Vec<u8>) -> bool {
        let captures = self.captures.borrow();
        let Some(&(start, end)) = captures.groups.get(n) else { return false };
        out.extend_from_slice(captures.text.get(start..end).unwrap_or_default());
        true
    }

    fn keep_captures(&self, text: &[u8], groups: Groups, names: &[(VarId, usize)]) {
        let mut slots = self.slots().borrow_mut();
        for (id, group) in names {
            let value = groups.get(*group).and_then(|&(start, end)| text.get(start..end));
            slots.set(*id, value.map(Into::into));
        }
        let mut captures = self.captures.borrow_mut();
        captures.text.clear();
        captures.text.extend_from_slice(text);
        captures.groups = groups;
    }

    fn warn(&self, message: &str) {
        self.log_at(Level::Error, format_args!("{message}"));
    }

    fn rule_failed(&self, message: &str) {
        self.rule_failed.set(true);
        self.log_at(Level::Alert, format_args!("{message}"));
    }
}

/// Everything a new request needs from the protocol driver.
pub struct NewRequest {
    pub worker: Rc<Worker>,
    pub conn: Rc<Connection>,
    pub exchange: Rc<dyn Exchange>,
    pub server: ServerId,
    pub location: LocId,
    pub parent: Option<RequestRef>,
}

impl Request {
    /// A request with empty fields, in used memory if there is some.
    pub fn start(new: NewRequest) -> RequestRef {
        let memory = new.worker.take_memory();
        Self::start_in(memory, new)
    }

    /// The same in memory that was taken before, with the head that was parsed there.
    #[inline]
    pub(crate) fn start_in(memory: Rc<Memory>, new: NewRequest) -> RequestRef {
        let NewRequest { worker, conn, exchange, server, location, parent } = new;
        let main = parent.as_ref().map(|parent| parent.main.clone().unwrap_or_else(|| parent.clone()));
        memory.server.set(server);
        memory.location.set(location);
        Rc::new(Self { worker, conn, exchange, parent, main, memory })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.run_cleanups();
        if let Some(memory) = Rc::get_mut(&mut self.memory)
            && !memory.is_large()
        {
            memory.clear();
            self.worker.give_memory(self.memory.clone());
        }
    }
}
