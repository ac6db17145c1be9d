//! Developer commands: `cargo xtask check|docs|bench|test`.
fn main() {}
