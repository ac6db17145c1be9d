//! `require` for modules embedded in the program, and the search paths.
use crate::call::{Call, Return};
use crate::chunk::Form;
use crate::convert::Nil;
use crate::error::LuaResult;
use crate::stack::{Stack, Table, Value};
use crate::vm::Lua;

/// LuaJIT's own Lua modules (`jit.v`, `jit.dump`, `jit.p`, `jit.bc`, …), from the sources it was built from.
pub(crate) static JIT_MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/jit_modules.rs"));

/// Puts the searcher for embedded modules behind `package.preload` and before the files.
pub(crate) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    stack.shared.modules.borrow_mut().extend(JIT_MODULES.iter().copied());
    let loaders = package(stack)?.raw_get(stack, "loaders")?;
    let Value::Table(loaders) = loaders else { return Ok(()) };
    for n in (2..=loaders.raw_len(stack)).rev() {
        let loader = loaders.raw_index(stack, n)?;
        loaders.set_index(stack, n + 1, loader)?;
    }
    let function = stack.function(search)?;
    loaders.set_index(stack, 2, function)
}

fn search(call: &mut Call<'_>) -> LuaResult<Return> {
    let name: &[u8] = call.arg(1)?;
    let found = std::str::from_utf8(name)
        .ok()
        .and_then(|name| call.shared.modules.borrow().get(name).map(|source| (name, *source)));
    match found {
        Some((name, source)) => {
            let chunk = call.load(source, &format!("={name}"), Form::TextOrBytecode)?;
            call.ret(chunk)
        }
        None => call.ret([b"\n\tno embedded module '", name, b"'"].concat()),
    }
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
