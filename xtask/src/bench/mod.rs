//! `cargo xtask bench`: what a request costs here and in Debian's nginx, side by side in one run.
mod callgrind;
mod cases;
mod crowd;
mod floor;
mod load;
mod report;
mod services;
mod site;
mod states;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moonrest_testkit::Server;

use self::cases::{Ask, CASES, Case};
use self::report::{Outcome, Pair};
use self::services::Services;
use self::site::Site;
use crate::run;

pub(crate) use callgrind::{budget, write_budget};
pub(crate) use floor::{WORD as FLOOR, serve as serve_floor};

const USAGE: &str = "\
usage: cargo xtask bench [options] [row]…

  --ours B         the first server (default: the release build)
  --theirs B       the second server (default: /usr/sbin/nginx)
  --lualib DIR     Lua libraries for the second server that Debian has no package of, for example checkouts of
                   lua-resty-mysql and pgmoon
  --pairs N        how often the two take turns (default: 5)
  --seconds N      how long each turn lasts (default: 3)
  --connections N  keep-alive connections of the load generator (default: 32)
  --instructions   count user instructions per request under callgrind instead
  --json           one JSON object per row
  --save           write the table to docs/benchmarks.md
  --budget         compare instructions with xtask/instructions.tsv, as the tests do
  --write-budget   write that file anew

Server and load generator run on processors of their own. It needs Debian's packages nginx, libnginx-mod-http-lua,
lua-cjson, lua-nginx-redis, lua-nginx-memcached, lua-nginx-websocket, wrk, nghttp2-client, openssl, redis-server,
memcached, mariadb-server, postgresql and valgrind, each for the rows that use it.

rows: ";

/// What the rows need: a program, and the package it comes in.
const PROGRAMS: &[(&str, &str)] = &[
    ("nginx", "nginx"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("taskset", "util-linux"),
];

#[derive(Debug)]
struct Options {
    ours: Option<PathBuf>,
    theirs: PathBuf,
    lualib: Option<PathBuf>,
    pairs: usize,
    load: load::Load,
    instructions: bool,
    json: bool,
    save: bool,
    cases: Vec<&'static Case>,
}

/// What the command line asks for.
#[derive(Debug)]
enum Task {
    Help,
    Measure(Box<Options>),
    Budget,
    WriteBudget,
}

/// Measures the rows and prints a line for each.
pub(crate) fn bench(args: &[String]) -> Result<(), String> {
    let options = match parse(args)? {
        Task::Help => {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            return say(&format!("{USAGE}{}\n", names.join(", ")));
        }
        Task::Budget => {
            let failed = budget(&run::release_binary()?)?.iter().filter(|row| !row.holds()).count();
            return if failed == 0 { Ok(()) } else { Err(format!("{failed} rows left their budget")) };
        }
        Task::WriteBudget => return write_budget(&run::release_binary()?),
        Task::Measure(options) => options,
    };
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| services::is_missing(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        return Err(format!("install Debian's packages {} first", missing.join(", ")));
    }
    states::raise_limits();
    let ours = match &options.ours {
        Some(path) => path.clone(),
        None => run::release_binary()?,
    };
    let servers = [ours, options.theirs.clone()];
    let mut services = Services::default();
    let mut outcomes = Vec::new();
    for case in &options.cases {
        match measure(case, &servers, &mut services, &options) {
            Ok(outcome) => {
                say(&if options.json { outcome.json() } else { outcome.text() })?;
                outcomes.push(outcome);
            }
            Err(why) => say(&format!("{:14} not measured: {why}\n", case.name))?,
        }
    }
    if options.save { report::save(&outcomes, &servers) } else { Ok(()) }
}

/// Measures one row.
fn measure(
    case: &'static Case,
    servers: &[PathBuf; 2],
    services: &mut Services,
    options: &Options,
) -> Result<Outcome, String> {
    services.require(case.needs)?;
    let site = Site::new(case, services, &options.theirs, options.lualib.as_deref())?;
    if let Some(why) = site.missing() {
        return Err(why);
    }
    if options.instructions {
        let Ask::Http(request) = case.ask else {
            return Err("instructions are counted for rows over plain HTTP only".to_owned());
        };
        let count = |binary: &Path| callgrind::per_request(&site, request, binary);
        let pair = Pair { ours: count(&servers[0])?, theirs: count(&servers[1])? };
        return Ok(Outcome::new(case, "instructions", vec![pair]));
    }
    match case.ask {
        Ask::Floor(request) => floor_row(case, request, &start(&site, &servers[1]), options),
        Ask::Scaling(request) => {
            let figure = |binary: &Path| {
                let apart = [start_with(&site, binary, 1), start_with(&site, binary, 1)];
                states::scaling(&start(&site, binary), &apart, request, options.load)
            };
            Ok(Outcome::new(case, "times 1 worker's", pairs(options.pairs, servers, figure)?))
        }
        Ask::Idle { connections, tls } => {
            let figure = |binary: &Path| states::idle(&start(&site, binary), connections, tls);
            let pair = Pair { ours: figure(&servers[0])?, theirs: figure(&servers[1])? };
            Ok(Outcome::new(case, "bytes", vec![pair]))
        }
        Ask::Start => {
            let figure = |binary: &Path| states::start(|| start(&site, binary));
            Ok(Outcome::new(case, "ms", pairs(options.pairs, servers, figure)?))
        }
        Ask::Reload => {
            let figure = |binary: &Path| {
                states::reload(&start(&site, binary), "location = /generation { return 200 \"2\"; }")
            };
            Ok(Outcome::new(case, "ms", pairs(options.pairs, servers, figure)?))
        }
        _ => cpu(case, &site, servers, options),
    }
}

fn pairs(
    count: usize,
    servers: &[PathBuf; 2],
    mut figure: impl FnMut(&Path) -> Result<f64, String>,
) -> Result<Vec<Pair>, String> {
    (0..count).map(|_| Ok(Pair { ours: figure(&servers[0])?, theirs: figure(&servers[1])? })).collect()
}

/// CPU time per request of the server, all its threads, in alternating turns.
fn cpu(
    case: &'static Case,
    site: &Site<'_>,
    servers: &[PathBuf; 2],
    options: &Options,
) -> Result<Outcome, String> {
    let running: Vec<Server> = servers.iter().map(|binary| start(site, binary)).collect();
    // One short turn each warms caches, traces and allocators; it is not counted.
    let warm = load::Load { time: Duration::from_secs(1), ..options.load };
    for server in &running {
        if let Ask::Http(request) = case.ask
            && case.name.starts_with("dict-get")
        {
            let _ = load::measure(server, Ask::Http(cases::Request { path: "/set", ..request }), warm);
        }
        load::measure(server, case.ask, warm)?;
    }
    let turn = |server| load::measure(server, case.ask, options.load);
    let turns = (0..options.pairs).map(|_| Ok((turn(&running[0])?, turn(&running[1])?)));
    Ok(Outcome::of_turns(case, &turns.collect::<Result<Vec<_>, String>>()?))
}

/// The bare loop beside nginx.
fn floor_row(
    case: &'static Case,
    request: cases::Request,
    theirs: &Server,
    options: &Options,
) -> Result<Outcome, String> {
    let floor = floor::Floor::start()?;
    let turn = || {
        let ours = load::measure_floor(&floor, request, options.load)?;
        Ok((ours, load::measure(theirs, case.ask, options.load)?))
    };
    let turns = (0..options.pairs).map(|_| turn());
    Ok(Outcome::of_turns(case, &turns.collect::<Result<Vec<_>, String>>()?))
}

/// A server of a row, bound to the first processor, or to all if it has several workers.
fn start(site: &Site<'_>, binary: &Path) -> Server {
    start_with(site, binary, site.workers())
}

fn start_with(site: &Site<'_>, binary: &Path, workers: u32) -> Server {
    let processors = if site.workers() > 1 { "0-63" } else { "0" };
    let mut server = site
        .builder()
        .binary("taskset")
        .args_before(&["-c", processors, &binary.to_string_lossy()])
        .start(&site.conf(workers));
    // What the log says is for people who look into it; the load generator counts the errors.
    server.allow_log("");
    server
}

fn parse(args: &[String]) -> Result<Task, String> {
    let load = load::Load { time: Duration::from_secs(3), connections: 32 };
    let mut options = Options {
        ours: None,
        theirs: PathBuf::from("/usr/sbin/nginx"),
        lualib: None,
        pairs: 5,
        load,
        instructions: false,
        json: false,
        save: false,
        cases: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: &String| text.parse::<u32>().map_err(|_| format!("\"{text}\" is no number"));
        match arg.as_str() {
            "--ours" => options.ours = Some(PathBuf::from(value()?)),
            "--theirs" => options.theirs = PathBuf::from(value()?),
            "--lualib" => options.lualib = Some(PathBuf::from(value()?)),
            "--pairs" => options.pairs = number(value()?)?.max(1) as usize,
            "--seconds" => options.load.time = Duration::from_secs(u64::from(number(value()?)?.max(1))),
            "--connections" => options.load.connections = number(value()?)?.max(1),
            "--instructions" => options.instructions = true,
            "--json" => options.json = true,
            "--save" => options.save = true,
            "--budget" => return Ok(Task::Budget),
            "--write-budget" => return Ok(Task::WriteBudget),
            "--help" | "-h" => return Ok(Task::Help),
            name => {
                let case = CASES.iter().find(|case| case.name == name);
                options.cases.push(case.ok_or_else(|| format!("there is no row {name}"))?);
            }
        }
    }
    if options.cases.is_empty() {
        options.cases = CASES.iter().collect();
    }
    Ok(Task::Measure(Box::new(options)))
}

fn say(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}
