//! What targets share that run whole requests: a server of a configuration, a client and an upstream, all in one thread.
//!
//! Client and upstream are sockets of the system that never block; between their steps the server's tasks run.

use moonrest_conf::Loader;
use moonrest_core::{Env, Level, Log, env::Resources};
use moonrest_http::{
    compile::{Compiler, Registry},
    server::accept,
    worker::Worker,
};
use moonrest_net::listen::Listener;
use moonrest_rt::{Options, Runtime, sleep::sleep, yield_now};
use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Turns without an answer after which the client says that it will send no more. Before, that would be taken for its leaving.
const PATIENT_TURNS: u32 = 60;
/// The most that may be answered.
const MOST: usize = 8 << 20;

/// A server of one configuration.
pub struct Site {
    runtime: Runtime,
    socket: PathBuf,
}

struct Text(String);

impl Loader for Text {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into())
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl Resources for Text {
    fn open_log(&self, _: &Path) -> io::Result<File> {
        File::create("/dev/null")
    }
    fn listen(&self, _: &moonrest_sys::listen::ListenSpec, _: usize) -> io::Result<OwnedFd> {
        Err(ErrorKind::Unsupported.into())
    }
    fn testing(&self) -> bool {
        true
    }
    fn make_dir(&self, _: &Path, _: Option<(u32, u32)>) -> io::Result<()> {
        Ok(())
    }
}

/// A name in the temporary directory that only this process has.
fn name(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("moonrest-fuzz-{}-{what}", std::process::id()))
}

fn listen(path: &Path) -> UnixListener {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("a socket in the temporary directory");
    listener.set_nonblocking(true).expect("a socket that does not block");
    listener
}

impl Site {
    /// Compiles a configuration, whose first `listen` is what clients get, and begins to serve.
    pub fn start(conf: &str, modules: Registry) -> Self {
        let text = Text(conf.to_owned());
        let (tree, errors) = moonrest_conf::parse(&text, Path::new("/"), Path::new("fuzz.conf"));
        assert!(errors.is_empty(), "{errors:?}");
        let env = Env::new("/".into(), "/".into(), &text);
        let log = || Arc::new(Log::stderr(Level::Emerg));
        let http = Compiler::new(&env, modules, log()).compile(&tree.directives[0]);
        let errors = env.errors.take();
        assert!(errors.is_empty(), "{errors:?}");
        let http = Arc::new(http.expect("a configuration without errors"));
        let runtime = Runtime::new(&Options::default()).expect("an event loop");
        let socket = name("site");
        let listener = listen(&socket);
        runtime.block_on(async {
            let worker = Worker::new(0, http, log(), Arc::default(), 100_000);
            let socket = Listener::new(listener.into(), true, false).expect("a socket to watch");
            moonrest_rt::spawn(accept::run(worker, socket, 0));
        });
        Self { runtime, socket }
    }

    /// Sends bytes as a client that then only listens; gives what is answered until the connection ends. `meanwhile` is called
    /// at every turn.
    pub fn talk(&self, request: &[u8], mut meanwhile: impl FnMut()) -> Vec<u8> {
        let mut client = UnixStream::connect(&self.socket).expect("a connection");
        client.set_nonblocking(true).expect("a socket that does not block");
        let (mut rest, mut answer, mut buffer) = (request, Vec::new(), vec![0; 64 << 10]);
        let (began, mut quiet) = (Instant::now(), 0);
        self.runtime.block_on(async {
            for turn in 0_u32.. {
                if !rest.is_empty() {
                    match client.write(rest) {
                        Ok(len) => rest = &rest[len..],
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => rest = &[],
                    }
                }
                if rest.is_empty() && quiet == PATIENT_TURNS {
                    let _ = client.shutdown(Shutdown::Write);
                }
                quiet += 1;
                match client.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(len) => {
                        answer.extend_from_slice(&buffer[..len]);
                        quiet = 0;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                assert!(answer.len() <= MOST, "it answers without end");
                assert!(began.elapsed() < PATIENCE, "it does not end");
                meanwhile();
                if turn < 200 { yield_now().await } else { sleep(1).await }
            }
        });
        answer
    }
}

/// A server that says the same to everybody, whatever it is told.
pub struct Upstream {
    listener: UnixListener,
    path: PathBuf,
    open: Vec<UnixStream>,
}

impl Upstream {
    pub fn start() -> Self {
        let path = name("upstream");
        Self { listener: listen(&path), path, open: Vec::new() }
    }

    /// Where it listens.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path of text")
    }

    /// Answers those who have come since.
    pub fn step(&mut self, answer: &[u8]) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nonblocking(true);
            // What does not fit into the socket is cut.
            let _ = stream.write(answer);
            let _ = stream.shutdown(Shutdown::Write);
            self.open.push(stream);
        }
        // Questions are read, so that a wait for room has an end.
        let mut buffer = [0; 16 << 10];
        for stream in &mut self.open {
            while matches!(stream.read(&mut buffer), Ok(len) if len > 0) {}
        }
    }

    /// Ends all connections.
    pub fn close(&mut self) {
        self.open.clear();
    }
}
