//! What setters may ask of the surroundings while a configuration is compiled.

use crate::{ConfResult, Fault, log::LogFiles, zone::Zones};
use moonrest_conf::{ConfigError, Level, Span, Word};
use moonrest_sys::listen::ListenSpec;
use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The one door to files and sockets at configuration time. The master opens them with its rights and hands them
/// to the serving process, which passes through the same door; the compiler does not know which side it is on.
pub trait Resources: moonrest_conf::Loader {
    /// Opens a log for appending, creating it.
    ///
    /// # Errors
    /// The system's, as `open` gives it.
    fn open_log(&self, path: &Path) -> io::Result<File>;

    /// Binds and listens. The same `spec` asked for twice gives the same socket; `shard` numbers the sockets of one
    /// `SO_REUSEPORT` group.
    ///
    /// # Errors
    /// The system's, as `bind` or `listen` gives it.
    fn listen(&self, spec: &ListenSpec, shard: usize) -> io::Result<OwnedFd>;

    /// Whether nothing may be bound or created for keeps (`-t`).
    fn testing(&self) -> bool;

    /// A directory that must exist and belong to the worker's user (temporary files).
    ///
    /// # Errors
    /// The system's, as `mkdir` or `chown` gives it.
    fn make_dir(&self, path: &Path, owner: Option<(u32, u32)>) -> io::Result<()>;

    /// Names whom directories belong to that are made without an owner: the worker's user.
    fn set_owner(&self, _owner: Option<(u32, u32)>) {}

    /// Whether root reads the configuration, now or when it was handed over.
    fn privileged(&self) -> bool {
        moonrest_sys::user::effective_uid() == 0
    }
}

/// Shared by every setter of one compilation.
pub struct Env<'r> {
    /// `-p`: what relative paths of files served and logs are relative to. Ends with a slash.
    pub prefix: PathBuf,
    /// The directory of the main configuration file.
    pub conf_prefix: PathBuf,
    pub resources: &'r dyn Resources,
    pub logs: LogFiles,
    pub zones: Zones,
    /// Errors and warnings met so far, in order.
    pub errors: RefCell<Vec<ConfigError>>,
    /// The paths of the files read, by their numbers.
    pub files: Vec<PathBuf>,
    shared: RefCell<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl<'r> Env<'r> {
    /// Surroundings for one compilation.
    pub fn new(prefix: PathBuf, conf_prefix: PathBuf, resources: &'r dyn Resources) -> Self {
        Self {
            prefix,
            conf_prefix,
            resources,
            logs: LogFiles::default(),
            zones: Zones::default(),
            errors: RefCell::default(),
            files: Vec::new(),
            shared: RefCell::default(),
        }
    }

    /// `path` below the prefix, unless it is absolute.
    pub fn full_path(&self, path: &[u8]) -> ConfResult<PathBuf> {
        Ok(self.prefix.join(to_path(path)?))
    }

    /// `path` below the configuration file's directory, unless it is absolute.
    pub fn conf_path(&self, path: &[u8]) -> ConfResult<PathBuf> {
        Ok(self.conf_prefix.join(to_path(path)?))
    }

    /// The name, without directories, of the file that `span` lies in.
    pub fn file_name(&self, span: Span) -> String {
        let path = self.files.get(span.file.0 as usize);
        let name = path.and_then(|path| path.file_name());
        name.map_or_else(|| "nginx.conf".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Reports a warning in nginx's form; the configuration stays valid.
    pub fn warn(&self, message: String, span: Option<Span>) {
        self.report(Level::Warn, message, span);
    }

    /// Reports an error of any level.
    pub fn report(&self, level: Level, message: String, span: Option<Span>) {
        let error = ConfigError::new(level, message);
        self.errors.borrow_mut().push(match span {
            Some(span) => error.with_span(span),
            None => error,
        });
    }

    /// Reads a whole file named in the configuration, relative to the configuration's directory.
    ///
    /// # Errors
    /// nginx's `open() "path" failed (2: No such file or directory)`.
    pub fn read_file(&self, word: &Word) -> ConfResult<Vec<u8>> {
        let path = self.conf_path(&word.text)?;
        self.resources.read(&path).map_err(|error| {
            Fault::message(format!("open() \"{}\" failed ({})", path.display(), os_error(&error)))
        })
    }

    /// Makes sure that a directory for temporary files exists and belongs to whom the server runs as.
    ///
    /// # Errors
    /// nginx's `mkdir() "path" failed (13: Permission denied)`.
    pub fn make_dir(&self, path: &Path) -> ConfResult {
        self.resources.make_dir(path, None).map_err(|error| {
            Fault::message(format!("mkdir() \"{}\" failed ({})", path.display(), os_error(&error)))
        })
    }

    /// One value per compilation, for modules that must find each other's work without naming each other.
    pub fn shared<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let entry = self
            .shared
            .borrow_mut()
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Arc::new(T::default()))
            .clone();
        entry.downcast::<T>().unwrap_or_default()
    }
}

fn to_path(path: &[u8]) -> ConfResult<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    if path.contains(&0) {
        return Err(Fault::message("a path contains a zero byte"));
    }
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

/// `2: No such file or directory`: an error of the system in nginx's form.
pub fn os_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{code}: {}", os_message(error)),
        None => error.to_string(),
    }
}

/// The text of `strerror` alone.
fn os_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
