//! The `moonrest` executable.
fn main() {}
