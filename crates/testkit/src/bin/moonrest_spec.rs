//! Runs specification files against a server: `moonrest-spec [--binary B] [files…]`.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use moonrest_testkit::server::{default_binary, workspace};
use moonrest_testkit::services::{Kind, Services};
use moonrest_testkit::spec::{self, Options};

const USAGE: &str = "\
usage: moonrest-spec [options] [file.t | directory]…
       moonrest-spec --services LIST     (redis,memcached,mysql,postgres,php_fpm: runs them until its input ends)

  --binary B       the server (default: $MOONREST_BINARY, or target/release/moonrest)
  --jobs N         files run side by side (default: a file per processor)
  --load-module M  a dynamic module for a server that needs one, in the order to load them
  --line N         only the block that begins on line N
  --keep DIR       keep the directories of failed blocks there
  --verbose        name every block
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--services") {
        return match serve(&args.next().unwrap_or_default()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => say(&format!("{error}\n"), ExitCode::FAILURE),
        };
    }
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return say(USAGE, ExitCode::SUCCESS),
        Err(error) => return say(&format!("{error}\n\n{USAGE}"), ExitCode::from(2)),
    };
    match spec::run(&options, &mut std::io::stdout()) {
        Ok(summary) => {
            let skipped =
                if summary.skipped > 0 { format!("{} skipped\n", summary.skipped) } else { String::new() };
            let line = format!("{skipped}{} passed, {} failed\n", summary.passed, summary.failed);
            say(&line, if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => say(&format!("{}: {error}\n", options.binary.display()), ExitCode::from(2)),
    }
}

/// Starts servers, says where they are in a shell's words, and ends them when the input ends.
fn serve(list: &str) -> Result<(), String> {
    let services = Services::new();
    for name in list.split(',') {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name.trim()));
        let kind = kind.ok_or_else(|| format!("there is no service {name:?}"))?;
        for (name, value) in services.get(kind)? {
            say(&format!("export TEST_NGINX_{name}={value}\n"), ExitCode::SUCCESS);
        }
    }
    say("true ready\n", ExitCode::SUCCESS);
    let _ = std::io::stdout().flush();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map(|_| ()).map_err(|error| error.to_string())
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// `None` when help was asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        binary: default_binary(),
        paths: Vec::new(),
        jobs: std::thread::available_parallelism().map_or(2, usize::from),
        load_modules: Vec::new(),
        only: None,
        keep: None,
        verbose: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("\"{text}\" is no number"));
        match arg.as_str() {
            "--binary" => options.binary = PathBuf::from(value()?),
            "--jobs" => options.jobs = number(value()?)?,
            "--load-module" => options.load_modules.push(value()?),
            "--line" => options.only = Some(number(value()?)?),
            "--keep" => options.keep = Some(PathBuf::from(value()?)),
            "--verbose" | "-v" => options.verbose = true,
            "--help" | "-h" => return Ok(None),
            unknown if unknown.starts_with('-') => return Err(format!("unknown option {unknown}")),
            path => options.paths.push(PathBuf::from(path)),
        }
    }
    if options.paths.is_empty() {
        options.paths.push(workspace().join("spec"));
    }
    if options.only.is_some() && spec::files(&options.paths).map_or(0, |files| files.len()) != 1 {
        return Err("--line needs exactly one file".into());
    }
    Ok(Some(options))
}
