//! Where servers for specifications live, as whom, and how they are started and found ready.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::Kind;
use crate::process;
use crate::tls::Certificate;

/// How long a server may take to begin.
const START: Duration = Duration::from_secs(60);

const PREFIX: &str = "moonrest-services-";

/// A directory for the servers of this process. Those of runners that were killed are removed.
pub(super) fn directory() -> PathBuf {
    let temp = std::env::temp_dir();
    for entry in temp.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|pid| !process::is_running(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    temp.join(format!("{PREFIX}{}-{:x}", std::process::id(), started()))
}

/// Tells directories of one process apart.
fn started() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

/// The directory of one server.
pub(super) struct Place {
    pub(super) dir: PathBuf,
}

impl Place {
    pub(super) fn new(root: &Path, kind: Kind) -> io::Result<Self> {
        let dir = root.join(kind.name().to_ascii_lowercase());
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// A certificate for `localhost` and its authority's, in files: `cert.pem`, `key.pem`, `ca.pem`.
    pub(super) fn certificate(&self) -> io::Result<()> {
        let authority = Certificate::authority("moonrest-test-authority");
        let issued = authority.issue("localhost");
        fs::write(self.path("cert.pem"), format!("{}{}", issued.pem, authority.pem))?;
        fs::write(self.path("ca.pem"), &authority.pem)?;
        fs::write(self.path("key.pem"), &issued.key)?;
        // PostgreSQL takes no key that others may read.
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(0o600))
    }

    /// Hands the directory and what is in it to a user.
    pub(super) fn give_to(&self, user: Option<&User>) -> io::Result<()> {
        let Some(user) = user else { return Ok(()) };
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid));
        own(&self.dir)?;
        for entry in self.dir.read_dir()? {
            own(&entry?.path())?;
        }
        Ok(())
    }

    /// A command that is run as `user` and gets a signal when the thread that starts it is gone.
    pub(super) fn command(&self, program: &str, user: Option<&User>, signal: Signal) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", name_of(signal)]);
        if let Some(user) = user {
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .arg("--clear-groups");
        }
        command.arg(program).current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a server that stays in the foreground; what it says goes to a file.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Waits until `probe` holds; the error has the end of the log.
    pub(super) fn wait(&self, child: &mut Child, mut probe: impl FnMut() -> bool) -> io::Result<()> {
        let ready = process::poll(START, || match child.try_wait() {
            Ok(None) => probe().then_some(true),
            _ => Some(false),
        });
        if ready == Some(true) {
            return Ok(());
        }
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n");
        Err(io::Error::other(format!("the server does not start:\n{tail}")))
    }
}

fn name_of(signal: Signal) -> &'static str {
    match signal {
        Signal::QUIT => "QUIT",
        Signal::KILL => "KILL",
        _ => "TERM",
    }
}

/// Runs a command to its end.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    finish(command.output()?)
}

/// An error with what a command said, unless it went well.
pub(super) fn finish(output: Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!("{}: {}", output.status, String::from_utf8_lossy(&said))))
}

/// A user of the system.
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// The first of these users that there is, if we are root: some servers refuse to run as root.
    pub(super) fn instead_of_root(names: &[&str]) -> io::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            let mut fields =
                passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
            let (_, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        };
        match names.iter().find_map(|name| find(name)) {
            Some(user) => Ok(Some(user)),
            None => Err(io::Error::other(format!("no user {}", names.join(" or ")))),
        }
    }
}

/// A program by its name, in the places where Debian puts it: ordinary users have no `/usr/sbin` in their path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut dirs: Vec<PathBuf> = dirs.collect();
    if matches!(name, "postgres" | "initdb") {
        dirs.extend(postgres_dirs());
    }
    dirs.iter().find_map(|dir| {
        let exact = dir.join(name);
        if exact.is_file() {
            return Some(exact);
        }
        // Debian's name has the version in it.
        let entries = (name == "php-fpm").then(|| dir.read_dir().ok())??;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
        found.sort();
        found.pop()
    })
}

/// Debian keeps several versions of PostgreSQL side by side: the newest first.
fn postgres_dirs() -> Vec<PathBuf> {
    let entries = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, dir)| dir).collect()
}

/// The same, or the error that names it.
pub(super) fn needed(name: &str) -> io::Result<String> {
    let found = program(name).map(|path| path.to_string_lossy().into_owned());
    found.ok_or_else(|| io::Error::other(format!("there is no program {name}: see CONTRIBUTING.md")))
}
