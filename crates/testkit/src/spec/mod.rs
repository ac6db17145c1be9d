//! The specification runner: executes `spec/**/*.t`, which are written in the data-block form of Test::Nginx.
//!
//! The same files run under the real thing: `prove -I …/test-nginx/lib spec/http/return.t`. What this runner adds is
//! that it needs nothing but `perl`, runs files side by side, and says what differs. Its checks are those that
//! <https://metacpan.org/pod/Test::Nginx::Socket> documents; beyond them, a block fails when the server logs an alert,
//! an emergency or a panic that the block is not about, when it dies, and when it does not stop.

mod block;
mod check;
mod evaluator;
mod exchange;
mod pattern;
mod peer;
mod request;
mod run;
mod site;
mod value;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::services::Services;

pub use run::{FileOutcome, Outcome};

/// How the runner is to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub binary: PathBuf,
    /// Files and directories with specifications.
    pub paths: Vec<PathBuf>,
    /// How many files run side by side.
    pub jobs: usize,
    /// Modules to load, for servers that have them as files.
    pub load_modules: Vec<String>,
    /// Run only the block that begins on this line.
    pub only: Option<usize>,
    /// Where to keep the directories of failed blocks.
    pub keep: Option<PathBuf>,
    /// Name each block, not only those that fail.
    pub verbose: bool,
}

/// How many blocks did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// The server under test.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    /// The nginx version it reports.
    version: Option<(u32, u32, u32)>,
}

impl Binary {
    /// Asks a server for its version.
    pub fn new(path: &Path) -> io::Result<Self> {
        let output = Command::new(path).arg("-v").output()?;
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find_map(|line| {
            let (_, version) = line.split_once("nginx version: ")?;
            let (_, version) = version.split_once('/')?;
            version_of(version)
        });
        Ok(Self { path: path.to_owned(), version })
    }

    /// Whether a condition of `skip_nginx` holds (`< 1.21.0: reason`), and the reason.
    fn is_skipped(&self, condition: &str) -> Result<(bool, String), String> {
        let condition = condition.trim();
        let (comparison, reason) = condition.split_once(':').unwrap_or((condition, ""));
        let digits = comparison.find(|c: char| c.is_ascii_digit()).unwrap_or(comparison.len());
        let (operator, version) = comparison.split_at(digits);
        let wanted =
            version_of(version).ok_or_else(|| format!("\"{condition}\" is no condition on a version"))?;
        let Some(version) = self.version else { return Ok((false, String::new())) };
        let holds = match operator.trim() {
            "<" => version < wanted,
            "<=" => version <= wanted,
            ">" => version > wanted,
            ">=" => version >= wanted,
            _ => return Err(format!("\"{condition}\" is no condition on a version")),
        };
        let reason = if reason.trim().is_empty() {
            format!("nginx version {comparison}")
        } else {
            reason.trim().into()
        };
        Ok((holds, reason))
    }
}

fn version_of(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.trim().split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// The specification files among paths: files as they are, directories searched for `*.t`.
pub fn files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries: io::Result<Vec<_>> =
                path.read_dir()?.map(|entry| entry.map(|entry| entry.path())).collect();
            let mut entries: Vec<_> = entries?
                .into_iter()
                .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "t"))
                .collect();
            entries.sort();
            found.extend(files(&entries)?);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// Runs the files and reports on `out` as each one ends.
pub fn run(options: &Options, out: &mut (impl Write + Send)) -> io::Result<Summary> {
    crate::process::adopt_orphans();
    let binary = Binary::new(&options.binary)?;
    let files = files(&options.paths)?;
    let services = Services::new();
    let (next, report) = (AtomicUsize::new(0), Mutex::new((Summary::default(), out, Ok(()))));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, files.len().max(1)) {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run::run_file(path, options, &binary, &services);
                    if let Ok(mut report) = report.lock() {
                        let (summary, out, written) = &mut *report;
                        let result = tell(&outcome, options.verbose, summary, out);
                        if written.is_ok() {
                            *written = result;
                        }
                    }
                }
            });
        }
    });
    let (summary, _, written) =
        report.into_inner().map_err(|_| io::Error::other("a runner thread panicked"))?;
    written.map(|()| summary)
}

/// Reports one file and counts its blocks.
fn tell(outcome: &FileOutcome, verbose: bool, summary: &mut Summary, out: &mut impl Write) -> io::Result<()> {
    let path = outcome.path.display();
    for block in &outcome.blocks {
        let Outcome { name, line, failures, skipped } = block;
        if !failures.is_empty() {
            summary.failed += 1;
            writeln!(out, "not ok - {path}:{line} {name}")?;
            for text in failures.iter().flat_map(|failure| failure.lines()) {
                writeln!(out, "#   {text}")?;
            }
        } else if let Some(reason) = skipped {
            summary.skipped += 1;
            writeln!(out, "ok - {path}:{line} {name} # SKIP {reason}")?;
        } else {
            summary.passed += 1;
            if verbose {
                writeln!(out, "ok - {path}:{line} {name}")?;
            }
        }
    }
    if let Some(error) = &outcome.error {
        summary.failed += 1;
        writeln!(out, "not ok - {path}: {error}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_parts() {
        let binary = Binary { path: PathBuf::new(), version: Some((1, 22, 1)) };
        let check =
            |condition, expect| assert_eq!(binary.is_skipped(condition).unwrap().0, expect, "{condition}");
        check("< 1.25.0: http2 directive", true);
        check("<= 1.22.1", true);
        check(">= 1.9.11", true);
        check("> 1.22.1", false);
        assert!(binary.is_skipped("whenever").is_err());
    }
}
