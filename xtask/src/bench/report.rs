//! How a row came out, and the page `docs/benchmarks.md`.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::cases::{Ask, Case};
use super::load::Turn;
use crate::run;

/// A figure of each server, from the same pair of turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
}

/// A figure per server and how they compare.
#[derive(Debug)]
pub(crate) struct Outcome {
    case: &'static Case,
    unit: &'static str,
    pairs: Vec<Pair>,
    /// What the load generator saw of each, where one ran.
    seen: Option<(Seen, Seen)>,
}

/// Medians of what a load generator saw.
#[derive(Clone, Copy, Debug)]
struct Seen {
    per_second: f64,
    /// Microseconds outside of the kernel, per request.
    own: f64,
    latency: Option<(f64, f64)>,
    errors: u64,
}

impl Outcome {
    pub(crate) fn new(case: &'static Case, unit: &'static str, pairs: Vec<Pair>) -> Self {
        Self { case, unit, pairs, seen: None }
    }

    /// A row of CPU time under load.
    pub(crate) fn of_turns(case: &'static Case, turns: &[(Turn, Turn)]) -> Self {
        let pairs = turns.iter().map(|(ours, theirs)| Pair { ours: ours.micros, theirs: theirs.micros });
        let side = |pick: &dyn Fn(&(Turn, Turn)) -> Turn| {
            let turns: Vec<Turn> = turns.iter().map(pick).collect();
            let latencies = || turns.iter().filter_map(|turn| turn.latency);
            Seen {
                per_second: median(turns.iter().map(|turn| turn.per_second).collect()),
                own: median(turns.iter().map(|turn| turn.own).collect()),
                latency: latencies().next().map(|_| {
                    (
                        median(latencies().map(|both| both.0).collect()),
                        median(latencies().map(|both| both.1).collect()),
                    )
                }),
                errors: turns.iter().map(|turn| turn.errors).sum(),
            }
        };
        let seen = Some((side(&|turn| turn.0), side(&|turn| turn.1)));
        Self { case, unit: "CPU µs", pairs: pairs.collect(), seen }
    }

    fn ours(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.ours).collect())
    }

    fn theirs(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.theirs).collect())
    }

    /// The median of the pairs' ratios, the smallest and the largest.
    fn ratio(&self) -> (f64, f64, f64) {
        let ratios: Vec<f64> = self.pairs.iter().map(|pair| pair.ours / pair.theirs).collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (median(ratios), low, high)
    }

    pub(crate) fn text(&self) -> String {
        let (ratio, low, high) = self.ratio();
        let mut text = format!(
            "{:14} ours {:10.2}  theirs {:10.2} {:12}  ratio {ratio:.3} ({low:.3}–{high:.3}), goal {:.2}",
            self.case.name,
            self.ours(),
            self.theirs(),
            self.unit,
            self.case.goal
        );
        if let Some((ours, theirs)) = &self.seen {
            let _ = write!(text, "; own part {:.2} and {:.2}", ours.own, theirs.own);
            let _ = write!(text, "; {:.0} and {:.0}/s", ours.per_second, theirs.per_second);
            if let (Some(a), Some(b)) = (ours.latency, theirs.latency) {
                let _ = write!(text, "; p50 {:.2} and {:.2} ms, p99 {:.2} and {:.2} ms", a.0, b.0, a.1, b.1);
            }
            if ours.errors + theirs.errors > 0 {
                let _ = write!(text, "; errors {} and {}", ours.errors, theirs.errors);
            }
        }
        text + "\n"
    }

    pub(crate) fn json(&self) -> String {
        let (ratio, low, high) = self.ratio();
        let mut text = format!(
            "{{\"row\":\"{}\",\"unit\":\"{}\",\"ours\":{:.3},\"theirs\":{:.3},\"ratio\":{ratio:.4},\"lowest\":{low:.4},\
             \"highest\":{high:.4},\"goal\":{:.2}",
            self.case.name,
            self.unit,
            self.ours(),
            self.theirs(),
            self.case.goal
        );
        if let Some((ours, theirs)) = &self.seen {
            for (name, seen) in [("ours", ours), ("theirs", theirs)] {
                let _ = write!(
                    text,
                    ",\"{name}_own\":{:.3},\"{name}_per_second\":{:.0},\"{name}_errors\":{}",
                    seen.own, seen.per_second, seen.errors
                );
                if let Some((half, most)) = seen.latency {
                    let _ = write!(text, ",\"{name}_p50_ms\":{half:.3},\"{name}_p99_ms\":{most:.3}");
                }
            }
        }
        text + "}\n"
    }

    /// Whether the goal is met: by the ratio to nginx, or by our own figure where that is a ratio already.
    fn holds(&self) -> bool {
        let figure = if matches!(self.case.ask, Ask::Scaling(_)) { self.ours() } else { self.ratio().0 };
        figure <= self.case.goal
    }

    /// A line of the table in the page.
    fn line(&self) -> String {
        let (ratio, low, high) = self.ratio();
        let mut seen = [const { String::new() }; 4];
        if let Some((ours, theirs)) = &self.seen {
            seen[3] = format!("{:.2} / {:.2}", ours.own, theirs.own);
            seen[0] = format!("{:.0} / {:.0}", ours.per_second, theirs.per_second);
            if let (Some(a), Some(b)) = (ours.latency, theirs.latency) {
                seen[1] = format!("{:.2} / {:.2}", a.0, b.0);
                seen[2] = format!("{:.2} / {:.2}", a.1, b.1);
            }
        }
        let mark = if self.holds() { "" } else { " ✗" };
        format!(
            "| {} | {:.2} / {:.2} {} | {} | **{ratio:.2}** ({low:.2}–{high:.2}){mark} | {:.2} | {} | {} | {} |\n",
            self.case.title,
            self.ours(),
            self.theirs(),
            self.unit,
            seen[3],
            self.case.goal,
            seen[0],
            seen[1],
            seen[2]
        )
    }
}

/// Marks of the part of the page that is made by a run.
const BEGIN: &str = "<!-- made by `cargo xtask bench --save` -->\n";
const END: &str = "<!-- end -->\n";

/// Writes the table into the page and leaves what people wrote around it alone.
pub(crate) fn save(outcomes: &[Outcome], servers: &[PathBuf; 2]) -> Result<(), String> {
    let path = run::workspace().join("docs/benchmarks.md");
    let old = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (before, rest) = old.split_once(BEGIN).ok_or("docs/benchmarks.md has lost its marks")?;
    let (_, after) = rest.split_once(END).ok_or("docs/benchmarks.md has lost its marks")?;
    let word =
        |program: &str, args: &[&str]| run::output(Command::new(program).args(args)).unwrap_or_default();
    let version = |binary: &PathBuf| {
        let output = Command::new(binary).arg("-v").output().map(|output| output.stderr).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().replace("nginx version: ", "").to_owned()
    };
    let mut table = format!(
        "Run of {} on {} processors, kernel {}: {} against {}.\n\n",
        word("date", &["-u", "+%Y-%m-%d"]).trim(),
        std::thread::available_parallelism().map_or(1, usize::from),
        word("uname", &["-r"]).trim(),
        version(&servers[0]),
        version(&servers[1]),
    );
    table.push_str(
        "| row | ours / nginx | own part | ratio (lowest–highest) | goal | requests/s | p50 ms | p99 ms |\n",
    );
    table.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    outcomes.iter().for_each(|outcome| table.push_str(&outcome.line()));
    std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).map_err(|error| error.to_string())
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => figures[len / 2],
        len => f64::midpoint(figures[len / 2 - 1], figures[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        let pair = |ours, theirs| Pair { ours, theirs };
        let outcome = Outcome::new(&CASES[0], "x", vec![pair(1.0, 2.0), pair(3.0, 2.0), pair(2.0, 2.0)]);
        assert_eq!(outcome.ratio(), (1.0, 0.5, 1.5));
        assert!(outcome.line().contains("✗"));
        assert!(outcome.json().starts_with("{\"row\":\"return\""));
    }
}
