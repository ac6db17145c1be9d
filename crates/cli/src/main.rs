//! The `moonrest` program: nginx's command line, and `resty`'s.

mod demo;
mod dump;
mod features;
mod modules;
mod options;
mod resty;

use std::process::ExitCode;

/// Worker threads contend on the system's allocator.
#[global_allocator]
static ALLOCATOR: moonrest_sys::alloc::Allocator = moonrest_sys::alloc::Allocator;

fn main() -> ExitCode {
    let argv: Vec<Vec<u8>> = std::env::args_os().map(std::os::unix::ffi::OsStringExt::into_vec).collect();
    ExitCode::from(options::start(argv))
}
