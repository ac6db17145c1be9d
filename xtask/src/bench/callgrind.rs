//! User instructions per request, counted under valgrind: the same on a busy machine as on an idle one.
use std::fmt::Write as _;
use std::path::Path;

use moonrest_testkit::Server;

use super::cases::{Ask, CASES, Request};
use super::services::Services;
use super::site::Site;
use crate::run;

/// Requests in the shorter of the two runs.
const REQUESTS: u32 = 2000;

/// Rows whose instructions the tests watch: they need nothing but valgrind.
const WATCHED: &[&str] = &["return", "file-1k", "say", "sleep", "reads"];

/// How far a row may go away from its budget, as a share of it.
const TOLERANCE: f64 = 0.05;

/// A watched row.
#[derive(Debug)]
pub(crate) struct Row {
    budget: f64,
    counted: f64,
}

impl Row {
    /// Whether the count lies within the budget's bounds: a gain beyond them is to be written down as well.
    pub(crate) fn holds(&self) -> bool {
        (self.counted / self.budget - 1.0).abs() <= TOLERANCE
    }
}

/// Runs a server on N and on 2N requests of one keep-alive connection; start and stop cancel out in the difference.
pub(crate) fn per_request(site: &Site<'_>, request: Request, binary: &Path) -> Result<f64, String> {
    let short = total(site, request, binary, REQUESTS)?;
    let long = total(site, request, binary, 2 * REQUESTS)?;
    Ok((long - short) / f64::from(REQUESTS))
}

fn total(site: &Site<'_>, request: Request, binary: &Path, requests: u32) -> Result<f64, String> {
    let arguments = ["--tool=callgrind", "--callgrind-out-file=callgrind.out", &binary.to_string_lossy()];
    let mut server: Server =
        site.builder().binary("valgrind").args_before(&arguments).in_root().start(&site.conf(site.workers()));
    server.allow_log("");
    let method = if request.body > 0 { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/1.1\r\n", request.path);
    if request.header.is_none_or(|(name, _)| name != "Host") {
        text.push_str("Host: 127.0.0.1\r\n");
    }
    if let Some((name, value)) = request.header {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if request.body > 0 {
        let _ = write!(text, "Content-Length: {}\r\n", request.body);
    }
    text.push_str("\r\n");
    text.push_str(&"x".repeat(request.body));
    let mut client = server.connect();
    for _ in 0..requests {
        client.send(&text);
        let response = client.response();
        if response.status != Some(request.status) {
            return Err(format!("{}: {:?} instead of {}", request.path, response.status, request.status));
        }
    }
    client.close();
    server.quit();
    let path = server.root().join("callgrind.out");
    let profile = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    sum(&profile).ok_or_else(|| "callgrind wrote no totals".to_owned())
}

/// Counts the watched rows and says how each stands to its budget.
pub(crate) fn budget(binary: &Path) -> Result<Vec<Row>, String> {
    let path = run::workspace().join("xtask/instructions.tsv");
    let file = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut rows = Vec::new();
    for &name in WATCHED {
        let budget = file
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')?.parse().ok())
            .ok_or_else(|| format!("xtask/instructions.tsv has no budget for {name}"))?;
        let row = Row { budget, counted: count(name, binary)? };
        let word = if row.holds() { "ok" } else { "not ok" };
        super::say(&format!(
            "{word} - instructions of {name}: {:.0}, budget {:.0} ± {:.0}%\n",
            row.counted,
            row.budget,
            TOLERANCE * 100.0
        ))?;
        rows.push(row);
    }
    Ok(rows)
}

/// Writes what the rows cost now as their budget.
pub(crate) fn write_budget(binary: &Path) -> Result<(), String> {
    let mut text = String::from(
        "# user instructions per request; `cargo xtask bench --write-budget` writes this file\n",
    );
    for &name in WATCHED {
        let _ = writeln!(text, "{name}\t{:.0}", count(name, binary)?);
    }
    std::fs::write(run::workspace().join("xtask/instructions.tsv"), text).map_err(|error| error.to_string())
}

fn count(name: &'static str, binary: &Path) -> Result<f64, String> {
    let case =
        CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("there is no row {name}"))?;
    let Ask::Http(request) = case.ask else { return Err(format!("{name} is not a row over plain HTTP")) };
    let mut services = Services::default();
    services.require(case.needs)?;
    let site = Site::new(case, &services, binary, None)?;
    per_request(&site, request, binary)
}

/// The number in `totals: 12345`.
fn sum(profile: &str) -> Option<f64> {
    let line = profile.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        assert_eq!(sum("events: Ir\nfn=x\n1 2\n\ntotals: 1234\n"), Some(1234.0));
        assert_eq!(sum("events: Ir\n"), None);
    }

    #[test]
    fn a_budget_has_two_ends() {
        let row = |counted| Row { budget: 1000.0, counted };
        assert!(row(1049.0).holds() && row(951.0).holds());
        assert!(!row(1051.0).holds() && !row(949.0).holds());
    }
}
