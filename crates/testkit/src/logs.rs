//! What a server wrote to its logs: levels, and the lines no test may leave behind.
use std::fs;
use std::path::Path;

/// A level of the error log, as it stands between brackets in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Crit,
    Alert,
    Emerg,
}

impl Level {
    /// The word as it appears in a log line, brackets included.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Debug => "[debug]",
            Self::Info => "[info]",
            Self::Notice => "[notice]",
            Self::Warn => "[warn]",
            Self::Error => "[error]",
            Self::Crit => "[crit]",
            Self::Alert => "[alert]",
            Self::Emerg => "[emerg]",
        }
    }
}

/// A log as text; bytes that are not UTF-8 are shown as replacement characters, a missing file is empty.
pub fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The lines that mean a bug in the server whatever the test is about: alerts, emergencies, panics, assertions,
/// findings of a sanitizer.
pub fn grave_lines(log: &str) -> Vec<&str> {
    log.lines().filter(|line| is_grave(line)).collect()
}

fn is_grave(line: &str) -> bool {
    line.contains("[alert]")
        || line.contains("[emerg]")
        || line.contains("panicked at")
        || line.contains("Sanitizer")
        || line.split_once("Assertion ").is_some_and(|(_, rest)| rest.contains("failed"))
}

/// The last lines of a log without the debug ones, for a failure report.
pub fn tail(log: &str, lines: usize) -> Vec<&str> {
    let levels =
        [Level::Info, Level::Notice, Level::Warn, Level::Error, Level::Crit, Level::Alert, Level::Emerg];
    let above_debug = |line: &&str| levels.iter().any(|level| line.contains(level.tag()));
    let mut kept: Vec<&str> = log.lines().filter(above_debug).rev().take(lines).collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_panics_and_assertions_are_grave() {
        let log = "a [error] b\nc [alert] d\nthread 'w' panicked at src/x.rs:1:1\nAssertion `x` failed.\n[emerg] y\n";
        assert_eq!(grave_lines(log).len(), 4);
    }

    #[test]
    fn the_tail_leaves_debug_lines_out() {
        assert_eq!(tail("1 [info]\n2 [debug]\n3 [warn]\n4 [error]\n", 2), ["3 [warn]", "4 [error]"]);
    }
}
