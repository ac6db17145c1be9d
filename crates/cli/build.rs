//! Links the executable so that `ffi.C` and C modules for Lua find the symbols in it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-rdynamic");
}
