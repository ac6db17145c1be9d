//! A worker's Lua VM: made before it accepts, with the API and the code that was loaded so far.

use crate::{
    api,
    code::{Code, Source},
    directives::Main,
    ffi::{self, ctx},
    host::{Host, LuaPhase},
    library, scheduler,
};
use moonrest_core::Level;
use moonrest_http::{Request, worker::Worker};
use moonrest_luajit::{Form, LuaError, LuaResult, Options, Ref, Vm};
use std::{cell::RefCell, collections::HashMap, os::unix::ffi::OsStrExt, rc::Rc};

/// The VM and what it has loaded.
pub(crate) struct WorkerVm {
    pub vm: Vm,
    /// resty.core's table of `ngx.ctx` tables.
    pub ctx_tables: Option<Ref>,
    inline: RefCell<HashMap<usize, Ref>>,
    files: RefCell<HashMap<Vec<u8>, Ref>>,
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<WorkerVm>>> = const { RefCell::new(None) };
}

/// The VM of this worker.
pub(crate) fn present() -> Option<Rc<WorkerVm>> {
    PRESENT.with_borrow(Clone::clone)
}

/// Makes this worker's VM.
pub(crate) fn start(main: &Main, worker: &Worker) {
    ffi::worker::start(worker);
    match WorkerVm::new(main, worker) {
        Ok(vm) => PRESENT.set(Some(Rc::new(vm))),
        Err(error) => {
            let message = String::from_utf8_lossy(error.message()).into_owned();
            worker.log.write(Level::Alert, None, format_args!("failed to create the Lua VM: {message}"));
        }
    }
}

/// Closes this worker's VM.
pub(crate) fn stop() {
    ffi::worker::stop();
    PRESENT.set(None);
}

impl WorkerVm {
    fn new(main: &Main, worker: &Worker) -> LuaResult<Self> {
        let vm = Vm::new(&Options::default())?;
        let prefix = worker.http.prefix.as_os_str().as_bytes();
        if let Some(path) = &main.package_path {
            let present = vm.package_path()?;
            vm.set_package_path(&search_path(path, &present, prefix))?;
        }
        if let Some(path) = &main.package_cpath {
            let present = vm.package_cpath()?;
            vm.set_package_cpath(&search_path(path, &present, prefix))?;
        }
        vm.embed_defaults(library::MODULES);
        vm.with(|stack| api::install(stack, prefix))?;
        library::start(&vm, &worker.log)?;
        let ctx_tables = vm.with(|stack| ctx::find_tables(stack))?;
        Ok(Self { vm, ctx_tables, inline: RefCell::default(), files: RefCell::default() })
    }

    /// The function of a piece of code, compiled on first use.
    pub(crate) fn function(&self, code: &Code, r: Option<&Request>) -> LuaResult<Ref> {
        match &code.source {
            Source::Inline { name, text } => {
                if let Some(known) = self.inline.borrow().get(&code.id) {
                    return Ok(known.clone());
                }
                let function = self.load(text, &format!("={name}"))?;
                self.inline.borrow_mut().insert(code.id, function.clone());
                Ok(function)
            }
            Source::File(path) => {
                let path = match (path.as_static(), r) {
                    (Some(path), _) => path.to_vec(),
                    (None, Some(r)) => path.eval(r).into_owned(),
                    (None, None) => return Err(LuaError::exactly("the file's name has variables")),
                };
                if let Some(known) = self.files.borrow().get(&path) {
                    return Ok(known.clone());
                }
                let shown = String::from_utf8_lossy(&path).into_owned();
                let text = std::fs::read(std::ffi::OsStr::from_bytes(&path)).map_err(|error| {
                    let error = moonrest_core::env::os_error(&error);
                    LuaError::exactly(format!("cannot open {shown} ({error})"))
                })?;
                let function = self.load(&text, &format!("@{shown}"))?;
                self.files.borrow_mut().insert(path, function.clone());
                Ok(function)
            }
        }
    }

    fn load(&self, text: &[u8], name: &str) -> LuaResult<Ref> {
        self.vm.with(|stack| {
            let function = stack.load(text, name, Form::TextOrBytecode)?;
            stack.keep(function)
        })
    }
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
pub(crate) fn run_outside_requests(code: &Code, phase: LuaPhase, worker: &Worker) {
    let Some(vm) = present() else { return };
    let host = Host::without_request(phase, worker.log.clone());
    if let Err(error) = scheduler::run_at_once(&vm, code, &host) {
        let error = scheduler::describe(&error);
        worker.log.write(Level::Error, None, format_args!("{} error: {error}", phase.name()));
    }
}

thread_local! {
    /// For checking code while the configuration is read: no API, nothing runs in it.
    static CHECKER: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

/// Compiles a text without running it.
pub(crate) fn check(name: &str, text: &[u8]) -> LuaResult<()> {
    CHECKER.with_borrow_mut(|checker| {
        let vm = match checker {
            Some(vm) => vm,
            none => none.insert(Vm::new(&Options::default())?),
        };
        vm.with(|stack| stack.load(text, &format!("={name}"), Form::Text).map(|_| ()))
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
        let error = check("content_by_lua(nginx.conf:3)", b"\nreturn +").unwrap_err();
        let text = String::from_utf8_lossy(error.message()).into_owned();
        assert!(text.starts_with("content_by_lua(nginx.conf:3):2: unexpected symbol"), "{text}");
    }
}
