//! `cargo xtask bench`: what a request costs here and in Debian's nginx, side by side in one run.
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use moonrest_testkit::Server;

use crate::{callgrind, load, run};

const USAGE: &str = "\
usage: cargo xtask bench [options] [case]…

  --ours B         the first server (default: the release build)
  --theirs B       the second server (default: /usr/sbin/nginx)
  --pairs N        how often the two take turns (default: 5)
  --seconds N      how long each turn lasts (default: 3)
  --connections N  keep-alive connections of the load generator (default: 32)
  --instructions   count user instructions per request under callgrind instead
  --json           one JSON object per case

cases: ";

/// A thing to be measured: a name, directives for the server block, a path to ask for.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    config: &'static str,
    pub(crate) path: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "return", config: "location / { return 200 \"hello, world\\n\"; }", path: "/" },
    Case { name: "file-1k", config: "root {{root}}/html;", path: "/1k.html" },
];

#[derive(Debug)]
struct Options {
    ours: Option<PathBuf>,
    theirs: PathBuf,
    pairs: usize,
    load: load::Load,
    instructions: bool,
    json: bool,
    cases: Vec<&'static Case>,
}

/// Measures the cases and prints a line for each.
pub(crate) fn bench(args: &[String]) -> Result<(), String> {
    let Some(options) = parse(args)? else {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return say(&format!("{USAGE}{}\n", names.join(", ")));
    };
    let ours = match &options.ours {
        Some(path) => path.clone(),
        None => run::release_binary()?,
    };
    let servers = [ours, options.theirs.clone()];
    for case in &options.cases {
        let result =
            if options.instructions { instructions(case, &servers)? } else { cpu(case, &servers, &options)? };
        say(&if options.json { result.json(case) } else { result.text(case) })?;
    }
    Ok(())
}

/// A figure per server and how they compare.
#[derive(Debug)]
struct Outcome {
    unit: &'static str,
    ours: f64,
    theirs: f64,
    ratio: f64,
    /// The smallest and the largest ratio of a pair.
    spread: (f64, f64),
    /// Requests per second, where a load generator ran.
    rates: Option<(f64, f64)>,
}

impl Outcome {
    fn text(&self, case: &Case) -> String {
        let Self { unit, ours, theirs, ratio, spread: (low, high), rates } = self;
        let mut text = format!(
            "{:10} ours {ours:9.2}  theirs {theirs:9.2} {unit}  ratio {ratio:.3} ({low:.3}–{high:.3})",
            case.name
        );
        if let Some((ours, theirs)) = rates {
            let _ = write!(text, "  {ours:.0} and {theirs:.0} requests/s");
        }
        text + "\n"
    }

    fn json(&self, case: &Case) -> String {
        let Self { unit, ours, theirs, ratio, spread: (low, high), rates } = self;
        let rates = rates.map_or_else(String::new, |(ours, theirs)| {
            format!(",\"ours_per_second\":{ours:.0},\"theirs_per_second\":{theirs:.0}")
        });
        format!(
            "{{\"case\":\"{}\",\"unit\":\"{unit}\",\"ours\":{ours:.3},\"theirs\":{theirs:.3},\"ratio\":{ratio:.4},\
             \"lowest\":{low:.4},\"highest\":{high:.4}{rates}}}\n",
            case.name
        )
    }
}

/// CPU time per request of the server, all its threads, in alternating turns.
fn cpu(case: &Case, servers: &[PathBuf; 2], options: &Options) -> Result<Outcome, String> {
    let running: Vec<Server> = servers.iter().map(|binary| start(case, binary)).collect();
    // One short turn each warms caches and allocators; it is not counted.
    let warm = load::Load { time: Duration::from_secs(1), ..options.load };
    for server in &running {
        load::measure(server, case.path, warm)?;
    }
    let mut pairs = Vec::new();
    for _ in 0..options.pairs {
        let turn = |server| load::measure(server, case.path, options.load);
        pairs.push((turn(&running[0])?, turn(&running[1])?));
    }
    let median_of =
        |figure: &dyn Fn(&(load::Turn, load::Turn)) -> f64| median(pairs.iter().map(figure).collect());
    let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours.micros / theirs.micros).collect();
    Ok(Outcome {
        unit: "CPU µs",
        ours: median_of(&|(ours, _)| ours.micros),
        theirs: median_of(&|(_, theirs)| theirs.micros),
        ratio: median(ratios.clone()),
        spread: spread(&ratios),
        rates: Some((median_of(&|(ours, _)| ours.per_second), median_of(&|(_, theirs)| theirs.per_second))),
    })
}

/// User instructions per request.
fn instructions(case: &Case, servers: &[PathBuf; 2]) -> Result<Outcome, String> {
    let ours = callgrind::per_request(case, &servers[0])?;
    let theirs = callgrind::per_request(case, &servers[1])?;
    let ratio = ours / theirs;
    Ok(Outcome { unit: "instructions", ours, theirs, ratio, spread: (ratio, ratio), rates: None })
}

/// A server for a case: one worker, bound to the first processor; the load generator gets the others.
fn start(case: &Case, binary: &std::path::Path) -> Server {
    builder(case).binary("taskset").args_before(&["-c", "0", &binary.to_string_lossy()]).start(&conf(case))
}

/// The files a case needs.
pub(crate) fn builder(_case: &Case) -> moonrest_testkit::ServerBuilder {
    Server::builder().file("html/1k.html", "x".repeat(1024))
}

/// The configuration of a case.
pub(crate) fn conf(case: &Case) -> String {
    format!(
        "worker_processes 1; master_process off; error_log logs/error.log warn;
         events {{ worker_connections 1024; }}
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on;
                server {{ listen {{{{addr}}}}; {} }} }}",
        case.config
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => figures[len / 2],
        len => f64::midpoint(figures[len / 2 - 1], figures[len / 2]),
    }
}

fn spread(figures: &[f64]) -> (f64, f64) {
    figures
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &figure| (low.min(figure), high.max(figure)))
}

/// `None` when help was asked for.
fn parse(args: &[String]) -> Result<Option<Options>, String> {
    let load = load::Load { time: Duration::from_secs(3), connections: 32 };
    let mut options = Options {
        ours: None,
        theirs: PathBuf::from("/usr/sbin/nginx"),
        pairs: 5,
        load,
        instructions: false,
        json: false,
        cases: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: &String| text.parse::<u32>().map_err(|_| format!("\"{text}\" is no number"));
        match arg.as_str() {
            "--ours" => options.ours = Some(PathBuf::from(value()?)),
            "--theirs" => options.theirs = PathBuf::from(value()?),
            "--pairs" => options.pairs = number(value()?)?.max(1) as usize,
            "--seconds" => options.load.time = Duration::from_secs(u64::from(number(value()?)?.max(1))),
            "--connections" => options.load.connections = number(value()?)?.max(1),
            "--instructions" => options.instructions = true,
            "--json" => options.json = true,
            "--help" | "-h" => return Ok(None),
            name => {
                let case = CASES.iter().find(|case| case.name == name);
                options.cases.push(case.ok_or_else(|| format!("there is no case {name}"))?);
            }
        }
    }
    if options.cases.is_empty() {
        options.cases = CASES.iter().collect();
    }
    Ok(Some(options))
}

fn say(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[2.0, 1.0, 3.0]), (1.0, 3.0));
    }
}
