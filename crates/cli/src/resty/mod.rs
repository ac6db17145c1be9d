//! `resty`: runs Lua scripts outside requests, with everything that a worker has.
//! <https://github.com/openresty/resty-cli>

mod configuration;
mod options;

use moonrest_server::{Mode, Options, Program};
use options::{Asked, Script};
use std::{io::Write as _, os::unix::ffi::OsStrExt as _, path::Path, path::PathBuf};

/// Whether the program was called by this name, or asked to be it: the words that belong to it.
pub(crate) fn words(argv: &[Vec<u8>]) -> Option<&[Vec<u8>]> {
    let name = Path::new(std::ffi::OsStr::from_bytes(argv.first()?)).file_name()?;
    if name == "resty" {
        return argv.get(1..);
    }
    if argv.get(1).is_some_and(|word| word == b"resty") { argv.get(2..) } else { None }
}

/// Runs it; gives the exit status.
pub(crate) fn start(words: &[Vec<u8>], argv: Vec<Vec<u8>>) -> u8 {
    match options::parse(words) {
        Ok(Asked::Help) => {
            // Nobody to tell when this fails.
            let _ = std::io::stdout().write_all(options::HELP.as_bytes());
            0
        }
        Ok(Asked::Version) => {
            complain(&format!("resty {}\n{}", env!("CARGO_PKG_VERSION"), crate::options::version_lines()));
            0
        }
        Ok(Asked::Run(script)) => run(&script, argv),
        Err(text) => {
            complain(&text);
            1
        }
    }
}

fn complain(text: &str) {
    // Nobody to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn run(script: &Script, argv: Vec<Vec<u8>>) -> u8 {
    if let Some(file) = &script.file
        && file != b"-"
        && !Path::new(std::ffi::OsStr::from_bytes(file)).is_file()
    {
        complain(&format!("Lua input file {} not found.", String::from_utf8_lossy(file)));
        return 2;
    }
    let text = match configuration::text(script) {
        Ok(text) => text,
        Err(text) => {
            complain(&text);
            return 1;
        }
    };
    if script.dump {
        return u8::from(std::io::stdout().write_all(&text).is_err());
    }
    let mut prefix = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    prefix.push("");
    let options = Options {
        conf_file: prefix.join("resty.conf"),
        prefix,
        params: None,
        error_log: PathBuf::from("stderr"),
        quiet: true,
        mode: Mode::Serve,
        greeting: None,
    };
    let version = crate::options::VERSION;
    let program = Program { registry: crate::modules::registry(), options, version, argv };
    u8::try_from(moonrest_server::run_console(&program, text)).unwrap_or(1)
}
