//! A worker's Lua VM: made before it accepts, with the API and the code that was loaded so far.

use crate::{
    api,
    code::{Code, Source},
    ffi::{self, ctx},
    host::{Host, LuaPhase, Origin},
    library,
    scheduler::{self, Outcome},
    settings::Main,
    shdict,
};
use moonrest_core::Level;
use moonrest_http::{
    Request, RequestRef,
    compile::Registry,
    phase::LocalBoxFuture,
    worker::{Task, Worker},
};
use moonrest_luajit::{Form, LuaError, LuaResult, Options, Ref, Vm};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};

/// The VM and what it has loaded.
pub(crate) struct WorkerVm {
    pub vm: Vm,
    /// resty.core's table of `ngx.ctx` tables.
    pub ctx_tables: Option<Ref>,
    pub kept_ctx: ctx::Kept,
    pub capture_names: api::capture::Names,
    main: Arc<Main>,
    prefix: PathBuf,
    inline: RefCell<Inline>,
    files: RefCell<HashMap<Vec<u8>, Ref>>,
}

/// The functions of pieces of code in the configuration, by their numbers, which follow each other in a configuration.
#[derive(Default)]
struct Inline {
    /// The number of the first place.
    first: usize,
    near: Vec<Option<Ref>>,
    far: HashMap<usize, Ref, BuildHasherDefault<ById>>,
}

/// How many numbers around the first one have a place.
const NEAR: usize = 4096;

impl Inline {
    #[inline]
    fn get(&self, id: usize) -> Option<&Ref> {
        match self.near.get(id.wrapping_sub(self.first)) {
            Some(Some(known)) => Some(known),
            _ => self.far.get(&id),
        }
    }

    fn insert(&mut self, id: usize, function: Ref) {
        if self.near.is_empty() {
            self.first = id.saturating_sub(NEAR / 2);
        }
        let place = id.wrapping_sub(self.first);
        if place >= NEAR {
            self.far.insert(id, function);
            return;
        }
        if self.near.len() <= place {
            self.near.resize(place + 1, None);
        }
        if let Some(free) = self.near.get_mut(place) {
            *free = Some(function);
        }
    }
}

/// Numbers that are given out one by one need no better hash than themselves.
#[derive(Default)]
struct ById(u64);

impl Hasher for ById {
    fn finish(&self) -> u64 {
        // The table looks at the upper bits first.
        self.0.rotate_right(7) ^ self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = number as u64;
    }
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<WorkerVm>>> = const { RefCell::new(None) };
    static MODULES: Cell<Registry> = const { Cell::new(&[]) };
}

/// All modules of this worker's generation.
pub(crate) fn registry() -> Registry {
    MODULES.get()
}

/// The VM of this worker.
pub(crate) fn present() -> Option<Rc<WorkerVm>> {
    PRESENT.with_borrow(Clone::clone)
}

/// The VM that runs code for a request: the worker's, or one of its own where `lua_code_cache` is off.
pub(crate) fn of(r: &RequestRef, cached: bool) -> LuaResult<Rc<WorkerVm>> {
    let shared = present().ok_or_else(|| LuaError::exactly("the worker has no Lua VM"))?;
    if cached {
        return Ok(shared);
    }
    let own = r.ctx::<OwnVm>();
    if let Some(vm) = &*own.0.borrow() {
        return Ok(vm.clone());
    }
    let fresh = Rc::new(WorkerVm::new(shared.main.clone(), shared.prefix.clone(), r.log())?);
    fresh.init(r.log())?;
    *own.0.borrow_mut() = Some(fresh.clone());
    Ok(fresh)
}

/// A request's own VM.
#[derive(Default)]
struct OwnVm(RefCell<Option<Rc<WorkerVm>>>);

/// Makes this worker's VM and runs `init_by_lua*` in it.
///
/// # Errors
/// Why the worker cannot serve.
pub(crate) fn start(main: &Arc<Main>, worker: &Rc<Worker>) -> Result<(), String> {
    ffi::process::publish();
    MODULES.set(worker.http.registry);
    ffi::regex::configure(main.regex_cache_max_entries(), main.regex_match_limit());
    ffi::worker::start(worker);
    if let Some(size) = main.capture_error_log {
        moonrest_core::log_capture::start(usize::try_from(size).unwrap_or(usize::MAX));
    }
    let made = WorkerVm::new(main.clone(), worker.http.prefix.clone(), &worker.log)
        .map_err(|error| lossy(&error))?;
    made.init(&worker.log).map_err(|error| lossy(&error))?;
    api::socket::start(worker.quitting.clone());
    PRESENT.set(Some(Rc::new(made)));
    Ok(())
}

/// Runs `init_worker_by_lua*`. While it waits the worker serves.
pub(crate) fn init_worker(main: &Main, worker: &Rc<Worker>) {
    if let Some(wait) = run_for_worker(main.init_worker.as_deref(), LuaPhase::InitWorker, worker) {
        let task = Task::new(worker);
        moonrest_rt::spawn(async move {
            wait.await;
            drop(task);
        });
    }
}

/// Runs `exit_worker_by_lua*`.
pub(crate) fn exit_worker(main: &Main, worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>> {
    run_for_worker(main.exit_worker.as_deref(), LuaPhase::ExitWorker, worker)
}

fn run_for_worker(code: Option<&Code>, phase: LuaPhase, worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>> {
    let (code, vm) = (code?, present()?);
    let log = worker.log.clone();
    let suffix = if matches!(code.source, Source::File(_)) { "_file" } else { "" };
    let complain = move |message: &str| {
        let name = phase.directive().trim_end_matches('*');
        log.write_lines(Level::Error, None, format_args!("{name}{suffix} error: {message}"));
    };
    let function = vm.function(code, None).inspect_err(|error| complain(&error.why)).ok()?;
    let host = Rc::new(Host::detached(phase, worker, Origin::default()));
    let ended = move |outcome: Outcome| {
        if let Outcome::Failed(error) = outcome {
            complain(&scheduler::describe_call(&error));
        }
    };
    match scheduler::run(&vm, &host, &function) {
        Outcome::Waits(running) => Some(Box::pin(async move { ended(running.await) })),
        settled => {
            ended(settled);
            None
        }
    }
}

/// Closes this worker's VM.
pub(crate) fn stop() {
    ffi::worker::stop();
    PRESENT.set(None);
    api::socket::stop();
}

/// Why code could not be loaded.
#[derive(Debug)]
pub(crate) struct LoadError {
    what: String,
    /// Lua's words.
    why: String,
    /// What a phase that can answer answers.
    pub status: u16,
}

impl LoadError {
    /// The line for the error log.
    pub(crate) fn message(&self) -> String {
        format!("failed to load {}: {}", self.what, self.why)
    }
}

/// What tells of new global variables; comes after `init_by_lua*`, which may make them.
const GLOBAL_GUARD: &[u8] = include_bytes!("global_guard.lua");

impl WorkerVm {
    pub(crate) fn new(main: Arc<Main>, prefix: PathBuf, log: &Arc<moonrest_core::Log>) -> LuaResult<Self> {
        let vm = Vm::new(&Options::default())?;
        let shown = prefix.as_os_str().as_bytes();
        let present = vm.package_cpath()?;
        vm.set_package_cpath(&[present.as_slice(), b";", system_modules().as_bytes()].concat())?;
        if let Some(path) = &main.package_path {
            let present = vm.package_path()?;
            vm.set_package_path(&search_path(path, &present, shown))?;
        }
        if let Some(path) = &main.package_cpath {
            let present = vm.package_cpath()?;
            vm.set_package_cpath(&search_path(path, &present, shown))?;
        }
        library::embed(&vm)?;
        vm.with(|stack| api::install(stack, shown))?;
        vm.with(|stack| shdict::install(stack, &main.dicts))?;
        library::start(&vm, log)?;
        let ctx_tables = vm.with(|stack| ctx::find_tables(stack))?;
        let kept_ctx = vm.with(|stack| ctx::Kept::new(stack))?;
        let capture_names = vm.with(|stack| api::capture::Names::new(stack))?;
        Ok(Self {
            vm,
            ctx_tables,
            kept_ctx,
            capture_names,
            main,
            prefix,
            inline: RefCell::default(),
            files: RefCell::default(),
        })
    }

    /// Runs `init_by_lua*`, then has writes to new globals reported. What fails is logged.
    fn init(&self, log: &Arc<moonrest_core::Log>) -> LuaResult<()> {
        if let Some(code) = &self.main.init {
            let name = match &code.source {
                Source::Inline { .. } => "init_by_lua",
                Source::File(_) => "init_by_lua_file",
            };
            run_outside_requests(self, code, LuaPhase::Init, log).map_err(|message| {
                log.write_lines(Level::Error, None, format_args!("{name} error: {message}"));
                LuaError::exactly(format!("{name} failed"))
            })?;
        }
        self.vm.with(|stack| {
            let guard = stack.load(GLOBAL_GUARD, "=_G write guard", Form::Text)?;
            stack.call(guard, ()).map(|_| ())
        })
    }

    /// The shared dictionaries that its code sees.
    pub(crate) fn dicts(&self) -> &[Arc<moonrest_core::zone::dict::Dict>] {
        &self.main.dicts
    }

    /// The function of a piece of code, compiled on first use.
    pub(crate) fn function(&self, code: &Code, r: Option<&Request>) -> Result<Ref, LoadError> {
        match &code.source {
            Source::Inline { name, text } => {
                if let Some(known) = self.inline.borrow().get(code.id) {
                    return Ok(known.clone());
                }
                let function = self.load(text, &format!("={name}")).map_err(|error| LoadError {
                    what: "inlined Lua code".to_owned(),
                    why: lossy(&error),
                    status: 500,
                })?;
                self.inline.borrow_mut().insert(code.id, function.clone());
                Ok(function)
            }
            Source::File(file) => {
                let path = match r {
                    Some(r) => file.eval(r),
                    None => file.fixed().unwrap_or_default(),
                };
                if let Some(known) = self.files.borrow().get(&*path) {
                    return Ok(known.clone());
                }
                let function = self.load_file(&path)?;
                self.files.borrow_mut().insert(path.into_owned(), function.clone());
                Ok(function)
            }
        }
    }

    fn load_file(&self, path: &[u8]) -> Result<Ref, LoadError> {
        let shown = String::from_utf8_lossy(path);
        let failed =
            |why: String, status| LoadError { what: format!("external Lua file \"{shown}\""), why, status };
        let text = std::fs::read(std::ffi::OsStr::from_bytes(path)).map_err(|error| {
            let status = if error.kind() == std::io::ErrorKind::NotFound { 404 } else { 503 };
            failed(cannot_open(&shown, &error), status)
        })?;
        self.load(without_first_comment(&text), &format!("@{shown}"))
            .map_err(|error| failed(lossy(&error), 500))
    }

    fn load(&self, text: &[u8], name: &str) -> LuaResult<Ref> {
        self.vm.with(|stack| {
            let function = stack.load_hot(text, name, Form::TextOrBytecode)?;
            stack.keep(function)
        })
    }
}

pub(crate) fn lossy(error: &LuaError) -> String {
    String::from_utf8_lossy(error.message()).into_owned()
}

/// As Lua words it.
pub(crate) fn cannot_open(name: &str, error: &std::io::Error) -> String {
    let text = moonrest_core::env::os_error(error);
    let text = text.split_once(": ").map_or(&*text, |(_, text)| text);
    format!("cannot open {name}: {text}")
}

/// The text of a file without a first line that begins with `#`, whose end stays, so that lines keep their numbers.
pub(crate) fn without_first_comment(text: &[u8]) -> &[u8] {
    if !text.starts_with(b"#") {
        return text;
    }
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

/// Where Debian and its like install C modules for Lua 5.1.
fn system_modules() -> String {
    format!("/usr/lib/{}-linux-gnu/lua/5.1/?.so;/usr/lib/lua/5.1/?.so", std::env::consts::ARCH)
}

/// `;;` stands for the present path, `$prefix` for the server's prefix.
fn search_path(wanted: &[u8], present: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    let mut rest = wanted;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"$prefix").or_else(|| rest.strip_prefix(b"${prefix}")) {
            path.extend_from_slice(prefix);
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(b";;") {
            path.push(b';');
            path.extend_from_slice(present);
            path.push(b';');
            rest = tail;
        } else {
            path.push(byte);
            rest = tail;
        }
    }
    path
}

/// Runs code that belongs to no request (`init*`). It must not wait.
///
/// # Errors
/// What went wrong, with the traceback.
pub(crate) fn run_outside_requests(
    vm: &WorkerVm,
    code: &Code,
    phase: LuaPhase,
    log: &Arc<moonrest_core::Log>,
) -> Result<(), String> {
    let function = vm.function(code, None).map_err(|error| error.why)?;
    let host = Host::without_request(phase, log.clone());
    scheduler::run_at_once(vm, &function, &host).map_err(|error| scheduler::describe_call(&error))
}

thread_local! {
    /// For checking code while the configuration is read: no API, nothing runs in it.
    static CHECKER: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

/// Compiles a text, or the contents of a file, without running it. `name` as `Stack::load` takes it.
pub(crate) fn check(name: &str, text: &[u8]) -> LuaResult<()> {
    CHECKER.with_borrow_mut(|checker| {
        let vm = match checker {
            Some(vm) => vm,
            none => none.insert(Vm::new(&Options::default())?),
        };
        vm.with(|stack| stack.load(text, name, Form::TextOrBytecode).map(|_| ()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_take_in_the_present_one_and_the_prefix() {
        assert_eq!(search_path(b"$prefix/lua/?.lua;;", b"/x/?.lua", b"/p"), b"/p/lua/?.lua;/x/?.lua;");
        assert_eq!(search_path(b"/a/?.lua", b"/x/?.lua", b"/p"), b"/a/?.lua");
    }

    #[test]
    fn syntax_errors_name_the_place() {
        let error = check("=content_by_lua(nginx.conf:3)", b"\nreturn +").unwrap_err();
        let text = String::from_utf8_lossy(error.message()).into_owned();
        assert!(text.starts_with("content_by_lua(nginx.conf:3):2: unexpected symbol"), "{text}");
    }
}
