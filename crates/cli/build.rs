//! Puts the demo site into the program, so that `moonrest demo` works anywhere, and links it so that `ffi.C` and C modules
//! for Lua find the symbols in it.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-link-arg-bins=-rdynamic");
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let demo = here.join("../../examples/demo").canonicalize()?;
    println!("cargo::rerun-if-changed={}", demo.display());
    let mut files = Vec::new();
    collect(&demo, &demo, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for name in files {
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", demo.join(&name))?;
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("demo.rs"), table)?;
    Ok(())
}

/// The site's files; not what a server that ran there has left.
fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?.to_owned();
        let top = name.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        if !matches!(top, "conf" | "html") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(name);
        }
    }
    Ok(())
}
