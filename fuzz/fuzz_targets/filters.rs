//! Bodies through the filters that read them: SSI, replacement, recoding, decompression, ranges. No panic, no endless
//! loop, output in proportion to the input.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moonrest_conf::Loader;
use moonrest_core::{Env, Level, Log, env::Resources};
use moonrest_http::{
    compile::{Compiler, Registry},
    core::HttpCore,
    exchange::{BodyRead, Connection, Exchange, Output},
    location::ServerId,
    module::Module,
    prelude::*,
    request::NewRequest,
    worker::Worker,
};
use moonrest_http_modules::{addition, charset, gunzip, gzip, headers, range, rewrite, ssi, sub_filter};
use moonrest_net::addr::Addr;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    task::{Context, Poll},
};
use moonrest_rt::{Options, Runtime};

const CONF: &str = "http { subrequest_output_buffer_size 64k; charset_map koi8-r utf-8 { C0 D18E; C1 D0B0; C2 D0B1; 80 E282AC; }
    server { listen 127.0.0.1:1; default_type text/html;
        location / { return 200 'included $arg_a'; }
        location = /0 { data; ssi on; ssi_value_length 64; }
        location = /1 { data; sub_filter abc ''; sub_filter aab xyz; sub_filter '<a' '$args'; sub_filter_once off; }
        location = /2 { data; charset utf-8; source_charset koi8-r; override_charset on; }
        location = /3 { data; charset koi8-r; source_charset utf-8; override_charset on; }
        location = /4 { data; gunzip on; }
        location = /5 { data; gunzip on; ssi on; sub_filter a bb; gzip on; gzip_min_length 0; }
    } }";

static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    &Module::<Data>::NEW,
    &Module::<rewrite::Rewrite>::NEW,
    &Module::<headers::Headers>::NEW,
    &Module::<gunzip::Gunzip>::NEW,
    &Module::<addition::Addition>::NEW,
    &Module::<sub_filter::Sub>::NEW,
    &Module::<charset::Charset>::NEW,
    &Module::<ssi::Ssi>::NEW,
    &Module::<range::Ranges>::NEW,
    &Module::<gzip::Gzip>::NEW,
];

/// `data`: answers with what is in [`BODY`].
struct Data;

#[derive(Clone, Default)]
struct DataLoc {
    on: Option<bool>,
}

inherit!(DataLoc { on });

impl HttpModule for Data {
    const NAME: &'static str = "data";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::loc("data", Arity::exactly(0), |loc: &mut DataLoc, _| {
            loc.on = Some(true);
            Ok(())
        })];
    type Main = ();
    type Loc = DataLoc;

    fn attach((): &(), loc: &Arc<DataLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.on == Some(true) {
            to.content(Answer);
        }
        Ok(())
    }
}

struct Answer;

thread_local! {
    static BODY: RefCell<Vec<Bytes>> = RefCell::default();
    static SERVER: (Runtime, Rc<Worker>) = start();
}

impl PhaseHandler for Answer {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.set_content_type(&b"text/html"[..]);
            if r.uri().ends_with(b"4") || r.uri().ends_with(b"5") {
                out.content_encoding = Some(Bytes::from_static(b"gzip"));
            }
        }
        // A page that includes itself is no news.
        let pieces = if r.is_subrequest() { Vec::new() } else { BODY.with_borrow(Clone::clone) };
        r.respond_pieces(pieces.into_iter().map(Piece::Data).collect())
    }
}

struct Text;

impl Loader for Text {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(CONF.into())
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl Resources for Text {
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

fn start() -> (Runtime, Rc<Worker>) {
    let (tree, errors) = moonrest_conf::parse(&Text, Path::new("/"), Path::new("fuzz.conf"));
    assert!(errors.is_empty(), "{errors:?}");
    let env = Env::new("/".into(), "/".into(), &Text);
    let log = || Arc::new(Log::stderr(Level::Emerg));
    let http = Compiler::new(&env, MODULES, log()).compile(&tree.directives[0]);
    let errors = env.errors.take();
    assert!(errors.is_empty(), "{errors:?}");
    let runtime = Runtime::new(&Options::default()).unwrap();
    let http = Arc::new(http.expect("a configuration without errors"));
    let worker = runtime.block_on(async { Worker::new(0, http, log(), Arc::default(), 10) });
    (runtime, worker)
}

/// Takes everything at once and counts it.
#[derive(Default)]
struct Sink {
    taken: Cell<u64>,
    ended: Cell<bool>,
}

impl Exchange for Sink {
    fn send_head(&self, _: &Request, _: bool) -> Result<(), RequestError> {
        Ok(())
    }
    fn send_interim(&self, _: &Request, _: u16, _: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
        Ok(())
    }
    fn push(&self, _: &Request, output: Output) -> Result<(), RequestError> {
        let Output::Data(data) = output else { return Err(RequestError::internal("a file")) };
        assert!(!self.ended.get(), "data behind the end");
        self.taken.set(self.taken.get() + data.len() as u64);
        if self.taken.get() > 4 << 20 { Err(RequestError::client_gone()) } else { Ok(()) }
    }
    fn finish(&self, _: &Request) -> Result<(), RequestError> {
        assert!(!self.ended.replace(true), "the end came twice");
        Ok(())
    }
    fn flush(&self, _: &Request) {}
    fn poll_drained(&self, _: &Request, _: usize, _: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        Poll::Ready(Ok(()))
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
        self.taken.get()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, step], body)) = data.split_first_chunk::<2>() else { return };
    let pieces = body.chunks(usize::from(step).max(1)).map(Bytes::copy_from_slice).collect();
    BODY.set(pieces);
    SERVER.with(|(runtime, worker)| {
        let sink = Rc::new(Sink::default());
        let handled = runtime.block_on(async {
            let conn = Rc::new(Connection {
                number: 1,
                remote: Addr::Inet("127.0.0.1:2".parse().unwrap()),
                local: Default::default(),
                listener: 0,
                started: 0,
                requests: Cell::new(1),
                proxy_protocol: Default::default(),
                tls: Default::default(),
                socket: Default::default(),
            });
            let server = ServerId(0);
            let (worker, location) = (worker.clone(), worker.http.server(server).location);
            let r = Request::start(NewRequest {
                worker,
                conn,
                exchange: sink.clone(),
                server,
                location,
                parent: None,
            });
            r.uri.borrow_mut().extend_from_slice(format!("/{}", kind % 6).as_bytes());
            r.args.borrow_mut().extend_from_slice(body.get(..8).unwrap_or_default());
            if kind >= 128 {
                r.set_header(b"Accept-Encoding", b"gzip");
            }
            let result = moonrest_net::timer::within(5_000, moonrest_http::engine::handle(&r)).await;
            // Nothing keeps a request alive behind its end.
            (result, Rc::strong_count(&r))
        });
        assert!(handled.0.is_some(), "it does not end");
        assert_eq!(handled.1, 1, "the request is kept");
        if matches!(handled.0, Some(Ok(()))) && kind < 128 {
            assert!(sink.ended.get(), "no end");
        }
    });
});
