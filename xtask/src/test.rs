//! `cargo xtask test`: installs what the tests need, builds the release binary, runs unit tests and specifications.
//! What fails is run once more, alone: a failure that does not come again is reported as unsteady.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use moonrest_testkit::services;

use crate::{bench, run};

/// Programs the tests call, each with the Debian package it comes in.
const TOOLS: &[(&str, &str)] = &[
    ("perl", "perl"),
    ("curl", "curl"),
    ("make", "make"),
    ("touch", "coreutils"),
    ("setpriv", "util-linux"),
    ("redis-server", "redis-server"),
    ("memcached", "memcached"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("postgres", "postgresql"),
    ("php-fpm", "php-fpm"),
    ("valgrind", "valgrind"),
];

/// Installs packages. `policy-rc.d` keeps Debian from starting the servers in them on their usual ports: the tests start
/// their own.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"
"#;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
}

/// What a program of tests reports.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    success: bool,
    count: Count,
    /// How many of the passed ones stand beside failed ones and are run again with them.
    beside: usize,
    /// The tests or specification files that failed, as far as it names them.
    failed: Vec<String>,
    /// The arguments to `cargo test` of the test binaries that failed.
    binaries: Vec<Vec<String>>,
}

/// Runs everything; the last line says how many tests passed and failed.
pub(crate) fn test() -> Result<(), String> {
    install_tools()?;
    let binary = run::release_binary()?;
    let run = |args: &[&str]| {
        eprintln!("$ cargo {}", args.join(" "));
        let mut command = run::cargo_command();
        // No backtraces: the unwinder cannot walk through the frames of compiled Lua code.
        command.args(args).env("MOONREST_BINARY", &binary).env("RUST_BACKTRACE", "0");
        reported(&mut command)
    };
    let mut total = Count::default();
    let mut unsteady = Vec::new();
    let mut add = |first: Report, again: &dyn Fn(&Report) -> Result<Option<Report>, String>| {
        let again = if first.success { None } else { again(&first)? };
        let (count, names) = outcome(&first, again.as_ref());
        total.passed += count.passed;
        total.failed += count.failed;
        unsteady.extend(names);
        Ok::<(), String>(())
    };
    add(run(&["test", "--workspace", "--no-fail-fast"])?, &|first| {
        let mut all = Report { success: true, ..Report::default() };
        for binary in &first.binaries {
            let args: Vec<&str> = ["test"].into_iter().chain(binary.iter().map(String::as_str)).collect();
            all.add(run(&args)?);
        }
        Ok((!first.binaries.is_empty()).then_some(all))
    })?;
    let specs = ["run", "--package", "moonrest-testkit", "--bin", "moonrest-spec"];
    add(run(&specs)?, &|first| {
        let files = first.failed.iter().map(String::as_str);
        let args: Vec<&str> = specs.into_iter().chain(["--", "--jobs", "1"]).chain(files).collect();
        if first.failed.is_empty() { Ok(None) } else { run(&args).map(Some) }
    })?;
    let rows = bench::budget(&binary)?;
    let held = rows.iter().filter(|row| row.holds()).count();
    total.passed += held;
    total.failed += rows.len() - held;
    let mut text = String::new();
    if !unsteady.is_empty() {
        text = format!("{} were unsteady: {}\n", unsteady.len(), unsteady.join(", "));
    }
    text.push_str(&format!("{} passed, {} failed\n", total.passed, total.failed));
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    if total.failed == 0 { Ok(()) } else { Err("there are failed tests".into()) }
}

/// What counts in the end, and what failed only the first time.
fn outcome(first: &Report, again: Option<&Report>) -> (Count, Vec<String>) {
    let Some(again) = again else {
        // A program that fails without a failed test did not get as far as its tests.
        let failed = if first.success { first.count.failed } else { first.count.failed.max(1) };
        return (Count { failed, ..first.count }, Vec::new());
    };
    let ran = |count: Count| count.passed + count.failed;
    // A binary that crashed has told its number only the second time, or only the first time.
    let all = ran(first.count).max(first.count.passed - first.beside + ran(again.count));
    let failed = if again.success { 0 } else { again.count.failed.max(1) };
    let mut unsteady: Vec<String> =
        first.failed.iter().filter(|name| !again.failed.contains(name)).cloned().collect();
    if unsteady.is_empty() && again.success {
        unsteady = first.binaries.iter().map(|binary| binary.join(" ")).collect();
    }
    (Count { passed: all.saturating_sub(failed), failed }, unsteady)
}

impl Report {
    fn add(&mut self, other: Self) {
        self.success &= other.success;
        self.count.passed += other.count.passed;
        self.count.failed += other.count.failed;
        self.beside += other.beside;
        self.failed.extend(other.failed);
        self.binaries.extend(other.binaries);
    }

    /// Takes in a line of a program's standard output.
    fn read(&mut self, line: &str) {
        let count = counts(line);
        self.count.passed += count.passed;
        self.count.failed += count.failed;
        if count.failed > 0 {
            self.beside += count.passed;
        }
        let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let file = line.strip_prefix("not ok - ").and_then(|rest| {
            let end = rest.find(".t:")? + ".t".len();
            rest.get(..end)
        });
        if let Some(name) = test.or(file).map(str::to_owned)
            && !self.failed.contains(&name)
        {
            self.failed.push(name);
        }
    }

    /// Takes in a line of cargo's standard error: it names the binaries that failed.
    fn read_error(&mut self, line: &str) {
        if !line.starts_with("error: ") && !line.trim_start().starts_with('`') {
            return;
        }
        let Some((_, rest)) = line.split_once("`-p ") else { return };
        let Some((words, _)) = rest.split_once('`') else { return };
        let binary: Vec<String> =
            ["-p"].into_iter().chain(words.split_whitespace()).map(str::to_owned).collect();
        if !self.binaries.contains(&binary) {
            self.binaries.push(binary);
        }
    }
}

/// Runs a program, shows what it writes, and adds up the results it reports.
fn reported(command: &mut Command) -> Result<Report, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let stderr = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let mut report = Report::default();
        for line in stderr.into_iter().flat_map(lines) {
            eprintln!("{line}");
            report.read_error(&line);
        }
        report.binaries
    });
    let mut report = Report::default();
    for line in child.stdout.take().into_iter().flat_map(lines) {
        report.read(&line);
        // The closing line is the last program's only, with all results in it.
        if !is_closing(&line) {
            writeln!(std::io::stdout(), "{line}").map_err(failed)?;
        }
    }
    report.success = child.wait().map_err(failed)?.success();
    report.binaries = errors.join().map_err(|_| "a thread panicked")?;
    Ok(report)
}

/// The lines of a stream, whatever bytes are in them.
fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
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
    services::program(program).is_some()
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
    let mut command = if root { Command::new("sh") } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "sh"]);
    }
    command.args(["-c", INSTALL, "sh"]).args(&packages);
    eprintln!("$ apt-get install {}", packages.join(" "));
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
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

    fn report(stdout: &str, stderr: &str) -> Report {
        let mut report =
            Report { success: !stdout.contains("FAILED") && stderr.is_empty(), ..Report::default() };
        stdout.lines().for_each(|line| report.read(line));
        stderr.lines().for_each(|line| report.read_error(line));
        report
    }

    const FIRST: &str = "test result: ok. 10 passed; 0 failed; 0 ignored
test a::b ... FAILED
test a::c ... ok
test result: FAILED. 3 passed; 1 failed; 0 ignored";
    const NAMED: &str = "error: test failed, to rerun pass `-p moonrest-cli --test main`
error: 1 target failed:
    `-p moonrest-cli --test main`";

    #[test]
    fn what_fails_once_is_unsteady() {
        let first = report(FIRST, NAMED);
        assert_eq!(first.binaries, [["-p", "moonrest-cli", "--test", "main"]]);
        let again = report("test result: ok. 4 passed; 0 failed; 0 ignored", "");
        let unsteady = (Count { passed: 14, failed: 0 }, vec!["a::b".to_owned()]);
        assert_eq!(outcome(&first, Some(&again)), unsteady);
    }

    #[test]
    fn what_fails_twice_has_failed() {
        let (first, twice) = (report(FIRST, NAMED), Count { passed: 13, failed: 1 });
        let again = report("test a::b ... FAILED\ntest result: FAILED. 3 passed; 1 failed", NAMED);
        assert_eq!(outcome(&first, Some(&again)), (twice, Vec::new()));
        // Another test than before.
        let again = report("test a::c ... FAILED\ntest result: FAILED. 3 passed; 1 failed", NAMED);
        assert_eq!(outcome(&first, Some(&again)), (twice, vec!["a::b".to_owned()]));
        // It crashed.
        let again = report("", NAMED);
        assert_eq!(outcome(&first, Some(&again)).0, twice);
    }

    #[test]
    fn a_crash_is_a_failure_unless_it_does_not_come_again() {
        let first = report("test result: ok. 10 passed; 0 failed", NAMED);
        assert_eq!(outcome(&first, None).0, Count { passed: 10, failed: 1 });
        let again = report("test result: ok. 4 passed; 0 failed", "");
        let name = "-p moonrest-cli --test main".to_owned();
        assert_eq!(outcome(&first, Some(&again)), (Count { passed: 14, failed: 0 }, vec![name]));
    }

    #[test]
    fn specification_files_are_run_again_as_a_whole() {
        let failed = "not ok - /x/spec/http/a.t:12 a name\n#   why\nnot ok - /x/spec/http/a.t:20 other\n";
        let first = report(&format!("{failed}98 passed, 2 failed"), "error");
        assert_eq!(first.failed, ["/x/spec/http/a.t"]);
        let again = report("20 passed, 0 failed", "");
        let expect = (Count { passed: 100, failed: 0 }, vec!["/x/spec/http/a.t".to_owned()]);
        assert_eq!(outcome(&first, Some(&again)), expect);
    }
}
