//! `require` for modules embedded in the program, and the search paths.
use std::cell::RefCell;
use std::collections::HashMap;

use crate::call::{Call, Return};
use crate::chunk::Form;
use crate::convert::Nil;
use crate::error::LuaResult;
use crate::stack::{Stack, Table, Value};
use crate::vm::Lua;

/// LuaJIT's own Lua modules (`jit.v`, `jit.dump`, `jit.p`, `jit.bc`, …), from the sources it was built from.
pub(crate) static JIT_MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/jit_modules.rs"));

/// Puts a searcher for embedded modules behind `package.preload` and before the files, and one for those that files may
/// replace behind the Lua files.
pub(crate) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    stack.shared.modules.borrow_mut().extend(JIT_MODULES.iter().copied());
    insert(stack, 2, search)?;
    insert(stack, 4, search_defaults)
}

type Searcher = fn(&mut Call<'_>) -> LuaResult<Return>;

fn insert(stack: &Stack<'_>, at: usize, searcher: Searcher) -> LuaResult<()> {
    let loaders = package(stack)?.raw_get(stack, "loaders")?;
    let Value::Table(loaders) = loaders else { return Ok(()) };
    for n in (at..=loaders.raw_len(stack)).rev() {
        let loader = loaders.raw_index(stack, n)?;
        loaders.set_index(stack, n + 1, loader)?;
    }
    let function = stack.function_with(searcher, |call, searcher| searcher(call))?;
    loaders.set_index(stack, at, function)
}

fn search(call: &mut Call<'_>) -> LuaResult<Return> {
    let found = find(call, &call.shared.modules)?;
    match found {
        Some((name, source)) => {
            let chunk = call.load(source, &format!("={name}"), Form::TextOrBytecode)?;
            call.ret(chunk)
        }
        // The list of places searched reads as that of any LuaJIT.
        None => call.ret(()),
    }
}

fn search_defaults(call: &mut Call<'_>) -> LuaResult<Return> {
    let found = find(call, &call.shared.defaults)?;
    match found {
        Some((name, source)) => {
            let file = name.replace('.', "/");
            let chunk = call.load(source, &format!("@{file}.lua"), Form::TextOrBytecode)?;
            call.ret(chunk)
        }
        None => call.ret(()),
    }
}

type Sources = RefCell<HashMap<&'static str, &'static [u8]>>;

/// The module that a searcher is asked for.
fn find<'c>(call: &Call<'c>, sources: &Sources) -> LuaResult<Option<(&'c str, &'static [u8])>> {
    let name: &[u8] = call.arg(1)?;
    let name = std::str::from_utf8(name).ok();
    Ok(name.and_then(|name| sources.borrow().get(name).map(|source| (name, *source))))
}

fn package<'s>(stack: &Stack<'s>) -> LuaResult<Table<'s>> {
    match stack.globals()?.raw_get(stack, "package")? {
        Value::Table(package) => Ok(package),
        _ => Err("the package library is gone".into()),
    }
}

impl Lua {
    /// Makes `require(name)` find this source (or bytecode), after `package.preload` and before files. Its chunk name
    /// is the module's.
    pub fn embed(&self, modules: &[(&'static str, &'static [u8])]) {
        self.0.modules.borrow_mut().extend(modules.iter().copied());
    }

    /// The same for modules that a Lua file on `package.path` replaces.
    pub fn embed_defaults(&self, modules: &[(&'static str, &'static [u8])]) {
        self.0.defaults.borrow_mut().extend(modules.iter().copied());
    }

    /// `package.path`.
    pub fn package_path(&self) -> LuaResult<Vec<u8>> {
        self.package_field("path")
    }

    /// `package.cpath`.
    pub fn package_cpath(&self) -> LuaResult<Vec<u8>> {
        self.package_field("cpath")
    }

    pub fn set_package_path(&self, path: &[u8]) -> LuaResult<()> {
        self.with(|stack| package(stack)?.raw_set(stack, "path", path))
    }

    pub fn set_package_cpath(&self, path: &[u8]) -> LuaResult<()> {
        self.with(|stack| package(stack)?.raw_set(stack, "cpath", path))
    }

    fn package_field(&self, name: &str) -> LuaResult<Vec<u8>> {
        self.with(|stack| Ok(package(stack)?.raw_get(stack, name)?.as_bytes().unwrap_or_default().to_vec()))
    }

    /// Forgets a loaded module, so that the next `require` loads it again.
    pub fn unload(&self, name: &str) -> LuaResult<()> {
        self.with(|stack| match package(stack)?.raw_get(stack, "loaded")? {
            Value::Table(loaded) => loaded.raw_set(stack, name, Nil),
            _ => Ok(()),
        })
    }
}
