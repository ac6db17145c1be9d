//! A daemon in a directory of its own, as an administrator has it.

use moonrest_testkit::{Client, Port, Response, process};
use rustix::process::Signal;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_moonrest");

/// A daemon. Dropping it stops it.
pub(crate) struct Instance {
    root: TempDir,
    port: Port,
    head: String,
}

impl Instance {
    /// A directory with a configuration; nothing runs yet. `head` is the main level, `server` the server block.
    pub(crate) fn new(head: &str, server: &str) -> Self {
        process::adopt_orphans();
        let root = tempfile::Builder::new().prefix("moonrest-cli-").tempdir().unwrap();
        for name in ["conf", "logs", "html"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let instance = Self { root, port: Port::reserve().unwrap(), head: head.to_owned() };
        instance.configure(head, server);
        instance
    }

    /// A running daemon.
    #[track_caller]
    pub(crate) fn start(head: &str, server: &str) -> Self {
        let instance = Self::new(head, server);
        let output = instance.run(&[]);
        assert!(output.status.success(), "{output:?}\n{}", instance.error_log());
        instance
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, head: &str, server: &str) {
        let addr = self.addr();
        self.write(&format!(
            "{head}\nerror_log logs/error.log info;\nevents {{ }}\n\
             http {{\n  access_log logs/access.log;\n  server {{\n    listen {addr};\n    {server}\n  }}\n}}\n"
        ));
    }

    /// Writes only the server block anew.
    pub(crate) fn serve(&self, server: &str) {
        self.configure(&self.head, server);
    }

    /// Writes a whole configuration.
    pub(crate) fn write(&self, conf: &str) {
        fs::write(self.path("conf/nginx.conf"), conf).unwrap();
    }

    /// Runs the program in the directory with further arguments.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("-p").arg(self.root.path()).args(["-e", "logs/error.log"]);
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The process in the pid file.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        process::read_pid_file(&self.path("logs/nginx.pid")).expect("a pid file")
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// The serving process.
    #[track_caller]
    pub(crate) fn worker(&self) -> i32 {
        let workers = children(self.pid());
        assert_eq!(workers.len(), 1, "{workers:?}\n{}", self.error_log());
        workers[0]
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    pub(crate) fn error_log(&self) -> String {
        fs::read_to_string(self.path("logs/error.log")).unwrap_or_default()
    }

    /// Waits until the error log holds this.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.wait_until(text, || self.error_log().contains(text));
    }

    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, probe: impl Fn() -> bool) {
        let seen = process::poll(PATIENCE, || probe().then_some(()));
        assert!(seen.is_some(), "waited in vain for {what}:\n{}", self.error_log());
    }

    /// Waits until requests get this body.
    #[track_caller]
    pub(crate) fn wait_for_body(&self, body: &str) {
        self.wait_until(body, || self.get("/").text() == body);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for name in ["logs/nginx.pid", "logs/nginx.pid.oldbin"] {
            if let Some(pid) = process::read_pid_file(&self.path(name)) {
                process::stop(pid, Signal::TERM);
            }
        }
    }
}

/// The processes whose parent this is.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// What `ps` shows of a process.
pub(crate) fn title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// The files that a process has open.
pub(crate) fn open_files(pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Whether this test may become other users.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}
