//! Compiles a configuration and runs requests through it, without sockets.

use bytes::Bytes;
use moonrest_conf::Loader;
use moonrest_core::{Env, Log, env::Resources};
use moonrest_http::{
    Request, RequestError,
    compile::{Compiler, Http, Registry},
    core::HttpCore,
    exchange::{BodyRead, Connection, Exchange, Output},
    location::ServerId,
    module::Module,
    prelude::*,
    request::NewRequest,
    worker::Worker,
};
use moonrest_http_modules::{addition, charset, gunzip, gzip, rewrite, ssi, sub_filter};
use moonrest_net::addr::Addr;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    task::{Context, Poll},
};

static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    &Module::<Script>::NEW,
    &Module::<rewrite::Rewrite>::NEW,
    &Module::<gunzip::Gunzip>::NEW,
    &Module::<addition::Addition>::NEW,
    &Module::<sub_filter::Sub>::NEW,
    &Module::<charset::Charset>::NEW,
    &Module::<ssi::Ssi>::NEW,
    &Module::<gzip::Gzip>::NEW,
];

/// `script STEP…`: answers with text; a step may also be `flush`, `wait NAME`, `open NAME` or `repeat N TEXT`.
pub(crate) struct Script;

impl HttpModule for Script {
    const NAME: &'static str = "script";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::loc("script", Arity::at_least(1), |loc: &mut ScriptLoc, args| {
            loc.steps = Some(args.words().iter().map(|word| word.lossy().into_owned()).collect());
            Ok(())
        })];
    type Main = ();
    type Loc = ScriptLoc;

    fn attach((): &(), loc: &Arc<ScriptLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(steps) = &loc.steps {
            to.content(Handler(steps.clone().into()));
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub(crate) struct ScriptLoc {
    steps: Option<Vec<String>>,
}

inherit!(ScriptLoc { steps });

struct Handler(Arc<[String]>);

thread_local! {
    static GATES: RefCell<HashMap<String, Rc<tokio::sync::Semaphore>>> = RefCell::default();
    /// Bodies for steps `body NAME`, of types that a configuration cannot hold.
    static BODIES: RefCell<HashMap<String, (Bytes, Option<Bytes>)>> = RefCell::default();
}

/// Makes a body known, with its content coding.
pub(crate) fn keep_body(name: &str, body: Vec<u8>, coding: Option<&'static [u8]>) {
    BODIES.with_borrow_mut(|bodies| {
        bodies.insert(name.to_owned(), (body.into(), coding.map(Bytes::from_static)));
    });
}

fn gate(name: &str) -> Rc<tokio::sync::Semaphore> {
    GATES.with_borrow_mut(|gates| {
        gates.entry(name.to_owned()).or_insert_with(|| Rc::new(tokio::sync::Semaphore::new(0))).clone()
    })
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let (r, steps) = (r.clone(), self.0.clone());
        Step::wait(async move {
            {
                let mut out = r.out_mut();
                out.status = 200;
                out.set_content_type(&b"text/html"[..]);
                let kept = steps.first().and_then(|step| step.strip_prefix("body "));
                out.content_encoding =
                    kept.and_then(|name| BODIES.with_borrow(|bodies| bodies.get(name)?.1.clone()));
            }
            r.send_head().await?;
            for step in &*steps {
                match step.split(' ').collect::<Vec<_>>()[..] {
                    ["flush"] => r.send(Piece::Flush).await?,
                    ["wait", name] => {
                        let gate = gate(name);
                        let Ok(turn) = gate.acquire().await else { break };
                        turn.forget();
                    }
                    ["panic"] => panic!("as the test asked"),
                    ["open", name] => gate(name).add_permits(1),
                    ["body", name] => {
                        let body = BODIES.with_borrow(|bodies| bodies[name].0.clone());
                        r.send(Piece::Data(body)).await?;
                    }
                    ["repeat", count, text] => {
                        for _ in 0..count.parse().unwrap() {
                            r.send(Piece::Data(Bytes::copy_from_slice(text.as_bytes()))).await?;
                        }
                    }
                    _ => r.send(Piece::Data(Bytes::copy_from_slice(step.as_bytes()))).await?,
                }
            }
            r.send(Piece::Last).await?;
            Ok(Flow::Responded)
        })
    }
}

/// The one file there is: the configuration.
struct Files(Vec<u8>);

impl Loader for Files {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl Resources for Files {
    fn open_log(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }
    fn listen(&self, _: &moonrest_sys::listen::ListenSpec, _: usize) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn testing(&self) -> bool {
        true
    }
    fn make_dir(&self, _: &Path, _: Option<(u32, u32)>) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn compile(server: &str) -> Arc<Http> {
    let text = format!("http {{ server {{ listen 127.0.0.1:1; default_type text/html; {server} }} }}");
    let files = Files(text.into());
    let (tree, errors) = moonrest_conf::parse(&files, Path::new("/"), Path::new("test.conf"));
    assert!(errors.is_empty(), "{errors:?}");
    let env = Env::new("/".into(), "/".into(), &files);
    let log = Arc::new(Log::stderr(Level::Emerg));
    let http = Compiler::new(&env, MODULES, log).compile(&tree.directives[0]);
    let errors = env.errors.take();
    assert!(errors.is_empty(), "{errors:?}");
    Arc::new(http.expect("a configuration without errors"))
}

/// A client that takes what is queued when it is asked, so much at a time, and leaves after so many bytes.
pub(crate) struct Client {
    queued: RefCell<Vec<u8>>,
    pub(crate) received: RefCell<Vec<u8>>,
    /// The most that was queued at once.
    pub(crate) most_queued: Cell<usize>,
    /// How much had come when something was flushed.
    pub(crate) flushed: RefCell<Vec<usize>>,
    pub(crate) ended: Cell<bool>,
    step: usize,
    leaves_after: usize,
}

impl Exchange for Client {
    fn send_head(&self, _: &Request, _: bool) -> Result<(), RequestError> {
        Ok(())
    }
    fn send_interim(&self, _: &Request, _: u16, _: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
        Ok(())
    }
    fn push(&self, _: &Request, output: Output) -> Result<(), RequestError> {
        let Output::Data(data) = output else { return Err(RequestError::internal("a file")) };
        let mut queued = self.queued.borrow_mut();
        queued.extend_from_slice(&data);
        self.most_queued.set(self.most_queued.get().max(queued.len()));
        Ok(())
    }
    fn finish(&self, _: &Request) -> Result<(), RequestError> {
        assert!(!self.ended.replace(true), "the end came twice");
        Ok(())
    }
    fn flush(&self, _: &Request) {
        let so_far = self.received.borrow().len() + self.queued.borrow().len();
        self.flushed.borrow_mut().push(so_far);
    }
    fn poll_drained(&self, _: &Request, low: usize, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        if self.received.borrow().len() > self.leaves_after {
            return Poll::Ready(Err(RequestError::client_gone()));
        }
        if self.queued.borrow().len() <= low {
            return Poll::Ready(Ok(()));
        }
        let mut queued = self.queued.borrow_mut();
        let n = self.step.min(queued.len());
        self.received.borrow_mut().extend(queued.drain(..n));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
    fn poll_body(&self, _: &Request, _: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        Poll::Ready(Ok(BodyRead::End))
    }
    fn poll_closed(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    fn abort(&self, _: &Request) {}
    fn expect_continue(&self, _: &Request) -> Result<(), RequestError> {
        Ok(())
    }
    fn local_addr(&self) -> Addr {
        Addr::Inet("127.0.0.1:1".parse().unwrap())
    }
    fn bytes_sent(&self) -> u64 {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What came of a request.
pub(crate) struct Done {
    pub(crate) request: RequestRef,
    pub(crate) client: Rc<Client>,
    pub(crate) result: Result<(), RequestError>,
}

impl Done {
    /// The body, whatever the client had not taken yet included.
    pub(crate) fn body(&self) -> Vec<u8> {
        [&self.client.received.borrow()[..], &self.client.queued.borrow()].concat()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }
}

/// A request to be made.
pub(crate) struct Ask {
    pub(crate) server: String,
    pub(crate) path: &'static str,
    pub(crate) method: moonrest_proto::http1::Method,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) step: usize,
    pub(crate) leaves_after: usize,
}

impl Ask {
    pub(crate) fn new(server: impl Into<String>, path: &'static str) -> Self {
        let method = moonrest_proto::http1::Method::Get;
        Self {
            server: server.into(),
            path,
            method,
            headers: Vec::new(),
            step: 16 * 1024,
            leaves_after: usize::MAX,
        }
    }

    pub(crate) fn run(self) -> Done {
        let http = compile(&self.server);
        let runtime = moonrest_rt::Runtime::new(&moonrest_rt::Options::default()).unwrap();
        let client = Rc::new(Client {
            queued: RefCell::default(),
            received: RefCell::default(),
            most_queued: Cell::new(0),
            flushed: RefCell::default(),
            ended: Cell::new(false),
            step: self.step,
            leaves_after: self.leaves_after,
        });
        let log = Arc::new(Log::stderr(Level::Emerg));
        let request = runtime.block_on(async {
            let worker = Worker::new(0, http, log, Arc::default(), 10);
            let conn = Rc::new(Connection {
                number: 1,
                remote: Addr::Inet("127.0.0.1:2".parse().unwrap()),
                local: Default::default(),
                listener: 0,
                started: 0,
                requests: Cell::new(1),
                proxy_protocol: Default::default(),
                server: Cell::new(ServerId(0)),
                tls: Default::default(),
                socket: Default::default(),
                handshake: Default::default(),
            });
            let server = ServerId(0);
            let location = worker.http.server(server).location;
            let exchange = client.clone();
            let r = Request::start(NewRequest { worker, conn, exchange, server, location, parent: None });
            r.uri.borrow_mut().extend_from_slice(self.path.as_bytes());
            r.method.set(self.method);
            for (name, value) in &self.headers {
                r.set_header(name.as_bytes(), value.as_bytes());
            }
            r
        });
        let handled = async { moonrest_http::engine::handle(&request).await };
        let result =
            runtime.block_on(moonrest_net::timer::within(60_000, handled)).expect("the request ends in time");
        Done { request, client, result }
    }
}
