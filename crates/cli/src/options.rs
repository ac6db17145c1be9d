//! nginx's options: `-p -c -g -e -t -T -q -s -v -V -h`.
//! <https://nginx.org/en/docs/switches.html>

use moonrest_server::{Mode, Options, Program};
use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

/// Where the server lives when nothing is said.
const DEFAULT_PREFIX: &str = match option_env!("MOONREST_PREFIX") {
    Some(prefix) => prefix,
    None => "/usr/local/moonrest/",
};
const DEFAULT_CONF: &str = "conf/nginx.conf";
const DEFAULT_ERROR_LOG: &str = "logs/error.log";

/// The name and version in `-v` and in the log.
const VERSION: &str = concat!("moonrest/", env!("CARGO_PKG_VERSION"));
/// The version of nginx whose behaviour this is.
const NGINX_VERSION: &str = "1.31.3";

/// The options as they were given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    help: bool,
    version: bool,
    configure: bool,
    test: bool,
    dump: bool,
    quiet: bool,
    prefix: Option<Vec<u8>>,
    error_log: Option<Vec<u8>>,
    conf_file: Option<Vec<u8>>,
    params: Option<Vec<u8>>,
    signal: Option<i32>,
}

/// Reads the words behind the program's name.
///
/// # Errors
/// nginx's text.
fn parse(words: &[Vec<u8>]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let shown = String::from_utf8_lossy(word);
        let Some(mut letters) = word.strip_prefix(b"-") else {
            return Err(format!("invalid option: \"{shown}\""));
        };
        while let Some((&letter, rest)) = letters.split_first() {
            letters = rest;
            // The value follows in the same word, or is the next one.
            let mut value = |what: &str| -> Result<Vec<u8>, String> {
                let value = if rest.is_empty() { words.next().cloned() } else { Some(rest.to_vec()) };
                value
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| format!("option \"-{}\" requires {what}", char::from(letter)))
            };
            match letter {
                b'?' | b'h' => (given.version, given.help) = (true, true),
                b'v' => given.version = true,
                b'V' => (given.version, given.configure) = (true, true),
                b't' => given.test = true,
                b'T' => (given.test, given.dump) = (true, true),
                b'q' => given.quiet = true,
                b'p' => given.prefix = Some(value("directory name")?),
                b'e' => given.error_log = Some(value("file name")?),
                b'c' => given.conf_file = Some(value("file name")?),
                b'g' => given.params = Some(value("parameter")?),
                b's' => {
                    let name = value("parameter")?;
                    let name = String::from_utf8_lossy(&name);
                    let signal = moonrest_server::signal_by_name(&name);
                    given.signal = Some(signal.ok_or_else(|| format!("invalid option: \"-s {name}\""))?);
                }
                other => return Err(format!("invalid option: \"{}\"", char::from(other))),
            }
            if matches!(letter, b'p' | b'e' | b'c' | b'g' | b's') {
                break;
            }
        }
    }
    Ok(given)
}

/// Runs the program; gives its exit status.
pub fn start(argv: Vec<Vec<u8>>) -> u8 {
    let given = match parse(argv.get(1..).unwrap_or_default()) {
        Ok(given) => given,
        Err(text) => {
            error_line(&format!("nginx: {text}"));
            return 1;
        }
    };
    if given.version {
        show_version(&given);
        if !given.test {
            return 0;
        }
    }
    let program =
        Program { registry: moonrest_http_modules::MODULES, options: options(given), version: VERSION, argv };
    u8::try_from(moonrest_server::run(&program)).unwrap_or(1)
}

fn options(given: Given) -> Options {
    let path = |bytes: Vec<u8>| PathBuf::from(OsStr::from_bytes(&bytes));
    let mut prefix = given.prefix.map_or_else(|| PathBuf::from(DEFAULT_PREFIX), path);
    prefix.push("");
    let conf_file = given.conf_file.map_or_else(|| PathBuf::from(DEFAULT_CONF), path);
    let mode = match (given.test, given.signal) {
        (true, _) => Mode::Test { dump: given.dump },
        (false, Some(signal)) => Mode::Signal(signal),
        (false, None) => Mode::Serve,
    };
    Options {
        conf_file: prefix.join(conf_file),
        prefix,
        params: given.params,
        error_log: given.error_log.map_or_else(|| PathBuf::from(DEFAULT_ERROR_LOG), path),
        quiet: given.quiet,
        mode,
    }
}

fn error_line(text: &str) {
    // Nobody to tell when this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

fn show_version(given: &Given) {
    error_line(&format!("nginx version: nginx/{NGINX_VERSION}"));
    error_line(&format!("moonrest version: {VERSION}"));
    if given.help {
        error_line(HELP);
    }
    if given.configure {
        let arguments = crate::features::configure_arguments(moonrest_http_modules::MODULES);
        error_line(&format!("configure arguments: {arguments}"));
    }
}

const HELP: &str = "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]";
