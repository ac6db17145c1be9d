//! `cargo xtask test`: installs what the tests need, builds the release binary, runs unit tests and specifications.
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::run;

/// Programs the tests call, each with the Debian package it comes in.
const TOOLS: &[(&str, &str)] =
    &[("perl", "perl"), ("curl", "curl"), ("make", "make"), ("touch", "coreutils")];

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
}

/// Runs everything; the last line says how many tests passed and failed.
pub(crate) fn test() -> Result<(), String> {
    install_tools()?;
    let binary = run::release_binary()?;
    let mut count = Count::default();
    let mut complete = true;
    for args in [
        ["test", "--workspace", "--no-fail-fast"].as_slice(),
        &["run", "--package", "moonrest-testkit", "--bin", "moonrest-spec"],
    ] {
        eprintln!("$ cargo {}", args.join(" "));
        let mut command = run::cargo_command();
        // No backtraces: the unwinder cannot walk through the frames of compiled Lua code.
        command.args(args).env("MOONREST_BINARY", &binary).env("RUST_BACKTRACE", "0");
        let (success, counted) = counted(&mut command)?;
        // A program that fails without a failed test did not get as far as its tests.
        complete &= success || counted.failed > 0;
        count.passed += counted.passed;
        count.failed += counted.failed;
    }
    if !complete {
        count.failed += 1;
    }
    let line = format!("{} passed, {} failed\n", count.passed, count.failed);
    std::io::stdout().write_all(line.as_bytes()).map_err(|error| error.to_string())?;
    if count.failed == 0 { Ok(()) } else { Err("there are failed tests".into()) }
}

/// Runs a program, shows what it writes, and adds up the results it reports.
fn counted(command: &mut Command) -> Result<(bool, Count), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(failed)?;
            let result = counts(&line);
            count.passed += result.passed;
            count.failed += result.failed;
            // The closing line is the last program's only, with all results in it.
            if !is_closing(&line) {
                writeln!(std::io::stdout(), "{line}").map_err(failed)?;
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    Ok((status.success(), count))
}

fn is_closing(line: &str) -> bool {
    line.split_once(" passed, ").is_some_and(|(passed, rest)| {
        passed.parse::<usize>().is_ok()
            && rest.strip_suffix(" failed").is_some_and(|n| n.parse::<usize>().is_ok())
    })
}

/// The counts in `test result: ok. 3 passed; 0 failed; …` or `3 passed, 0 failed`.
fn counts(line: &str) -> Count {
    if !line.starts_with("test result: ") && !is_closing(line) {
        return Count::default();
    }
    let words: Vec<&str> =
        line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let before = |word: &str| {
        let at = words.iter().position(|&other| other == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Count { passed: before("passed").unwrap_or(0), failed: before("failed").unwrap_or(0) }
}

/// Whether a tool is there; Perl is, when the modules that specifications load are there too. Debian's base system has
/// a Perl without them.
fn is_usable(program: &str) -> bool {
    let modules = ["-MMIME::Base64", "-MCompress::Zlib", "-MIO::Compress::Gzip", "-e", "1"];
    run::is_installed(program)
        && (program != "perl" || run::output(Command::new(program).args(modules)).is_ok())
}

/// Installs missing tools with apt where that is possible without asking.
fn install_tools() -> Result<(), String> {
    let missing = |(program, _): &&(&str, &str)| !is_usable(program);
    let packages: Vec<&str> = TOOLS.iter().filter(missing).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let prefix: &[&str] = if root { &[] } else { &["sudo", "-n"] };
    for args in [["apt-get", "update"].as_slice(), &["apt-get", "install", "-y", "--no-install-recommends"]] {
        let mut words = prefix.iter().chain(args);
        let Some(program) = words.next() else { continue };
        let mut command = Command::new(program);
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        if args.contains(&"install") {
            command.args(&packages);
        }
        eprintln!("$ {command:?}");
        let _ = command.stdout(Stdio::null()).status();
    }
    match TOOLS.iter().find(missing) {
        Some((program, package)) => Err(format!("the tests need {program}: install the package {package}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_both_kinds_of_lines() {
        let check = |line, passed, failed| assert_eq!(counts(line), Count { passed, failed }, "{line}");
        check(
            "test result: ok. 21 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            21,
            0,
        );
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 3, 2);
        check("300 passed, 1 failed", 300, 1);
        check("#   1 passed, and then it failed", 0, 0);
    }
}
