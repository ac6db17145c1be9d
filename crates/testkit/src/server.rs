//! Starts a server with a given configuration in a directory of its own, and stops it with the value.
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Client;
use crate::logs::{self, Level};
use crate::port::Port;
use crate::process;
use crate::response::Response;

/// How long a start or an expected log line may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server binary under test: `MOONREST_BINARY`, or the release build of this workspace.
pub fn default_binary() -> PathBuf {
    match std::env::var_os("MOONREST_BINARY") {
        Some(path) => path.into(),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| workspace().join("target"), PathBuf::from);
            target.join("release/moonrest")
        }
    }
}

/// The directories for temporary files that a server has a directive for, going by what `-V` says it was built without.
pub fn temp_path_kinds(binary: &Path) -> Vec<&'static str> {
    let built = Command::new(binary).arg("-V").output().map(|output| output.stderr).unwrap_or_default();
    let built = String::from_utf8_lossy(&built);
    let mut kinds = vec!["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.retain(|kind| !built.contains(&format!("--without-http_{kind}_module")));
    kinds
}

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// A running server. Dropping it stops it and fails the test if its error log holds an alert, an emergency or a panic.
#[derive(Debug)]
pub struct Server {
    root: TempDir,
    ports: BTreeMap<String, Port>,
    child: Child,
    allowed: Vec<String>,
    stopped: bool,
}

/// A server that did not start.
#[derive(Debug)]
pub struct StartFailure {
    /// The exit code, if it exited by itself.
    pub status: Option<i32>,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// Its error log.
    pub error_log: String,
}

/// What a server is to be started with.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    binary: Option<PathBuf>,
    files: Vec<(String, Vec<u8>)>,
    args: Vec<String>,
    args_before: Vec<String>,
    in_root: bool,
    envs: Vec<(String, String)>,
}

impl ServerBuilder {
    /// Another binary than [`default_binary`].
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// A file below the server's directory, for example `html/index.html`.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// A further argument on the command line.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Arguments before all others: for a binary that starts the server, such as `taskset` or `valgrind`.
    #[must_use]
    pub fn args_before(mut self, args: &[&str]) -> Self {
        self.args_before.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Runs the server with its directory as the current one.
    #[must_use]
    pub fn in_root(mut self) -> Self {
        self.in_root = true;
        self
    }

    /// A variable in the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server; the test stops if that fails. See [`Server::start`] for the configuration.
    #[track_caller]
    pub fn start(self, conf: &str) -> Server {
        self.try_start(conf).unwrap_or_else(|failure| panic!("the server does not start: {failure:#?}"))
    }

    /// Starts the server, or says how it failed.
    pub fn try_start(self, conf: &str) -> Result<Server, Box<StartFailure>> {
        let root =
            tempfile::Builder::new().prefix("moonrest-test-").tempdir().expect("a temporary directory");
        for dir in ["conf", "html", "logs", "temp"] {
            fs::create_dir(root.path().join(dir)).expect("a directory below the temporary one");
        }
        for (path, content) in &self.files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file stands in a directory"))
                .expect("the file's directory");
            fs::write(path, content).expect("a file of the test");
        }
        let mut ports = BTreeMap::new();
        let binary = match self.args_before.last() {
            Some(wrapped) => PathBuf::from(wrapped),
            None => self.binary.clone().unwrap_or_else(default_binary),
        };
        let conf = complete(&expand(conf, root.path(), &mut ports), &temp_path_kinds(&binary));
        fs::write(root.path().join("conf/nginx.conf"), conf).expect("the configuration file");
        let child = self.command(root.path()).spawn().expect("the server binary can be executed");
        Server { root, ports, child, allowed: Vec::new(), stopped: false }.when_ready()
    }

    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(self.binary.clone().unwrap_or_else(default_binary));
        command.args(&self.args_before).arg("-p").arg(root).args([
            "-c",
            "conf/nginx.conf",
            "-e",
            "logs/error.log",
        ]);
        command.args(["-g", "daemon off; pid logs/nginx.pid;"]).args(&self.args);
        if self.in_root {
            command.current_dir(root);
        }
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        // A file, not a pipe: nobody reads while the server runs.
        let stderr = fs::File::create(root.join("logs/stderr.log")).expect("the file for standard error");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command
    }
}

impl Server {
    /// What a start can be given besides the configuration.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Starts the default binary with this configuration and waits until it is ready.
    ///
    /// In the text `{{addr}}` stands for an address with a free port, `{{port}}` for the port alone, `{{addr:NAME}}` and
    /// `{{port:NAME}}` for further ones, `{{root}}` for the server's directory. `events`, the logs and the directories
    /// for temporary files are added where the text does not name them.
    #[track_caller]
    pub fn start(conf: &str) -> Self {
        Self::builder().start(conf)
    }

    /// The first address the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.named_addr("")
    }

    /// The address that `{{addr:NAME}}` stands for.
    #[track_caller]
    pub fn named_addr(&self, name: &str) -> SocketAddr {
        self.ports.get(name).unwrap_or_else(|| panic!("the configuration has no {{{{addr:{name}}}}}")).addr()
    }

    /// The server's directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The id of the process that was started (the master, if there is one).
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is positive")
    }

    /// A new connection to the first address.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// The answer to a GET request on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// The answer to these bytes on a connection of their own.
    #[track_caller]
    pub fn request(&self, bytes: &str) -> Response {
        let mut client = self.connect();
        client.send(bytes);
        if bytes.starts_with("HEAD ") { client.response_to_head() } else { client.response() }
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// The error log so far.
    pub fn error_log(&self) -> String {
        logs::read(&self.root().join("logs/error.log"))
    }

    /// What the server wrote to its standard error so far.
    pub fn stderr(&self) -> String {
        logs::read(&self.root().join("logs/stderr.log"))
    }

    /// The access log so far.
    pub fn access_log(&self) -> String {
        logs::read(&self.root().join("logs/access.log"))
    }

    /// Waits until the error log has a line of this level that contains the text, and returns it.
    #[track_caller]
    pub fn wait_for_log(&self, level: Level, text: &str) -> String {
        let line = process::poll(PATIENCE, || {
            let log = self.error_log();
            log.lines().find(|line| line.contains(level.tag()) && line.contains(text)).map(str::to_owned)
        });
        line.unwrap_or_else(|| {
            panic!("no line {} … {text:?} in the error log:\n{}", level.tag(), self.tail())
        })
    }

    /// Waits until the access log has a line that contains the text, and returns it.
    #[track_caller]
    pub fn wait_for_access(&self, text: &str) -> String {
        let line = process::poll(PATIENCE, || {
            self.access_log().lines().find(|line| line.contains(text)).map(str::to_owned)
        });
        line.unwrap_or_else(|| panic!("no line with {text:?} in the access log:\n{}", self.access_log()))
    }

    /// Lines with this text in the error log are what the test is about: they do not fail it.
    pub fn allow_log(&mut self, text: &str) -> &mut Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Stops the server with this signal; returns whether it left by itself.
    pub fn stop(&mut self, with: Signal) -> bool {
        self.stopped = true;
        process::stop(self.pid(), with)
    }

    /// Stops the server as `nginx -s quit` would; returns whether it left by itself.
    pub fn quit(&mut self) -> bool {
        self.stop(Signal::QUIT)
    }

    /// Lines of the error log or of standard error that mean a bug and were not allowed.
    pub fn grave_lines(&self) -> Vec<String> {
        let log = self.error_log() + &self.stderr();
        let allowed = |line: &&str| self.allowed.iter().any(|text| line.contains(text));
        logs::grave_lines(&log).into_iter().filter(|line| !allowed(line)).map(str::to_owned).collect()
    }

    fn when_ready(mut self) -> Result<Self, Box<StartFailure>> {
        let pid_file = self.root().join("logs/nginx.pid");
        let ready = process::poll(PATIENCE, || match self.child.try_wait() {
            Ok(None) => process::read_pid_file(&pid_file).map(|_| None),
            Ok(Some(status)) => Some(Some(status)),
            Err(_) => None,
        });
        if matches!(ready, Some(None)) {
            return Ok(self);
        }
        if ready.is_none() {
            process::stop(self.pid(), Signal::KILL);
        }
        self.stopped = true;
        let failure = StartFailure {
            status: ready.flatten().and_then(|status| status.code()),
            stderr: self.stderr(),
            error_log: self.error_log(),
        };
        self.allow_log("");
        Err(Box::new(failure))
    }

    fn tail(&self) -> String {
        logs::tail(&self.error_log(), 30).join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stopped {
            self.stop(Signal::TERM);
        }
        let _ = self.child.wait();
        let grave = self.grave_lines();
        // A second panic while one unwinds would end the whole test program.
        if !std::thread::panicking() {
            assert!(grave.is_empty(), "the error log has lines that mean a bug: {grave:#?}");
        } else if !grave.is_empty() {
            eprintln!("the error log has lines that mean a bug: {grave:#?}");
        }
    }
}

/// Replaces `{{…}}`, taking a port for each name that occurs.
fn expand(conf: &str, root: &Path, ports: &mut BTreeMap<String, Port>) -> String {
    let mut out = String::with_capacity(conf.len());
    let mut rest = conf;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((token, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        let (kind, name) = token.split_once(':').unwrap_or((token, ""));
        if kind == "root" {
            out.push_str(&root.to_string_lossy());
        } else {
            let port = ports.entry(name.to_owned()).or_insert_with(|| Port::reserve().expect("a free port"));
            match kind {
                "addr" => out.push_str(&port.addr().to_string()),
                "port" => out.push_str(&port.number().to_string()),
                _ => panic!("{{{{{token}}}}} means nothing in a test's configuration"),
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Adds what every test needs and few want to write.
fn complete(conf: &str, temp_paths: &[&str]) -> String {
    let mut out = conf.to_owned();
    if let Some((before, after)) = conf.split_once("http {") {
        let mut http = String::new();
        for kind in temp_paths.iter().filter(|kind| !conf.contains(&format!("{kind}_temp_path"))) {
            http.push_str(&format!(" {kind}_temp_path temp/{kind};"));
        }
        if !conf.contains("access_log") {
            http.push_str(" access_log logs/access.log;");
        }
        out = format!("{before}http {{{http}{after}");
    }
    if !conf.contains("events") {
        out.push_str("\nevents {}\n");
    }
    if !conf.contains("error_log") {
        out.push_str("\nerror_log logs/error.log debug;\n");
    }
    out
}
