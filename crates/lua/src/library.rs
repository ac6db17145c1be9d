//! The Lua libraries in the executable, and resty.core, which every VM loads when it starts.
//! <https://github.com/openresty/lua-nginx-module#lua_load_resty_core>

use crate::host::{Host, LuaPhase};
use moonrest_core::{Level, Log};
use moonrest_luajit::{Call, Form, LuaError, LuaResult, Return, Stack, Table, Value, Vm};
use std::sync::Arc;

/// `lualib/`, as `require` names the modules. Files on `package.path` come first.
pub(crate) static MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/lualib.rs"));

/// Modules of ours that are found before files: lua-resty-core's would wrap functions that need it not.
const FIRST: &[&str] = &["resty.core.coroutine"];

/// Makes `require` find the libraries.
///
/// # Errors
/// Only for want of memory.
pub(crate) fn embed(vm: &Vm) -> LuaResult<()> {
    vm.embed_defaults(MODULES);
    for module in MODULES.iter().filter(|(name, _)| FIRST.contains(name)) {
        vm.embed(&[*module]);
    }
    vm.with(|stack| {
        let Some(package) = field(stack, stack.globals()?, "package")? else { return Ok(()) };
        let Some(loaders) = field(stack, package, "loaders")? else { return Ok(()) };
        for n in (2..=loaders.raw_len(stack)).rev() {
            let loader = loaders.raw_index(stack, n)?;
            loaders.set_index(stack, n + 1, loader)?;
        }
        let searcher = stack.function(instead_of_libcrypto)?;
        loaders.set_index(stack, 2, searcher)
    })
}

/// Libraries that upstream writes on OpenSSL's C functions, which this program does not export. A copy of them on
/// `package.path`, say OpenResty's `lualib`, cannot work, so that ours come first then.
const ON_LIBCRYPTO: &[&str] = &[
    "resty.aes",
    "resty.evp",
    "resty.hmac",
    "resty.md5",
    "resty.random",
    "resty.rsa",
    "resty.sha",
    "resty.sha1",
    "resty.sha224",
    "resty.sha256",
    "resty.sha384",
    "resty.sha512",
];

/// The family of modules that is on it as a whole, and the one that tells.
const OPENSSL_FAMILY: &str = "resty.openssl";
const OPENSSL_TELLS: &str = "resty.openssl.version";

/// A searcher: finds ours where the file found calls libcrypto.
fn instead_of_libcrypto(call: &mut Call<'_>) -> LuaResult<Return> {
    let name: &[u8] = call.arg(1)?;
    let Some(name) = std::str::from_utf8(name).ok() else { return call.ret(()) };
    let in_family =
        name.strip_prefix(OPENSSL_FAMILY).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if !in_family && !ON_LIBCRYPTO.contains(&name) {
        return call.ret(());
    }
    let Some((name, source)) = MODULES.iter().find(|(module, _)| *module == name) else {
        return call.ret(());
    };
    let teller = if in_family { OPENSSL_TELLS } else { name };
    if !file_of(call, teller)?.is_some_and(|text| calls_libcrypto(&text)) {
        return call.ret(());
    }
    let chunk = call.load(source, &format!("@{}.lua", name.replace('.', "/")), Form::Text)?;
    call.ret(chunk)
}

/// Whether a Lua text declares functions of libcrypto.
fn calls_libcrypto(text: &[u8]) -> bool {
    let names: [&[u8]; 6] = [b"EVP_", b"RAND_bytes", b"MD5_Init", b"SHA_LONG", b"OpenSSL_version", b"_Init("];
    memchr::memmem::find(text, b"ffi").is_some()
        && names.iter().any(|name| memchr::memmem::find(text, name).is_some())
}

/// What `ngx.config.ngx_lua_version` answers.
pub(crate) const VERSION: u32 = 10_032;
/// The oldest lua-resty-core whose entries have the signatures of ours says that it needs this.
const OLDEST: u32 = 10_030;

/// Loads resty.core: the one on `package.path`, or ours.
///
/// # Errors
/// Upstream's words when it cannot be loaded.
pub(crate) fn start(vm: &Vm, log: &Arc<Log>) -> LuaResult<()> {
    let wanted = vm.with(|stack| wanted_version(stack))?;
    if let Some(version) = wanted.filter(|version| !(OLDEST..=VERSION).contains(version)) {
        log.write(Level::Warn, None, format_args!(
            "the lua-resty-core on package.path is for version {version} of the Lua module, not for {VERSION}; \
             the built-in one is used"
        ));
        for module in MODULES.iter().filter(|(name, _)| is_core(name)) {
            vm.embed(&[*module]);
        }
    }
    let host = Host::without_request(LuaPhase::Init, log.clone());
    let loaded = vm.lend(&host, host.token(), || vm.with(load));
    loaded.map_err(|error| {
        LuaError::exactly(format!(
            "failed to load the 'resty.core' module (https://github.com/openresty/lua-resty-core); ensure you are using \
             an OpenResty release from https://openresty.org/en/download.html (reason: {})",
            String::from_utf8_lossy(error.message())
        ))
    })
}

/// Whether a module is one that lua-resty-core brings.
fn is_core(name: &str) -> bool {
    name == "resty.core" || name.starts_with("resty.core.") || name.starts_with("ngx.")
}

fn load(stack: &mut Stack<'_>) -> LuaResult<()> {
    // lua-resty-core insists on one version. Those that fit see the one they ask for while they are loaded.
    if let Some(version) = wanted_version(stack)?.filter(|version| (OLDEST..VERSION).contains(version)) {
        set_version(stack, version)?;
    }
    let require = stack.globals()?.get(stack, "require")?;
    let Value::Function(require) = require else { return Err(LuaError::exactly("require is no function")) };
    stack.call(require, "resty.core")?;
    set_version(stack, VERSION)
}

/// The version that a `resty.core.base` on `package.path` asks for.
fn wanted_version(stack: &Stack<'_>) -> LuaResult<Option<u32>> {
    Ok(file_of(stack, "resty.core.base")?.and_then(|text| version_asked_for(&text)))
}

/// The text of a module on `package.path`.
fn file_of(stack: &Stack<'_>, module: &str) -> LuaResult<Option<Vec<u8>>> {
    let Some(package) = field(stack, stack.globals()?, "package")? else { return Ok(None) };
    let (Value::Function(search), path) = (package.get(stack, "searchpath")?, package.get(stack, "path")?)
    else {
        return Ok(None);
    };
    let found = stack.call(search, (module, path))?;
    let Some(path) = found.value(stack, 0).as_bytes() else { return Ok(None) };
    Ok(Some(std::fs::read(std::path::Path::new(&*String::from_utf8_lossy(path))).unwrap_or_default()))
}

fn version_asked_for(text: &[u8]) -> Option<u32> {
    let marker = b"ngx_lua_version ~= ";
    let at = memchr::memmem::find(text, marker)? + marker.len();
    let digits: Vec<u8> = text.get(at..)?.iter().copied().take_while(u8::is_ascii_digit).take(9).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

fn set_version(stack: &Stack<'_>, version: u32) -> LuaResult<()> {
    let Some(ngx) = field(stack, stack.globals()?, "ngx")? else { return Ok(()) };
    match field(stack, ngx, "config")? {
        Some(config) => config.raw_set(stack, "ngx_lua_version", version),
        None => Ok(()),
    }
}

fn field<'s>(stack: &Stack<'s>, table: Table<'_>, name: &str) -> LuaResult<Option<Table<'s>>> {
    Ok(table.raw_get(stack, name)?.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_a_library_asks_for_is_found() {
        let text = b"if not ngx.config or ngx.config.ngx_lua_version ~= 10030\nthen";
        assert_eq!(version_asked_for(text), Some(10_030));
        assert_eq!(version_asked_for(b"return {}"), None);
    }

    #[test]
    fn libraries_on_libcrypto_are_told() {
        assert!(calls_libcrypto(b"local ffi = require 'ffi' ffi.cdef[[int SHA1_Init(SHA_CTX *c);]]"));
        assert!(!calls_libcrypto(b"local ffi = require 'ffi' return require 'moonrest.crypto'"));
        assert!(!calls_libcrypto(b"-- EVP_PKEY in Lua alone"));
    }

    #[test]
    fn the_core_of_the_library_is_embedded() {
        assert!(MODULES.iter().any(|(name, _)| *name == "resty.core.base"));
    }
}
