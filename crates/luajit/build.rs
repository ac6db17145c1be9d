//! Builds LuaJIT from the sources in the `luajit-src` crate and lists its `jit.*` Lua modules for embedding.
//!
//! Two things are set here that a plain build lacks: Lua 5.2's compatible extras (as OpenResty builds it), and
//! `LUAJIT_ENABLE_CHECKHOOK`, which lets compiled loops see a hook, so that a runaway script can be stopped.
#![allow(unsafe_code)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut flags = env::var("TARGET_CFLAGS").unwrap_or_default();
    flags.push_str(" -DLUAJIT_ENABLE_CHECKHOOK");
    // SAFETY: a build script has one thread here.
    unsafe { env::set_var("TARGET_CFLAGS", flags) };
    // LuaJIT's own assertions, for the nightly run of the tests.
    println!("cargo:rerun-if-env-changed=MOONREST_LUAJIT_ASSERT");
    println!("cargo:rustc-check-cfg=cfg(luajit_assert)");
    let debug = env::var_os("MOONREST_LUAJIT_ASSERT").is_some();
    if debug {
        println!("cargo:rustc-cfg=luajit_assert");
    }
    let artifacts = luajit_src::Build::new().lua52compat(true).debug(debug).build();
    artifacts.print_cargo_metadata();
    check_layout();

    // The linker keeps and exports these for `ffi.C` and for C modules; see the crate's documentation.
    println!("cargo:rustc-link-arg-examples=-rdynamic");
    println!("cargo:rustc-link-arg-tests=-rdynamic");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("jit_modules.rs"), jit_modules(&out.join("luajit-build/src/jit"))?)
}

/// Has the C compiler compare what the crate reads directly with LuaJIT's own headers.
fn check_layout() {
    println!("cargo:rerun-if-changed=src/layout.c");
    let sources = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("luajit-build/src");
    cc::Build::new()
        .file("src/layout.c")
        .include(sources)
        .cargo_metadata(false)
        .warnings(false)
        .compile("moonrest_luajit_layout");
}

/// A Rust expression: a slice of `(module name, source)`.
fn jit_modules(directory: &Path) -> io::Result<String> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    files.sort();
    let mut list = String::from("&[\n");
    for path in &files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(list, "    (\"jit.{stem}\", include_bytes!({path:?})),");
    }
    list.push(']');
    Ok(list)
}
