//! Developer commands: `cargo xtask check|test|docs|bench`.
//!
//! - `check`: everything that must hold before a change is handed in
//! - `test`: installs what the tests need, builds, runs all tests
//! - `docs [--check]`: writes the pages that are made from the directive tables
//! - `bench`: compares with nginx on this machine, see `cargo xtask bench --help`

mod bench;
mod docs;
mod run;
mod test;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) =
        args.split_first().map_or(("", [].as_slice()), |(command, rest)| (command.as_str(), rest));
    let result = match command {
        "check" => check(),
        "test" => test::test(),
        "docs" => docs::docs(rest.iter().any(|arg| arg == "--check")),
        "bench" => bench::bench(rest),
        bench::FLOOR => bench::serve_floor(),
        _ => Err("usage: cargo xtask check | test | docs [--check] | bench [--help]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that must hold before a change is handed in; continuous integration runs the same.
fn check() -> Result<(), String> {
    run::cargo(&["fmt", "--all", "--check"])?;
    run::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    test::test()?;
    docs::docs(true)
}
